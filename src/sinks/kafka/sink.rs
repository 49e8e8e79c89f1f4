//! The sink: calls, and what becomes of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::{Mutex, RwLock};
use tokio_util::task::TaskTracker;

use super::super::{BoxError, Checked, Limits, Sink, Undelivered};
use super::call::Call;
use super::check;
use super::producer::{Producer, all_stopped, message_timeout};
use super::settings::KafkaSinkConfig;
use crate::event::Event;

/// Each call costs about a round trip, whatever is in it.
const LINGER: Duration = Duration::from_millis(5);

/// Produces events to Kafka.
pub struct KafkaSink {
    config: KafkaSinkConfig,
    producer: Mutex<Option<Arc<Producer>>>,
    /// All producers that have not ended, also those that were replaced.
    producers: TaskTracker,
    /// Held by all calls, and by one alone that must not share what is sent at once with others.
    company: RwLock<()>,
}

impl KafkaSink {
    /// A sink of this configuration. Nothing is connected before the first event.
    pub fn new(config: &KafkaSinkConfig) -> Self {
        Self {
            config: config.clone(),
            producer: Mutex::new(None),
            producers: TaskTracker::new(),
            company: RwLock::new(()),
        }
    }

    /// The producer; a new one where there is none that can go on.
    async fn producer(&self) -> Result<Arc<Producer>, String> {
        let mut current = self.producer.lock().await;
        if let Some(producer) = current.as_ref().filter(|producer| producer.is_current(&self.config)) {
            return Ok(Arc::clone(producer));
        }
        // The calls that still hold the one before let go of it; its queue is emptied then.
        *current = None;
        let (config, producers) = (self.config.clone(), self.producers.clone());
        // It reads certificates from files.
        let built = tokio::task::spawn_blocking(move || Producer::new(&config, &producers)).await;
        let producer = Arc::new(built.unwrap_or_else(|_| Err("librdkafka cannot start".to_owned()))?);
        *current = Some(Arc::clone(&producer));
        Ok(producer)
    }
}

#[async_trait]
impl Sink for KafkaSink {
    async fn deliver(&self, events: &[Event]) -> Result<(), Undelivered> {
        let until = Instant::now() + message_timeout(&self.config);
        let producer = match self.producer().await {
            Ok(producer) => producer,
            Err(cause) => return Err(Undelivered::unknown(0, cause)),
        };
        let (result, fault) = {
            let _company = self.company.read().await;
            Call::new(&self.config, &producer, events, until).run().await
        };
        if fault.is_none() || events.len() > 1 {
            return result;
        }
        // librdkafka may have sent this event together with those of other calls. Only alone is it its own fault.
        let Ok(_alone) = tokio::time::timeout_at(until.into(), self.company.write()).await else { return result };
        match Call::new(&self.config, &producer, events, until).run().await {
            (_, Some(fault)) => Err(Undelivered::refused(0, fault)),
            (result, None) => result,
        }
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
        *self.producer.lock().await = None;
        all_stopped(&self.producers).await;
        Ok(())
    }
}
