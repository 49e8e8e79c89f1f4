//! Outcomes that need rows: what is parked, what is no longer parked, and what a sink gave up on.

use chrono::Utc;
use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use super::row::COLUMNS;
use super::segments;
use super::sinks::{Place, Sinks};
use crate::journal::JournalError;
use crate::names::SinkName;

/// A change of rows. A position is one of the log (replay 0) or of a replay.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// The event gets a row of its own.
    Park { replay: i64, seq: u64 },
    /// The event had a row of its own and is done with.
    Unpark { replay: i64, seq: u64 },
    /// The sink gave up on the event.
    Bury { replay: i64, seq: u64, attempts: u32, reason: String },
    /// A dead letter was delivered after all.
    Revive { letter: i64 },
    /// A dead letter failed again.
    BuryAgain { letter: i64, attempts: u32, reason: String },
}

/// The changes that follow from one call of a consumer.
pub(super) struct Settlement {
    pub(super) sink: SinkName,
    pub(super) consumer: u64,
    pub(super) changes: Vec<Change>,
    pub(super) reply: oneshot::Sender<Result<(), JournalError>>,
}

impl Change {
    /// Writes the change.
    pub(super) fn write(&self, conn: &Connection, sink: &SinkName) -> rusqlite::Result<()> {
        let sink = sink.as_str();
        match self {
            Self::Park { replay, seq } => {
                let Some(table) = segments::table_of(conn, *seq)? else { return Ok(()) };
                conn.prepare_cached(&format!(
                    "INSERT OR IGNORE INTO parked (sink, replay, seq, id, source, subject)
                     SELECT ?1, ?2, seq, id, source, subject FROM {table} WHERE seq = ?3"
                ))?
                .execute(params![sink, replay, seq])?;
            }
            Self::Unpark { replay, seq } => unpark(conn, sink, *replay, *seq)?,
            Self::Bury { replay, seq, attempts, reason } => {
                unpark(conn, sink, *replay, *seq)?;
                let Some(table) = segments::table_of(conn, *seq)? else { return Ok(()) };
                // One letter an event: a replay that dies as well brings it up to date.
                conn.prepare_cached(&format!(
                    "INSERT INTO dead_letters (sink, died_at, attempts, reason, {COLUMNS})
                     SELECT ?1, ?2, ?3, ?4, {COLUMNS} FROM {table} WHERE seq = ?5
                     ON CONFLICT (sink, id) DO UPDATE SET
                         died_at = excluded.died_at, attempts = excluded.attempts, reason = excluded.reason"
                ))?
                .execute(params![sink, Utc::now().timestamp_millis(), attempts, reason, seq])?;
            }
            Self::Revive { letter } => {
                conn.prepare_cached("DELETE FROM dead_letters WHERE letter = ?1")?.execute([letter])?;
            }
            Self::BuryAgain { letter, attempts, reason } => {
                conn.prepare_cached(
                    "UPDATE dead_letters SET retrying = 0, died_at = ?2, attempts = ?3, reason = ?4 WHERE letter = ?1",
                )?
                .execute(params![letter, Utc::now().timestamp_millis(), attempts, reason])?;
            }
        }
        Ok(())
    }

    /// What follows from the change in memory, once it is committed.
    pub(super) fn apply(&self, place: &mut Place) {
        place.dirty = true;
        match self {
            Self::Park { replay, seq } => {
                place.front(*replay).map(|front| front.park(*seq));
            }
            Self::Unpark { replay, seq } | Self::Bury { replay, seq, .. } => finish(place, *replay, *seq),
            Self::Revive { letter } | Self::BuryAgain { letter, .. } => {
                place.letters_handed.remove(letter);
            }
        }
    }
}

fn unpark(conn: &Connection, sink: &str, replay: i64, seq: u64) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM parked WHERE sink = ?1 AND replay = ?2 AND seq = ?3")?
        .execute(params![sink, replay, seq])
        .map(|_| ())
}

/// The event is done with.
pub(super) fn finish(place: &mut Place, replay: i64, seq: u64) {
    place.front(replay).map(|front| front.done(seq));
    if let Some(replay) = place.replays.get_mut(&replay) {
        replay.delivered += 1;
    }
}

impl Settlement {
    /// Whether there are more or fewer dead letters afterwards.
    pub(super) fn changes_letters(&self) -> bool {
        self.changes.iter().any(|change| matches!(change, Change::Bury { .. } | Change::Revive { .. }))
    }

    /// Leaves out what was skipped since it was handed out: it has no rows any more, and must not get one.
    pub(super) fn forget_skipped(&mut self, sinks: &Sinks) {
        let mut all = sinks.all();
        let Some(place) = all.get_mut(&self.sink) else { return };
        self.changes.retain(|change| match change {
            Change::Park { replay, seq } | Change::Unpark { replay, seq } | Change::Bury { replay, seq, .. } => {
                place.front(*replay).is_some_and(|front| front.awaits(*seq))
            }
            Change::Revive { .. } | Change::BuryAgain { .. } => true,
        });
    }
}
