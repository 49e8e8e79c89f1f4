//! What is asked of the journal beside the way of events: sinks made known, forgotten and renamed, dead letters retried
//! and dropped, replays begun. All of it is done by the writer between two batches.

use std::collections::BTreeSet;

use chrono::Utc;
use rusqlite::{Connection, params};

use super::error::failure;
use super::replay::{self, Replay};
use super::sinks::{self, load_place};
use super::writer::Writer;
use super::{housekeeping, letters};
use crate::filter::Filter;
use crate::journal::front::Front;
use crate::journal::{
    ConsumerSpec, JournalError, Letters, ReplayProgress, ReplayRequest, SinkStatus, StartFrom, Ticket,
};
use crate::metrics::SinkLabels;
use crate::names::SinkName;

/// The tables that speak of sinks, and where.
const TABLES: [(&str, &str); 5] =
    [("sinks", "name"), ("parked", "sink"), ("dead_letters", "sink"), ("replays", "sink"), ("gaps", "sink")];
/// Replays that are remembered when they have ended.
const REPLAYS: u64 = 1000;

fn failed(error: rusqlite::Error) -> JournalError {
    failure(&error)
}

/// A step of a change of dead letters.
pub(super) struct Step {
    /// How many were changed.
    pub(super) changed: u64,
    /// The last one looked at; none when there are no more.
    pub(super) last: Option<i64>,
}

impl Writer {
    /// Tells every consumer that there may be something beside the log.
    fn tell(&self) {
        self.shared.news.send_modify(|news| news.others += 1);
    }

    /// Makes the configured sinks known.
    pub(super) fn configure(&mut self, specs: Vec<ConsumerSpec>) -> Result<(), JournalError> {
        let (now, start) = (self.log.last(), self.log.oldest - 1);
        self.transact(|writer| {
            for spec in &specs {
                let cursor = if spec.from == StartFrom::Now { now } else { start };
                writer
                    .conn
                    .prepare_cached("INSERT OR IGNORE INTO sinks (name, cursor) VALUES (?1, ?2)")?
                    .execute(params![spec.sink.as_str(), cursor])?;
            }
            Ok(())
        })
        .map_err(failed)?;
        // Set once, since this is called once.
        let _ = self.shared.wanted.set(specs.iter().map(|spec| spec.wants.clone()).collect());
        for spec in specs {
            let known = self.shared.sinks.all().contains_key(&spec.sink);
            let new = if known { None } else { Some(load_place(&self.conn, &spec.sink).map_err(failed)?) };
            let mut all = self.shared.sinks.all();
            let place = all.entry(spec.sink).or_default();
            if let Some(new) = new {
                *place = new;
            }
            place.configured = true;
            place.wants = spec.wants;
            place.skip_when_full = spec.skip_when_full;
        }
        self.configured = true;
        let mut all = self.shared.sinks.all();
        for (sink, place) in all.iter_mut() {
            let labels = SinkLabels { sink: sink.to_string() };
            self.shared.metrics.sink_unconfigured.get_or_create(&labels).set(i64::from(!place.configured));
            if !place.configured {
                let lag = self.log.last().saturating_sub(place.log.cursor());
                tracing::warn!(
                    %sink, lag, parked = place.parked(),
                    "a sink that is not in the configuration is still owed events; see `hooksink sinks forget` and `rename`"
                );
            }
        }
        Ok(())
    }

    /// Fails unless the journal knows the sink and the configuration does not.
    pub(super) fn unconfigured(&self, sink: &SinkName) -> Result<(), JournalError> {
        match self.shared.sinks.all().get(sink) {
            None => Err(sinks::unknown(sink)),
            Some(place) if place.configured => Err(JournalError::Refused(format!(
                "sink {sink} is in the configuration; take it out and restart hooksink first"
            ))),
            Some(_) => Ok(()),
        }
    }

    /// Forgets a sink and what it is owed.
    pub(super) fn forget_sink(&mut self, sink: &SinkName) -> Result<(), JournalError> {
        self.unconfigured(sink)?;
        self.transact(|writer| {
            for (table, column) in TABLES {
                writer.conn.execute(&format!("DELETE FROM {table} WHERE {column} = ?1"), [sink.as_str()])?;
            }
            Ok(())
        })
        .map_err(failed)?;
        self.shared.sinks.all().remove(sink);
        self.forget_metrics(sink);
        Ok(())
    }

    fn forget_metrics(&self, sink: &SinkName) {
        let labels = SinkLabels { sink: sink.to_string() };
        let metrics = &self.shared.metrics;
        metrics.sink_unconfigured.remove(&labels);
        metrics.sink_lag_events.remove(&labels);
        metrics.sink_oldest_unsent_seconds.remove(&labels);
        metrics.sink_dead_letters.remove(&labels);
    }

