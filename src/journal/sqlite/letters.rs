//! Dead letters: events that a sink gave up on, with their own copy of the record.

use std::collections::BTreeSet;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::page::{self, Budget};
use super::retention::STEP_LETTERS;
use super::row::{self, COLUMNS};
use crate::event::Record;
use crate::journal::{DeadLetter, Letters, Ticket};
use crate::names::SinkName;

/// Dead letters of which at most one answer tells.
pub(super) const LISTED: usize = 1000;

const DESCRIPTION: &str =
    "letter, sink, id, source, kind, received_at, died_at, attempts, reason, length(raw), retrying";

/// Letters that wait to be tried again.
pub(super) struct Waiting {
    pub(super) letters: Vec<(i64, Arc<Record>)>,
    /// Whether there may be more.
    pub(super) more: bool,
}

/// Letters to try again that were not handed out yet, as far as the budget goes.
pub(super) fn waiting(
    conn: &Connection,
    sink: &SinkName,
    handed: &BTreeSet<i64>,
    budget: &mut Budget,
) -> rusqlite::Result<Waiting> {
    let mut statement = conn.prepare_cached(&waiting_letters())?;
    let mut rows = statement.query([sink.as_str()])?;
    let mut waiting = Waiting { letters: Vec::new(), more: false };
    while let Some(row) = rows.next()? {
        let letter = row.get(0)?;
        if handed.contains(&letter) {
            continue;
        }
        if !budget.admits(row.get_ref(9)?.as_blob()?.len()) {
            waiting.more = true;
            break;
        }
        match row::shared(row, 1) {
            Ok(record) => waiting.letters.push((letter, record)),
            // It goes on waiting, and keeps nothing from the others.
            Err(error) if row::is_unreadable(&error) => {
                tracing::error!(%sink, letter, "a dead letter that is to be tried again cannot be read");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(waiting)
}

/// Reads the letters of a sink that wait to be tried again.
pub(super) fn waiting_letters() -> String {
    format!("SELECT letter, {COLUMNS} FROM dead_letters WHERE sink = ?1 AND retrying ORDER BY letter")
}

/// The event of a ticket, if the journal still holds it.
pub(super) fn load(conn: &Connection, ticket: Ticket) -> rusqlite::Result<Option<Arc<Record>>> {
    match ticket {
        Ticket::Log(seq) | Ticket::Replay { seq, .. } => page::event(conn, seq),
        Ticket::Letter(letter) => {
            let sql = format!("SELECT {COLUMNS} FROM dead_letters WHERE letter = ?1");
            conn.prepare_cached(&sql)?.query_row([letter], |row| row::shared(row, 0)).optional()
        }
    }
}

fn describe(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    let name = |column| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
    Ok(DeadLetter {
        id: row.get(0)?,
        sink: name(1)?.parse().map_err(|error| row::invalid(1, error))?,
        event_id: row::id(row, 2)?,
        source: row.get(3)?,
        kind: row.get(4)?,
        received_at: row::time(row.get(5)?, 5)?,
        died_at: row::time(row.get(6)?, 6)?,
        attempts: row.get(7)?,
        reason: row.get(8)?,
        bytes: row.get(9)?,
        retrying: row.get(10)?,
    })
}

/// Letters after this number, oldest first.
pub(super) fn list(
    conn: &Connection,
    sink: Option<&SinkName>,
    after: i64,
    limit: usize,
) -> rusqlite::Result<Vec<DeadLetter>> {
    let sql = format!(
        "SELECT {DESCRIPTION} FROM dead_letters
         WHERE letter > ?1 AND (?2 IS NULL OR sink = ?2) ORDER BY letter LIMIT ?3"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let sink = sink.map(SinkName::as_str);
    statement.query_map(params![after, sink, limit.min(LISTED)], describe)?.collect()
}

/// A letter that was looked for.
pub(super) enum Shown {
    /// It is not there.
    Nothing,
    /// It is there, and no version of hooksink that this one knows wrote it so.
    Unreadable,
    /// With its event.
    Letter(Box<(DeadLetter, Record)>),
}

/// One letter and its event.
pub(super) fn show(conn: &Connection, letter: i64) -> rusqlite::Result<Shown> {
    let sql = format!("SELECT {DESCRIPTION}, {COLUMNS} FROM dead_letters WHERE letter = ?1");
    let mut statement = conn.prepare_cached(&sql)?;
    let shown = statement.query_row([letter], |row| Ok((describe(row)?, row::record(row, 11)?))).optional();
    match shown {
        Ok(letter) => Ok(letter.map_or(Shown::Nothing, |letter| Shown::Letter(Box::new(letter)))),
        Err(error) if row::is_unreadable(&error) => Ok(Shown::Unreadable),
        Err(error) => Err(error),
    }
}

/// The next letters that are meant, after this number: a step's worth at most.
pub(super) fn step(conn: &Connection, which: &Letters, after: i64) -> rusqlite::Result<Vec<i64>> {
    match which {
        Letters::Sink(sink) => {
            let sql = "SELECT letter FROM dead_letters WHERE sink = ?1 AND letter > ?2 ORDER BY letter LIMIT ?3";
            let mut statement = conn.prepare_cached(sql)?;
            statement.query_map(params![sink.as_str(), after, STEP_LETTERS], |row| row.get(0))?.collect()
        }
        Letters::Ids(ids) => {
            let mut ids: Vec<i64> = ids.iter().copied().filter(|id| *id > after).collect();
            ids.sort_unstable();
            ids.dedup();
            ids.truncate(STEP_LETTERS);
            Ok(ids)
        }
    }
}

/// Marks letters to be tried again; how many were not marked before.
pub(super) fn retry(conn: &Connection, letters: &[i64]) -> rusqlite::Result<usize> {
    each(conn, "UPDATE dead_letters SET retrying = 1 WHERE letter = ?1 AND NOT retrying", letters)
}

/// Drops letters for good; how many there were.
pub(super) fn drop(conn: &Connection, letters: &[i64]) -> rusqlite::Result<usize> {
    each(conn, "DELETE FROM dead_letters WHERE letter = ?1", letters)
}

fn each(conn: &Connection, sql: &str, letters: &[i64]) -> rusqlite::Result<usize> {
    let mut statement = conn.prepare_cached(sql)?;
    letters.iter().map(|letter| statement.execute([letter])).sum()
}
