//! The form in which events leave: CloudEvents 1.0 in JSON, or the raw JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Event;
use crate::json;
use crate::model::{Payload, lenient};

/// What of an event is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A CloudEvent in JSON (structured mode).
    #[default]
    Cloudevents,
    /// The event's own JSON, white space outside strings taken out.
    Raw,
}

/// RFC 3339 in UTC with milliseconds.
pub fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// The members of an event in JSON, to be looked at. Of what is deep or large inside, only the text is built.
pub(crate) fn members(json: &[u8]) -> Option<Map<String, Value>> {
    lenient::map(str::from_utf8(json).ok()?)
}

#[derive(Serialize)]
struct Attributes<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'a str>,
    time: String,
    datacontenttype: &'a str,
    receivedtime: String,
    sourcetype: &'static str,
}

impl Event {
    /// The event in this format, without a newline in or after it. `include_raw` adds the raw JSON as `data.raw`.
    pub fn to_json(&self, format: Format, include_raw: bool) -> Vec<u8> {
        match format {
            Format::Cloudevents => self.to_cloud_event(include_raw),
            Format::Raw => self.to_raw(),
        }
    }

    /// The raw JSON on one line; a body that is not JSON as a JSON string of its base64.
    fn to_raw(&self) -> Vec<u8> {
        match *self.payload {
            Payload::Opaque => format!("\"{}\"", STANDARD.encode(&self.record.raw)).into_bytes(),
            _ => json::compact(&self.record.raw),
        }
    }

    fn to_cloud_event(&self, include_raw: bool) -> Vec<u8> {
        let record = &self.record;
        let opaque = matches!(*self.payload, Payload::Opaque);
        let attributes = Attributes {
            specversion: "1.0",
            id: record.id.to_string(),
            source: format!("/webhooks/{}", record.source),
            r#type: record.kind.as_str(),
            subject: record.subject.as_ref().map(super::Subject::as_str),
            time: rfc3339(record.occurred_at.unwrap_or(record.received_at)),
            datacontenttype: if opaque {
                record.context.arrival.content_type.as_deref().unwrap_or("application/octet-stream")
            } else {
                "application/json"
            },
            receivedtime: rfc3339(record.received_at),
            sourcetype: record.source_type.as_str(),
        };
        // The parts are joined as text, so that raw JSON goes through untouched and data is serialised only once.
        let mut out = serde_json::to_vec(&attributes).expect("strings always serialise");
        out.pop();
        if opaque {
            out.extend_from_slice(b",\"data_base64\":\"");
            out.extend_from_slice(STANDARD.encode(&record.raw).as_bytes());
            out.extend_from_slice(b"\"}");
            return out;
        }
        out.extend_from_slice(b",\"data\":");
        serde_json::to_writer(&mut out, &*self.payload).expect("models always serialise");
        if include_raw {
            out.pop();
            out.extend_from_slice(b",\"raw\":");
            out.extend_from_slice(&json::compact(&record.raw));
            out.push(b'}');
        }
        out.push(b'}');
        out
    }
}
