//! Replays: stored events handed to a sink once more, with the same ids. A replay walks over the log as it was when it
//! began, beside the sink's own place.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::sinks::parked;
use crate::filter::{Filter, Pattern};
use crate::journal::ReplayProgress;
use crate::journal::front::Front;
use crate::names::SinkName;

/// A replay that runs.
#[derive(Debug)]
pub(super) struct Replay {
    pub(super) front: Front,
    /// The last position to look at.
    pub(super) last_seq: u64,
    /// Received at or after, in milliseconds.
    pub(super) from: i64,
    /// Received before, in milliseconds.
    pub(super) to: i64,
    /// Of these kinds, beside what the sink wants.
    pub(super) kinds: Filter,
    /// Delivered, or given up on.
    pub(super) delivered: u64,
}

impl Replay {
    /// Whether everything was looked at and nothing is owed.
    pub(super) fn finished(&self) -> bool {
        self.front.owed_nothing_up_to() >= self.last_seq
    }
}

/// The running replays of this sink.
pub(super) fn running(conn: &Connection, sink: &SinkName) -> rusqlite::Result<BTreeMap<i64, Replay>> {
    let mut statement = conn.prepare_cached(
        "SELECT id, received_from, received_to, kinds, last_seq, cursor, delivered FROM replays
         WHERE sink = ?1 AND NOT finished",
    )?;
    let mut rows = statement.query([sink.as_str()])?;
    let mut replays = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let id = row.get(0)?;
        let parked = parked(conn, sink, id)?;
        replays.insert(id, from_row(row, parked)?);
    }
    Ok(replays)
}

fn from_row(row: &Row<'_>, parked: BTreeSet<u64>) -> rusqlite::Result<Replay> {
    let kinds: Vec<Pattern> =
        serde_json::from_str(row.get_ref(3)?.as_str()?).map_err(|error| super::row::invalid(3, error))?;
    Ok(Replay {
        front: Front::new(row.get(5)?, parked),
        last_seq: row.get(4)?,
        from: row.get(1)?,
        to: row.get(2)?,
        kinds: Filter { sources: Vec::new(), kinds },
        delivered: row.get(6)?,
    })
}

/// Makes durable how far it is.
pub(super) fn save(conn: &Connection, id: i64, replay: &Replay) -> rusqlite::Result<()> {
    conn.prepare_cached("UPDATE replays SET cursor = ?2, delivered = ?3, finished = ?4 WHERE id = ?1")?
        .execute(params![id, replay.front.cursor(), replay.delivered, replay.finished()])
        .map(|_| ())
}

/// How far it is, as last made durable.
pub(super) fn progress(conn: &Connection, id: i64) -> rusqlite::Result<Option<ReplayProgress>> {
    conn.prepare_cached("SELECT sink, first_seq, last_seq, cursor, delivered, finished FROM replays WHERE id = ?1")?
        .query_row([id], |row| {
            let (first, last, cursor): (u64, u64, u64) = (row.get(1)?, row.get(2)?, row.get(3)?);
            Ok(ReplayProgress {
                id,
                sink: row.get_ref(0)?.as_str()?.parse().map_err(|error| super::row::invalid(0, error))?,
                done: (cursor + 1).saturating_sub(first),
                total: (last + 1).saturating_sub(first),
                delivered: row.get(4)?,
                finished: row.get(5)?,
            })
        })
        .optional()
}
