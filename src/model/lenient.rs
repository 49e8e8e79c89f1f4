//! JSON read so that no part of it costs the rest.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

use crate::json::{each_field, repair};

/// How far down a part that cannot be read costs only itself: body, notification, delivery info; item, message.
const LEVELS: u32 = 3;

/// The members of a JSON object. None if it is no object. A member that serde_json refuses (it nests deeper than 128)
/// is its JSON as text.
pub(super) fn object(json: &str) -> Option<Map<String, Value>> {
    match value(json, LEVELS) {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// Those members of a JSON object whose names are wanted; the others are passed over, however large. None if it is no
/// object.
pub(super) fn select(json: &str, wanted: impl Fn(&str) -> bool) -> Option<Map<String, Value>> {
    let mut selected = Map::new();
    let is_object = each_field(json, |name, member| {
        if wanted(name) {
            selected.insert(name.to_owned(), value(member, LEVELS - 1));
        }
    });
    is_object.then_some(selected)
}

/// JSON text inside a string, opened. None if the text is not JSON.
pub(super) fn opened(text: &str) -> Option<Value> {
    // Escapes that stand for no text have survived the repair of the body, being escaped once more there.
    let repaired = repair(text.as_bytes());
    let json: &RawValue = serde_json::from_slice(&repaired).ok()?;
    Some(value(json.get(), LEVELS))
}

fn value(json: &str, levels: u32) -> Value {
    if let Ok(Plain(value)) = serde_json::from_str(json) {
        return value;
    }
    let mut object = Map::new();
    let is_object = levels > 0
        && each_field(json, |name, member| {
            object.insert(name.to_owned(), value(member, levels - 1));
        });
    if is_object { Value::Object(object) } else { Value::String(json.to_owned()) }
}

/// Any JSON value. Unlike [`Value`]'s own, this does not open texts below serde_json's private key for raw values: such
/// texts within such texts would escape the limit of nesting, and overflow the stack.
struct Plain(Value);

/// The key below which serde_json hands out numbers that are no 64-bit integers, digit for digit.
const NUMBER: &str = "$serde_json::private::Number";

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlainVisitor).map(Self)
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        Ok(Value::String(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Plain(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Plain(value))) = members.next_entry::<String, Plain>()? {
            if name == NUMBER
                && object.is_empty()
                && let Some(number) = value.as_str().and_then(|digits| digits.parse::<Number>().ok())
            {
                return Ok(Value::Number(number));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deep(levels: usize) -> String {
        format!("{}{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn what_nests_too_deep_costs_only_itself() {
        let deep = deep(1000);
        let json = format!(r#"{{"a":{{"b":{{"c":"x","d":{deep}}},"e":1}}}}"#);
        let read = object(&json).unwrap();
        assert_eq!(read["a"]["b"]["c"], "x");
        assert_eq!(read["a"]["b"]["d"], deep);
        assert_eq!(read["a"]["e"].to_string(), "1");
    }

    #[test]
    fn values_are_read_as_they_stand() {
        for json in [
            r#"{"z":1.50,"a":-0,"m":[true,null,"x\\n"],"n":90071992547409931234,"e":1e400,"o":{}}"#,
            r#"{"$serde_json::private::RawValue":"[1]"}"#,
            r#"{"$serde_json::private::Number":"x","more":1}"#,
        ] {
            assert_eq!(Value::Object(object(json).unwrap()).to_string().replace("1e+400", "1e400"), json);
        }
    }

    #[test]
    fn texts_within_texts_do_not_escape_the_limit_of_nesting() {
        let mut text = "1".to_owned();
        for _ in 0..18 {
            let inner = Value::String(text).to_string();
            text = format!(r#"{}{{"$serde_json::private::RawValue":{inner}}}{}"#, "[".repeat(100), "]".repeat(100));
        }
        let json = format!(r#"{{"bomb":{text}}}"#);
        assert!(object(&json).unwrap()["bomb"].is_array());
    }

    #[test]
    fn only_objects_are_objects() {
        for json in ["[]", "1", "\"{}\"", "null", ""] {
            assert!(object(json).is_none(), "{json}");
            assert!(select(json, |_| true).is_none(), "{json}");
        }
    }

    #[test]
    fn what_looks_like_the_parsers_own_is_an_object_all_the_same() {
        for json in [r#"{"$serde_json::private::Number":"x"}"#, r#"{"$serde_json::private::RawValue":"{"}"#] {
            assert_eq!(object(json).unwrap().len(), 1, "{json}");
        }
    }

    #[test]
    fn selected_members_are_the_last_of_their_name() {
        let json = format!(r#"{{"a":1,"b":{0},"a":2,"c":{0}}}"#, deep(1000));
        let selected = select(&json, |name| name == "a" || name == "c").unwrap();
        assert_eq!(selected["a"].to_string(), "2");
        assert_eq!(selected["c"], deep(1000));
        assert!(!selected.contains_key("b"));
    }

    #[test]
    fn text_is_opened_when_it_is_json() {
        assert_eq!(opened(r#"{"a":"\ud83d"}"#).unwrap()["a"], "\u{fffd}");
        assert_eq!(opened("[]").unwrap(), Value::Array(Vec::new()));
        assert!(opened("clicked").is_none());
        assert!(opened("").is_none());
    }
}
