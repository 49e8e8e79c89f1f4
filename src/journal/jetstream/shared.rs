//! What the handle, its tasks and the consumers share.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_nats::Client;
use async_nats::jetstream::Context;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::{Info, RawMessageErrorKind, Stream};
use chrono::{DateTime, Utc};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::envelope::{self, Kept};
use super::error::unavailable;
use super::partition::Partition;
use super::places::Places;
use super::room::Room;
use super::state::State;
use super::table::{Member, Seen, Table};
use crate::config::{JetstreamConfig, JournalConfig};
use crate::event::Record;
use crate::journal::{ConsumerSpec, JournalError, JournalStatus};
use crate::metrics::Metrics;
use crate::names::SinkName;

/// Positions that cannot be read and are told of once. Of more, the first are told of again.
const GAPS_REMEMBERED: usize = 1024;

/// The key of the document that all replicas change.
pub(super) const TABLE: &str = "table";

/// The names of streams and subjects.
#[derive(Debug, Clone)]
pub(super) struct Names {
    prefix: String,
    pub(super) log: String,
    pub(super) dead: String,
    pub(super) state: String,
}

impl Names {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            log: format!("{prefix}_log"),
            dead: format!("{prefix}_dead"),
            state: format!("{prefix}_state"),
        }
    }

    /// What subjects of events begin with.
    pub(super) fn log_subjects(&self) -> String {
        format!("{}.log", self.prefix)
    }

    /// What subjects of dead letters begin with.
    pub(super) fn dead_subjects(&self) -> String {
        format!("{}.dead", self.prefix)
    }

    /// What subjects of documents begin with.
    pub(super) fn state_subjects(&self) -> String {
        format!("{}.state", self.prefix)
    }
}

/// What is told of a message of the log without handing it on.
pub(super) struct Received {
    pub(super) received_at: DateTime<Utc>,
}

/// What this replica knows of the table.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    pub(super) table: Arc<Table>,
    /// Whether it is recent: if not, others may hold what this replica held.
    pub(super) alive: bool,
}

/// Shared by all.
pub(super) struct Shared {
    pub(super) config: JournalConfig,
    pub(super) own: JetstreamConfig,
    pub(super) metrics: Arc<Metrics>,
    pub(super) names: Names,
    pub(super) me: Member,
    pub(super) client: Client,
    /// For requests.
    pub(super) js: Context,
    /// For events, which wait for their acknowledgement no longer than `publish_timeout`.
    pub(super) publisher: Context,
    pub(super) log: Stream<()>,
    pub(super) dead: Stream<()>,
    pub(super) state: State,
    pub(super) key: [u8; 32],
    /// Requests that may be written at once.
    pub(super) queue: Arc<Semaphore>,
    /// The sinks of this replica's configuration.
    pub(super) specs: Mutex<BTreeMap<SinkName, ConsumerSpec>>,
    pub(super) view: watch::Sender<View>,
    pub(super) seen: tokio::sync::Mutex<Seen>,
    /// What consumers of this replica work on.
    pub(super) places: Mutex<BTreeMap<SinkName, Weak<Places>>>,
    pub(super) status: Mutex<JournalStatus>,
    /// Positions of the log that cannot be read and were told of.
    pub(super) gaps: Mutex<BTreeSet<u64>>,
    /// One renaming at a time, or one forgetting.
    pub(super) renaming: tokio::sync::Mutex<()>,
    pub(super) room: Room,
    pub(super) stop: CancellationToken,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves behind what is at worst not up to date.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn partitions(&self) -> Partition {
        self.own.partitions
    }

    /// The subject of events of this part.
    pub(super) fn log_subject(&self, part: Partition) -> String {
        format!("{}.{part}", self.names.log_subjects())
    }

    /// The part that a subject is of.
    pub(super) fn part_of(&self, subject: &str) -> Option<Partition> {
        subject.strip_prefix(&self.names.log_subjects())?.strip_prefix('.')?.parse().ok()
    }

