//! An event as a message: the
//! [CloudEvents Kafka binding](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md).

use std::borrow::Cow;

use rdkafka::message::{Header, OwnedHeaders};

use super::KafkaFormat;
use crate::event::{Event, Format};

/// Key, headers and value.
pub(super) struct Message<'a> {
    /// The person, so that a person's messages lie in one partition; the id of an event that is nobody's.
    pub(super) key: Cow<'a, str>,
    pub(super) headers: OwnedHeaders,
    pub(super) value: &'a [u8],
}

impl<'a> Message<'a> {
    /// `value` is memory for the value, which may be used again for the next message: librdkafka copies what it takes.
    pub(super) fn new(event: &'a Event, format: KafkaFormat, include_raw: bool, value: &'a mut Vec<u8>) -> Self {
        let record = &*event.record;
        let key = match &record.subject {
            Some(subject) => Cow::Borrowed(subject.as_str()),
            None => Cow::Owned(record.id.to_string()),
        };
        value.clear();
        let headers = match format {
            KafkaFormat::Cloudevents => {
                event.write_json(Format::Cloudevents, include_raw, value);
                header(OwnedHeaders::new_with_capacity(1), "content-type", STRUCTURED)
            }
            KafkaFormat::CloudeventsBinary => {
                *value = event.data(include_raw);
                binary(event)
            }
            KafkaFormat::Raw => {
                event.write_json(Format::Raw, false, value);
                binary(event)
            }
        };
        Self { key, headers, value }
    }
}

const STRUCTURED: &str = "application/cloudevents+json; charset=UTF-8";

/// The attributes: each under its name after `ce_`, but for the media type of the data.
fn binary(event: &Event) -> OwnedHeaders {
    let attributes = event.attributes();
    let headers = OwnedHeaders::new_with_capacity(attributes.len());
    attributes.iter().fold(headers, |headers, (name, value)| match *name {
        "datacontenttype" => header(headers, "content-type", value),
        name => header(headers, &format!("ce_{name}"), value),
    })
}

fn header(headers: OwnedHeaders, key: &str, value: &str) -> OwnedHeaders {
    headers.insert(Header { key, value: Some(value) })
}
