//! JSON read so that no part of it costs the rest.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

use crate::json::{each_field, repair};

/// How far down a part that cannot be read costs only itself: body, notification, delivery info; item, message.
const LEVELS: u32 = 3;

/// How many values an event may be taken apart into, scalars and all. As a tree a value takes up to some hundred times
/// its place in the JSON, and an event that no memory holds would bring the process down again after every start. What
/// senders are known to send has a few hundred.
const VALUES: usize = 50_000;

/// How many values may still be built for an event.
#[derive(Debug)]
pub(super) struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(VALUES)
    }
}

impl Room {
    fn take(&mut self) -> bool {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// The members of a JSON object. None if it is no object, or one of more values than an event may have. A member that
/// cannot be read (serde_json refuses what nests deeper than 128), or has too many values itself, is its JSON as text.
pub(crate) fn object(json: &str) -> Option<Map<String, Value>> {
    match value(json, LEVELS, &mut Room::default()) {
        Value::Object(object) => Some(object),
        _ => None,
    }
}

/// Those members of a JSON object whose names are wanted; the others are passed over, however large. None if it is no
/// object.
pub(super) fn select(json: &str, wanted: impl Fn(&str) -> bool) -> Option<Map<String, Value>> {
    let mut selected = Map::new();
    let mut room = Room::default();
    let is_object = each_field(json, |name, member| {
        if wanted(name) {
            selected.insert(name.to_owned(), value(member, LEVELS - 1, &mut room));
        }
    });
    is_object.then_some(selected)
}

/// JSON text inside a string, opened. None if the text is not JSON.
pub(super) fn opened(text: &str, room: &mut Room) -> Option<Value> {
    // Escapes that stand for no text have survived the repair of the body, being escaped once more there.
    let repaired = repair(text.as_bytes());
    let json: &RawValue = serde_json::from_slice(&repaired).ok()?;
    Some(value(json.get(), LEVELS, room))
}

fn value(json: &str, levels: u32, room: &mut Room) -> Value {
    let before = room.0;
    let mut parser = serde_json::Deserializer::from_str(json);
    if let Ok(value) = Plain(room).deserialize(&mut parser)
        && parser.end().is_ok()
    {
        return value;
    }
    // What was built of it is gone again.
    room.0 = before;
    let mut object = Map::new();
    let mut fits = true;
    let is_object = levels > 0
        && each_field(json, |name, member| {
            fits = fits && room.take();
            if fits {
                object.insert(name.to_owned(), value(member, levels - 1, room));
            }
        });
    if is_object && fits {
        return Value::Object(object);
    }
    room.0 = before.saturating_sub(1);
    Value::String(json.to_owned())
}

/// Builds any JSON value, as long as there is room. Unlike [`Value`]'s own, this does not open texts below serde_json's
/// private key for raw values: such texts within such texts would escape the limit of nesting, and overflow the stack.
struct Plain<'r>(&'r mut Room);

/// The key below which serde_json hands out numbers that are no 64-bit integers, digit for digit.
const NUMBER: &str = "$serde_json::private::Number";

impl<'de> DeserializeSeed<'de> for Plain<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if !self.0.take() {
            return Err(D::Error::custom("more values than an event may have"));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Plain<'_> {
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
        while let Some(item) = items.next_element_seed(Plain(self.0))? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(Plain(self.0))?;
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

    /// How many values a tree has.
    fn count(value: &Value) -> usize {
        1 + match value {
            Value::Array(items) => items.iter().map(count).sum(),
            Value::Object(members) => members.values().map(count).sum(),
            _ => 0,
        }
    }

    #[test]
    fn a_member_of_too_many_values_costs_only_itself() {
        let many = format!("[{}0]", "0,".repeat(VALUES));
        for json in [format!(r#"{{"a":{{"b":{{"c":"x","d":{many}}},"e":1}}}}"#), {
            // The second list would fit alone.
            let half = format!("[{}0]", "0,".repeat(VALUES / 2));
            format!(r#"{{"a":{{"b":{{"c":"x","f":{half},"d":{many}}},"e":1}}}}"#)
        }] {
            let read = object(&json).unwrap();
            assert_eq!((&read["a"]["b"]["c"], &read["a"]["e"]), (&"x".into(), &1.into()));
            assert_eq!(read["a"]["b"]["d"], many);
            assert!(count(&Value::Object(read)) <= VALUES);
            let selected = Value::Object(select(&json, |name| name == "a").unwrap());
            assert!(count(&selected) <= VALUES + 1);
        }
    }

    #[test]
    fn an_object_of_too_many_members_is_not_taken_apart() {
        let members: Vec<String> = (0..VALUES).map(|n| format!(r#""{n}":0"#)).collect();
        let many = format!("{{{}}}", members.join(","));
        assert!(object(&many).is_none());
        assert_eq!(object(&format!(r#"{{"a":{many},"b":1}}"#)).unwrap()["a"], many);
    }

    #[test]
    fn texts_share_the_room_of_their_event() {
        let text = format!("[{}0]", "0,".repeat(VALUES / 2));
        let mut room = Room::default();
        assert!(opened(&text, &mut room).unwrap().is_array());
        assert!(opened(&text, &mut room).unwrap().is_string(), "the other half is taken");
        assert!(opened("[0]", &mut room).unwrap().is_array());
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
        let opened = |text| opened(text, &mut Room::default());
        assert_eq!(opened(r#"{"a":"\ud83d"}"#).unwrap()["a"], "\u{fffd}");
        assert_eq!(opened("[]").unwrap(), Value::Array(Vec::new()));
        assert!(opened("clicked").is_none());
        assert!(opened("").is_none());
    }
}
