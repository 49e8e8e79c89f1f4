use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer as _};
use serde_json::value::RawValue;

/// Calls `each` with the fields of an object in their order, values as slices of `json`; `false` if it is none. Keys
/// that occur twice come twice. Nothing is built and nothing recurses, whatever stands in the values.
pub fn each_field<'a>(json: &'a str, each: impl FnMut(&str, &'a str)) -> bool {
    struct Object<F>(F);

    impl<'a, F: FnMut(&str, &'a str)> Visitor<'a> for Object<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<(), A::Error> {
            while let Some((key, value)) = map.next_entry::<Key<'a>, &'a RawValue>()? {
                (self.0)(&key.0, value.get());
            }
            Ok(())
        }
    }

    serde_json::Deserializer::from_str(json).deserialize_map(Object(each)).is_ok()
}

/// Calls `each` with the items of a list in their order, as slices of `json`; `false` if it is none.
pub fn each_item<'a>(json: &'a str, each: impl FnMut(&'a str)) -> bool {
    struct List<F>(F);

    impl<'a, F: FnMut(&'a str)> Visitor<'a> for List<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'a>>(mut self, mut list: A) -> Result<(), A::Error> {
            while let Some(item) = list.next_element::<&'a RawValue>()? {
                (self.0)(item.get());
            }
            Ok(())
        }
    }

    serde_json::Deserializer::from_str(json).deserialize_seq(List(each)).is_ok()
}

/// A scalar as text: a string opened, a number digit for digit, a boolean by its name. None for null, the empty string,
/// lists and objects.
pub fn scalar(json: &str) -> Option<Cow<'_, str>> {
    match json.as_bytes().first()? {
        b'"' => serde_json::from_str::<Key<'_>>(json).ok().map(|text| text.0).filter(|text| !text.is_empty()),
        b'{' | b'[' | b'n' => None,
        _ => Some(Cow::Borrowed(json)),
    }
}

/// A string, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_come_in_order_and_as_they_stand() {
        let mut seen = Vec::new();
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let json = format!(r#"{{ "a" : 1.50 , "a":"\/", "\u0062": {deep} }}"#);
        assert!(each_field(&json, |key, value| seen.push((key.to_owned(), value))));
        assert_eq!(seen, [("a".to_owned(), "1.50"), ("a".to_owned(), r#""\/""#), ("b".to_owned(), deep.as_str())]);
    }

    #[test]
    fn items_come_in_order_and_as_they_stand() {
        let mut seen = Vec::new();
        assert!(each_item(" [ 1 ,null, {\"a\": [ ]}, \"]\" ] ", |item| seen.push(item)));
        assert_eq!(seen, ["1", "null", "{\"a\": [ ]}", "\"]\""]);
    }

    #[test]
    fn another_type_is_none() {
        for json in ["null", "1", "true", "\"x\"", "[]"] {
            assert!(!each_field(json, |_, _| ()), "{json}");
        }
        for json in ["null", "1", "true", "\"x\"", "{}"] {
            assert!(!each_item(json, |_| ()), "{json}");
        }
    }

    #[test]
    fn scalars_as_text() {
        for (json, text) in [
            ("\"x\\u0041\"", Some("xA")),
            ("90071992547409931", Some("90071992547409931")),
            ("true", Some("true")),
            ("\"\"", None),
            ("null", None),
            ("{}", None),
            ("[1]", None),
        ] {
            assert_eq!(scalar(json).as_deref(), text, "{json}");
        }
    }
}
