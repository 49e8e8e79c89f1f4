//! JSON as bytes: what must be done to a body before and after serde_json sees it.

mod compact;
mod repair;

pub use compact::compact;
pub use repair::repair;

/// Whether these bytes are one JSON text (RFC 8259), however deeply nested and whatever its escapes stand for.
pub fn is_json(bytes: &[u8]) -> bool {
    serde_json::from_slice::<&serde_json::value::RawValue>(bytes).is_ok()
}
