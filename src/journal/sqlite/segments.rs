//! The log, cut into tables by time of receipt, so that what an event costs does not grow with history: the newest is
//! written, the others are only read, and the oldest leave.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::ids::{self, Ids};
use super::row::{COLUMNS, Prepared};
use super::schema;
use crate::event::EventId;
use crate::journal::Appended;

/// One table of the log.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// Its number: the table is `events_{n}`.
    pub(super) n: i64,
    /// The position it begins with.
    pub(super) first_seq: u64,
    insert: Arc<str>,
}

impl Segment {
    fn new(n: i64, first_seq: u64) -> Self {
        let insert = format!("INSERT INTO events_{n} (seq, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
        Self { n, first_seq, insert: insert.into() }
    }
}

/// The log as the writer sees it. Positions are given out without holes, and events leave from the oldest on, so that
/// what is held are the positions from `oldest` up to, not including, `next`.
#[derive(Debug)]
pub(super) struct Log {
    /// Oldest first; never empty.
    pub(super) segments: Vec<Segment>,
    /// Which ids are held.
    pub(super) ids: Ids,
    /// The position of the oldest event held.
    pub(super) oldest: u64,
    /// The position of the next event stored.
    pub(super) next: u64,
    /// The ids that the transaction under way stores.
    storing: Vec<EventId>,
}

/// Where the log ended and began before a transaction.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    oldest: u64,
    next: u64,
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
        let ids = Ids::load(conn, segments.iter().map(|segment| segment.n))?;
        Ok(Self { segments, ids, oldest: oldest.unwrap_or(next), next, storing: Vec::new() })
    }

    /// The position of the newest event.
    pub(super) fn last(&self) -> u64 {
        self.next - 1
    }

    /// Stores one record, unless its id is held.
    pub(super) fn insert(&mut self, conn: &Connection, prepared: &Prepared) -> rusqlite::Result<Appended> {
        let record = &*prepared.record;
        let Some(newest) = self.segments.last() else { return Err(rusqlite::Error::QueryReturnedNoRows) };
        if self.ids.holds(conn, record.id, self.oldest)? {
            return Ok(Appended::Duplicate);
        }
        conn.prepare_cached(&newest.insert)?.execute(params![
            self.next,
            record.id.0.as_bytes().as_slice(),
            record.source.as_str(),
            record.source_type.as_str(),
            record.kind.as_str(),
            record.subject.as_ref().map(|subject| subject.as_str()),
            record.occurred_at.map(|time| time.timestamp_millis()),
            record.received_at.timestamp_millis(),
            prepared.context,
            record.raw.as_ref(),
        ])?;
        self.ids.add(record.id, self.next);
        self.storing.push(record.id);
        self.next += 1;
        Ok(Appended::Stored)
    }

    /// Where the log stands before a transaction.
    pub(super) fn mark(&self) -> Mark {
        Mark { oldest: self.oldest, next: self.next }
    }

    /// The transaction is committed.
    pub(super) fn committed(&mut self) {
        self.storing.clear();
    }

    /// The transaction was rolled back.
    pub(super) fn rolled_back(&mut self, to: Mark) {
        self.storing.drain(..).for_each(|id| self.ids.take_back(id));
        (self.oldest, self.next) = (to.oldest, to.next);
    }

    /// Whether the newest segment has as many events as it should.
    pub(super) fn is_segment_full(&self, events: u64) -> bool {
        self.segments.last().is_some_and(|segment| self.next - segment.first_seq >= events.max(1))
    }

    /// Makes the tables of a segment that follows.
    pub(super) fn create_segment(&self, conn: &Connection) -> rusqlite::Result<Segment> {
        let n = self.segments.last().map_or(1, |segment| segment.n + 1);
        create(conn, n, self.next)
    }

    /// Goes on in a segment whose tables are committed.
    pub(super) fn begin_segment(&mut self, segment: Segment) {
        if let Some(full) = self.segments.last() {
            self.ids.begin_segment(full.n);
        }
        self.segments.push(segment);
    }

    /// The tables of a segment are gone.
    pub(super) fn drop_segment(&mut self, n: i64) {
        self.segments.retain(|segment| segment.n != n);
        self.ids.drop_segment(n);
    }
}

fn create(conn: &Connection, n: i64, first_seq: u64) -> rusqlite::Result<Segment> {
    conn.execute_batch(&format!(
        "CREATE TABLE events_{n} (
             seq INTEGER PRIMARY KEY,
             id BLOB NOT NULL,
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
    conn.execute_batch(&ids::create(n))?;
    conn.execute("INSERT INTO segments (n, first_seq) VALUES (?1, ?2)", params![n, first_seq])?;
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
