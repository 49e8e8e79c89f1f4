//! What of an event may be shown: an allow-list of names. Everything else becomes a keyed hash, so that equal values can
//! be told to be equal and nothing more, or is left out.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value};
use sha2::Sha256;

/// Attributes of the CloudEvent itself that say nothing of a person. The id is a hash already.
const ATTRIBUTES: &[&str] =
    &["specversion", "id", "source", "type", "time", "datacontenttype", "receivedtime", "sourcetype"];

/// Members of `data`, at any depth, whose values come from small vocabularies or are times.
const SHOWN: &[&str] = &[
    "status",
    "status_text",
    "code",
    "channel",
    "destination_type",
    "contradictory",
    "event",
    "id_type",
    "type",
    "type_text",
    "template_type",
    "origin",
    "object",
    "field",
    "action",
    "standby",
    "is_deleted",
    "is_self_reply",
    "num_edit",
    "timestamp",
    "watermark",
];

/// A value longer than this is no word of a vocabulary, whatever its name.
const MAX_SHOWN: usize = 64;

/// Members whose names may be personal too.
const LEFT_OUT: &[&str] = &["extra", "fields", "raw", "data_base64"];

/// Covers personal data.
pub(super) struct Veil {
    key: Hmac<Sha256>,
}

impl Veil {
    pub(super) fn new(key: [u8; 32]) -> Self {
        // HMAC fills a shorter key up with zeros; done here, since a key of a whole block cannot be of a wrong length.
        let mut block = [0; 64];
        block[..key.len()].copy_from_slice(&key);
        Self { key: Hmac::<Sha256>::new(&block.into()) }
    }

    /// Covers a CloudEvent in place.
    pub(super) fn cover(&self, event: &mut Map<String, Value>) {
        event.retain(|name, _| !LEFT_OUT.contains(&name.as_str()));
        for (name, value) in event {
            match name.as_str() {
                "data" => self.cover_value(value, false),
                "datacontenttype" if value.as_str() != Some("application/json") => *value = self.hash(value),
                name => self.cover_value(value, ATTRIBUTES.contains(&name)),
            }
        }
    }

    /// Covers a CloudEvent whose `data` is not ours: all of it becomes one hash.
    pub(super) fn cover_whole(&self, event: &mut Map<String, Value>) {
        if let Some(data) = event.get_mut("data") {
            *data = self.hash(data);
        }
        self.cover(event);
    }

    fn cover_value(&self, value: &mut Value, shown: bool) {
        match value {
            Value::Null | Value::Bool(_) => {}
            Value::String(text) if text.is_empty() => {}
            Value::String(text) if shown && is_word(text) => {}
            Value::Number(_) if shown => {}
            Value::String(_) | Value::Number(_) => *value = self.hash(value),
            Value::Array(values) => values.iter_mut().for_each(|value| self.cover_value(value, shown)),
            Value::Object(members) => {
                members.retain(|name, _| !LEFT_OUT.contains(&name.as_str()));
                for (name, value) in members {
                    self.cover_value(value, SHOWN.contains(&name.as_str()));
                }
            }
        }
    }

    /// `#` and 16 hex digits of a keyed hash.
    fn hash(&self, value: &Value) -> Value {
        let mut mac = self.key.clone();
        match value {
            Value::String(text) => mac.update(text.as_bytes()),
            other => mac.update(other.to_string().as_bytes()),
        }
        Value::String(format!("#{}", hex::encode(&mac.finalize().into_bytes()[..8])))
    }
}

/// Letters, digits and the punctuation of words and times; neither an e-mail address nor a bare phone number.
fn is_word(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b" _.:+/-".contains(&byte);
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let is_time = text.contains('T') && text.contains(':');
    text.len() <= MAX_SHOWN && text.bytes().all(plain) && (digits < 8 || is_time || text.len() == 36)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn covered(mut event: Value) -> Value {
        let members = event.as_object_mut().expect("an object");
        Veil::new([7; 32]).cover(members);
        event
    }

    #[test]
    fn what_is_not_on_the_list_is_hashed_or_left_out() {
        let seen = covered(json!({
            "id": "b4a5c9f2-0000-5000-8000-1234567890ab", "source": "/webhooks/messenger", "type": "meta.message_echo",
            "subject": "1008", "time": "2026-01-02T03:04:05.000Z", "data": {
                "sender_id": "1008", "text": "come to Baker Street", "standby": false, "timestamp": "2026-01-02T03:04:05.000Z",
                "attachments": [{"type": "image", "url": "https://cdn.example/secret", "extra": {"Ann": 1}}],
                "status": "delivered", "code": "7500", "extra": {"name": "Ann"}, "mid": null
            }
        }));
        let text = seen.to_string();
        for hidden in ["1008", "Baker", "cdn", "Ann"] {
            assert!(!text.contains(hidden), "{hidden} in {text}");
        }
        for shown in ["meta.message_echo", "image", "delivered", "7500", "2026-01-02T03:04:05.000Z"] {
            assert!(text.contains(shown), "no {shown} in {text}");
        }
        assert_eq!(seen["subject"], seen["data"]["sender_id"], "equal values stay recognisable");
    }

    #[test]
    fn a_shown_name_does_not_show_free_text() {
        for hidden in ["ann@example.org", "447700900123", "<b>", &"long ".repeat(20)] {
            let seen = covered(json!({"data": {"channel": hidden}}));
            assert!(!seen.to_string().contains(hidden.trim()), "{seen}");
        }
    }

    #[test]
    fn hashes_depend_on_the_key() {
        let value = json!("1008");
        assert_ne!(Veil::new([1; 32]).hash(&value), Veil::new([2; 32]).hash(&value));
    }
}
