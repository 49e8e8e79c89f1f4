//! What leaves the journal: events that grew too old and that no sink is owed; at the size limit, those no sink is
//! owed whatever their age; then what a sink with `on_full = "skip"` is owed. In bounded steps: with a batch where there
//! is one, so that they cost no sync of their own, else between batches.

use std::rc::Rc;

use chrono::Utc;
use rusqlite::params;

use super::writer::Writer;
use super::{row, schema};
use crate::filter::Filter;
use crate::journal::JournalError;
use crate::metrics::SinkLabels;
use crate::names::SinkName;

/// Events that leave in one step of their own.
const STEP_EVENTS: usize = 512;
/// Events that leave with a batch, at least: few, since who sent the batch waits for them too.
const ALONG_EVENTS: usize = 128;
/// And for each event of the batch, so that what leaves is more than what comes.
const ALONG_EACH: usize = 2;
/// Rows of ids of a segment without events that leave in one step.
const STEP_IDS: u64 = 16;
/// Dead letters that leave in one step: they may be as large as a request.
pub(super) const STEP_LETTERS: usize = 64;
/// Gaps that are remembered of a sink.
const GAPS: u64 = 1000;
/// Raw bytes after which a step ends.
const STEP_BYTES: u64 = 8 * 1024 * 1024;

/// Something to remove, which a transaction can do.
enum Step {
    /// The events of this segment up to this position, with about so many bytes.
    Events { n: i64, upto: u64, bytes: u64 },
    /// Ids of this segment, whose events have all left.
    Ids { n: i64 },
}

/// The time, in milliseconds, before which something of this age began.
fn before(age: std::time::Duration) -> i64 {
    let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    Utc::now().timestamp_millis().saturating_sub(age)
}

impl Writer {
    /// Removes some of what is too old within the transaction of a batch of so many events; whether there was anything.
    pub(super) fn tidy_along(&mut self, events: usize) -> bool {
        if !self.configured || !self.tidying {
            return false;
        }
        let received_before = before(self.shared.config.retention);
        let limit = ALONG_EVENTS.max(ALONG_EACH * events);
        let step = match self.next_step(Some(received_before), limit) {
            Ok(Some(step)) => step,
            // It is tried again on its own, which tells why.
            Ok(None) | Err(_) => return false,
        };
        // What fails here must not fail the batch.
        let (conn, oldest) = (Rc::clone(&self.conn), self.log.oldest);
        let run = |sql: &str| conn.prepare_cached(sql)?.execute([]);
        if run("SAVEPOINT tidy").is_err() {
            return false;
        }
        let removed = self.take(&step).unwrap_or_else(|_| {
            self.log.oldest = oldest;
            // If this fails as well, so does the batch.
            let _ = run("ROLLBACK TO tidy");
            0
        });
        let _ = run("RELEASE tidy");
        if let Step::Events { bytes, .. } = step {
            self.unmeasured += bytes;
        }
        removed > 0
    }

    /// Removes a step of what is too old; whether there is more.
    pub(super) fn tidy(&mut self) -> bool {
        if !self.configured {
            return false;
        }
        let config = &self.shared.config;
        let events_before = before(config.retention);
        let letters_before = before(config.dead_letter_retention);
        let done =
            self.expire_letters(letters_before).and_then(|letters| Ok(letters + self.remove(Some(events_before))?));
        done.unwrap_or_else(|error| {
            tracing::warn!(%error, "the journal could not remove what is too old");
            0
        }) > 0
    }

    fn expire_letters(&mut self, before: i64) -> rusqlite::Result<u64> {
        let expired = self
            .conn
            .prepare_cached("SELECT 1 FROM dead_letters WHERE died_at < ?1 AND NOT retrying")?
            .exists([before])?;
        if !expired {
            return Ok(0);
        }
        self.transact(|writer| {
            let sql = "DELETE FROM dead_letters WHERE letter IN
                       (SELECT letter FROM dead_letters WHERE died_at < ?1 AND NOT retrying LIMIT ?2)";
            writer.letters_changed = true;
            writer.conn.prepare_cached(sql)?.execute(params![before, STEP_LETTERS]).map(|count| count as u64)
        })
    }

