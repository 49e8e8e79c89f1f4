//! A record as the payload of a message: a version, the id, what is known of the event as JSON, and its exact bytes.
//!
//! ```text
//! 1 byte    version, 1
//! 16 bytes  id
//! 4 bytes   length of what follows, big endian
//!           source, type of source, kind, subject, times and context, as JSON
//!           the event, exactly as it came
//! ```

use std::borrow::Cow;

use bytes::{BufMut as _, Bytes, BytesMut};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::error::unreadable;
use crate::event::{Context, EventId, Kind, Record, Subject};
use crate::journal::JournalError;
use crate::names::{SourceName, SourceType};

const VERSION: u8 = 1;
const ID: usize = 16;
/// Version, id and length.
const HEAD: usize = 1 + ID + 4;

/// What the JSON beside an event may take, with headers and the rest of a message: senders' headers are bounded by
/// `server.max_header_bytes`, of which a few are kept.
pub(super) const BESIDE: u64 = 64 * 1024;

#[derive(Serialize, Deserialize)]
struct Known<'a> {
    #[serde(rename = "s")]
    source: SourceName,
    #[serde(rename = "t")]
    source_type: SourceType,
    /// Text, since another version may know more kinds.
    #[serde(rename = "k")]
    kind: Cow<'a, str>,
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    subject: Option<Subject>,
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    occurred_at: Option<i64>,
    #[serde(rename = "r")]
    received_at: i64,
    #[serde(rename = "c")]
    context: Cow<'a, Context>,
}

/// The payload of a message that keeps this record.
pub(super) fn write(record: &Record) -> Result<Bytes, JournalError> {
    let known = Known {
        source: record.source.clone(),
        source_type: record.source_type,
        kind: Cow::Borrowed(record.kind.as_str()),
        subject: record.subject.clone(),
        occurred_at: record.occurred_at.map(|at| at.timestamp_millis()),
        received_at: record.received_at.timestamp_millis(),
        context: Cow::Borrowed(&record.context),
    };
    let known = serde_json::to_vec(&known)
        .map_err(|_| JournalError::Unavailable("a record's context cannot be written as JSON".to_owned()))?;
    let length = u32::try_from(known.len())
        .map_err(|_| JournalError::Unavailable("a record's context is too long".to_owned()))?;
    let mut payload = BytesMut::with_capacity(HEAD + known.len() + record.raw.len());
    payload.put_u8(VERSION);
    payload.put_slice(record.id.0.as_bytes());
    payload.put_u32(length);
    payload.put_slice(&known);
    payload.put_slice(&record.raw);
    Ok(payload.freeze())
}

/// The record that a message keeps.
pub(super) fn read(payload: &[u8]) -> Result<Record, JournalError> {
    parse(payload).ok_or_else(|| unreadable("a message of the journal"))
}

fn parse(payload: &[u8]) -> Option<Record> {
    let (head, rest) = payload.split_at_checked(HEAD)?;
    if head[0] != VERSION {
        return None;
    }
    let id = Uuid::from_slice(&head[1..=ID]).ok()?;
    let length = u32::from_be_bytes(head[1 + ID..].try_into().ok()?);
    let (known, raw) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    let known: Known<'_> = serde_json::from_slice(known).ok()?;
    let occurred_at = match known.occurred_at {
        Some(at) => Some(time(at)?),
        None => None,
    };
    Some(Record {
        id: EventId(id),
        source: known.source,
        source_type: known.source_type,
        // A kind of another version: its bytes are kept, and its type is what can still be said.
        kind: known.kind.parse().unwrap_or(match known.source_type {
            SourceType::WebexConnect => Kind::ConnectUnrecognized,
            SourceType::Meta => Kind::MetaUnrecognized,
        }),
        subject: known.subject,
        occurred_at,
        received_at: time(known.received_at)?,
        context: known.context.into_owned(),
        // A copy, so that it does not keep the client library's whole buffer.
        raw: Bytes::copy_from_slice(raw),
    })
}

fn time(millis: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(millis)
}
