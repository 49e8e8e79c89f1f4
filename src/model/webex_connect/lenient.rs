//! JSON read so that no part of it costs the rest.

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::json::{each_field, repair};

/// How far down a part that cannot be read costs only itself: body, notification, delivery info.
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
    if let Ok(value) = serde_json::from_str(json) {
        return value;
    }
    let mut object = Map::new();
    let is_object = levels > 0
        && each_field(json, |name, member| {
            object.insert(name.to_owned(), value(member, levels - 1));
        });
    if is_object { Value::Object(object) } else { Value::String(json.to_owned()) }
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
