//! What the writer looks after about once a second: the disk, ages, whether writing works again, status and metrics.

use std::io;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension as _};

use super::writer::Writer;
use super::{disk, files, schema, segments};
use crate::journal::ORDINARY;
use crate::metrics::SinkLabels;

impl Writer {
    pub(super) fn keep_house(&mut self) {
        if let Err(error) = self.look_at_disk() {
            tracing::warn!(%error, "free disk space cannot be told");
        }
        self.try_again();
        self.tidying = true;
        self.show();
        if let Err(error) = self.show_sinks() {
            tracing::warn!(%error, "the journal's metrics could not be brought up to date");
        }
    }

    /// Finds out whether the disk has `disk_reserve` free.
    pub(super) fn look_at_disk(&mut self) -> io::Result<()> {
        let file = &self.shared.file;
        self.disk_low = disk::free_bytes(files::folder(&file.path))? < file.disk_reserve;
        Ok(())
    }

    /// Finds out whether there is room for an ordinary request, and whether writing works again: when hooksink is not
    /// ready, nobody sends what could find it out.
    fn try_again(&mut self) {
        if self.trouble.is_none() && !self.configured {
            // Nobody sends anything yet, and nothing may be removed.
            return;
        }
        if let Err(reason) = self.room_for(ORDINARY) {
            self.in_trouble(reason);
            return;
        }
        if self.trouble.is_none() {
            return;
        }
        // As much as there should be room for, and away with it again.
        let zeros = vec![0_u8; usize::try_from(ORDINARY).unwrap_or_default()];
        let trial = |writer: &mut Self| schema::set_meta(&writer.conn, "trial", zeros.clone());
        if self.transact(trial).and_then(|()| self.transact(|writer| schema::unset_meta(&writer.conn, "trial"))).is_ok()
        {
            self.trouble = None;
            tracing::info!("the journal can be written again");
        }
    }

    /// Shows whether the journal is writable.
    pub(super) fn show(&self) {
        let mut status = self.shared.status();
        status.disk_above_reserve = !self.disk_low;
        status.writable = self.trouble.is_none() && !self.disk_low;
        status.reason = match &self.trouble {
            Some(reason) => Some(reason.to_string()),
            None if self.disk_low => Some("the disk has less free than journal.disk_reserve".to_owned()),
            None => None,
        };
        let gauge = |bytes| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.shared.metrics.journal_bytes.set(gauge(status.bytes));
        self.shared.metrics.journal_wal_bytes.set(gauge(status.wal_bytes));
    }

    fn show_sinks(&mut self) -> rusqlite::Result<()> {
        let metrics = &self.shared.metrics;
        let last = self.log.last();
        let mut all = self.shared.sinks.all();
        for (name, place) in all.iter_mut() {
            if self.letters_changed {
                place.dead_letters = count_letters(&self.conn, name.as_str())?;
            }
            let labels = SinkLabels { sink: name.to_string() };
            let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
            metrics.sink_dead_letters.get_or_create(&labels).set(gauge(place.dead_letters));
            let lag = (last - place.log.cursor().min(last)) + place.parked() as u64;
            metrics.sink_lag_events.get_or_create(&labels).set(gauge(lag));
            let oldest = received_after(&self.conn, place.owed_nothing_up_to())?;
            let age = oldest.map_or(0, |received| (Utc::now() - received).num_seconds().max(0));
            metrics.sink_oldest_unsent_seconds.get_or_create(&labels).set(age);
        }
        self.letters_changed = false;
        Ok(())
    }
}

/// Dead letters of this sink.
pub(super) fn count_letters(conn: &Connection, sink: &str) -> rusqlite::Result<u64> {
    conn.prepare_cached("SELECT count(*) FROM dead_letters WHERE sink = ?1")?.query_row([sink], |row| row.get(0))
}

/// When the first event after this position was received.
pub(super) fn received_after(conn: &Connection, after: u64) -> rusqlite::Result<Option<DateTime<Utc>>> {
    for n in segments::after(conn, after)? {
        let sql = format!("SELECT received_at FROM events_{n} WHERE seq > ?1 ORDER BY seq LIMIT 1");
        let millis: Option<i64> = conn.prepare_cached(&sql)?.query_row([after], |row| row.get(0)).optional()?;
        if let Some(millis) = millis {
            return super::row::time(millis, 0).map(Some);
        }
    }
    Ok(None)
}