    /// Removes a step of the oldest events that no sink is owed, of any age or received before this time; how much.
    fn remove(&mut self, received_before: Option<i64>) -> rusqlite::Result<u64> {
        let Some(step) = self.next_step(received_before, STEP_EVENTS)? else { return Ok(0) };
        let removed = self.transact(|writer| writer.take(&step))?;
        if removed > 0 {
            return Ok(removed);
        }
        let (Step::Events { n, .. } | Step::Ids { n }) = step;
        self.drop_segment(n)
    }

    /// What goes next: events, at most so many, else ids of a segment that has no events any more.
    fn next_step(&self, received_before: Option<i64>, limit: usize) -> rusqlite::Result<Option<Step>> {
        let floor = self.shared.sinks.all().values().map(super::sinks::Place::owed_nothing_up_to).min();
        let floor = floor.unwrap_or(u64::MAX).min(self.log.last());
        let Some(segment) = self.log.segments.first() else { return Ok(None) };
        if self.log.oldest <= floor
            && let Some(step) = self.events_step(segment.n, floor, received_before, limit)?
        {
            return Ok(Some(step));
        }
        let left = self.log.segments.get(1).is_some_and(|second| self.log.oldest >= second.first_seq);
        Ok(left.then_some(Step::Ids { n: segment.n }))
    }

    /// The next events of this segment that may go.
    fn events_step(
        &self,
        n: i64,
        floor: u64,
        received_before: Option<i64>,
        limit: usize,
    ) -> rusqlite::Result<Option<Step>> {
        let sql = format!("SELECT seq, received_at, length(raw) FROM events_{n} WHERE seq <= ?1 ORDER BY seq LIMIT ?2");
        let mut statement = self.conn.prepare_cached(&sql)?;
        let mut rows = statement.query(params![floor, limit])?;
        let (mut end, mut bytes) = (None, 0);
        while let Some(row) = rows.next()? {
            if received_before.is_some_and(|before| row.get::<_, i64>(1).is_ok_and(|received| received >= before)) {
                break;
            }
            end = Some(row.get(0)?);
            bytes += row.get::<_, u64>(2)?;
            if bytes >= STEP_BYTES {
                break;
            }
        }
        Ok(end.map(|upto| Step::Events { n, upto, bytes }))
    }

    /// Takes a step, within a transaction; how much it removed.
    fn take(&mut self, step: &Step) -> rusqlite::Result<u64> {
        match step {
            Step::Events { n, upto, .. } => {
                let sql = format!("DELETE FROM events_{n} WHERE seq <= ?1");
                let removed = self.conn.prepare_cached(&sql)?.execute([upto])?;
                // The positions stay used though no event tells of them any more.
                schema::set_meta(&self.conn, "next_seq", self.log.next)?;
                self.log.oldest = upto + 1;
                Ok(removed as u64)
            }
            // In their order, so that whole pages become free.
            Step::Ids { n } => {
                let sql =
                    format!("DELETE FROM ids_{n} WHERE key IN (SELECT key FROM ids_{n} ORDER BY key LIMIT {STEP_IDS})");
                self.conn.prepare_cached(&sql)?.execute([]).map(|ids| ids as u64)
            }
        }
    }

    /// Drops the tables of a segment, which are empty and so go quickly.
    fn drop_segment(&mut self, n: i64) -> rusqlite::Result<u64> {
        self.transact(|writer| {
            let sql = format!("DROP TABLE events_{n}; DROP TABLE ids_{n}; DELETE FROM segments WHERE n = {n}");
            writer.conn.execute_batch(&sql)
        })?;
        self.log.drop_segment(n);
        Ok(1)
    }

    /// Sees to it that so many bytes fit, or says why they do not.
    pub(super) fn room_for(&mut self, bytes: u64) -> Result<(), JournalError> {
        if self.disk_low {
            return Err(JournalError::Full("the disk has less free than journal.disk_reserve".to_owned()));
        }
        let limit = self.shared.config.max_size;
        if self.bytes + bytes > limit {
            self.measure();
        }
        while self.bytes + bytes > limit {
            let made = if self.configured { self.make_room() } else { Ok(false) };
            match made {
                Ok(true) => {}
                Ok(false) => {
                    return Err(JournalError::Full(
                        "journal.max_size is reached by events that sinks are still owed, and dead letters".to_owned(),
                    ));
                }
                Err(error) => return Err(super::error::failure(&error)),
            }
        }
        Ok(())
    }

