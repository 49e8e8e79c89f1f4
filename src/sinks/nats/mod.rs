//! `type = "nats"`: events published to a stream of NATS JetStream, each acknowledged by the stream before it counts.
//!
//! An event's id is its `Nats-Msg-Id`, so that the stream itself drops the copies that come within its duplicate window.
//! Nothing is created: which subjects a stream has, how long and on how many servers, is for who runs it.
//! <https://docs.nats.io/nats-concepts/jetstream/streams>

mod answer;
mod connection;
mod settings;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::header::{NATS_EXPECTED_STREAM, NATS_MESSAGE_ID};
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use self::answer::{no_stream, verdict};
use self::connection::{Connection, Unanswered};
pub use self::settings::NatsSinkConfig;
use super::shared::Shared;
use super::{BoxError, Checked, Limits, Sink, SinkError, Undelivered, send_in_turns};
use crate::event::{Event, Format};

/// A stream of this name is expected by who only asks whether there is one: no stream can have it.
const NO_STREAM: &str = "hooksink check";

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

    /// Bytes of the headers as they are sent, which count as part of the message.
    fn header_bytes(&self) -> u64 {
        let id = uuid::Uuid::nil().to_string();
        let lines = self
            .headers(&id)
            .iter()
            .map(|(name, values)| {
                let name: &str = name.as_ref();
                values.iter().map(|value| name.len() + value.as_str().len() + ": \r\n".len()).sum::<usize>()
            })
            .sum::<usize>();
        (lines + "NATS/1.0\r\n\r\n".len()) as u64
    }

    /// The name of the stream that listens on a subject. It is asked with an expectation that none can meet, so that
    /// nothing is stored, by which the right to publish and to be answered is proved too.
    async fn stream_on(&self, subject: &str, deadline: Instant) -> Result<String, BoxError> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_STREAM, NO_STREAM);
        let answer = match self.ask(subject, headers, Bytes::new(), deadline).await? {
            Ok(answer) => answer,
            Err(unanswered) => return Err(self.explain(subject, unanswered).into()),
        };
        match serde_json::from_slice::<Response<PublishAck>>(&answer) {
            Ok(Response::Err { error }) if error.error_code() == ErrorCode::STREAM_NOT_MATCH => {
                let answer: Value = serde_json::from_slice(&answer)?;
                Ok(answer["stream"].as_str().unwrap_or("?").to_owned())
            }
            _ => Err(verdict(subject, &answer).err().map_or_else(|| "the server is too old".into(), Into::into)),
        }
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
        let deadline = Instant::now() + self.config.calls.timeout;
        let subject = self.config.subject.sample();
        let stream = self.stream_on(&subject, deadline).await?;
        let connection = self.connected(deadline).await?;
        let server = connection.server();
        let mut found = format!("NATS {}, publishing to {subject} allowed, stream {stream}", server.version);
        let mut limit = server.max_payload as u64;
        // A user who may do no more than publish is not told.
        match self.ask(&format!("$JS.API.STREAM.INFO.{stream}"), HeaderMap::new(), Bytes::new(), deadline).await? {
            Ok(answer) => {
                let info: Value = serde_json::from_slice(&answer)?;
                let config = &info["config"];
                if config["no_ack"] == true {
                    return Err(format!("the stream {stream} has no_ack, without which nothing counts as sent").into());
                }
                let subjects: Vec<_> =
                    config["subjects"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
                let _ = write!(found, " on {}", subjects.join(", "));
                limit = config["max_msg_size"].as_u64().map_or(limit, |stream| limit.min(stream));
            }
            Err(_) => found += " (its limits are not shown to this user)",
        }
        Ok(Checked { found, warnings: Vec::new(), max_event_bytes: Some(limit.saturating_sub(self.header_bytes())) })
    }

    async fn close(&self) -> Result<(), BoxError> {
        // Everything on it was answered or has failed.
        self.connection.take();
        Ok(())
    }
}