    /// Hands the place of a sink to another name.
    pub(super) fn rename_sink(&mut self, old: &SinkName, new: &SinkName) -> Result<(), JournalError> {
        self.unconfigured(old)?;
        let taken = match self.shared.sinks.all().get(new) {
            None => false,
            Some(place) => !place.configured || place.delivered,
        };
        if taken {
            return Err(JournalError::Refused(format!(
                "sink {new} has a place of its own already; `hooksink sinks forget {old}` or `hooksink replay` may be what you need"
            )));
        }
        if let Some(place) = self.shared.sinks.all().get_mut(new) {
            place.given_up = true;
        }
        let renamed = self.transact(|writer| {
            for (table, column) in TABLES {
                let conn = &writer.conn;
                conn.execute(&format!("DELETE FROM {table} WHERE {column} = ?1"), [new.as_str()])?;
                conn.execute(
                    &format!("UPDATE {table} SET {column} = ?2 WHERE {column} = ?1"),
                    [old.as_str(), new.as_str()],
                )?;
            }
            load_place(&writer.conn, new)
        });
        let mut loaded = renamed.map_err(|error| {
            if let Some(place) = self.shared.sinks.all().get_mut(new) {
                place.given_up = false;
            }
            failed(error)
        })?;
        self.letters_changed = true;
        let mut all = self.shared.sinks.all();
        all.remove(old);
        if let Some(before) = all.remove(new) {
            // Its consumer, if there is one, goes on from the place that it is given, and gets what is parked there.
            loaded.adopted.extend(loaded.log.parked().iter().map(|seq| Ticket::Log(*seq)));
            for (replay, walk) in &loaded.replays {
                let replay = *replay;
                loaded.adopted.extend(walk.front.parked().iter().map(|seq| Ticket::Replay { replay, seq: *seq }));
            }
            loaded.configured = before.configured;
            loaded.wants = before.wants;
            loaded.skip_when_full = before.skip_when_full;
            loaded.consumer = before.consumer;
        }
        all.insert(new.clone(), loaded);
        drop(all);
        self.forget_metrics(old);
        self.tell();
        Ok(())
    }

    /// Has a step of dead letters tried again.
    pub(super) fn retry_letters(&mut self, which: &Letters, after: i64) -> Result<Step, JournalError> {
        let step = self.change_letters(which, after, letters::retry)?;
        self.shared.sinks.all().values_mut().for_each(|place| place.letters_asked += 1);
        self.tell();
        Ok(step)
    }

    /// Drops a step of dead letters for good.
    pub(super) fn drop_letters(&mut self, which: &Letters, after: i64) -> Result<Step, JournalError> {
        self.letters_changed = true;
        self.change_letters(which, after, letters::drop)
    }

    fn change_letters(
        &mut self,
        which: &Letters,
        after: i64,
        change: fn(&Connection, &[i64]) -> rusqlite::Result<usize>,
    ) -> Result<Step, JournalError> {
        let meant = letters::step(&self.conn, which, after).map_err(failed)?;
        let changed = self.transact(|writer| change(&writer.conn, &meant)).map_err(failed)? as u64;
        Ok(Step { changed, last: meant.last().copied() })
    }

    /// Begins a replay over the log as it is now.
    pub(super) fn start_replay(&mut self, request: ReplayRequest) -> Result<ReplayProgress, JournalError> {
        let ReplayRequest { sink, from, to, kinds } = request;
        match self.shared.sinks.all().get(&sink) {
            None => return Err(sinks::unknown(&sink)),
            Some(place) if !place.configured => {
                return Err(JournalError::Refused(format!("sink {sink} is not in the configuration")));
            }
            Some(_) => {}
        }
        let text = serde_json::to_string(&kinds).map_err(|error| JournalError::Refused(error.to_string()))?;
        let to = to.unwrap_or_else(Utc::now).timestamp_millis();
        let from = from.timestamp_millis();
        let (first_seq, last_seq) = (self.log.oldest, self.log.last());
        let finished = first_seq > last_seq;
        let id = self
            .transact(|writer| {
                writer
                    .conn
                    .prepare_cached(
                        "INSERT INTO replays (sink, received_from, received_to, kinds, first_seq, last_seq, cursor, finished)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                    )?
                    .execute(params![sink.as_str(), from, to, text, first_seq, last_seq, first_seq - 1, finished])?;
                let id = writer.conn.last_insert_rowid();
                writer.conn.execute(
                    "DELETE FROM replays WHERE finished
                     AND id NOT IN (SELECT id FROM replays ORDER BY id DESC LIMIT ?1)",
                    [REPLAYS],
                )?;
                Ok(id)
            })
            .map_err(failed)?;
        if !finished {
            let front = Front::new(first_seq - 1, BTreeSet::new());
            let kinds = Filter { sources: Vec::new(), kinds };
            let replay = Replay { front, last_seq, from, to, kinds, delivered: 0 };
            if let Some(place) = self.shared.sinks.all().get_mut(&sink) {
                place.replays.insert(id, replay);
            }
            self.tell();
        }
        replay::progress(&self.conn, id)
            .map_err(failed)?
            .ok_or_else(|| JournalError::Unavailable("the replay was not kept".to_owned()))
    }

    /// Every sink, as it is in memory and in the file.
    pub(super) fn sink_states(&self) -> Result<Vec<SinkStatus>, JournalError> {
        let last = self.log.last();
        let all = self.shared.sinks.all();
        all.iter()
            .map(|(sink, place)| {
                let cursor = place.log.cursor();
                Ok(SinkStatus {
                    sink: sink.clone(),
                    configured: place.configured,
                    cursor,
                    lag_events: last.saturating_sub(cursor) + place.parked() as u64,
                    oldest_unsent: oldest_unsent(&self.conn, place.owed_nothing_up_to())?,
                    dead_letters: housekeeping::count_letters(&self.conn, sink.as_str()).map_err(failed)?,
                    parked: place.parked() as u64,
                    skipped: place.skipped,
                })
            })
            .collect()
    }
}

fn oldest_unsent(conn: &Connection, after: u64) -> Result<Option<chrono::DateTime<Utc>>, JournalError> {
    housekeeping::received_after(conn, after).map_err(failed)
}
