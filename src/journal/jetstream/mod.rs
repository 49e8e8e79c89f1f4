//! The distributed journal: streams of NATS JetStream, shared by as many replicas of hooksink as there are.
//!
//! ```text
//! append ─► publish to the part of the log that the lane belongs to ─► acknowledged by the stream ─► answer
//! log ─► reader (one for a sink on a replica, of the parts that are this replica's) ─► consumer ─► dispatcher
//! table: who is alive, who hands out which part to which sink          one document, changed only as it was read
//! places: how far a sink is in a part, what is parked, replays         one document each, written by its holder alone
//! ```
//! Three streams: the log, which hooksink alone purges; dead letters; and documents. Each message of the log is a record
//! in an envelope of its own; its `Nats-Msg-Id` is the event's id, by which the servers know copies.
//!
//! What the design had in mind for the order of a person's events are durable consumers with pinned clients. When a
//! pinned client dies, JetStream hands the next one what is new at once, and what the dead one held only after a time of
//! its own, so that later events overtake earlier ones. Here a part changes hands by a document that says where to go on,
//! so that the next one begins with the oldest event that is owed.
//!
//! The files, in reading order: `envelope`, `partition`; `connect`, `streams`, `state`; `append`; `table` and `member` (the
//! replicas), `marks`, `place` and `places`, `reader`, `consumer`; `letters`, `sinks`, `renaming`, `keeper`, `room`; `shared`, `error`.

mod append;
mod connect;
mod consumer;
mod envelope;
mod error;
mod failing;
mod keeper;
mod letters;
mod marks;
mod member;
mod partition;
mod place;
mod places;
mod reader;
mod renaming;
mod retries;
mod room;
mod shared;
mod sinks;
mod state;
mod streams;
mod table;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::RngExt as _;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

pub use self::error::OpenError;

use self::consumer::JetstreamConsumer;
use self::room::Room;
use self::shared::{Names, Shared, View};
use self::state::State;
use super::{
    Appended, Consumer, ConsumerSpec, DeadLetter, Journal, JournalError, JournalStatus, Letters, ReplayProgress,
    ReplayRequest, SinkStatus,
};
use crate::config::{JetstreamConfig, JournalConfig, NatsSync};
use crate::event::Record;
use crate::metrics::Metrics;
use crate::names::SinkName;

/// Acknowledgements waited for at once. More wait for these.
const IN_FLIGHT: usize = 16 * 1024;
/// Between two tries to open the journal.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it is said meanwhile what is waited for.
const TELL_AGAIN: Duration = Duration::from_secs(3);
/// The key of what was settled when the journal was made.
const MADE: &str = "journal";

/// What was settled when the journal was made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Made {
    version: u32,
    /// For hashing personal data, in Base64.
    key: String,
    partitions: u16,
}

/// The distributed journal.
pub struct JetstreamJournal {
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
}

