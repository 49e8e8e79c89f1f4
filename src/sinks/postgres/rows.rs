//! Events as rows: arrays of columns, which one statement inserts.

use std::borrow::Cow;
use std::ops::Range;

use chrono::{DateTime, Utc};
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::event::Event;
use crate::json::repair;
use crate::model::Payload;

/// The first and the last second that a `timestamptz` holds (4713 BC, 294276 AD), with a year to spare.
const TIMES: (i64, i64) = (-210_835_000_000, 9_224_286_000_000);

/// Columns, of which each has a value for each event.
#[derive(Default)]
pub(super) struct Rows<'a> {
    ids: Vec<Uuid>,
    sources: Vec<&'a str>,
    source_types: Vec<&'static str>,
    kinds: Vec<&'static str>,
    subjects: Vec<Option<Cow<'a, str>>>,
    occurred: Vec<Option<DateTime<Utc>>>,
    received: Vec<DateTime<Utc>>,
    raws: Vec<&'a [u8]>,
    data: Vec<Option<String>>,
    repaired: Vec<bool>,
    notes: Vec<Option<String>>,
}

impl<'a> Rows<'a> {
    /// A row an event, in their order.
    pub(super) fn new(events: &'a [Event]) -> Self {
        let mut rows = Self::default();
        for event in events {
            let record = &*event.record;
            rows.ids.push(record.id.0);
            rows.sources.push(record.source.as_str());
            rows.source_types.push(record.source_type.as_str());
            rows.kinds.push(record.kind.as_str());
            rows.subjects.push(record.subject.as_ref().map(|subject| without_nul(subject.as_str())));
            let is_known = |time: &DateTime<Utc>| (TIMES.0..TIMES.1).contains(&time.timestamp());
            rows.occurred.push(record.occurred_at.filter(is_known));
            rows.received.push(record.received_at);
            // What a `map` made is all that is sent.
            let raw = match &*event.payload {
                Payload::Mapped(mapped) => mapped.data.get().as_bytes(),
                _ => &record.raw,
            };
            rows.raws.push(raw);
            let data = data(event);
            let note = data.is_none().then(|| "raw is no JSON".to_owned());
            let repaired_data = data.as_deref().map(|data| repair(data.as_bytes()));
            // The model may have mended it already: what came is what counts.
            let repaired =
                matches!(repaired_data, Some(Cow::Owned(_))) || data.is_some() && matches!(repair(raw), Cow::Owned(_));
            let mended = match repaired_data {
                // ASCII was replaced by ASCII.
                Some(Cow::Owned(bytes)) => String::from_utf8(bytes).ok(),
                _ => None,
            };
            rows.data.push(mended.or(data));
            rows.repaired.push(repaired);
            rows.notes.push(note);
        }
        rows
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Leaves out the data of a row, and says why; whether it had any.
    pub(super) fn leave_out(&mut self, position: usize, why: &str) -> bool {
        self.notes[position] = Some(format!("data is left out: {why}"));
        self.data[position].take().is_some()
    }

    /// The columns of these rows, as the parameters of the statement.
    pub(super) fn parameters<'b>(&'b self, range: &Range<usize>) -> Parameters<'b> {
        let Range { start, end } = *range;
        Parameters {
            ids: &self.ids[start..end],
            sources: &self.sources[start..end],
            source_types: &self.source_types[start..end],
            kinds: &self.kinds[start..end],
            subjects: &self.subjects[start..end],
            occurred: &self.occurred[start..end],
            received: &self.received[start..end],
            raws: &self.raws[start..end],
            data: &self.data[start..end],
            repaired: &self.repaired[start..end],
            notes: &self.notes[start..end],
        }
    }
}

/// Slices of the columns, one a parameter.
pub(super) struct Parameters<'b> {
    ids: &'b [Uuid],
    sources: &'b [&'b str],
    source_types: &'b [&'static str],
    kinds: &'b [&'static str],
    subjects: &'b [Option<Cow<'b, str>>],
    occurred: &'b [Option<DateTime<Utc>>],
    received: &'b [DateTime<Utc>],
    raws: &'b [&'b [u8]],
    data: &'b [Option<String>],
    repaired: &'b [bool],
    notes: &'b [Option<String>],
}

impl Parameters<'_> {
    /// With their types, so that no statement has to be prepared under a name, which a pooler would not keep.
    pub(super) fn typed(&self) -> [(&(dyn ToSql + Sync), Type); 11] {
        [
            (&self.ids, Type::UUID_ARRAY),
            (&self.sources, Type::TEXT_ARRAY),
            (&self.source_types, Type::TEXT_ARRAY),
            (&self.kinds, Type::TEXT_ARRAY),
            (&self.subjects, Type::TEXT_ARRAY),
            (&self.occurred, Type::TIMESTAMPTZ_ARRAY),
            (&self.received, Type::TIMESTAMPTZ_ARRAY),
            (&self.raws, Type::BYTEA_ARRAY),
            (&self.data, Type::TEXT_ARRAY),
            (&self.repaired, Type::BOOL_ARRAY),
            (&self.notes, Type::TEXT_ARRAY),
        ]
    }
}

/// What a CloudEvent has under `data`; none of what is no JSON.
fn data(event: &Event) -> Option<String> {
    match *event.payload {
        Payload::Opaque => None,
        _ => String::from_utf8(event.data(false)).ok(),
    }
}

/// No text of PostgreSQL holds NUL.
fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}
