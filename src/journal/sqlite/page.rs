//! Reading the log, a page at a time: a reader never holds its view of the file for longer.

use std::collections::BTreeSet;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::row::{self, COLUMNS, Records};
use super::segments;
use crate::event::{Kind, Record};
use crate::filter::Filter;
use crate::names::SourceName;

/// Positions looked at for one page, wanted or not.
pub(super) const WINDOW: usize = 4096;

/// What is read.
pub(super) struct Request {
    /// Only after this position.
    pub(super) after: u64,
    /// Only up to this position, which is committed.
    pub(super) upto: u64,
    /// Only what all of these want.
    pub(super) wants: Vec<Filter>,
    /// Only received at or after the first and before the second, in milliseconds.
    pub(super) received: Option<(i64, i64)>,
    /// But for these.
    pub(super) except: BTreeSet<u64>,
}

/// What was found.
#[derive(Default)]
pub(super) struct Page {
    /// The events with their positions.
    pub(super) events: Vec<(u64, Arc<Record>)>,
    /// The last position looked at.
    pub(super) scanned: u64,
    /// Whether there may be more.
    pub(super) more: bool,
}

/// How much one read may give: so many events and, but for the first, so many raw bytes.
pub(super) struct Budget {
    events: usize,
    bytes: usize,
    untouched: bool,
}

impl Budget {
    pub(super) fn new(events: usize, bytes: usize) -> Self {
        Self { events, bytes, untouched: true }
    }

    /// Takes an event of so many bytes from the budget, if it fits.
    pub(super) fn admits(&mut self, bytes: usize) -> bool {
        if self.events == 0 || (bytes > self.bytes && !self.untouched) {
            return false;
        }
        self.events -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.untouched = false;
        true
    }
}

/// The next events, as far as the budget goes.
pub(super) fn read(conn: &Connection, request: &Request, budget: &mut Budget) -> rusqlite::Result<Page> {
    let transaction = conn.unchecked_transaction()?;
    let mut page = Page { scanned: request.after, ..Page::default() };
    let mut looked_at = 0;
    let mut records = Records::default();
    for n in segments::after(&transaction, request.after)? {
        let mut statement = transaction.prepare_cached(&next_events(n))?;
        let mut rows = statement.query(params![request.after, request.upto])?;
        while let Some(row) = rows.next()? {
            let seq = row.get(0)?;
            let wanted = request.is_for(row, seq)?;
            if looked_at == WINDOW || (wanted && !budget.admits(row.get_ref(9)?.as_blob()?.len())) {
                page.more = true;
                return Ok(page);
            }
            looked_at += 1;
            if wanted {
                page.events.push((seq, Arc::new(records.read(row, 1)?)));
            }
            page.scanned = seq;
        }
    }
    // Whatever is left up to there, it was looked at.
    page.scanned = request.upto;
    Ok(page)
}

/// Reads on in this segment.
pub(super) fn next_events(n: i64) -> String {
    format!("SELECT seq, {COLUMNS} FROM events_{n} WHERE seq > ?1 AND seq <= ?2 ORDER BY seq")
}

impl Request {
    /// Whether this record of the log is asked for.
    pub(super) fn is_for_record(&self, record: &Record, seq: u64) -> bool {
        !self.except.contains(&seq) && self.wants.iter().all(|filter| filter.matches(record))
    }

    fn is_for(&self, row: &Row<'_>, seq: u64) -> rusqlite::Result<bool> {
        if self.except.contains(&seq) {
            return Ok(false);
        }
        if let Some((from, to)) = self.received {
            let received: i64 = row.get(7)?;
            if received < from || received >= to {
                return Ok(false);
            }
        }
        if self.wants.iter().all(|filter| filter.sources.is_empty() && filter.kinds.is_empty()) {
            return Ok(true);
        }
        let text = |column| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
        let (Ok(source), Ok(kind)) = (text(2)?.parse::<SourceName>(), text(4)?.parse::<Kind>()) else {
            // Of another version: it is handed out rather than lost.
            return Ok(true);
        };
        Ok(self.wants.iter().all(|filter| filter.wants(&source, kind)))
    }
}

/// The event at this position, if the journal holds it.
pub(super) fn event(conn: &Connection, seq: u64) -> rusqlite::Result<Option<Arc<Record>>> {
    let transaction = conn.unchecked_transaction()?;
    let Some(table) = segments::table_of(&transaction, seq)? else { return Ok(None) };
    let sql = format!("SELECT {COLUMNS} FROM {table} WHERE seq = ?1");
    let mut statement = transaction.prepare_cached(&sql)?;
    statement.query_row([seq], |row| row::shared(row, 0)).optional()
}
