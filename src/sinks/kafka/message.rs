//! An event as a message: the
//! [CloudEvents Kafka binding](https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md).

use rdkafka::message::{Header, OwnedHeaders};

use super::KafkaFormat;
use crate::event::{Event, Format};

/// Key, headers and value.
pub(super) struct Message {
    /// The person, so that a person's messages lie in one partition; the id of an event that is nobody's.
    pub(super) key: String,
    pub(super) headers: OwnedHeaders,
    pub(super) value: Vec<u8>,
}

impl Message {
    pub(super) fn new(event: &Event, format: KafkaFormat, include_raw: bool) -> Self {
        let record = &*event.record;
        let key = record.subject.as_ref().map_or_else(|| record.id.to_string(), |subject| subject.as_str().to_owned());
        match format {
            KafkaFormat::Cloudevents => Self {
                key,
                headers: header(OwnedHeaders::new_with_capacity(1), "content-type", STRUCTURED),
                value: event.to_json(Format::Cloudevents, include_raw),
            },
            KafkaFormat::CloudeventsBinary => Self { key, headers: binary(event), value: event.data(include_raw) },
            KafkaFormat::Raw => Self { key, headers: binary(event), value: event.to_json(Format::Raw, false) },
        }
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
