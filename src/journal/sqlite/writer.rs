//! The writer: the one thread that writes. It takes whatever queued while its last commit ran, and stores it in one
//! transaction, synced once; then it does a bounded piece of other work, and looks at the queue again.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::backup::{self, Job};
use super::checkpoint::Checkpointer;
use super::error::failure;
use super::lock::Lock;
use super::queue::{Append, Work};
use super::segments::Log;
use super::settle::Settlement;
use super::shared::Shared;
use super::sinks::{self, Saving};
use super::tail::Slot;
use crate::journal::{Appended, JournalError, ORDINARY};

/// How often the writer looks after disk, ages, and metrics.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Bytes added after which the file and its log are measured.
const MEASURED_BYTES: u64 = 512 * 1024;

/// However the writer ends, also by a panic, nobody waits for it any more.
struct Abandon(Arc<Shared>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.queue.abandon();
        let mut status = self.0.status();
        status.writable = false;
        status.reason = Some(JournalError::Closed.to_string());
    }
}

/// The state of the writing thread.
pub(super) struct Writer {
    pub(super) conn: Rc<Connection>,
    pub(super) shared: Arc<Shared>,
    pub(super) log: Log,
    /// Bytes in use: as last measured, and about what was added since.
    pub(super) bytes: u64,
    /// Bytes added since they were measured.
    pub(super) unmeasured: u64,
    /// Why the last append was not stored, until one is, or a try on our own succeeds.
    pub(super) trouble: Option<JournalError>,
    /// Whether the disk has less free than it should.
    pub(super) disk_low: bool,
    /// Whether events may have grown too old.
    pub(super) tidying: bool,
    /// Whether the sinks are known, so that it is known what they are owed.
    pub(super) configured: bool,
    /// Whether there may be more or fewer dead letters than were last counted.
    pub(super) letters_changed: bool,
    /// A backup to begin.
    pub(super) backup: Option<Job>,
    /// Whether one runs.
    pub(super) backing_up: bool,
    pub(super) checkpointer: Checkpointer,
    housekeeping: Instant,
    closed: bool,
    _lock: Lock,
}

impl Writer {
    pub(super) fn new(conn: Connection, shared: Arc<Shared>, log: Log, checkpointer: Checkpointer, lock: Lock) -> Self {
        Self {
            conn: Rc::new(conn),
            shared,
            log,
            bytes: 0,
            unmeasured: 0,
            trouble: None,
            disk_low: false,
            tidying: false,
            configured: false,
            letters_changed: true,
            backup: None,
            backing_up: false,
            checkpointer,
            housekeeping: Instant::now(),
            closed: false,
            _lock: lock,
        }
    }

