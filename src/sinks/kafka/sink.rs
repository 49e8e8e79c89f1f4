//! The sink: calls, and what becomes of them.

use std::iter::from_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{Mutex, RwLock, mpsc};
use tokio::task::coop::consume_budget;
use tokio::time::sleep;

use super::super::turns::Turns;
use super::super::{BoxError, Checked, Limits, Sink, SinkError, Undelivered};
use super::check;
use super::message::Message;
use super::producer::{Failure, Producer, Ticket, message_timeout};
use super::settings::KafkaSinkConfig;
use crate::event::Event;

/// Each call costs about a round trip, whatever is in it.
const LINGER: Duration = Duration::from_millis(5);

/// How long to wait for room in the queue of librdkafka before looking again.
const FULL: Duration = Duration::from_millis(10);

/// Produces events to Kafka.
pub struct KafkaSink {
    config: KafkaSinkConfig,
    producer: Mutex<Option<Arc<Producer>>>,
    /// Held by all calls, and by one alone that must not share what is sent at once with others.
    company: RwLock<()>,
}

impl KafkaSink {
    /// A sink of this configuration. Nothing is connected before the first event.
    pub fn new(config: &KafkaSinkConfig) -> Self {
        Self { config: config.clone(), producer: Mutex::new(None), company: RwLock::new(()) }
    }

    /// The producer; a new one where there is none that can go on.
    async fn producer(&self) -> Result<Arc<Producer>, String> {
        let mut current = self.producer.lock().await;
        if let Some(producer) = current.as_ref().filter(|producer| producer.is_current(&self.config)) {
            return Ok(Arc::clone(producer));
        }
        // The calls that still hold the one before let go of it; its queue is emptied then.
        *current = None;
        let config = self.config.clone();
        // It reads certificates from files.
        let built = tokio::task::spawn_blocking(move || Producer::new(&config)).await;
        let producer = Arc::new(built.unwrap_or_else(|_| Err("librdkafka cannot start".to_owned()))?);
        *current = Some(Arc::clone(&producer));
        Ok(producer)
    }

    /// Sends events, and says whether a broker found what it was sent at once too large. None is begun after `until`.
    async fn send(&self, producer: &Producer, events: &[Event], until: Instant) -> (Result<(), Undelivered>, bool) {
        let mut turns = Turns::new(events);
        let (call, mut answers) = mpsc::unbounded_channel();
        let (mut under_way, mut too_large) = (0, false);
        let (mut value, mut heard) = (Vec::new(), Vec::new());
        let mut no_room = None;
        loop {
            let mut full = false;
            while !full && let Some(position) = turns.next() {
                if Instant::now() >= until {
                    let cause = no_room.take().unwrap_or_else(|| "the call's time is up".to_owned());
                    turns.answered(position, Err(SinkError::transient(cause)));
                    break;
                }
                let event = &events[position];
                let message = Message::new(event, self.config.format, self.config.include_raw, &mut value);
                let topic = self.config.topic.render(&event.record);
                match producer.send(&topic, message, Ticket { position, call: call.clone() }) {
                    Ok(()) => {
                        under_way += 1;
                        no_room = None;
                    }
                    Err(Failure::Full(cause)) => {
                        turns.not_yet(position);
                        no_room = Some(cause);
                        full = true;
                    }
                    Err(failure) => turns.answered(position, Err(self.explain(failure))),
                }
                // Others are to have their share of the thread.
                consume_budget().await;
            }
            if under_way == 0 && !full {
                return (turns.outcome(None), too_large);
            }
            if full {
                // That there is room again is not told.
                sleep(FULL).await;
                heard.extend(from_fn(|| answers.try_recv().ok()));
            } else {
                answers.recv_many(&mut heard, events.len()).await;
            }
            for (position, result) in heard.drain(..) {
                under_way -= 1;
                let result = result.map_err(|code| {
                    let failure = producer.failure(code);
                    too_large |= matches!(failure, Failure::TooLargeAtOnce);
                    self.explain(failure)
                });
                turns.answered(position, result);
            }
        }
    }

    fn explain(&self, failure: Failure) -> SinkError {
        match failure {
            Failure::TooLarge => SinkError::permanent(format!(
                "the message is larger than max_message_bytes ({} bytes)",
                self.config.max_message_bytes
            )),
            Failure::TooLargeAtOnce => SinkError::transient(TOO_LARGE),
            Failure::Invalid => SinkError::permanent("the broker found the record invalid"),
            Failure::Full(cause) | Failure::Other(cause) => SinkError::transient(cause),
        }
    }
}

/// A limit of the broker is on all that is sent to a partition at once.
const TOO_LARGE: &str = "the broker takes no message this large (max.message.bytes of the topic)";

#[async_trait]
impl Sink for KafkaSink {
    async fn deliver(&self, events: &[Event]) -> Result<(), Undelivered> {
        let until = Instant::now() + message_timeout(&self.config);
        let producer = match self.producer().await {
            Ok(producer) => producer,
            Err(cause) => return Err(Undelivered::unknown(0, cause)),
        };
        let (result, too_large) = {
            let _company = self.company.read().await;
            self.send(&producer, events, until).await
        };
        if !too_large || events.len() > 1 {
            return result;
        }
        // librdkafka may have sent this event together with those of other calls. Only alone is it its own fault.
        let Ok(_alone) = tokio::time::timeout_at(until.into(), self.company.write()).await else { return result };
        let (result, too_large) = self.send(&producer, events, until).await;
        if !too_large {
            return result;
        }
        Err(Undelivered::refused(0, TOO_LARGE))
    }

    fn limits(&self) -> Limits {
        self.config.calls.limits(LINGER)
    }

    async fn check(&self) -> Result<Checked, BoxError> {
        check::check(&self.config).await
    }

    /// Certificates may have been replaced: they are read anew with the next event.
    async fn reopen(&self) -> Result<(), BoxError> {
        *self.producer.lock().await = None;
        Ok(())
    }

    async fn close(&self) -> Result<(), BoxError> {
        if let Some(producer) = self.producer.lock().await.take().and_then(Arc::into_inner) {
            producer.stop().await;
        }
        Ok(())
    }
}