    fn make_room(&mut self) -> rusqlite::Result<bool> {
        let made = self.remove(None)? > 0 || (self.skip()? && self.remove(None)? > 0);
        self.measure();
        Ok(made)
    }

    /// Takes the oldest events from the sinks that allow it, if no other sink is owed them; whether it did.
    fn skip(&mut self) -> rusqlite::Result<bool> {
        let upto = (self.log.oldest + STEP_EVENTS as u64 - 1).min(self.log.last());
        let (behind, others): (Vec<(SinkName, bool, u64, Filter)>, Vec<_>) = {
            let all = self.shared.sinks.all();
            all.iter()
                .map(|(name, place)| {
                    let may = place.configured && place.skip_when_full;
                    (name.clone(), may, place.owed_nothing_up_to(), place.wants.clone())
                })
                .partition(|(_, may, ..)| *may)
        };
        let upto = others.iter().map(|(_, _, floor, _)| *floor).fold(upto, u64::min);
        if upto < self.log.oldest {
            return Ok(false);
        }
        for (name, _, floor, wants) in behind.into_iter().filter(|(_, _, floor, _)| *floor < upto) {
            self.skip_for(&name, floor + 1, upto, &wants)?;
        }
        Ok(true)
    }

    fn skip_for(&mut self, sink: &SinkName, from: u64, upto: u64, wants: &Filter) -> rusqlite::Result<()> {
        let events = self.transact(|writer| {
            let events = writer.owed_between(sink, from, upto, wants)?;
            let conn = &writer.conn;
            conn.prepare_cached("DELETE FROM parked WHERE sink = ?1 AND seq <= ?2")?
                .execute(params![sink.as_str(), upto])?;
            conn.prepare_cached("UPDATE sinks SET cursor = max(cursor, ?2), skipped = skipped + ?3 WHERE name = ?1")?
                .execute(params![sink.as_str(), upto, events])?;
            // A gap that goes on is one gap.
            let gap = params![sink.as_str(), from, upto, events, Utc::now().timestamp_millis()];
            let longer = conn
                .prepare_cached(
                    "UPDATE gaps SET last_seq = ?3, events = events + ?4, at = ?5 WHERE sink = ?1 AND last_seq = ?2 - 1",
                )?
                .execute(gap)?;
            if longer == 0 {
                conn.prepare_cached(
                    "INSERT INTO gaps (sink, first_seq, last_seq, events, at) VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(gap)?;
                conn.prepare_cached(
                    "DELETE FROM gaps WHERE sink = ?1
                     AND id NOT IN (SELECT id FROM gaps WHERE sink = ?1 ORDER BY id DESC LIMIT ?2)",
                )?
                .execute(params![sink.as_str(), GAPS])?;
            }
            Ok(events)
        })?;
        if let Some(place) = self.shared.sinks.all().get_mut(sink) {
            place.log.skip_to(upto);
            for replay in place.replays.values_mut() {
                replay.front.skip_to(upto.min(replay.last_seq));
            }
            place.skipped += events;
            place.dirty = true;
        }
        self.shared.queue.moved();
        self.shared.metrics.sink_skipped.get_or_create(&SinkLabels { sink: sink.to_string() }).inc_by(events);
        tracing::warn!(%sink, events, from, upto, "the journal is full: the sink's oldest unsent events were skipped");
        Ok(())
    }

    /// How many events of this range the sink wants and does not have.
    fn owed_between(&self, sink: &SinkName, from: u64, upto: u64, wants: &Filter) -> rusqlite::Result<u64> {
        let mut events = 0;
        for n in super::segments::after(&self.conn, from - 1)? {
            let sql = format!("SELECT seq, source, kind FROM events_{n} WHERE seq >= ?1 AND seq <= ?2");
            let mut statement = self.conn.prepare_cached(&sql)?;
            let mut rows = statement.query([from, upto])?;
            while let Some(row) = rows.next()? {
                let seq: u64 = row.get(0)?;
                let source = row.get_ref(1)?.as_str()?.parse().map_err(|error| row::invalid(1, error))?;
                let wanted = row.get_ref(2)?.as_str()?.parse().map_or(true, |kind| wants.wants(&source, kind));
                let all = self.shared.sinks.all();
                let owed = all.get(sink).is_some_and(|place| place.owes(seq));
                events += u64::from(wanted && owed);
            }
        }
        Ok(events)
    }
}
