//! The log, cut into tables by time of receipt. Each has a table of ids of its own, and a filter that tells which ids it
//! cannot hold, so that what an event costs does not grow with history.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use super::bloom::Bloom;
use super::ids::Young;
use super::row::{self, COLUMNS, Prepared};
use super::schema;
use crate::journal::Appended;

/// The key in `meta` of the position from which on ids may be in no table of ids.
const YOUNG_SINCE: &str = "young_since";

/// One table of the log, and the one of its ids.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    /// Its number: the tables are `events_{n}` and `ids_{n}`.
    pub(super) n: i64,
    /// The position it begins with.
    pub(super) first_seq: u64,
    /// Of a segment that gets no more events.
    filter: Option<Arc<Bloom>>,
    insert: Arc<str>,
    insert_id: Arc<str>,
    probe: Arc<str>,
}

impl Segment {
    fn new(n: i64, first_seq: u64) -> Self {
        Self {
            n,
            first_seq,
            filter: None,
            insert: format!("INSERT INTO events_{n} (seq, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)").into(),
            insert_id: format!("INSERT OR REPLACE INTO ids_{n} VALUES (?1, ?2)").into(),
            probe: probe(n).into(),
        }
    }
}

/// Asks this segment for the position of an id.
pub(super) fn probe(n: i64) -> String {
    format!("SELECT seq FROM ids_{n} WHERE id = ?1")
}

/// The log as the writer sees it. Positions are given out without holes, and events leave from the oldest on, so that
/// what is held are the positions from `oldest` up to, not including, `next`.
#[derive(Debug)]
pub(super) struct Log {
    /// Oldest first; never empty.
    pub(super) segments: Vec<Segment>,
    /// The position of the oldest event held.
    pub(super) oldest: u64,
    /// The position of the next event stored.
    pub(super) next: u64,
    /// Events a segment.
    segment_events: u64,
    /// Of the newest segment.
    filter: Bloom,
    young: Young,
    /// What of `young` the running transaction keeps.
    keeps_since: Option<u64>,
}

/// The log as it was when a transaction began.
pub(super) struct Mark {
    segments: usize,
    oldest: u64,
    next: u64,
}

impl Log {
    /// The log as the journal has it; a new journal gets its first segment.
    pub(super) fn load(conn: &Connection, segment_events: u64) -> rusqlite::Result<Self> {
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
        let mut log = Self {
            segments,
            oldest: oldest.unwrap_or(next),
            next,
            segment_events,
            filter: Bloom::new(segment_events),
            young: Young::new(segment_events),
            keeps_since: None,
        };
        log.load_ids(conn)?;
        Ok(log)
    }

