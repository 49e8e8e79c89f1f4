//! A record as a row, and back.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use rusqlite::Row;
use rusqlite::types::Type;
use uuid::Uuid;

use super::shared::Shared;
use super::tail::{self, Slot};
use crate::event::{Context, EventId, Kind, Record, Subject};
use crate::names::{InvalidName, SourceName, SourceType};

/// The columns of a record, in the order of [`record`].
pub(super) const COLUMNS: &str = "id, source, source_type, kind, subject, occurred_at, received_at, context, raw";

/// A record ready to be bound: what takes time is done by who asks, not by the writer.
pub(super) struct Prepared {
    pub(super) record: Arc<Record>,
    pub(super) context: String,
    /// What the record was cut out of. It is kept as long as the record waits, since it counts for the memory that all
    /// bodies together may take.
    body: Bytes,
    kept: Kept,
}

/// What becomes of a record in memory when it is stored.
#[derive(Clone, Copy)]
enum Kept {
    Unwanted,
    Here,
    InFile,
}

impl Prepared {
    pub(super) fn new(mut record: Record, shared: &Shared) -> serde_json::Result<Self> {
        let context = serde_json::to_string(&record.context)?;
        let body = record.raw.clone();
        let kept = match shared.wants(&record) {
            false => Kept::Unwanted,
            true if record.raw.len() > tail::MAX_RAW => Kept::InFile,
            true => {
                // Cut loose from its body, which it would hold otherwise.
                record.raw = Bytes::copy_from_slice(&body);
                Kept::Here
            }
        };
        Ok(Self { record: Arc::new(record), context, body, kept })
    }

    /// About how many bytes it takes in the file, its id among the others included.
    pub(super) fn bytes(&self) -> u64 {
        (self.body.len() + self.context.len() + 200) as u64
    }

    /// What is kept in memory of the record that was stored.
    pub(super) fn slot(&self) -> Slot {
        match self.kept {
            Kept::Unwanted => Slot::Unwanted,
            Kept::Here => Slot::Event(Arc::clone(&self.record)),
            Kept::InFile => Slot::InFile,
        }
    }
}

/// Makes records of rows. What rows that follow each other have in common is read once: most of all how the request
/// arrived that they came with.
#[derive(Default)]
pub(super) struct Records {
    source: Option<SourceName>,
    text: String,
    context: Option<Arc<Context>>,
}

impl Records {
    /// The record whose columns begin at `at`.
    pub(super) fn read(&mut self, row: &Row<'_>, at: usize) -> rusqlite::Result<Record> {
        let text = |column: usize| row.get_ref(at + column)?.as_str().map_err(rusqlite::Error::from);
        let source_type: SourceType = text(2)?.parse().map_err(|error: String| invalid(at + 2, error))?;
        Ok(Record {
            id: id(row, at)?,
            source: self.source(text(1)?).map_err(|error| invalid(at + 1, error))?,
            source_type,
            // A kind of another version: its bytes are kept, and its type is what can still be said.
            kind: text(3)?.parse().unwrap_or(match source_type {
                SourceType::WebexConnect => Kind::ConnectUnrecognized,
                SourceType::Meta => Kind::MetaUnrecognized,
            }),
            subject: subject(row, at + 4)?,
            occurred_at: row.get::<_, Option<i64>>(at + 5)?.map(|millis| time(millis, at + 5)).transpose()?,
            received_at: time(row.get(at + 6)?, at + 6)?,
            context: self.context(text(7)?).map_err(|error| invalid(at + 7, error))?,
            raw: Bytes::copy_from_slice(row.get_ref(at + 8)?.as_blob()?),
        })
    }

    fn source(&mut self, text: &str) -> Result<SourceName, InvalidName> {
        match &self.source {
            Some(source) if source.as_str() == text => Ok(source.clone()),
            _ => Ok(self.source.insert(text.parse()?).clone()),
        }
    }

    fn context(&mut self, text: &str) -> serde_json::Result<Arc<Context>> {
        match &self.context {
            Some(context) if self.text == text => Ok(context.clone()),
            _ => {
                let context: Context = serde_json::from_str(text)?;
                text.clone_into(&mut self.text);
                Ok(self.context.insert(Arc::new(context)).clone())
            }
        }
    }
}

/// The record whose columns begin at `at`.
pub(super) fn record(row: &Row<'_>, at: usize) -> rusqlite::Result<Record> {
    Records::default().read(row, at)
}

/// An event id.
pub(super) fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<EventId> {
    let bytes = row.get_ref(column)?.as_blob()?;
    Uuid::from_slice(bytes).map(EventId).map_err(|error| invalid(column, error))
}

/// A person, if any.
pub(super) fn subject(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Subject>> {
    Ok(row.get_ref(column)?.as_str_or_null()?.and_then(Subject::new))
}

/// A time of this column.
pub(super) fn time(millis: i64, column: usize) -> rusqlite::Result<DateTime<Utc>> {
    DateTime::from_timestamp_millis(millis).ok_or_else(|| invalid(column, "a time out of range"))
}

/// A value that does not fit; the message holds no value.
pub(super) fn invalid(column: usize, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> rusqlite::Error {
    // The error of a parser may quote what it read, which may be a person's id.
    drop(error.into());
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, "a stored value cannot be read".into())
}

/// Whether it is a value that does not fit, in a row that is there.
pub(super) fn is_unreadable(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    matches!(error, FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..))
}

/// The record whose columns begin at `at`, to be shared.
pub(super) fn shared(row: &Row<'_>, at: usize) -> rusqlite::Result<Arc<Record>> {
    record(row, at).map(Arc::new)
}
