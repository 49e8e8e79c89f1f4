//! JSON as bytes: read once from front to back, in slices or as a tree, and what must be done to it before and after.

mod compact;
mod repair;
mod scan;
mod tree;

use serde_json::value::RawValue;

pub use compact::compact;
pub use repair::{mended, repair};
pub use scan::{Scanner, Type, each_field, each_item, scalar};
pub use tree::{Json, Members, NoTree, each_once};

/// The text is no JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is no JSON")]
pub struct NotJson;

/// Whether these bytes are one JSON text (RFC 8259), however deeply nested and whatever its escapes stand for.
pub fn is_json(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).is_ok_and(|text| {
        let mut scanner = Scanner::new(text);
        scanner.value().is_some() && scanner.is_at_end()
    })
}

/// JSON to be written as it is, white space outside strings taken out; none if it is not JSON. However deeply nested.
pub fn verbatim(json: &str) -> Option<Box<RawValue>> {
    // Without its white space, what is no JSON can become some ("1 2").
    if !is_json(json.as_bytes()) {
        return None;
    }
    RawValue::from_string(String::from_utf8(compact(json.as_bytes())).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::verbatim;

    #[test]
    fn only_json_is_verbatim() {
        assert_eq!(verbatim(" { \"a b\" : 1.50 } ").unwrap().get(), "{\"a b\":1.50}");
        for other in ["1 2", "nu ll", "", "{", "{} x"] {
            assert!(verbatim(other).is_none(), "{other}");
        }
    }
}
