//! Events: what the journal keeps ([`Record`]), what sinks are handed ([`Event`]), and the form in which they leave
//! ([`cloud_event`]).

pub mod cloud_event;
mod context;
mod kind;
mod schema;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use cloud_event::Format;
pub use context::{Arrival, Context, Place, Proof, Scheme};
pub use kind::{Kind, UnknownKind};
pub use schema::event_schema;

use crate::model::Payload;
use crate::names::{SourceName, SourceType};

/// The identity of an event: a UUIDv5 over what identifies it at its sender (see `sources::identity`), so that every
/// copy of it has the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(pub Uuid);

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for EventId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// The person an event concerns, by the sender's id for them. Personal data: its Debug form hides it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Subject(Arc<str>);

impl Subject {
    /// The person with this id, unless the id is empty.
    pub fn new(id: &str) -> Option<Self> {
        (!id.is_empty()).then(|| Self(id.into()))
    }

    /// The sender's id for the person.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Subject(***)")
    }
}

/// One item of a request, as the journal keeps it. `kind`, `subject` and `occurred_at` are fixed when it is stored.
#[derive(Clone)]
pub struct Record {
    /// Same for every copy of the event.
    pub id: EventId,
    /// The configured source it came through.
    pub source: SourceName,
    /// The type of that source, so that the record can be decoded when the source has left the configuration.
    pub source_type: SourceType,
    /// What it is.
    pub kind: Kind,
    /// Whom it concerns.
    pub subject: Option<Subject>,
    /// When it happened, by its sender.
    pub occurred_at: Option<DateTime<Utc>>,
    /// When hooksink received it.
    pub received_at: DateTime<Utc>,
    /// What stood around the item, and how the request arrived; items of a request may share it.
    pub context: Arc<Context>,
    /// The item, exactly as it came.
    pub raw: Bytes,
}

/// Events of one lane reach a sink in the order they were stored. Each event without a subject is a lane of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Lane {
    /// All events of this person at this source.
    Person(SourceName, Subject),
    /// This event alone.
    Single(EventId),
}

/// The same, borrowed from a record.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum LaneRef<'a> {
    Person(&'a SourceName, &'a Subject),
    Single(EventId),
}

/// Values by lane, owned or borrowed. Every event is looked up on its way; the hash has a seed of its own in each process.
pub(crate) type LaneMap<V, L = Lane> = HashMap<L, V, foldhash::fast::RandomState>;

impl Record {
    /// The lane the record belongs to.
    pub fn lane(&self) -> Lane {
        match self.lane_ref() {
            LaneRef::Person(source, subject) => Lane::Person(source.clone(), subject.clone()),
            LaneRef::Single(id) => Lane::Single(id),
        }
    }

    /// The same, for whoever looks at records that stay where they are.
    pub(crate) fn lane_ref(&self) -> LaneRef<'_> {
        match &self.subject {
            Some(subject) => LaneRef::Person(&self.source, subject),
            None => LaneRef::Single(self.id),
        }
    }
}

impl fmt::Debug for Record {
    /// Without body, person or arrival, so that it may be printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("id", &self.id)
            .field("source", &self.source)
            .field("kind", &self.kind)
            .field("received_at", &self.received_at)
            .field("raw_bytes", &self.raw.len())
            .finish_non_exhaustive()
    }
}

/// A record with its typed payload: what sinks are handed.
#[derive(Clone)]
pub struct Event {
    /// What the journal keeps.
    pub record: Arc<Record>,
    /// The typed view of `record.raw`, computed by this version of hooksink.
    pub payload: Arc<Payload>,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Event").field(&self.record).finish()
    }
}
