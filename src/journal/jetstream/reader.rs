//! Reads parts of the log from a position on: a task that pulls messages through a consumer of the server's own making,
//! which it makes anew from the last position whenever anything is missing, and a bounded queue of what it read.
//!
//! The server's consumer acknowledges nothing and is kept in memory by one server: how far a sink is stands in its
//! places alone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_nats::StatusCode;
use async_nats::jetstream::consumer::pull::{self, BatchConfig};
use async_nats::jetstream::consumer::{AckPolicy, Consumer, DeliverPolicy};
use async_nats::{Subject, Subscriber};
use futures_util::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::envelope::{Kept, Later};
use super::error::unavailable;
use super::partition::Partition;
use super::shared::Shared;
use crate::event::{EventId, Record};
use crate::filter::Filter;
use crate::journal::JournalError;

/// Messages asked for at a time.
const BATCH: usize = 256;
/// Raw bytes of what was read and not taken, but for the last message.
const QUEUE_BYTES: usize = 8 << 20;
/// Messages that were read and not taken.
const QUEUE_EVENTS: usize = 2 * BATCH;
/// How often the server says that it is there while there is nothing to read.
const HEARTBEAT: Duration = Duration::from_millis(500);
/// After so long without a word it is not there.
const SILENCE: Duration = Duration::from_millis(1800);
/// How long the server remembers what was asked for.
const EXPIRES: Duration = Duration::from_secs(30);
/// How long the server keeps a consumer that nobody asks.
const FORGET: Duration = Duration::from_secs(30);
/// Between two tries to read.
const PAUSE: Duration = Duration::from_millis(200);

/// Tries in a row that brought nothing, after which it is said.
const TOLD_AFTER: u32 = 25;

/// A message that was read.
pub(super) struct Found {
    pub(super) seq: u64,
    pub(super) part: Partition,
    /// None if it is no event.
    pub(super) id: Option<EventId>,
    /// None if the sink does not want it, or it is no event that can be read here.
    pub(super) record: Option<Arc<Record>>,
    /// An event that a later version wrote, if the sink may want it.
    pub(super) later: Option<Later>,
    _bytes: Option<OwnedSemaphorePermit>,
}

/// What is to be read.
#[derive(Clone)]
pub(super) struct Wanted {
    pub(super) parts: BTreeSet<Partition>,
    /// Positions up to here are not.
    pub(super) after: u64,
    /// Events that do not fit these are passed over.
    pub(super) filters: Vec<Filter>,
}

/// A reader. It stops when dropped.
pub(super) struct Reader {
    queue: mpsc::Receiver<Found>,
    /// What was taken from the queue and not handed on.
    next: Option<Found>,
    task: AbortHandle,
}