    pub(super) fn status(&self) -> MutexGuard<'_, JournalStatus> {
        lock(&self.status)
    }

    pub(super) fn specs(&self) -> MutexGuard<'_, BTreeMap<SinkName, ConsumerSpec>> {
        lock(&self.specs)
    }

    /// The sinks of this replica's configuration.
    pub(super) fn configured(&self) -> BTreeSet<SinkName> {
        self.specs().keys().cloned().collect()
    }

    /// The table as this replica saw it last.
    pub(super) fn table(&self) -> Arc<Table> {
        self.view.borrow().table.clone()
    }

    /// What consumers of this replica work on.
    pub(super) fn working(&self) -> Vec<Arc<Places>> {
        lock(&self.places).values().filter_map(Weak::upgrade).collect()
    }

    /// What the consumer of this sink works on.
    pub(super) fn working_on(&self, sink: &SinkName) -> Option<Arc<Places>> {
        lock(&self.places).get(sink)?.upgrade()
    }

    /// From now on these are the places of this sink's consumer.
    pub(super) fn work_on(&self, sink: &SinkName, places: &Arc<Places>) {
        lock(&self.places).insert(sink.clone(), Arc::downgrade(places));
    }

    /// The state of the log, from its leader.
    pub(super) async fn log_info(&self) -> Result<Info, JournalError> {
        self.log.get_info().await.map_err(|error| unavailable("the state of the log cannot be read", error.kind()))
    }

    /// What stands at this position, from the log's leader; none where nothing does.
    pub(super) async fn kept(&self, seq: u64) -> Result<Option<Kept>, JournalError> {
        let read = self.log.get_raw_message(seq).await;
        Ok(found(read)?.map(|message| self.understood(seq, &message.payload)))
    }

    /// What stands at this position, where something stood; none where it was removed. A server that has only just come to
    /// lead the log may not know its end yet, and is to be asked again.
    pub(super) async fn still_kept(&self, seq: u64) -> Result<Option<Kept>, JournalError> {
        let kept = self.kept(seq).await?;
        if kept.is_none() && seq > self.log_info().await?.state.last_sequence {
            return Err(unavailable("the log cannot be read", "it ends before what was in it"));
        }
        Ok(kept)
    }

    /// The event at this position, where something stood; none where what stands there is none that can be read here.
    pub(super) async fn event(&self, seq: u64) -> Result<Option<Record>, JournalError> {
        Ok(match self.still_kept(seq).await? {
            Some(Kept::Event(record)) => Some(*record),
            _ => None,
        })
    }

    /// What a message of the log keeps. What is no event is said once and counted, and passed over like what no sink
    /// wants: whatever else is in the log, sinks and retention go on.
    pub(super) fn understood(&self, seq: u64, payload: &[u8]) -> Kept {
        let kept = envelope::read(payload);
        if matches!(kept, Kept::Nothing) {
            let mut gaps = lock(&self.gaps);
            if gaps.insert(seq) {
                self.metrics.journal_gaps.inc();
                tracing::error!(
                    position = seq,
                    bytes = payload.len(),
                    "what is no event is passed over in the journal"
                );
            }
            if gaps.len() > GAPS_REMEMBERED {
                gaps.pop_first();
            }
        }
        kept
    }

    /// The first message of this part, or of all, at or after this position, from the log's leader.
    pub(super) async fn next_event(
        &self,
        part: Option<Partition>,
        from: u64,
    ) -> Result<Option<(u64, Received)>, JournalError> {
        let subject = part.map_or_else(|| format!("{}.>", self.names.log_subjects()), |part| self.log_subject(part));
        let read = self.log.raw_message_builder().sequence(from).next_by_subject(subject).send().await;
        Ok(found(read)?.map(|message| {
            let received_at = match self.understood(message.sequence, &message.payload) {
                Kept::Event(record) => Some(record.received_at),
                Kept::Later(later) => later.received_at(),
                Kept::Nothing => None,
            };
            // When the servers stored it, so that it grows old like everything else.
            let received_at = received_at
                .unwrap_or_else(|| DateTime::from_timestamp(message.time.unix_timestamp(), 0).unwrap_or_default());
            (message.sequence, Received { received_at })
        }))
    }

    /// Changes the table, tells consumers, and returns the new one.
    pub(super) async fn change_table(
        &self,
        change: impl FnMut(&mut Table) -> Result<bool, JournalError>,
    ) -> Result<Arc<Table>, JournalError> {
        let table = Arc::new(self.state.change(TABLE, change).await?);
        self.view.send_modify(|view| view.table = Arc::clone(&table));
        Ok(table)
    }

    /// The journal does not work, or works again.
    pub(super) fn trouble(&self, trouble: Option<&JournalError>) {
        let mut status = self.status();
        match (trouble, status.writable) {
            (Some(error), true) => tracing::warn!(%error, "the journal cannot be written"),
            (None, false) => tracing::info!("the journal can be written again"),
            _ => {}
        }
        status.writable = trouble.is_none();
        status.reason = trouble.map(ToString::to_string);
    }
}

/// What a look-up found, if anything.
pub(super) fn found(
    read: Result<StreamMessage, async_nats::jetstream::stream::RawMessageError>,
) -> Result<Option<StreamMessage>, JournalError> {
    match read {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(unavailable("the journal cannot be read", error.kind())),
    }
}
