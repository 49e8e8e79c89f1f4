//! Which ids the log holds, and at which positions. Ids are random: an index that every commit adds to would have each
//! event write a page of the file of its own. So those of the newest segment are kept in memory only, and read from its
//! events at a start. Those of a full segment are written in their order, some with each commit, into its table
//! `ids_{n}`, before which a filter stands in memory that spares nearly all questions to it.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use rusqlite::{Connection, OptionalExtension as _, params};
use uuid::Uuid;

use super::id_filter::IdFilter;
use crate::event::EventId;

/// Ids a row: about a page. A row an id would cost as much as storing the event.
const ROW: usize = 128;
/// Bytes of an id and its position in a row.
const ENTRY: usize = 16 + 8;

/// A full segment of which not all ids are in its table yet.
#[derive(Debug)]
struct Sealing {
    n: i64,
    ids: BTreeMap<EventId, u64>,
    /// The last id written.
    written: Option<EventId>,
    filter: IdFilter,
}

/// A full segment whose ids are in its table.
#[derive(Debug)]
struct Sealed {
    n: i64,
    filter: IdFilter,
    probe: String,
}

impl Sealed {
    fn new(n: i64, filter: IdFilter) -> Self {
        Self { n, filter, probe: probe(n) }
    }
}

/// Asks a full segment for the row in which an id with this key would stand.
pub(super) fn probe(n: i64) -> String {
    format!("SELECT ids FROM ids_{n} WHERE key <= ?1 ORDER BY key DESC LIMIT 1")
}

/// What rows are found by: the first half of their first id, as SQLite orders integers.
fn key(id: EventId) -> i64 {
    (id.0.as_u64_pair().0 ^ (1 << 63)).cast_signed()
}

/// The position of an id in a row.
fn find(row: &[u8], id: EventId) -> Option<u64> {
    let (entries, _) = row.as_chunks::<ENTRY>();
    let at = entries.binary_search_by(|entry| entry[..16].cmp(id.0.as_bytes())).ok()?;
    let (_, seq) = entries[at].split_last_chunk::<8>()?;
    Some(u64::from_le_bytes(*seq))
}

/// The ids of all segments.
#[derive(Debug, Default)]
pub(super) struct Ids {
    newest: BTreeMap<EventId, u64>,
    sealing: VecDeque<Sealing>,
    sealed: Vec<Sealed>,
}

/// Ids of a full segment that a transaction writes.
pub(super) struct SealStep {
    upto: Option<EventId>,
    last: bool,
}

impl Ids {
    /// The ids of these segments, oldest first.
    pub(super) fn load(conn: &Connection, segments: impl ExactSizeIterator<Item = i64>) -> rusqlite::Result<Self> {
        let mut ids = Self::default();
        let newest = segments.len().saturating_sub(1);
        for (place, n) in segments.enumerate() {
            conn.execute_batch(&create(n))?;
            if place == newest {
                ids.newest = of_events(conn, n)?;
                break;
            }
            let filter: Option<Vec<u8>> =
                conn.query_row("SELECT filter FROM segments WHERE n = ?1", [n], |row| row.get(0))?;
            match filter.as_deref().and_then(IdFilter::from_bytes) {
                Some(filter) => ids.sealed.push(Sealed::new(n, filter)),
                None => ids.sealing.push_back(Sealing::resume(conn, n)?),
            }
        }
        Ok(ids)
    }

