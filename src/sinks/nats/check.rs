//! `hooksink check --connect`: whether a stream listens and may be published to, and what it takes.

use std::fmt::Write as _;

use async_nats::HeaderMap;
use async_nats::header::NATS_EXPECTED_STREAM;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::response::Response;
use bytes::Bytes;
use serde_json::Value;
use tokio::time::Instant;

use super::super::{BoxError, Checked, SinkError};
use super::NatsSink;
use super::failure::verdict;

/// A stream of this name is expected by who only asks whether there is one: no stream can have it.
const NO_STREAM: &str = "hooksink check";

impl NatsSink {
    /// What is found, with nothing left behind.
    pub(super) async fn find(&self) -> Result<Checked, BoxError> {
        let deadline = Instant::now() + self.config.calls.timeout;
        let subject = self.config.subject.sample();
        let stream = self.stream_on(&subject, deadline).await?;
        let connection = self.connected(deadline).await?;
        let server = connection.server();
        let mut found = format!("NATS {}, publishing to {subject} allowed, stream {stream}", server.version);
        let mut limit = server.max_payload as u64;
        // A user who may do no more than publish is not told.
        match self.ask(&format!("$JS.API.STREAM.INFO.{stream}"), HeaderMap::new(), deadline).await {
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

    /// What is answered to these headers alone.
    async fn ask(&self, subject: &str, headers: HeaderMap, deadline: Instant) -> Result<Bytes, SinkError> {
        let connection = self.connected(deadline).await?;
        tokio::select! {
            answer = connection.ask(subject, headers, Bytes::new()) => {
                answer.map_err(|unanswered| self.explain(subject, 0, unanswered))
            }
            why = self.over(&connection, || [subject.to_owned()].into_iter(), deadline) => {
                self.connection.forget(&connection);
                Err(why)
            }
        }
    }

    /// The name of the stream that listens on a subject. It is asked with an expectation that none can meet, so that
    /// nothing is stored, by which the right to publish and to be answered is proved too.
    async fn stream_on(&self, subject: &str, deadline: Instant) -> Result<String, BoxError> {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_STREAM, NO_STREAM);
        let answer = self.ask(subject, headers, deadline).await?;
        match serde_json::from_slice::<Response<PublishAck>>(&answer) {
            Ok(Response::Err { error }) if error.error_code() == ErrorCode::STREAM_NOT_MATCH => {
                let answer: Value = serde_json::from_slice(&answer)?;
                Ok(answer["stream"].as_str().unwrap_or("?").to_owned())
            }
            _ => Err(verdict(subject, &answer).err().map_or_else(|| "the server is too old".into(), Into::into)),
        }
    }
}