impl JetstreamJournal {
    /// Connects, and makes the streams or takes them as they are. Servers that are not there yet, or that have not
    /// agreed yet who of them leads, are waited for as long as `journal.start_timeout`.
    ///
    /// # Errors
    /// When the servers cannot be used, or a stream is there with other settings than a journal needs.
    pub async fn open(config: &JournalConfig, own: &JetstreamConfig, metrics: Arc<Metrics>) -> Result<Self, OpenError> {
        let started = Instant::now();
        let mut told: Option<Instant> = None;
        loop {
            let error = match Self::try_open(config, own, Arc::clone(&metrics)).await {
                Ok(journal) => return Ok(journal),
                // What is not as it has to be does not become so by waiting.
                Err(error @ (OpenError::Unfit { .. } | OpenError::Differs { .. } | OpenError::Newer { .. })) => {
                    return Err(error);
                }
                Err(error) => error,
            };
            if started.elapsed() > own.start_timeout {
                return Err(error);
            }
            if told.is_none_or(|told| told.elapsed() >= TELL_AGAIN) {
                told = Some(Instant::now());
                let waited = started.elapsed();
                tracing::warn!(%error, ?waited, wait = ?own.start_timeout, "the journal cannot be opened yet");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn try_open(config: &JournalConfig, own: &JetstreamConfig, metrics: Arc<Metrics>) -> Result<Self, OpenError> {
        let client = connect::connect(own).await?;
        if let Some(unfit) = connect::unfit(&client, config) {
            return Err(unfit);
        }
        let js = connect::context(&client, connect::REQUEST_TIMEOUT, IN_FLIGHT);
        let publisher = connect::context(&client, own.publish_timeout, IN_FLIGHT);
        let names = Names::new(&own.stream);
        for wanted in streams::wanted(own, &names) {
            streams::open(&js, &wanted).await?;
        }
        let stream = async |name: &str| {
            let stream = js.get_stream_no_info(name).await;
            stream.map_err(|error| error::unavailable("a stream cannot be used", error.kind()))
        };
        let (log, dead) = (stream(&names.log).await?, stream(&names.dead).await?);
        let state = State::new(js.clone(), stream(&names.state).await?, names.state_subjects());
        let key = settle(&state, own).await?;
        let shared = Arc::new(Shared {
            config: config.clone(),
            own: own.clone(),
            metrics,
            names,
            me: uuid::Uuid::new_v4().to_string(),
            client,
            js,
            publisher,
            log,
            dead,
            state,
            key,
            queue: Arc::new(Semaphore::new(config.queue)),
            specs: Mutex::default(),
            view: watch::Sender::new(View::default()),
            seen: tokio::sync::Mutex::default(),
            places: Mutex::default(),
            status: Mutex::new(JournalStatus {
                writable: true,
                reason: None,
                disk_above_reserve: true,
                bytes: 0,
                wal_bytes: 0,
                events: 0,
                last_seq: 0,
            }),
            gaps: Mutex::default(),
            renaming: tokio::sync::Mutex::default(),
            room: Room::default(),
            stop: CancellationToken::new(),
        });
        shared.measure().await?;
        shared.turn().await?;
        tell(own);
        let turns = tokio::spawn(member::take_turns(Arc::clone(&shared)));
        let keeper = tokio::spawn(keeper::keep(Arc::clone(&shared)));
        let room = tokio::spawn(room::look(Arc::clone(&shared)));
        Ok(Self { shared, tasks: [turns, keeper, room].map(|task| task.abort_handle()).into() })
    }
}

/// What was settled when the journal was made, or is now; its key.
async fn settle(state: &State, own: &JetstreamConfig) -> Result<[u8; 32], OpenError> {
    let new: [u8; 32] = rand::rng().random();
    let made = state
        .change(MADE, |made: &mut Made| {
            if made.version > 0 {
                return Ok(false);
            }
            *made = Made { version: table::VERSION, key: STANDARD.encode(new), partitions: own.partitions };
            Ok(true)
        })
        .await?;
    if made.version > table::VERSION {
        return Err(OpenError::Newer { stream: own.stream.clone(), found: made.version, known: table::VERSION });
    }
    if made.partitions != own.partitions {
        let differences = vec![format!(
            "partitions is {} since the journal was made, and journal.partitions is {}",
            made.partitions, own.partitions
        )];
        return Err(OpenError::Differs { stream: own.stream.clone(), differences });
    }
    let key = STANDARD.decode(&made.key).ok().and_then(|key| <[u8; 32]>::try_from(key).ok());
    Ok(key.ok_or_else(|| error::unreadable("the journal's key"))?)
}

/// Says what an answer 200 means here.
fn tell(own: &JetstreamConfig) {
    let replicas = own.replicas;
    match own.nats_sync {
        NatsSync::Always => tracing::info!(
            replicas,
            "journal on JetStream; 200 means: on the disks of a majority, synced, if the servers have sync_interval: always"
        ),
        NatsSync::Interval => tracing::info!(
            replicas,
            "journal on JetStream; 200 means: in the memory of a majority of the servers. It outlives the end of any \
             minority of them, and of every process; a power cut of a majority at once may take the last two minutes, unless \
             they have sync_interval: always"
        ),
    }
}

impl Drop for JetstreamJournal {
    fn drop(&mut self) {
        self.shared.stop.cancel();
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

#[async_trait]
impl Journal for JetstreamJournal {
    async fn append(&self, records: Vec<Record>) -> Result<Vec<Appended>, JournalError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        if self.shared.stop.is_cancelled() {
            return Err(JournalError::Closed);
        }
        let shared = Arc::clone(&self.shared);
        let place = Arc::clone(&shared.queue).try_acquire_owned().map_err(|_| JournalError::Busy)?;
        let bytes = records.iter().map(|record| record.raw.len() as u64).sum();
        // A task of its own: who asked may go away, and what is under way goes on.
        let task = tokio::spawn(async move {
            let _place = place;
            shared.admit(bytes).await?;
            append::append(shared, records).await
        });
        task.await.unwrap_or(Err(JournalError::Closed))
    }

    async fn configure(&self, sinks: Vec<ConsumerSpec>) -> Result<(), JournalError> {
        self.shared.configure(sinks).await
    }

    async fn consumer(&self, sink: &SinkName) -> Result<Box<dyn Consumer>, JournalError> {
        Ok(Box::new(JetstreamConsumer::new(Arc::clone(&self.shared), sink.clone()).await?))
    }

    fn status(&self) -> JournalStatus {
        self.shared.status().clone()
    }

    async fn sinks(&self) -> Result<Vec<SinkStatus>, JournalError> {
        self.shared.sink_states().await
    }

    async fn forget_sink(&self, sink: &SinkName) -> Result<(), JournalError> {
        self.shared.forget(sink).await
    }

    async fn rename_sink(&self, old: &SinkName, new: &SinkName) -> Result<(), JournalError> {
        self.shared.rename(old, new).await
    }

    async fn dead_letters(
        &self,
        sink: Option<&SinkName>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, JournalError> {
        self.shared.list_letters(sink, after, limit).await
    }

    async fn dead_letter(&self, id: i64) -> Result<Option<(DeadLetter, Record)>, JournalError> {
        self.shared.show_letter(id).await
    }

    async fn retry_dead_letters(&self, which: Letters) -> Result<u64, JournalError> {
        self.shared.retry_letters(which).await
    }

    async fn drop_dead_letters(&self, which: Letters) -> Result<u64, JournalError> {
        self.shared.drop_letters(which).await
    }

    async fn start_replay(&self, request: ReplayRequest) -> Result<ReplayProgress, JournalError> {
        self.shared.begin_replay(request).await
    }

    async fn replay(&self, id: i64) -> Result<Option<ReplayProgress>, JournalError> {
        self.shared.replay_progress(id).await
    }

    async fn backup(&self, _file: &Path, _progress: Box<dyn Fn(u64, u64) + Send>) -> Result<PathBuf, JournalError> {
        let names = &self.shared.names;
        Err(JournalError::Refused(format!(
            "a journal on JetStream is copied by the NATS tools: nats stream backup, for {}, {} and {}",
            names.log, names.dead, names.state
        )))
    }

    fn key(&self) -> [u8; 32] {
        self.shared.key
    }

    async fn close(&self) {
        self.shared.stop.cancel();
        let all = u32::try_from(self.shared.config.queue).unwrap_or(u32::MAX);
        // Appends under way end.
        let _ = self.shared.queue.acquire_many(all).await;
        {
            let mut status = self.shared.status();
            status.writable = false;
            status.reason = Some(JournalError::Closed.to_string());
        }
        for places in self.shared.working() {
            if let Err(error) = places.save(&self.shared, true).await {
                tracing::warn!(%error, "not everything that sinks have is written; they get some of it again");
            }
            places.moved().cancel();
        }
        if let Err(error) = self.shared.leave().await {
            tracing::warn!(%error, "the other replicas find out by the lease that this one is gone");
        }
        self.tasks.iter().for_each(AbortHandle::abort);
        // What was sent is on its way; the connection itself ends with the process.
        let _ = self.shared.client.flush().await;
    }
}