    /// Filters are kept, but for that of the newest segment; ids that are in no table are read from the log.
    fn load_ids(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        for segment in &mut self.segments {
            let kept: Option<Vec<u8>> =
                conn.query_row("SELECT bits FROM filters WHERE n = ?1", [segment.n], |row| row.get(0)).optional()?;
            segment.filter = kept.and_then(|bits| Bloom::from_bytes(&bits)).map(Arc::new);
        }
        let newest = self.segments.last().map_or(1, |segment| segment.n);
        let mut statement = conn.prepare(&format!("SELECT id FROM ids_{newest}"))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            self.filter.insert(row::id(row, 0)?.0);
        }
        let since: u64 = schema::meta(conn, YOUNG_SINCE)?.unwrap_or(1);
        for n in after(conn, since - 1)? {
            let mut statement = conn.prepare(&format!("SELECT seq, id FROM events_{n} WHERE seq >= ?1"))?;
            let mut rows = statement.query([since])?;
            while let Some(row) = rows.next()? {
                let id = row::id(row, 1)?.0;
                self.young.insert(id, row.get(0)?);
                if n == newest {
                    self.filter.insert(id);
                }
            }
        }
        self.young.committed(None);
        Ok(())
    }

    /// The position of the newest event.
    pub(super) fn last(&self) -> u64 {
        self.next - 1
    }

    /// Where a transaction begins.
    pub(super) fn mark(&self) -> Mark {
        Mark { segments: self.segments.len(), oldest: self.oldest, next: self.next }
    }

    /// The transaction is committed.
    pub(super) fn committed(&mut self) {
        self.young.committed(self.keeps_since.take());
    }

    /// The transaction failed: the log is as it was when it began.
    pub(super) fn rolled_back(&mut self, mark: &Mark) {
        (self.oldest, self.next) = (mark.oldest, mark.next);
        self.segments.truncate(mark.segments);
        self.keeps_since = None;
        self.young.rolled_back();
    }

    /// Stores one record, unless its id is held.
    pub(super) fn insert(&mut self, conn: &Connection, prepared: &Prepared) -> rusqlite::Result<Appended> {
        let record = &prepared.record;
        let id = record.id.0;
        if self.holds(conn, id)? {
            return Ok(Appended::Duplicate);
        }
        let Some(newest) = self.segments.last() else { return Err(rusqlite::Error::QueryReturnedNoRows) };
        conn.prepare_cached(&newest.insert)?.execute(params![
            self.next,
            id.as_bytes(),
            record.source.as_str(),
            record.source_type.as_str(),
            record.kind.as_str(),
            record.subject.as_ref().map(|subject| subject.as_str()),
            record.occurred_at.map(|time| time.timestamp_millis()),
            record.received_at.timestamp_millis(),
            prepared.context,
            record.raw.as_ref(),
        ])?;
        self.filter.insert(id);
        self.young.insert(id, self.next);
        self.next += 1;
        self.write_ids(conn)?;
        Ok(Appended::Stored)
    }

    /// Whether an event with this id is held.
    fn holds(&self, conn: &Connection, id: Uuid) -> rusqlite::Result<bool> {
        if let Some(seq) = self.young.seq(id) {
            return Ok(seq >= self.oldest);
        }
        for (at, segment) in self.segments.iter().enumerate().rev() {
            let last = at + 1 == self.segments.len();
            let filter = if last { Some(&self.filter) } else { segment.filter.as_deref() };
            if filter.is_some_and(|filter| !filter.may_hold(id)) {
                continue;
            }
            let seq: Option<u64> =
                conn.prepare_cached(&segment.probe)?.query_row([id.as_bytes()], |row| row.get(0)).optional()?;
            // The ids of events that have left go later than they.
            if seq.is_some_and(|seq| seq >= self.oldest) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Writes the ids whose time has come.
    fn write_ids(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        if let Some(since) = self.young.since()
            && self.keeps_since.is_none()
        {
            schema::set_meta(conn, YOUNG_SINCE, since)?;
            self.keeps_since = Some(since);
        }
        for (id, seq) in self.young.take() {
            let segment = self.segments.iter().rev().find(|segment| segment.first_seq <= *seq);
            // Of what has left, no id is needed.
            if let Some(segment) = segment.filter(|_| *seq >= self.oldest) {
                conn.prepare_cached(&segment.insert_id)?.execute(params![id.as_bytes(), seq])?;
            }
        }
        Ok(())
    }

    /// Whether the newest segment has as many events as it should.
    pub(super) fn is_segment_full(&self) -> bool {
        self.segments.last().is_some_and(|segment| self.next - segment.first_seq >= self.segment_events.max(1))
    }

    /// Begins a new segment, and keeps the filter of the one before. To be followed by [`Log::segment_begun`].
    pub(super) fn begin_segment(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let n = self.segments.last().map_or(0, |segment| segment.n);
        conn.execute("INSERT OR REPLACE INTO filters VALUES (?1, ?2)", params![n, self.filter.to_bytes()])?;
        self.segments.push(create(conn, n + 1, self.next)?);
        Ok(())
    }

    /// The new segment is committed.
    pub(super) fn segment_begun(&mut self) {
        let filter = std::mem::replace(&mut self.filter, Bloom::new(self.segment_events));
        if let [.., before, _] = self.segments.as_mut_slice() {
            before.filter = Some(Arc::new(filter));
        }
    }

    /// The oldest segment, if all its events have left and a newer one is written.
    pub(super) fn left(&self) -> Option<i64> {
        match self.segments.as_slice() {
            [oldest, second, ..] if self.oldest >= second.first_seq => Some(oldest.n),
            _ => None,
        }
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
         );
         CREATE TABLE ids_{n} (id BLOB PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID"
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
