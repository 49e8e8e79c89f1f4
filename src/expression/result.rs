//! What an expression made, as JSON.

use std::collections::BTreeMap;

use cel::Value;
use cel::objects::Key;
use serde_json::value::RawValue;

use super::{Cannot, MAX_OUTPUT};
use crate::event::cloud_event::rfc3339;

/// The value as JSON. Values that share their parts in memory do not on paper, so that the size is looked at as it grows.
pub(super) fn json(value: &Value) -> Result<Box<RawValue>, Cannot> {
    let mut out = String::new();
    write(value, &mut out)?;
    RawValue::from_string(out).map_err(|_| Cannot::NoJson)
}

fn write(value: &Value, out: &mut String) -> Result<(), Cannot> {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
        Value::Int(number) => out.push_str(&number.to_string()),
        Value::UInt(number) => out.push_str(&number.to_string()),
        // JSON has no infinity.
        Value::Float(number) if !number.is_finite() => return Err(Cannot::NoJson),
        Value::Float(number) => out.push_str(&quoted(number)?),
        Value::String(text) => out.push_str(&quoted(&**text)?),
        Value::Timestamp(time) => out.push_str(&quoted(&rfc3339(time.to_utc()))?),
        Value::List(values) => {
            out.push('[');
            for (position, value) in values.iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                write(value, out)?;
            }
            out.push(']');
        }
        Value::Map(map) => {
            // A map has no order of its own, and the same event should look the same each time it is sent.
            let members: BTreeMap<String, &Value> = map.map.iter().map(|(key, value)| (name(key), value)).collect();
            out.push('{');
            for (position, (name, value)) in members.into_iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                out.push_str(&quoted(&name)?);
                out.push(':');
                write(value, out)?;
            }
            out.push('}');
        }
        _ => return Err(Cannot::NoJson),
    }
    if out.len() > MAX_OUTPUT { Err(Cannot::Output) } else { Ok(()) }
}

fn name(key: &Key) -> String {
    match key {
        Key::Int(number) => number.to_string(),
        Key::Uint(number) => number.to_string(),
        Key::Bool(value) => value.to_string(),
        Key::String(text) => text.to_string(),
    }
}

fn quoted(value: &(impl serde::Serialize + ?Sized)) -> Result<String, Cannot> {
    serde_json::to_string(value).map_err(|_| Cannot::NoJson)
}
