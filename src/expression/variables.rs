//! What an expression sees of an event.

use std::collections::HashMap;
use std::sync::Arc;

use cel::Value;
use cel::objects::{Key, Map};

use super::{Cannot, MAX_INPUT};
use crate::event::cloud_event::rfc3339;
use crate::event::{Event, Format};
use crate::model::Payload;

/// How large an event is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Bytes of its JSON.
    pub(super) bytes: usize,
    /// Members of its longest list or object.
    pub(super) longest: usize,
}

/// What an expression may name, each with its value for an event.
pub(super) type Variables = Vec<(&'static str, Value)>;

/// The variables with their values for this event.
pub(super) fn of(event: &Event) -> Result<(Variables, Size), Cannot> {
    let record = &*event.record;
    let mut size = Size { bytes: 0, longest: 1 };
    let data = match &*event.payload {
        Payload::Opaque => Value::Null,
        _ => {
            // What sinks are sent by default, so that `data` is what the documentation shows.
            let json = event.to_json(Format::Cloudevents, false);
            if json.len() > MAX_INPUT {
                return Err(Cannot::Input);
            }
            size.bytes = json.len();
            let mut event: serde_json::Value = serde_json::from_slice(&json).map_err(|_| Cannot::Input)?;
            value(event.get_mut("data").map(serde_json::Value::take).unwrap_or_default(), &mut size)
        }
    };
    let text = |text: &str| Value::String(Arc::new(text.to_owned()));
    let variables = vec![
        ("id", text(&record.id.to_string())),
        ("source", text(record.source.as_str())),
        ("sourcetype", text(record.source_type.as_str())),
        ("kind", text(record.kind.as_str())),
        ("subject", record.subject.as_ref().map_or(Value::Null, |subject| text(subject.as_str()))),
        ("time", text(&rfc3339(record.occurred_at.unwrap_or(record.received_at)))),
        ("receivedtime", text(&rfc3339(record.received_at))),
        ("data", data),
    ];
    Ok((variables, size))
}

/// Whole numbers of up to 64 bits are `int` or `uint`, others `double`.
fn value(json: serde_json::Value, size: &mut Size) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, Some(whole)) => Value::UInt(whole),
            (None, None) => number.as_f64().map_or(Value::Null, Value::Float),
        },
        serde_json::Value::String(text) => Value::String(Arc::new(text)),
        serde_json::Value::Array(values) => {
            size.longest = size.longest.max(values.len());
            Value::List(Arc::new(values.into_iter().map(|json| value(json, size)).collect()))
        }
        serde_json::Value::Object(members) => {
            size.longest = size.longest.max(members.len());
            let member = |(name, json)| (Key::String(Arc::new(name)), value(json, size));
            let members: HashMap<Key, Value> = members.into_iter().map(member).collect();
            Value::Map(Map { map: Arc::new(members) })
        }
    }
}
