//! The form in which events leave: CloudEvents 1.0 in JSON, or the raw JSON.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::Event;
use crate::json;
use crate::model::{self, Payload, lenient};

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
    model::rfc3339(time)
}

/// The members of an event in JSON, to be looked at. Of what is deep or large inside, only the text is built.
pub(crate) fn members(json: &[u8]) -> Option<Map<String, Value>> {
    lenient::map(str::from_utf8(json).ok()?)
}

impl Event {
    /// The event in this format, without a newline in or after it. `include_raw` adds the raw JSON as `data.raw`.
    pub fn to_json(&self, format: Format, include_raw: bool) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_json(format, include_raw, &mut out);
        out
    }

    /// The same, behind what is there.
    pub fn write_json(&self, format: Format, include_raw: bool, out: &mut Vec<u8>) {
        match format {
            Format::Cloudevents => self.write_cloud_event(include_raw, out),
            Format::Raw => self.write_raw(out),
        }
    }

    /// The raw JSON on one line; a body that is not JSON as a JSON string of its base64. What a `map` made of it stands
    /// in its place.
    fn write_raw(&self, out: &mut Vec<u8>) {
        match &*self.payload {
            Payload::Mapped(mapped) => out.extend_from_slice(mapped.data.get().as_bytes()),
            Payload::Opaque => out.extend_from_slice(format!("\"{}\"", STANDARD.encode(&self.record.raw)).as_bytes()),
            _ => out.extend_from_slice(&json::compact(&self.record.raw)),
        }
    }

    fn write_cloud_event(&self, include_raw: bool, out: &mut Vec<u8>) {
        let record = &*self.record;
        out.reserve(ATTRIBUTES_BYTES + record.raw.len() * if include_raw { 4 } else { 3 });
        // The parts are joined as text, so that raw JSON goes through untouched and nothing is serialised twice. Names of
        // ours, numbers and times need no escapes.
        let mut write = |texts: &[&str]| texts.iter().for_each(|text| out.extend_from_slice(text.as_bytes()));
        let id = &mut Uuid::encode_buffer();
        write(&[r#"{"specversion":"1.0","id":""#, record.id.0.hyphenated().encode_lower(id)]);
        write(&[r#"","source":"/webhooks/"#, record.source.as_str(), r#"","type":""#, record.kind.as_str()]);
        if let Some(subject) = &record.subject {
            write(&[r#"","subject":"#, &quoted(&attribute(subject.as_str())), r#","time":""#]);
        } else {
            write(&[r#"","time":""#]);
        }
        let content_type = quoted(self.data_content_type());
        model::with_rfc3339(record.occurred_at.unwrap_or(record.received_at), |time| {
            write(&[time, r#"","datacontenttype":"#, &content_type]);
        });
        model::with_rfc3339(record.received_at, |time| write(&[r#","receivedtime":""#, time]));
        write(&[r#"","sourcetype":""#, record.source_type.as_str()]);
        if self.is_opaque() {
            write(&[r#"","data_base64":""#, &STANDARD.encode(&record.raw), r#""}"#]);
            return;
        }
        write(&[r#"","data":"#]);
        self.write_data(out, include_raw);
        out.push(b'}');
    }

    /// The attributes of the CloudEvent, for transports that carry them beside the data (binary mode).
    pub fn attributes(&self) -> Vec<(&'static str, Cow<'_, str>)> {
        let record = &*self.record;
        let mut attributes = vec![
            ("specversion", "1.0".into()),
            ("id", record.id.to_string().into()),
            ("source", format!("/webhooks/{}", record.source).into()),
            ("type", record.kind.as_str().into()),
            ("time", rfc3339(record.occurred_at.unwrap_or(record.received_at)).into()),
            ("datacontenttype", self.data_content_type().into()),
            ("receivedtime", rfc3339(record.received_at).into()),
            ("sourcetype", record.source_type.as_str().into()),
        ];
        if let Some(subject) = &record.subject {
            attributes.push(("subject", attribute(subject.as_str())));
        }
        attributes
    }

    /// The data of the CloudEvent, for transports that carry the attributes beside it: what stands under `data`, or a
    /// body that is not JSON as it came.
    pub fn data(&self, include_raw: bool) -> Vec<u8> {
        if self.is_opaque() {
            return self.record.raw.to_vec();
        }
        let mut out = Vec::with_capacity(self.record.raw.len() * if include_raw { 4 } else { 3 });
        self.write_data(&mut out, include_raw);
        out
    }

    fn is_opaque(&self) -> bool {
        matches!(*self.payload, Payload::Opaque)
    }

    fn data_content_type(&self) -> &str {
        if !self.is_opaque() {
            return "application/json";
        }
        let content_type = self.record.context.arrival.content_type.as_deref().filter(|text| is_media_type(text));
        content_type.unwrap_or("application/octet-stream")
    }

    /// Writes the typed model, which is a JSON object.
    fn write_data(&self, out: &mut Vec<u8>, include_raw: bool) {
        serde_json::to_writer(&mut *out, &*self.payload).expect("models always serialise");
        if include_raw {
            out.pop();
            out.extend_from_slice(b",\"raw\":");
            out.extend_from_slice(&json::compact(&self.record.raw));
            out.push(b'}');
        }
    }
}

/// About as long are the attributes of an event.
const ATTRIBUTES_BYTES: usize = 512;

/// The text as a JSON string.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a text always serialises")
}

/// The text as an attribute may hold it, with U+FFFD for what none may hold: control characters and noncharacters
/// (CloudEvents 1.0.2, "Type System").
fn attribute(text: &str) -> Cow<'_, str> {
    let may_stand = |char: char| {
        let code = u32::from(char);
        !char.is_control() && code & 0xfffe != 0xfffe && !(0xfdd0..=0xfdef).contains(&code)
    };
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || text.chars().all(may_stand) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().map(|char| if may_stand(char) { char } else { char::REPLACEMENT_CHARACTER }).collect())
}

/// Whether a header says a media type (RFC 2045, 5.1), which is all that `datacontenttype` may hold.
fn is_media_type(text: &str) -> bool {
    let token = |text: &str| {
        let special = |byte: u8| b"()<>@,;:\\\"/[]?=".contains(&byte);
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !special(byte))
    };
    let (essence, parameters) = text.split_once(';').unwrap_or((text, ""));
    let printable = parameters.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    essence.trim_end().split_once('/').is_some_and(|(main, sub)| token(main) && token(sub)) && printable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_holds_no_control_character() {
        for (text, expected) in [
            ("5083217764421199", "5083217764421199"),
            ("Jörg 😀", "Jörg 😀"),
            ("a\u{1}b\u{7f}\u{85}", "a\u{fffd}b\u{fffd}\u{fffd}"),
            ("\u{fdd0}\u{1fffe}\u{fffd}", "\u{fffd}\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(attribute(text), expected);
        }
    }

    #[test]
    fn only_a_media_type_is_one() {
        for text in ["text/plain", "application/vnd.x+json;charset=utf-8", "multipart/form-data; boundary=\"a b\""] {
            assert!(is_media_type(text), "{text}");
        }
        for text in ["", "text", "text/", "/plain", "te xt/plain", "text/plain;\u{7f}", "t\u{fffd}/plain", "a/b/c", "*"]
        {
            assert!(!is_media_type(text), "{text}");
        }
    }
}
