//! A record as the payload of a message: a version, the id, what is known of the event as JSON, and its exact bytes.
//!
//! ```text
//! 1 byte    version, 1
//! 16 bytes  id
//! 4 bytes   length of what follows, big endian
//!           source, type of source, kind, subject, times and context, as JSON
//!           the event, exactly as it came
//! ```
//! Every version begins with these three: what a later one wrote is known for what it is, and waits for a replica that
//! can read it.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::event::{Context, EventId, Kind, Record, Subject};
use crate::filter::{Filter, Pattern};
use crate::journal::JournalError;
use crate::names::{SourceName, SourceType};

const VERSION: u8 = 1;
/// Versions that may come: a message that begins with text or with anything else is none.
const LATER: std::ops::RangeInclusive<u8> = 2..=31;
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

/// What a message keeps.
#[derive(Debug)]
pub(super) enum Kept {
    /// A record.
    Event(Box<Record>),
    /// An event that this version cannot read and a later one can: of a type of source, or with evidence of its arrival,
    /// that is not known here.
    Later(Later),
    /// No event.
    Nothing,
}

/// What is known of an event that a later version wrote.
#[derive(Debug)]
pub(super) struct Later {
    pub(super) id: EventId,
    /// Where this version can read as much.
    sketch: Option<Sketch>,
}

/// What every version says of an event whose envelope has this version.
#[derive(Debug, Deserialize)]
struct Sketch {
    #[serde(rename = "s")]
    source: SourceName,
    #[serde(rename = "k")]
    kind: String,
    #[serde(rename = "r")]
    received_at: i64,
}

impl Later {
    /// Whether a sink with this filter may want it.
    pub(super) fn may_fit(&self, filter: &Filter) -> bool {
        let fits = |patterns: &[Pattern], text: &str| {
            patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(text))
        };
        let Some(sketch) = &self.sketch else { return true };
        fits(&filter.sources, sketch.source.as_str()) && fits(&filter.kinds, &sketch.kind)
    }

    /// When it was received, if that can be read.
    pub(super) fn received_at(&self) -> Option<DateTime<Utc>> {
        time(self.sketch.as_ref()?.received_at)
    }
}

/// The record that a message keeps, or what else it is.
pub(super) fn read(payload: &[u8]) -> Kept {
    parse(payload).unwrap_or(Kept::Nothing)
}

fn parse(payload: &[u8]) -> Option<Kept> {
    let (head, rest) = payload.split_at_checked(HEAD)?;
    let id = EventId(Uuid::from_slice(&head[1..=ID]).ok()?);
    let length = u32::from_be_bytes(head[1 + ID..].try_into().ok()?);
    let (known, raw) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    if head[0] != VERSION {
        return LATER.contains(&head[0]).then_some(Kept::Later(Later { id, sketch: None }));
    }
    let Ok(known) = serde_json::from_slice::<Known<'_>>(known) else {
        let sketch = serde_json::from_slice(known).ok()?;
        return Some(Kept::Later(Later { id, sketch: Some(sketch) }));
    };
    let occurred_at = match known.occurred_at {
        Some(at) => Some(time(at)?),
        None => None,
    };
    Some(Kept::Event(Box::new(Record {
        id,
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
        context: Arc::new(known.context.into_owned()),
        // A copy, so that it does not keep the client library's whole buffer.
        raw: Bytes::copy_from_slice(raw),
    })))
}

fn time(millis: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(millis)
}
