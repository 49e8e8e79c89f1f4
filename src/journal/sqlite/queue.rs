//! What waits for the writer: bounded, taken all at once, and waking it only when it sleeps.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::row::Prepared;
use super::settle::Settlement;
use super::writer::Writer;
use crate::journal::{Appended, JournalError};

/// Settlements and commands that may wait: there is one at a time from each sink, and few from the admin listener.
const OTHERS: usize = 1024;
/// Events of one transaction, but for a single larger request.
const BATCH_EVENTS: usize = 4096;
/// Bytes of one transaction, but for a single larger request.
const BATCH_BYTES: u64 = 16 * 1024 * 1024;

/// How long a sink's place that moved may wait for a commit of its own: what a crash makes a sink get again.
const CURSOR_DELAY: Duration = Duration::from_millis(100);
/// How long a place that moved waits at least before it rides on a commit: its page is one more for each commit it is
/// in.
const CURSOR_RIDES: Duration = Duration::from_millis(20);

/// A request to store records.
pub(super) struct Append {
    pub(super) records: Vec<Prepared>,
    pub(super) bytes: u64,
    pub(super) reply: oneshot::Sender<Result<Vec<Appended>, JournalError>>,
}

/// Something that is done by the writer between two batches.
pub(super) type Command = Box<dyn FnOnce(&mut Writer) + Send>;

/// What the writer took.
#[derive(Default)]
pub(super) struct Work {
    pub(super) appends: Vec<Append>,
    pub(super) settlements: Vec<Settlement>,
    pub(super) commands: VecDeque<Command>,
    /// Whether places wait to be made durable, long enough or on this occasion.
    pub(super) places: bool,
    /// Whether nothing will come any more.
    pub(super) closed: bool,
}

#[derive(Default)]
struct Waiting {
    appends: VecDeque<Append>,
    settlements: Vec<Settlement>,
    commands: VecDeque<Command>,
    /// Since when places wait to be made durable.
    moved: Option<Instant>,
    asleep: bool,
    closed: bool,
}

impl Waiting {
    fn is_empty(&self) -> bool {
        self.appends.is_empty() && self.settlements.is_empty() && self.commands.is_empty()
    }
}

/// The queue between everyone and the writer.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Condvar,
    capacity: usize,
}

impl Queue {
    /// A queue for so many requests to store.
    pub(super) fn new(capacity: usize) -> Self {
        Self { waiting: Mutex::default(), wake: Condvar::new(), capacity: capacity.max(1) }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing below panics half-way; what is in the queue is whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, add: impl FnOnce(&mut Waiting) -> Result<(), JournalError>) -> Result<(), JournalError> {
        let mut waiting = self.lock();
        if waiting.closed {
            return Err(JournalError::Closed);
        }
        add(&mut waiting)?;
        self.rouse(waiting);
        Ok(())
    }

    /// Wakes the writer, once: until it runs, more may come.
    fn rouse(&self, mut waiting: MutexGuard<'_, Waiting>) {
        let asleep = std::mem::take(&mut waiting.asleep);
        drop(waiting);
        if asleep {
            self.wake.notify_one();
        }
    }

    /// A request to store.
    pub(super) fn append(&self, append: Append) -> Result<(), JournalError> {
        self.add(|waiting| {
            if waiting.appends.len() >= self.capacity {
                return Err(JournalError::Busy);
            }
            waiting.appends.push_back(append);
            Ok(())
        })
    }

    /// Outcomes that need rows.
    pub(super) fn settle(&self, settlement: Settlement) -> Result<(), JournalError> {
        self.add(|waiting| {
            if waiting.settlements.len() >= OTHERS {
                return Err(JournalError::Busy);
            }
            waiting.settlements.push(settlement);
            Ok(())
        })
    }

    /// Something else to do.
    pub(super) fn command(&self, command: Command) -> Result<(), JournalError> {
        self.add(|waiting| {
            if waiting.commands.len() >= OTHERS {
                return Err(JournalError::Busy);
            }
            waiting.commands.push_back(command);
            Ok(())
        })
    }

    /// A place moved: it rides on the next commit, or gets one of its own when none comes in time.
    pub(super) fn moved(&self) {
        let mut waiting = self.lock();
        if waiting.moved.is_none() {
            waiting.moved = Some(Instant::now());
            self.rouse(waiting);
        }
    }

    /// Nothing is taken in any more; the writer finishes what waits.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// There is no writer any more: who waits is told so, and nobody waits in vain after that.
    pub(super) fn abandon(&self) {
        // Dropping the replies tells.
        *self.lock() = Waiting { closed: true, ..Waiting::default() };
    }

    /// What waits, at once or by `until` at the latest.
    pub(super) fn take(&self, until: Instant) -> Work {
        let mut waiting = self.lock();
        loop {
            let now = Instant::now();
            let due = waiting.moved.map(|since| since + CURSOR_DELAY);
            if !waiting.is_empty() || waiting.closed || now >= until || due.is_some_and(|due| now >= due) {
                break;
            }
            let pause: Duration = due.map_or(until, |due| due.min(until)) - now;
            waiting.asleep = true;
            waiting = self.wake.wait_timeout(waiting, pause).unwrap_or_else(PoisonError::into_inner).0;
            waiting.asleep = false;
        }
        let mut work = Work {
            appends: Vec::new(),
            settlements: std::mem::take(&mut waiting.settlements),
            commands: std::mem::take(&mut waiting.commands),
            places: false,
            closed: false,
        };
        let (mut events, mut bytes) = (0, 0);
        while let Some(next) = waiting.appends.front() {
            events += next.records.len();
            bytes += next.bytes;
            if !work.appends.is_empty() && (events > BATCH_EVENTS || bytes > BATCH_BYTES) {
                break;
            }
            work.appends.extend(waiting.appends.pop_front());
        }
        let commits = !work.appends.is_empty() || !work.settlements.is_empty();
        let due = waiting.moved.is_some_and(|since| since.elapsed() >= CURSOR_DELAY);
        let rides = waiting.moved.is_some_and(|since| since.elapsed() >= CURSOR_RIDES);
        work.places = due || (commits && rides) || (waiting.closed && waiting.moved.is_some());
        if work.places {
            waiting.moved = None;
        }
        work.closed = waiting.closed && waiting.is_empty();
        work
    }
}