    /// Whether an id stands at `oldest` or after it.
    pub(super) fn holds(&self, conn: &Connection, id: EventId, oldest: u64) -> rusqlite::Result<bool> {
        let held = |seq: u64| seq >= oldest;
        let in_memory = std::iter::once(&self.newest).chain(self.sealing.iter().map(|sealing| &sealing.ids));
        if in_memory.filter_map(|ids| ids.get(&id)).any(|seq| held(*seq)) {
            return Ok(true);
        }
        for sealed in self.sealed.iter().filter(|sealed| sealed.filter.may_hold(id)) {
            let mut probe = conn.prepare_cached(&sealed.probe)?;
            let seq = probe.query_row([key(id)], |row| Ok(find(row.get_ref(0)?.as_blob()?, id))).optional()?.flatten();
            if seq.is_some_and(held) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The id of an event that is being stored.
    pub(super) fn add(&mut self, id: EventId, seq: u64) {
        self.newest.insert(id, seq);
    }

    /// The event was not stored after all.
    pub(super) fn take_back(&mut self, id: EventId) {
        self.newest.remove(&id);
    }

    /// The newest segment is full, and this one follows it.
    pub(super) fn begin_segment(&mut self, full: i64) {
        let ids = std::mem::take(&mut self.newest);
        let filter = IdFilter::for_ids(ids.len());
        self.sealing.push_back(Sealing { n: full, ids, written: None, filter });
    }

    /// Writes ids of a full segment, if there is one that has not all of its own in its table: about twice as many as the
    /// commit has events. To be told of by [`Ids::sealed`] once it is committed.
    pub(super) fn seal(&mut self, conn: &Connection, events: usize) -> rusqlite::Result<Option<SealStep>> {
        let Some(sealing) = self.sealing.front_mut() else { return Ok(None) };
        let mut upto = sealing.written;
        let mut insert = conn.prepare_cached(&format!("INSERT INTO ids_{} VALUES (?1, ?2)", sealing.n))?;
        let begin = sealing.written.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = sealing.ids.range((begin, Bound::Unbounded)).peekable();
        for _ in 0..(2 * events).div_ceil(ROW).max(1) {
            let Some((first, _)) = rest.peek() else { break };
            let first = key(**first);
            let mut row = Vec::with_capacity(ROW * ENTRY);
            // Ids of the same key stand in one row.
            while let Some((id, seq)) =
                rest.next_if(|(id, _)| row.len() < ROW * ENTRY || upto.is_some_and(|last| key(last) == key(**id)))
            {
                row.extend_from_slice(id.0.as_bytes());
                row.extend_from_slice(&seq.to_le_bytes());
                sealing.filter.insert(*id);
                upto = Some(*id);
            }
            insert.execute(params![first, row])?;
        }
        let last = rest.peek().is_none();
        if last {
            conn.prepare_cached("UPDATE segments SET filter = ?2 WHERE n = ?1")?
                .execute(params![sealing.n, sealing.filter.to_bytes()])?;
        }
        Ok(Some(SealStep { upto, last }))
    }

    /// The ids that [`Ids::seal`] wrote are committed.
    pub(super) fn sealed(&mut self, step: &SealStep) {
        if let Some(sealing) = self.sealing.front_mut() {
            sealing.written = step.upto;
        }
        if step.last {
            self.sealed.extend(self.sealing.pop_front().map(|sealing| Sealed::new(sealing.n, sealing.filter)));
        }
    }

    /// The segment is gone.
    pub(super) fn drop_segment(&mut self, n: i64) {
        self.sealing.retain(|sealing| sealing.n != n);
        self.sealed.retain(|sealed| sealed.n != n);
    }
}

impl Sealing {
    /// Goes on where an earlier process stopped.
    fn resume(conn: &Connection, n: i64) -> rusqlite::Result<Self> {
        let ids = of_events(conn, n)?;
        let newest = format!("SELECT ids FROM ids_{n} ORDER BY key DESC LIMIT 1");
        let row: Option<Vec<u8>> = conn.query_row(&newest, [], |row| row.get(0)).optional()?;
        let last = row.as_deref().and_then(|row| row.as_chunks::<ENTRY>().0.last());
        let written = last.and_then(|entry| entry.first_chunk()).map(|id| EventId(Uuid::from_bytes(*id)));
        let mut filter = IdFilter::for_ids(ids.len());
        ids.keys().filter(|id| Some(**id) <= written).for_each(|id| filter.insert(*id));
        Ok(Self { n, ids, written, filter })
    }
}

/// The table of a segment's ids: rows of some, each id (16 bytes) with its position (8 bytes, little-endian), in order.
pub(super) fn create(n: i64) -> String {
    format!("CREATE TABLE IF NOT EXISTS ids_{n} (key INTEGER PRIMARY KEY, ids BLOB NOT NULL)")
}

/// The ids of the events in a segment.
fn of_events(conn: &Connection, n: i64) -> rusqlite::Result<BTreeMap<EventId, u64>> {
    let mut statement = conn.prepare(&format!("SELECT id, seq FROM events_{n}"))?;
    statement.query_map([], |row| Ok((super::row::id(row, 0)?, row.get(1)?)))?.collect()
}
