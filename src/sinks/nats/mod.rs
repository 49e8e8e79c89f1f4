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
use super::turns::send_in_turns;
use super::{Blame, BoxError, Checked, Limits, Sink, SinkError, Undelivered};
use crate::event::Event;

/// What is said of a connection that ended.
const BROKEN: &str = "the connection broke";

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

    async fn publish(&self, connection: &Arc<Connection>, event: &Event) -> Result<(), SinkError> {
        let subject = self.config.subject.render(&event.record);
        let payload = Bytes::from(self.config.encoding.encode(event));
        let bytes = payload.len();
        match connection.ask(&subject, self.headers(&event.record.id.to_string()), payload).await {
            Ok(answer) => verdict(&subject, &answer),
            Err(unanswered) => {
                if matches!(unanswered, Unanswered::Broken) {
                    self.connection.forget(connection);
                }
                Err(self.explain(&subject, bytes, unanswered))
            }
        }
    }

    fn explain(&self, subject: &str, bytes: usize, unanswered: Unanswered) -> SinkError {
        match unanswered {
            Unanswered::TooLarge { limit } => SinkError::permanent(format!(
                "{bytes} bytes and headers are more than the server's max_payload of {limit}"
            )),
            Unanswered::NoResponders => SinkError::transient(no_stream(subject, &self.config.subject)),
            Unanswered::Broken => SinkError::transient(BROKEN),
        }
    }

    /// Why no further answer is waited for on these subjects.
    async fn over<S>(&self, connection: &Connection, subjects: impl Fn() -> S, deadline: Instant) -> SinkError
    where
        S: Iterator<Item = String>,
    {
        SinkError::transient(match timeout_at(deadline, connection.denied(subjects)).await {
            Ok(Some(what)) => format!("the user may not {what}"),
            Ok(None) => BROKEN.to_owned(),
            Err(_) => {
                format!("no acknowledgement within {:?}; a stream with no_ack gives none", self.config.calls.timeout)
            }
        })
    }

    async fn connected(&self, deadline: Instant) -> Result<Arc<Connection>, SinkError> {
        let late = |_| SinkError::transient(format!("not connected within {:?}", self.config.calls.timeout));
        let connecting = timeout_at(deadline, self.connection.get(async || Connection::open(&self.config).await));
        connecting.await.map_err(late)?.map_err(SinkError::transient)
    }

    fn headers(&self, id: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, id);
        headers.insert("Content-Type", self.config.encoding.media_type());
        headers
    }
}

#[async_trait]
impl Sink for NatsSink {
    async fn deliver(&self, events: &[Event]) -> Result<(), Undelivered> {
        let deadline = Instant::now() + self.config.calls.timeout;
        let connection = self.connected(deadline).await;
        let connection = connection.map_err(|cause| Undelivered { delivered: 0, blame: Blame::Unknown, cause })?;
        let over = async {
            let subjects = || events.iter().map(|event| self.config.subject.render(&event.record).into_owned());
            let why = self.over(&connection, subjects, deadline).await;
            // What it still holds must not come after what is sent later.
            self.connection.forget(&connection);
            why
        };
        let publish = |event| self.publish(&connection, event);
        send_in_turns(events, self.config.calls.batch_events, publish, over).await
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
