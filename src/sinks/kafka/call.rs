//! One call: its events go to librdkafka, each person's one after another, and the answers are waited for.

use std::iter::from_fn;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::coop::consume_budget;
use tokio::time::sleep;

use super::super::turns::Turns;
use super::super::{SinkError, Undelivered};
use super::message::Message;
use super::producer::{Answer, Failure, NotTaken, Producer, Ticket};
use super::settings::KafkaSinkConfig;
use crate::event::Event;

/// How long to wait for room in the queue of librdkafka before looking again, since nothing tells of it.
const FULL: Duration = Duration::from_millis(10);

pub(super) struct Call<'a> {
    config: &'a KafkaSinkConfig,
    events: &'a [Event],
    /// No event is begun after this.
    until: Instant,
    turns: Turns,
    under_way: UnderWay<'a>,
    /// Why librdkafka had no room for the event that is next.
    no_room: Option<String>,
    /// What each ticket tells its answer to.
    here: UnboundedSender<Answer>,
    answers: UnboundedReceiver<Answer>,
    /// What fault a broker found with what it was sent at once.
    fault: Option<&'static str>,
    /// The value of one message: room that each uses again.
    value: Vec<u8>,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        config: &'a KafkaSinkConfig,
        producer: &'a Producer,
        events: &'a [Event],
        until: Instant,
    ) -> Self {
        let (here, answers) = unbounded_channel();
        let (turns, under_way) = (Turns::new(events), UnderWay { producer, messages: 0 });
        let (no_room, fault, value) = (None, None, Vec::new());
        Self { config, events, until, turns, under_way, no_room, here, answers, fault, value }
    }

    /// What became of the events, and what fault a broker found with what it was sent at once.
    pub(super) async fn run(mut self) -> (Result<(), Undelivered>, Option<&'static str>) {
        let mut heard = Vec::new();
        loop {
            if !self.hand_over().await {
                sleep(FULL).await;
                heard.extend(from_fn(|| self.answers.try_recv().ok()));
            } else if self.under_way.messages > 0 {
                self.answers.recv_many(&mut heard, self.events.len()).await;
            } else {
                return (self.turns.outcome(None), self.fault);
            }
            for (position, result) in heard.drain(..) {
                self.under_way.messages -= 1;
                let result = result.map_err(|code| self.failed(self.under_way.producer.failure(code)));
                self.turns.answered(position, result);
            }
        }
    }

    /// Hands over all events whose turn it is; false if librdkafka has no room for one now.
    async fn hand_over(&mut self) -> bool {
        while let Some(position) = self.turns.next() {
            match self.send(position) {
                Ok(()) => {
                    self.under_way.messages += 1;
                    self.no_room = None;
                }
                Err(NotTaken::Full(cause)) => {
                    self.turns.not_yet(position);
                    self.no_room = Some(cause);
                    return false;
                }
                Err(NotTaken::TooLarge) => {
                    let limit = self.config.max_message_bytes;
                    let cause = format!("the message is larger than max_message_bytes ({limit} bytes)");
                    self.turns.answered(position, Err(SinkError::permanent(cause)));
                }
                Err(NotTaken::Other(cause)) => self.turns.answered(position, Err(SinkError::transient(cause))),
            }
            // Others are to have their share of the thread.
            consume_budget().await;
        }
        true
    }

    fn send(&mut self, position: usize) -> Result<(), NotTaken> {
        if Instant::now() >= self.until {
            let no_room = self.no_room.take();
            return Err(NotTaken::Other(no_room.unwrap_or_else(|| "the call's time is up".to_owned())));
        }
        let event = &self.events[position];
        let message = Message::new(event, self.config.format, self.config.include_raw, &mut self.value);
        let topic = self.config.topic.render(&event.record);
        self.under_way.producer.send(&topic, message, Ticket { position, call: self.here.clone() })
    }

    fn failed(&mut self, failure: Failure) -> SinkError {
        match failure {
            Failure::AtOnce(fault) => {
                self.fault = Some(fault);
                SinkError::transient(fault)
            }
            Failure::Other(cause) => SinkError::transient(cause),
        }
    }
}

/// The messages that librdkafka owes an answer for. A call that is given up in spite of them was given up after
/// `message.timeout.ms`, by which each has its answer: a producer that owes any then is not relied on again, so that it
/// does not cost the next call all its time too. At a stop of hooksink it makes no difference.
struct UnderWay<'a> {
    producer: &'a Producer,
    messages: usize,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if self.messages > 0 {
            self.producer.replace();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::task::TaskTracker;

    use super::super::producer::all_stopped;
    use super::super::producer::tests::config;
    use super::*;
    use crate::sinks::turns::tests::event;
    use crate::sinks::{Blame, Calls};

    /// Room for two messages, and no broker.
    fn small() -> KafkaSinkConfig {
        let config = config();
        let calls = Calls { concurrency: 1, batch_events: 1, timeout: Duration::from_secs(600), ..config.calls };
        KafkaSinkConfig { calls, ..config }
    }

    #[tokio::test]
    async fn a_queue_without_room_is_waited_for_until_the_time_is_up() {
        let config = small();
        let producers = TaskTracker::new();
        let producer = Producer::new(&config, &producers).unwrap();
        let events = ["ann", "bob", "cyd"].map(|person| event(1, person));
        // A call that was given up leaves its messages behind.
        let given_up = Call::new(&config, &producer, &events[..2], Instant::now() + Duration::from_secs(60)).run();
        assert!(tokio::time::timeout(Duration::from_millis(20), given_up).await.is_err());

        let began = Instant::now();
        let (outcome, fault) = Call::new(&config, &producer, &events[2..], began + 100 * FULL).run().await;
        let failure = outcome.unwrap_err();
        assert_eq!((failure.delivered, failure.blame, fault), (0, Blame::Unknown, None));
        assert!(failure.cause.to_string().contains("Queue full"), "{}", failure.cause);
        assert!(began.elapsed() >= 90 * FULL, "it was not tried again: {:?}", began.elapsed());
        drop(producer);
        all_stopped(&producers).await;
    }

    #[tokio::test]
    async fn a_producer_that_owes_answers_when_its_call_is_given_up_is_replaced() {
        let config = small();
        let producers = TaskTracker::new();
        let producer = Producer::new(&config, &producers).unwrap();
        let events = [event(1, "ann")];
        let call = Call::new(&config, &producer, &events, Instant::now() + Duration::from_secs(60)).run();
        assert!(producer.is_current(&config));
        assert!(tokio::time::timeout(Duration::from_millis(20), call).await.is_err());
        assert!(!producer.is_current(&config));
        drop(producer);
        all_stopped(&producers).await;
    }

    #[tokio::test]
    async fn a_call_whose_time_is_up_hands_nothing_over() {
        let config = small();
        let producers = TaskTracker::new();
        let producer = Producer::new(&config, &producers).unwrap();
        let events = [event(1, "ann"), event(2, "bob")];
        let failure = Call::new(&config, &producer, &events, Instant::now()).run().await.0.unwrap_err();
        assert_eq!((failure.delivered, failure.cause.to_string().as_str()), (0, "the call's time is up"));
        // It owes no answer, and goes on.
        assert!(producer.is_current(&config));
        drop(producer);
        all_stopped(&producers).await;
    }
}
