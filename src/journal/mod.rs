//! The journal: the durable log between the answer to a sender and the delivery to sinks. A stream with named, durable
//! consumers.

pub mod copy;
mod engine;
mod front;
pub mod jetstream;
pub mod sqlite;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

pub use self::engine::{OpenError, open};

use crate::event::{EventId, Lane, Record};
use crate::filter::{Filter, Pattern};
use crate::names::SinkName;

/// What became of an appended record. Either way it is as durable as the engine makes it: on disk, synced, in the
/// embedded one; acknowledged by the stream in the distributed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is new.
    Stored,
    /// The journal has an event of this id already, as durable as a new one.
    Duplicate,
}

/// Bytes of a request that counts as an ordinary one: a journal that has no room for so many is not writable.
pub(crate) const ORDINARY: u64 = 64 * 1024;

/// Why the journal could not do what was asked. Of an append it says that not all was stored: nothing, in the embedded
/// journal; in the distributed one each event is stored by itself, and those that were are duplicates when they come
/// again.
#[derive(Debug, Clone, thiserror::Error)]
pub enum JournalError {
    /// The size limit or the disk reserve is reached.
    #[error("the journal is full: {0}")]
    Full(String),
    /// More is waiting to be written than `journal.queue` allows.
    #[error("the journal's queue is full")]
    Busy,
    /// Reading or writing failed.
    #[error("the journal cannot be used: {0}")]
    Unavailable(String),
    /// The journal is stopping.
    #[error("the journal is closed")]
    Closed,
    /// What was asked for does not exist, or may not be done; says which and what to do.
    #[error("{0}")]
    Refused(String),
}

impl JournalError {
    /// A dead letter that is there and cannot be read.
    pub(crate) fn unreadable_letter(id: i64) -> Self {
        Self::Refused(format!(
            "dead letter {id} cannot be read: it is damaged, or of another version of hooksink; `hooksink dead-letters \
             drop {id}` drops it"
        ))
    }
}

/// What the dispatcher names an event by towards the journal that handed it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Ticket {
    /// The event at this position of the log, for the sink's cursor.
    Log(u64),
    /// The event at this position, for a replay.
    Replay {
        /// The replay.
        replay: i64,
        /// The position.
        seq: u64,
    },
    /// A dead letter that someone asked to be tried again.
    Letter(i64),
}

/// An event handed out to a sink's dispatcher.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name towards the journal.
    pub ticket: Ticket,
    /// The event.
    pub record: Arc<Record>,
}

/// An event that was put aside by an earlier process and is still owed: its record is loaded when its turn comes.
#[derive(Debug, Clone)]
pub struct Parked {
    /// Its name towards the journal.
    pub ticket: Ticket,
    /// The lane that waits behind it.
    pub lane: Lane,
}

/// What became of an event at a sink.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The sink has it.
    Delivered,
    /// The sink is not to have it, as its `where` has it, or it is not there any more: it is done with, and counts as
    /// delivered nowhere.
    LetGo,
    /// It is in trouble, or behind one that is: it gets a row of its own, so that the cursor can pass it. It is still
    /// owed, and stays with the dispatcher that parked it.
    Parked,
    /// The sink gave up on it.
    Dead {
        /// Why, without payload, person or secret.
        reason: String,
        /// How often it was tried.
        attempts: u32,
    },
}

/// Where a sink that the journal does not know yet begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartFrom {
    /// With the next event stored.
    #[default]
    Now,
    /// With the oldest event that the journal holds.
    Start,
}

/// A sink as the journal is told of it.
#[derive(Debug, Clone)]
pub struct ConsumerSpec {
    /// The sink.
    pub sink: SinkName,
    /// What it wants; everything else is passed over.
    pub wants: Filter,
    /// Where it begins when it is new.
    pub from: StartFrom,
    /// Whether its oldest unsent events may be skipped at the size limit.
    pub skip_when_full: bool,
}

/// A sink's durable place in the journal. One at a time for a sink.
#[async_trait]
pub trait Consumer: Send {
    /// What an earlier process parked, oldest first. Called once, before the first `read`.
    async fn parked(&mut self) -> Result<Vec<Parked>, JournalError>;

    /// Loads a parked event.
    async fn load(&mut self, ticket: Ticket) -> Result<Option<Entry>, JournalError>;

    /// The next events not handed out yet, at most so many and, but for the first, so many raw bytes; empty when there
    /// are none now. Dead letters to retry and running replays come between those of the log.
    async fn read(&mut self, max_events: usize, max_bytes: usize) -> Result<Vec<Entry>, JournalError>;

    /// Waits until `read` may give more. Cancel-safe.
    async fn ready(&mut self);

    /// Tells what became of events. The place moves up to the first event of the log without an outcome. Durable a
    /// moment later, as the engine has it, so that a crash delivers again rather than losing: 100 ms in SQLite, 200 ms in
    /// JetStream while its servers answer.
    async fn settle(&mut self, outcomes: Vec<(Ticket, Outcome)>) -> Result<(), JournalError>;

    /// Makes everything settled durable: called when a sink stops.
    async fn flush(&mut self) -> Result<(), JournalError>;

    /// After a `read` that gave nothing: whether everything that the journal holds now was handed out to this consumer, or
    /// is another's. Where it was not, there will be more, or another process hands it out.
    async fn caught_up(&mut self) -> Result<bool, JournalError>;

    /// Cancelled when another process is to hand out some of what this consumer does: calls under way may end, then
    /// everything is to be made durable and a new consumer asked for. Never, where one process has the journal.
    fn moved(&self) -> CancellationToken {
        CancellationToken::new()
    }
}

