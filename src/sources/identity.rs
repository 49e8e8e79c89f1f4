//! The identity of events: the same for every copy of an event, and fixed for ever, since sinks and the journal tell
//! copies by it.
//!
//! It is a UUIDv5 (RFC 9562) in a namespace of our own. The name is a sequence of parts, each its length in bytes as
//! eight bytes, big-endian, and then the bytes; a part that is not there has the length 2^64-1. What a request says about
//! itself and not about the event (the list an item stood in, the time of sending) is no part of it.

use sha1::Sha1;
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use crate::event::EventId;
use crate::names::SourceName;

const NAMESPACE: Uuid = Uuid::from_u128(0x9d37b2d4_5fb5_47b3_9216_a6e494217a73);

/// What identifies an item of Meta besides its source and its bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct MetaIdentity<'a> {
    /// `object` of the envelope.
    pub(super) object: Option<&'a str>,
    /// `entry[].id`.
    pub(super) entry_id: Option<&'a str>,
    /// `field` of an item of `changes`.
    pub(super) field: Option<&'a str>,
    /// `entry[].time` as text, only for an item without a time of its own: redelivered copies differ in it.
    pub(super) entry_time: Option<&'a str>,
}

/// The id of an item of Meta: source, object, entry, field, SHA-256 of the item's exact bytes, and the entry's time
/// where the item has none.
pub(super) fn meta(source: &SourceName, around: MetaIdentity<'_>, item: &[u8]) -> EventId {
    let MetaIdentity { object, entry_id, field, entry_time } = around;
    let digest = Sha256::digest(item);
    event_id(&[
        Some(source.as_str().as_bytes()),
        object.map(str::as_bytes),
        entry_id.map(str::as_bytes),
        field.map(str::as_bytes),
        Some(digest.as_slice()),
        entry_time.map(str::as_bytes),
    ])
}

/// The id of a body of Webex Connect: source and SHA-256 of its exact bytes.
pub(super) fn webex_connect(source: &SourceName, body: &[u8]) -> EventId {
    event_id(&[Some(source.as_str().as_bytes()), Some(Sha256::digest(body).as_slice())])
}

fn event_id(parts: &[Option<&[u8]>]) -> EventId {
    // As `Uuid::new_v5` does, with the digest that uses the processor's own instructions.
    let mut name = Sha1::new_with_prefix(NAMESPACE.as_bytes());
    for part in parts {
        match part {
            Some(part) => {
                name.update((part.len() as u64).to_be_bytes());
                name.update(part);
            }
            None => name.update(u64::MAX.to_be_bytes()),
        }
    }
    let mut id = [0; 16];
    id.copy_from_slice(&name.finalize()[..16]);
    EventId(Builder::from_sha1_bytes(id).into_uuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layout for ever: an id that changes here makes every sink take a known event for a new one. The expected
    /// values were computed with Python's `hashlib` and `uuid`, not with this code.
    #[test]
    fn golden() {
        let source: SourceName = "messenger".parse().unwrap();
        let around = |field, entry_time| MetaIdentity {
            object: Some("page"),
            entry_id: Some("1906385232743451"),
            field,
            entry_time,
        };
        for (id, expected) in [
            (meta(&source, around(None, None), br#"{"read":{}}"#), "bd3a7cd8-a9b2-5c19-8e63-6779e3c3d51b"),
            (
                meta(&source, around(None, Some("1570053170926")), br#"{"read":{}}"#),
                "e7dc8385-73eb-54d3-bdcc-92c95daf524f",
            ),
            (
                meta(&source, around(Some("feed"), Some("1570053170")), br#"{"field":"feed"}"#),
                "965bcf72-0b03-56df-9793-f7f699ae0f1b",
            ),
            (meta(&source, MetaIdentity::default(), b"{}"), "ac0e30a9-5370-55a9-bece-d0f5dd81dc7c"),
            (
                webex_connect(&"connect".parse().unwrap(), br#"{"channel":"sms"}"#),
                "014257e3-3418-5d34-b808-3de78302ace9",
            ),
        ] {
            assert_eq!(id.to_string(), expected);
        }
    }

    #[test]
    fn a_part_cannot_be_mistaken_for_another() {
        let source: SourceName = "s".parse().unwrap();
        let ids = [
            MetaIdentity { object: Some("ab"), entry_id: Some("c"), ..MetaIdentity::default() },
            MetaIdentity { object: Some("a"), entry_id: Some("bc"), ..MetaIdentity::default() },
            MetaIdentity { object: Some("abc"), ..MetaIdentity::default() },
            MetaIdentity { object: Some("abc"), entry_id: Some(""), ..MetaIdentity::default() },
            MetaIdentity { entry_id: Some("abc"), ..MetaIdentity::default() },
            MetaIdentity { field: Some("abc"), ..MetaIdentity::default() },
            MetaIdentity { entry_time: Some("abc"), ..MetaIdentity::default() },
        ]
        .map(|around| meta(&source, around, b"{}"));
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }
}
