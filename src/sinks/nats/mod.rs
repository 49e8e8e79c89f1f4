//! `type = "nats"`: events published to a stream of NATS JetStream, each acknowledged by the stream before it counts.
//!
//! An event's id is its `Nats-Msg-Id`, so that the stream itself drops the copies that come within its duplicate window.
//! Nothing is created: which subjects a stream has, how long and on how many servers, is for who runs it.
//! <https://docs.nats.io/nats-concepts/jetstream/streams>

mod check;
mod connection;
mod failure;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use self::connection::{Connection, Unanswered};
use self::failure::{no_stream, verdict};
pub use self::settings::NatsSinkConfig;
use super::shared::Shared;
use super::{BoxError, Checked, Limits, Sink, SinkError, Undelivered, send_in_turns};
use crate::event::{Event, Format};

/// Publishes events to a stream.
pub struct NatsSink {
    config: NatsSinkConfig,
    connection: Shared<Connection>,
}

impl NatsSink {
    /// A sink of this configuration. Nothing is connected before the first event.
    pub fn new(config: &NatsSinkConfig) -> Self {
        Self { config: config.clone(), connection: Shared::new(Connection::is_alive) }
    }

    async fn publish(&self, event: &Event, deadline: Instant) -> Result<(), SinkError> {
        let subject = self.config.subject.render(&event.record);
        let payload = Bytes::from(self.config.encoding.encode(event));
        let bytes = payload.len();
        let answer = self.ask(&subject, self.headers(&event.record.id.to_string()), payload, deadline).await?;
        match answer {
            Ok(answer) => verdict(&subject, &answer),
            Err(Unanswered::TooLarge { limit }) => {
                let why = format!("{bytes} bytes and headers are more than the server's max_payload of {limit}");
                Err(SinkError::permanent(why))
            }
            Err(other) => Err(SinkError::transient(self.explain(&subject, other))),
        }
    }

    /// Publishes on the connection of now. A connection on which something stays unanswered is not used again: what it
    /// holds must not come after what is sent later.
    async fn ask(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
        deadline: Instant,
    ) -> Result<Result<Bytes, Unanswered>, SinkError> {
        let connection = self.connected(deadline).await?;
        let answer = timeout_at(deadline, connection.ask(subject, headers, payload)).await;
        if matches!(answer, Err(_) | Ok(Err(Unanswered::Broken | Unanswered::Denied(_)))) {
            self.connection.forget(&connection);
        }
        let late =
            |_| format!("no acknowledgement within {:?}; a stream with no_ack gives none", self.config.calls.timeout);
        answer.map_err(late).map_err(SinkError::transient)
    }

    async fn connected(&self, deadline: Instant) -> Result<Arc<Connection>, SinkError> {
        let late = |_| SinkError::transient(format!("not connected within {:?}", self.config.calls.timeout));
        let connecting = timeout_at(deadline, self.connection.get(async || Connection::open(&self.config).await));
        connecting.await.map_err(late)?.map_err(SinkError::transient)
    }

    fn explain(&self, subject: &str, unanswered: Unanswered) -> String {
        match unanswered {
            Unanswered::NoResponders => no_stream(subject, &self.config.subject),
            Unanswered::Denied(what) => format!("the user may not {what}"),
            Unanswered::TooLarge { limit } => format!("the server's max_payload is {limit} bytes"),
            Unanswered::Broken => "the connection broke".to_owned(),
        }
    }

    fn headers(&self, id: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, id);
        headers.insert(
            "Content-Type",
            match self.config.encoding.format {
                Format::Cloudevents => "application/cloudevents+json",
                Format::Raw => "application/json",
            },
        );
        headers
    }
}

#[async_trait]
impl Sink for NatsSink {
    async fn deliver(&self, events: &[Event]) -> Result<(), Undelivered> {
        let deadline = Instant::now() + self.config.calls.timeout;
        send_in_turns(events, self.config.calls.batch_events, |event| self.publish(event, deadline)).await
    }

    fn limits(&self) -> Limits {
        self.config.calls.limits(Duration::ZERO)
    }

    async fn check(&self) -> Result<Checked, BoxError> {
        self.find().await
    }

    async fn close(&self) -> Result<(), BoxError> {
        // Everything on it was answered or has failed.
        self.connection.take();
        Ok(())
    }
}