impl Reader {
    pub(super) fn start(shared: Arc<Shared>, wanted: Wanted) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE_EVENTS);
        let task = tokio::spawn(run(shared, wanted, sender)).abort_handle();
        Self { queue, next: None, task }
    }

    /// The next message, if it is there now; it stays.
    pub(super) fn peek(&mut self) -> Option<&Found> {
        if self.next.is_none() {
            self.next = self.queue.try_recv().ok();
        }
        self.next.as_ref()
    }

    /// Takes the message that was seen.
    pub(super) fn take(&mut self) -> Option<Found> {
        self.next.take()
    }

    /// Waits until there is a message. Cancel-safe.
    pub(super) async fn ready(&mut self) {
        if self.next.is_none() {
            self.next = self.queue.recv().await;
            if self.next.is_none() {
                // The task ends only with the reader.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(shared: Arc<Shared>, wanted: Wanted, sender: mpsc::Sender<Found>) {
    let room = Arc::new(Semaphore::new(QUEUE_BYTES));
    let mut after = wanted.after;
    let mut failures = 0_u32;
    loop {
        let before = after;
        let error = match pull(&shared, &wanted, &mut after, &sender, &room).await {
            Ok(()) => return,
            Err(error) => error,
        };
        failures = if after > before { 0 } else { failures + 1 };
        // Now and then a server goes, and the next try finds another.
        if failures == TOLD_AFTER {
            tracing::warn!(%error, after, "the journal cannot be read on from here, and is tried again and again");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Reads until something is missing, or nobody takes what is read.
async fn pull(
    shared: &Shared,
    wanted: &Wanted,
    after: &mut u64,
    sender: &mpsc::Sender<Found>,
    room: &Arc<Semaphore>,
) -> Result<(), JournalError> {
    let consumer = consumer(shared, wanted, *after + 1).await?;
    let inbox = Subject::from(shared.client.new_inbox());
    let failed = |error: &dyn std::fmt::Display| unavailable("the log cannot be read", error);
    let mut messages = shared.client.subscribe(inbox.clone()).await.map_err(|error| failed(&error))?;
    // What the server counts for this consumer, so that a message that got lost on the way is missed.
    let mut count = 0;
    // Whether the next message is larger than what is asked for at a time: it comes if it is asked for by itself.
    let mut alone = false;
    loop {
        let batch = if alone { 1 } else { BATCH };
        let request = BatchConfig {
            batch,
            expires: Some(EXPIRES),
            max_bytes: if alone { 0 } else { shared.client.max_payload().saturating_add(1 << 20) },
            idle_heartbeat: HEARTBEAT,
            ..BatchConfig::default()
        };
        consumer.request_batch(request, inbox.clone()).await.map_err(|error| failed(&error.kind()))?;
        match batch_of(shared, wanted, after, &mut count, batch, &mut messages, sender, room).await? {
            Ended::Unwanted => return Ok(()),
            ended => alone = ended == Ended::TooLarge,
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// It brought what it could.
    Done,
    /// It brought nothing, since the next message is larger than it may be.
    TooLarge,
    /// Nobody takes what is read any more.
    Unwanted,
}

/// Takes in what a request for so many messages brings.
#[expect(clippy::too_many_arguments, reason = "it is the inner half of `pull`, whose state it works on")]
async fn batch_of(
    shared: &Shared,
    wanted: &Wanted,
    after: &mut u64,
    count: &mut u64,
    batch: usize,
    messages: &mut Subscriber,
    sender: &mpsc::Sender<Found>,
    room: &Arc<Semaphore>,
) -> Result<Ended, JournalError> {
    let missing = |what: &str| unavailable("the log cannot be read", what);
    let mut left = batch;
    while left > 0 {
        let message = match timeout(SILENCE, messages.next()).await {
            Ok(Some(message)) => message,
            Ok(None) => return Err(missing("the connection is closed")),
            Err(_) => return Err(missing("the server is silent")),
        };
        match message.status {
            None | Some(StatusCode::OK) => {}
            Some(StatusCode::IDLE_HEARTBEAT) => continue,
            // The request has ended: by time, or because the next message would be more than it asked for.
            Some(StatusCode::TIMEOUT) => return Ok(Ended::Done),
            Some(StatusCode::REQUEST_TERMINATED) => {
                let why = message.description.unwrap_or_default();
                if why.contains("MaxBytes") {
                    return Ok(if left == batch { Ended::TooLarge } else { Ended::Done });
                }
                if why.contains("Batch Completed") {
                    return Ok(Ended::Done);
                }
                return Err(missing(&why));
            }
            Some(status) => return Err(missing(&status.to_string())),
        }
        let message = async_nats::jetstream::Message { message, context: shared.js.clone() };
        let Ok(info) = message.info() else { return Err(missing("a message is not from the log")) };
        let (seq, counted) = (info.stream_sequence, info.consumer_sequence);
        left -= 1;
        if counted != *count + 1 {
            return Err(missing("a message got lost on the way"));
        }
        *count = counted;
        if seq <= *after {
            continue;
        }
        let part = shared.part_of(&message.subject).ok_or_else(|| missing("a subject is not one of the log"))?;
        let (id, record, later) = match shared.understood(seq, &message.payload) {
            Kept::Event(record) => {
                let id = record.id;
                let record = Some(record).filter(|record| wanted.filters.iter().all(|filter| filter.matches(record)));
                (Some(id), record, None)
            }
            Kept::Later(later) => {
                let id = later.id;
                (Some(id), None, Some(later).filter(|later| wanted.filters.iter().all(|filter| later.may_fit(filter))))
            }
            Kept::Nothing => (None, None, None),
        };
        let bytes = record.as_ref().map_or(0, |record| record.raw.len().min(QUEUE_BYTES));
        // As many as there are at most, so that the number fits.
        let permit = room.clone().acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX)).await.ok();
        let record = record.map(|record| Arc::new(*record));
        if sender.send(Found { seq, part, id, record, later, _bytes: permit }).await.is_err() {
            return Ok(Ended::Unwanted);
        }
        *after = seq;
    }
    Ok(Ended::Done)
}

/// A consumer of the server's for these parts, from this position on.
pub(super) async fn consumer(
    shared: &Shared,
    wanted: &Wanted,
    from: u64,
) -> Result<Consumer<pull::Config>, JournalError> {
    let config = pull::Config {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: from },
        ack_policy: AckPolicy::None,
        filter_subjects: wanted.parts.iter().map(|part| shared.log_subject(*part)).collect(),
        inactive_threshold: FORGET,
        num_replicas: 1,
        memory_storage: true,
        ..pull::Config::default()
    };
    let made = shared.js.create_consumer_on_stream(config, shared.names.log.as_str()).await;
    made.map_err(|error| unavailable("the log cannot be read", error.kind()))
}