    /// Works until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let _abandon = Abandon(Arc::clone(&self.shared));
        self.measure();
        self.keep_house();
        while !self.closed {
            self.turn();
            if let Some(job) = self.backup.take() {
                backup::run(&mut self, job);
            }
        }
        // What the last settlements moved.
        if let Err(error) = self.transact(|_| Ok(())) {
            tracing::error!(%error, "the places of sinks could not be kept; some events will be delivered again");
        }
    }

    /// A backup begins with the next turn, unless one is under way.
    pub(super) fn begin_backup(&mut self, job: Job) {
        if self.backing_up || self.backup.is_some() {
            let _ = job.reply.send(Err(JournalError::Refused("a backup is being made already".to_owned())));
        } else {
            self.backup = Some(job);
        }
    }

    /// Whether the journal is closing.
    pub(super) fn is_closing(&self) -> bool {
        self.closed
    }

    /// One round: a batch, then other work. Waits for work only if there is none of its own.
    pub(super) fn turn(&mut self) {
        let patience = if self.tidying || self.backing_up { Instant::now() } else { self.housekeeping };
        let work = self.shared.queue.take(patience);
        self.closed = work.closed;
        let Work { appends, settlements, commands, places, .. } = work;
        let mut removed = false;
        if !appends.is_empty() || !settlements.is_empty() || places {
            removed = self.batch(appends, settlements, places);
        }
        for command in commands {
            command(self);
        }
        if Instant::now() >= self.housekeeping {
            self.measure();
            self.keep_house();
            self.bound_wal();
            self.housekeeping = Instant::now() + HOUSEKEEPING;
        }
        let tidies = self.tidying && !removed;
        if tidies {
            self.tidying = self.tidy();
        }
        if self.unmeasured >= MEASURED_BYTES || tidies || self.backing_up {
            self.measure();
            self.bound_wal();
        }
    }

    /// Runs `work` in a transaction, and makes places durable that moved. When it fails, nothing of it remains.
    pub(super) fn transact<T>(&mut self, work: impl FnOnce(&mut Self) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        self.commit(work, true)
    }

    /// The same, with or without the places.
    fn commit<T>(&mut self, work: impl FnOnce(&mut Self) -> rusqlite::Result<T>, places: bool) -> rusqlite::Result<T> {
        let mark = self.log.mark();
        self.conn.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let save = |writer: &Self| match places {
            true => sinks::save(&writer.conn, &writer.shared.sinks),
            false => Ok(Saving::default()),
        };
        let done = work(self).and_then(|value| Ok((value, save(self)?)));
        let failed = match done {
            Ok((value, saving)) => match self.conn.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([])) {
                Ok(_) => {
                    saving.committed(&self.shared.sinks);
                    self.log.committed();
                    return Ok(value);
                }
                Err(error) => {
                    saving.failed(&self.shared.sinks);
                    error
                }
            },
            Err(error) => error,
        };
        self.log.rolled_back(mark);
        // Some failures have rolled back on their own already.
        if !self.conn.is_autocommit()
            && let Err(error) = self.conn.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "the journal could not roll back");
        }
        // What was to be saved waits for the next occasion.
        self.shared.queue.moved();
        Err(failed)
    }

    /// Stores a batch; whether something that was too old left with it.
    fn batch(&mut self, appends: Vec<Append>, settlements: Vec<Settlement>, places: bool) -> bool {
        let appends = self.admit(appends);
        let (mut settlements, stale): (Vec<_>, Vec<_>) = settlements.into_iter().partition(|settlement| {
            let all = self.shared.sinks.all();
            all.get(&settlement.sink).is_some_and(|place| place.consumer == settlement.consumer)
        });
        for settlement in stale {
            let lost = format!("another consumer has the place of sink {}", settlement.sink);
            let _ = settlement.reply.send(Err(JournalError::Refused(lost)));
        }
        for settlement in &mut settlements {
            settlement.forget_skipped(&self.shared.sinks);
        }
        let begun = Instant::now();
        let work = |writer: &mut Self| {
            let mut answers = Vec::with_capacity(appends.len());
            for append in &appends {
                let answer: rusqlite::Result<Vec<Appended>> =
                    append.records.iter().map(|record| writer.log.insert(&writer.conn, record)).collect();
                answers.push(answer?);
            }
            for settlement in &settlements {
                for change in &settlement.changes {
                    change.write(&writer.conn, &settlement.sink)?;
                }
            }
            let events = answers.iter().map(Vec::len).sum();
            let sealed = writer.log.ids.seal(&writer.conn, events)?;
            let removed = writer.tidy_along(events);
            Ok((answers, sealed, removed))
        };
        match self.commit(work, places) {
            Ok((answers, sealed, removed)) => {
                sealed.iter().for_each(|step| self.log.ids.sealed(step));
                self.answer(appends, answers, settlements, begun);
                removed
            }
            Err(error) => {
                self.refuse(&error, appends, settlements);
                false
            }
        }
    }

    fn answer(
        &mut self,
        appends: Vec<Append>,
        answers: Vec<Vec<Appended>>,
        settlements: Vec<Settlement>,
        begun: Instant,
    ) {
        let metrics = &self.shared.metrics;
        if !appends.is_empty() {
            let bytes: u64 = appends.iter().map(|append| append.bytes).sum();
            self.bytes += bytes;
            self.unmeasured += bytes;
            if self.fits(ORDINARY) {
                self.trouble = None;
            }
            metrics.journal_commit_seconds.observe(begun.elapsed().as_secs_f64());
            let events: usize = answers.iter().map(Vec::len).sum();
            #[expect(clippy::cast_precision_loss, reason = "a batch has far fewer than 2^52 events")]
            metrics.journal_batch_events.observe(events as f64);
        }
        // Before the answers: who has one finds the event.
        self.tell_extent();
        let last_seq = self.log.last();
        let stored: Vec<Slot> = std::iter::zip(&appends, &answers)
            .flat_map(|(append, answer)| std::iter::zip(&append.records, answer))
            .filter(|(_, appended)| **appended == Appended::Stored)
            .map(|(record, _)| record.slot())
            .collect();
        if !stored.is_empty() {
            self.shared.tail.extend(last_seq + 1 - stored.len() as u64, stored);
            self.shared.news.send_modify(|news| news.last_seq = last_seq);
        }
        for (append, answer) in appends.into_iter().zip(answers) {
            // Who asked may be gone; the records are stored all the same.
            let _ = append.reply.send(Ok(answer));
        }
        if !settlements.is_empty() {
            self.letters_changed |= settlements.iter().any(Settlement::changes_letters);
            let mut all = self.shared.sinks.all();
            for Settlement { sink, changes, .. } in &settlements {
                if let Some(place) = all.get_mut(sink) {
                    changes.iter().for_each(|change| change.apply(place));
                }
            }
            drop(all);
            self.shared.queue.moved();
        }
        for settlement in settlements {
            let _ = settlement.reply.send(Ok(()));
        }
        if self.log.is_segment_full(self.shared.file.segment_events) {
            match self.transact(|writer| writer.log.create_segment(&writer.conn)) {
                Ok(segment) => self.log.begin_segment(segment),
                // The old one serves until it works.
                Err(error) => tracing::warn!(%error, "the journal could not begin a new segment"),
            }
        }
    }

    fn refuse(&mut self, error: &rusqlite::Error, appends: Vec<Append>, settlements: Vec<Settlement>) {
        let reason = failure(error);
        if self.trouble.is_none() {
            tracing::error!(error = %reason, "the journal could not write");
        }
        self.trouble = Some(reason.clone());
        self.show();
        for append in appends {
            let _ = append.reply.send(Err(reason.clone()));
        }
        for settlement in settlements {
            let _ = settlement.reply.send(Err(reason.clone()));
        }
    }

    /// Whether so many bytes fit without anything being removed for them.
    fn fits(&self, bytes: u64) -> bool {
        !self.disk_low && self.bytes + bytes <= self.shared.config.max_size
    }

    /// Lets appends in while there is room. One that does not fit keeps out no smaller one.
    fn admit(&mut self, appends: Vec<Append>) -> Vec<Append> {
        if appends.is_empty() {
            return appends;
        }
        // With each batch, since a fast disk takes more than the reserve within a second; it costs far less than a sync.
        // That it cannot be told is said by the housekeeping.
        let _ = self.look_at_disk();
        if self.fits(appends.iter().map(|append| append.bytes).sum()) {
            return appends;
        }
        let (mut admitted, mut refused) = (Vec::with_capacity(appends.len()), Vec::new());
        let mut bytes = 0;
        // The least that there is no room for, and why.
        let mut no_room: Option<(u64, JournalError)> = None;
        for append in appends {
            let all = bytes + append.bytes;
            let result = match &no_room {
                Some((least, reason)) if *least <= all => Err(reason.clone()),
                _ => self.room_for(all),
            };
            match result {
                Ok(()) => {
                    bytes = all;
                    admitted.push(append);
                }
                Err(reason) => {
                    refused.push((append, reason.clone()));
                    no_room = no_room.filter(|(least, _)| *least <= all).or(Some((all, reason)));
                }
            }
        }
        // What is too large for the room that is left says nothing of ordinary requests.
        if !refused.is_empty()
            && let Err(reason) = self.room_for(bytes + ORDINARY)
        {
            self.in_trouble(reason);
        }
        for (append, reason) in refused {
            let _ = append.reply.send(Err(reason));
        }
        admitted
    }

    /// An ordinary request would be refused now.
    pub(super) fn in_trouble(&mut self, reason: JournalError) {
        if self.trouble.is_none() {
            tracing::error!(%reason, "the journal refuses events");
        }
        self.trouble = Some(reason);
        self.show();
    }

    /// Takes the measure of the file.
    pub(super) fn measure(&mut self) {
        self.unmeasured = 0;
        let number =
            |pragma| -> rusqlite::Result<u64> { self.conn.prepare_cached(pragma)?.query_row([], |row| row.get(0)) };
        let in_use = || Ok::<_, rusqlite::Error>(number("PRAGMA page_count")? - number("PRAGMA freelist_count")?);
        if let Ok(pages) = in_use() {
            self.bytes = pages * super::PAGE_BYTES;
        }
        self.tell_extent();
    }

    /// Tells how much the journal holds.
    pub(super) fn tell_extent(&self) {
        let mut status = self.shared.status();
        status.bytes = self.bytes;
        status.events = self.log.next - self.log.oldest;
        status.last_seq = self.log.last();
    }
}
