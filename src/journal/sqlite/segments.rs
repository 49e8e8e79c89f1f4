//! The log, cut into tables by time of receipt. Each has an index of ids of its own, only that of the newest is
//! written, and so what an event costs does not grow with history.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::row::{COLUMNS, Prepared};
use super::schema;
use crate::journal::Appended;

/// One table of the log.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// Its number: the table is `events_{n}`.
    pub(super) n: i64,
    /// The position it begins with.
    pub(super) first_seq: u64,
    insert: Arc<str>,
    probe: Arc<str>,
}

impl Segment {
    fn new(n: i64, first_seq: u64) -> Self {
        Self {
            n,
            first_seq,
            insert: format!(
                "INSERT INTO events_{n} (seq, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"
            )
            .into(),
            probe: probe(n).into(),
        }
    }
}

/// Asks this segment for an id.
pub(super) fn probe(n: i64) -> String {
    format!("SELECT 1 FROM events_{n} WHERE id = ?1")
}

/// The log as the writer sees it. Positions are given out without holes, and events leave from the oldest on, so that
/// what is held are the positions from `oldest` up to, not including, `next`.
#[derive(Debug, Clone)]
pub(super) struct Log {
    /// Oldest first; never empty.
    pub(super) segments: Vec<Segment>,
    /// The position of the oldest event held.
    pub(super) oldest: u64,
    /// The position of the next event stored.
    pub(super) next: u64,
}

impl Log {
    /// The log as the journal has it; a new journal gets its first segment.
    pub(super) fn load(conn: &Connection) -> rusqlite::Result<Self> {
        let mut segments: Vec<Segment> = conn
            .prepare("SELECT n, first_seq FROM segments ORDER BY n")?
            .query_map([], |row| Ok(Segment::new(row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        if segments.is_empty() {
            let transaction = conn.unchecked_transaction()?;
            segments.push(create(conn, 1, 1)?);
            transaction.commit()?;
        }
        let (mut oldest, mut newest) = (None, None);
        for Segment { n, .. } in &segments {
            // One question each: SQLite answers both at once only by reading the whole table.
            let end = |end| -> rusqlite::Result<Option<u64>> {
                conn.query_row(&format!("SELECT {end}(seq) FROM events_{n}"), [], |row| row.get(0))
            };
            let (first, last) = (end("min")?, end("max")?);
            oldest = oldest.or(first);
            newest = last.or(newest);
        }
        let begun = segments.last().map_or(1, |segment| segment.first_seq);
        let kept: Option<u64> = schema::meta(conn, "next_seq")?;
        let next = newest.map_or(1, |seq| seq + 1).max(begun).max(kept.unwrap_or(1));
        Ok(Self { segments, oldest: oldest.unwrap_or(next), next })
    }

    /// The position of the newest event.
    pub(super) fn last(&self) -> u64 {
        self.next - 1
    }

    /// Stores one record, unless its id is held.
    pub(super) fn insert(&mut self, conn: &Connection, prepared: &Prepared) -> rusqlite::Result<Appended> {
        let Some((newest, older)) = self.segments.split_last() else {
            return Err(rusqlite::Error::QueryReturnedNoRows);
        };
        let record = &prepared.record;
        let id = record.id.0.as_bytes().as_slice();
        for segment in older.iter().rev() {
            if conn.prepare_cached(&segment.probe)?.exists([id])? {
                return Ok(Appended::Duplicate);
            }
        }
        let stored = conn.prepare_cached(&newest.insert)?.execute(params![
            self.next,
            id,
            record.source.as_str(),
            record.source_type.as_str(),
            record.kind.as_str(),
            record.subject.as_ref().map(|subject| subject.as_str()),
            record.occurred_at.map(|time| time.timestamp_millis()),
            record.received_at.timestamp_millis(),
            prepared.context,
            record.raw.as_ref(),
        ])?;
        if stored == 0 {
            return Ok(Appended::Duplicate);
        }
        self.next += 1;
        Ok(Appended::Stored)
    }

    /// Whether the newest segment has as many events as it should.
    pub(super) fn is_segment_full(&self, events: u64) -> bool {
        self.segments.last().is_some_and(|segment| self.next - segment.first_seq >= events.max(1))
    }

    /// Begins a new segment.
    pub(super) fn begin_segment(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let n = self.segments.last().map_or(1, |segment| segment.n + 1);
        self.segments.push(create(conn, n, self.next)?);
        Ok(())
    }
}

fn create(conn: &Connection, n: i64, first_seq: u64) -> rusqlite::Result<Segment> {
    conn.execute_batch(&format!(
        "CREATE TABLE events_{n} (
             seq INTEGER PRIMARY KEY,
             id BLOB NOT NULL UNIQUE,
             source TEXT NOT NULL,
             source_type TEXT NOT NULL,
             kind TEXT NOT NULL,
             subject TEXT,
             occurred_at INTEGER,
             received_at INTEGER NOT NULL,
             context TEXT NOT NULL,
             raw BLOB NOT NULL
         )"
    ))?;
    conn.execute("INSERT INTO segments VALUES (?1, ?2)", params![n, first_seq])?;
    Ok(Segment::new(n, first_seq))
}

/// The numbers of the segments that hold positions after `after`, oldest first. For a reader, in its transaction.
pub(super) fn after(conn: &Connection, after: u64) -> rusqlite::Result<Vec<i64>> {
    let mut statement = conn.prepare_cached("SELECT n, first_seq FROM segments ORDER BY n DESC")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(row.get(0)?);
        if row.get::<_, u64>(1)? <= after + 1 {
            break;
        }
    }
    found.reverse();
    Ok(found)
}

/// The table that holds this position, if the journal holds it.
pub(super) fn table_of(conn: &Connection, seq: u64) -> rusqlite::Result<Option<String>> {
    conn.prepare_cached("SELECT n FROM segments WHERE first_seq <= ?1 ORDER BY n DESC LIMIT 1")?
        .query_row([seq], |row| Ok(format!("events_{}", row.get::<_, i64>(0)?)))
        .optional()
}