/// How far a sink is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SinkStatus {
    /// The sink.
    pub sink: SinkName,
    /// Whether it is in the configuration.
    pub configured: bool,
    /// The position of the last event it is done with.
    pub cursor: u64,
    /// Events of the log after the cursor, wanted or not, and the parked ones.
    pub lag_events: u64,
    /// When the oldest event it is still owed was received.
    pub oldest_unsent: Option<DateTime<Utc>>,
    /// Events that it gave up on.
    pub dead_letters: u64,
    /// Events waiting in rows of their own.
    pub parked: u64,
    /// Events skipped at the size limit.
    pub skipped: u64,
}

/// An event that a sink gave up on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Its number.
    pub id: i64,
    /// The sink.
    pub sink: SinkName,
    /// The event.
    pub event_id: EventId,
    /// The source it came through.
    pub source: String,
    /// What it is.
    pub kind: String,
    /// When it was received.
    pub received_at: DateTime<Utc>,
    /// When the sink gave up.
    pub died_at: DateTime<Utc>,
    /// How often it was tried.
    pub attempts: u32,
    /// Why it failed.
    pub reason: String,
    /// Bytes of its raw form.
    pub bytes: u64,
    /// Whether it waits to be tried again.
    pub retrying: bool,
}

/// Which dead letters are meant.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Letters {
    /// Those of these numbers.
    Ids(Vec<i64>),
    /// All of this sink.
    Sink(SinkName),
}

/// A request to hand stored events to a sink once more, with the same ids.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplayRequest {
    /// To which sink.
    pub sink: SinkName,
    /// Received at or after.
    pub from: DateTime<Utc>,
    /// Received before; now, if not given.
    pub to: Option<DateTime<Utc>>,
    /// Of these kinds; what the sink wants anyway, if empty. Sources are those of the sink.
    pub kinds: Vec<Pattern>,
}

/// How far a replay is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ReplayProgress {
    /// Its number.
    pub id: i64,
    /// The sink.
    pub sink: SinkName,
    /// Positions looked at.
    pub done: u64,
    /// Positions to look at.
    pub total: u64,
    /// Events delivered to the sink, or given up on, so far.
    pub delivered: u64,
    /// Whether it has ended.
    pub finished: bool,
}

/// The state of the journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JournalStatus {
    /// Whether an ordinary request would be stored: storing did not fail of late, and there is room for 64 KiB, or room
    /// that can be made. A larger request that does not fit is refused by itself, and changes nothing here: others fit.
    pub writable: bool,
    /// Why not, without paths.
    pub reason: Option<String>,
    /// Whether the disk has more than `journal.disk_reserve` free.
    pub disk_above_reserve: bool,
    /// Bytes in use, dead letters included.
    pub bytes: u64,
    /// Bytes of the write-ahead log.
    pub wal_bytes: u64,
    /// Events held.
    pub events: u64,
    /// The position of the newest event.
    pub last_seq: u64,
}

/// The durable log. A handle: the journal lives until `close`.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Stores records, de-duplicated by id, and answers when all of them are durable, one answer a record in order. Dropping
    /// the future does not abort the append.
    async fn append(&self, records: Vec<Record>) -> Result<Vec<Appended>, JournalError>;

    /// Tells the journal which sinks are configured; the others it knows still count as owed. Called once, before
    /// `consumer`.
    async fn configure(&self, sinks: Vec<ConsumerSpec>) -> Result<(), JournalError>;

    /// The place of a configured sink.
    async fn consumer(&self, sink: &SinkName) -> Result<Box<dyn Consumer>, JournalError>;

    /// The state, from memory.
    fn status(&self) -> JournalStatus;

    /// Every sink the journal knows, configured or not.
    async fn sinks(&self) -> Result<Vec<SinkStatus>, JournalError>;

    /// Forgets an unconfigured sink and what it is owed.
    async fn forget_sink(&self, sink: &SinkName) -> Result<(), JournalError>;

    /// Hands the place of an unconfigured sink to another name that has none yet, or that is configured and has not
    /// been delivered anything. One that failed half-way goes on when it is called again.
    async fn rename_sink(&self, old: &SinkName, new: &SinkName) -> Result<(), JournalError>;

    /// Dead letters, oldest first, after this number.
    async fn dead_letters(
        &self,
        sink: Option<&SinkName>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, JournalError>;

    /// One dead letter and its event.
    async fn dead_letter(&self, id: i64) -> Result<Option<(DeadLetter, Record)>, JournalError>;

    /// Has dead letters tried again; how many.
    async fn retry_dead_letters(&self, which: Letters) -> Result<u64, JournalError>;

    /// Drops dead letters for good; how many.
    async fn drop_dead_letters(&self, which: Letters) -> Result<u64, JournalError>;

    /// Starts a replay; several may run.
    async fn start_replay(&self, request: ReplayRequest) -> Result<ReplayProgress, JournalError>;

    /// How far a replay is.
    async fn replay(&self, id: i64) -> Result<Option<ReplayProgress>, JournalError>;

    /// Copies the journal, consistent, to a new file below `journal.backup_dir`; the path of the copy. `progress` is
    /// told pages copied and pages in all.
    async fn backup(&self, file: &Path, progress: Box<dyn Fn(u64, u64) + Send>) -> Result<PathBuf, JournalError>;

    /// A key made when the journal was: the `log` sink hashes personal data with it.
    fn key(&self) -> [u8; 32];

    /// Writes what is queued and stops.
    async fn close(&self);
}
