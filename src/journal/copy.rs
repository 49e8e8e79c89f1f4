//! Moving house: the events of one journal into another, with what each sink is owed and what it gave up on.
//!
//! Events are appended in the order of the log, so that each person's stay in order, and keep their ids. The place up to
//! which they were copied is that of a sink of its own in the journal they come from ([`MARK`]), so that a copy that was
//! broken off goes on where it was. Then each sink's place is made the same: in the new journal, what it has is settled,
//! what it gave up on is a dead letter, and what it is owed stays owed. Neither journal may be in use. What the new one
//! took from senders all the same, between two calls, stays owed to every sink.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{
    Appended, Consumer, ConsumerSpec, Entry, Journal, JournalError, Letters, OpenError, Outcome, SinkStatus, StartFrom,
    Ticket, open,
};
use crate::config::JournalConfig;
use crate::event::{EventId, Record};
use crate::filter::Filter;
use crate::metrics::Metrics;
use crate::names::SinkName;

/// The sink whose place says how far a copy is. It is there in both journals as long as a copy is not complete.
pub const MARK: &str = "hooksink-journal-copy";

/// Events appended at once.
const AT_ONCE: usize = 1_000;

/// Raw bytes of them.
const BYTES_AT_ONCE: usize = 16 * 1024 * 1024;

/// How long nothing may come although there is more.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is asked whether there is more.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Why a copy ended before it was complete. Called again, it goes on.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The journal that is copied cannot be opened.
    #[error("the journal to copy from: {0}")]
    From(#[source] OpenError),
    /// The new one cannot be opened.
    #[error("the journal to copy to: {0}")]
    To(#[source] OpenError),
    /// The new one is in use, or a copy into it is complete.
    #[error("the journal to copy to holds {0} events already: a complete copy, or other events; name a new one")]
    NotEmpty(u64),
    /// Reading the first failed.
    #[error("reading the journal to copy from: {0}")]
    Reading(#[source] JournalError),
    /// Writing the second failed.
    #[error("writing the journal to copy to: {0}")]
    Writing(#[source] JournalError),
    /// Everything was copied but some dead letters.
    #[error(
        "{0} dead letters cannot be read, and all but them is copied: drop them with `hooksink dead-letters drop` on a \
         server of the old journal, or take a version of hooksink that can read them, and copy again"
    )]
    Letters(u64),
}

/// How far a copy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Events appended, of so many.
    Events {
        /// So far, those of an earlier call not counted.
        copied: u64,
        /// In all, or fewer.
        total: u64,
    },
    /// The place of a sink is the same now.
    Sink {
        /// The sink.
        sink: SinkName,
        /// Events it is owed.
        owed: u64,
        /// Events it gave up on.
        dead_letters: u64,
    },
    /// Dead letters of a sink cannot be read, and are not copied.
    Unreadable {
        /// The sink.
        sink: SinkName,
        /// Their numbers.
        letters: Vec<i64>,
    },
}

/// Copies everything. `progress` is told of each batch and of each sink.
///
/// # Errors
/// See [`CopyError`]; what was copied stays, and the next call goes on from there.
pub async fn copy(
    from: &JournalConfig,
    to: &JournalConfig,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), CopyError> {
    let metrics = Arc::new(Metrics::new());
    let source = open(from, metrics.clone()).await.map_err(CopyError::From)?;
    let target = open(to, metrics.clone()).await.map_err(CopyError::To)?;
    let result = copy_all(&*source, &*target, progress).await;
    source.close().await;
    target.close().await;
    result?;
    // Without the mark in their configuration, the journals can be told to forget it. The new one comes last: as long
    // as it has the mark, a copy can be called again, and what it appends again is known by its id. JetStream knows ids
    // for `duplicate_window` only: a copy that is called again later than that stores events twice, with the same id.
    type Failed<E> = fn(E) -> CopyError;
    let ends: [(_, Failed<OpenError>, Failed<JournalError>); 2] =
        [(from, CopyError::From, CopyError::Reading), (to, CopyError::To, CopyError::Writing)];
    for (config, unopened, failed) in ends {
        let journal = open(config, metrics.clone()).await.map_err(unopened)?;
        let forgotten = forget_mark(&*journal).await;
        journal.close().await;
        forgotten.map_err(failed)?;
    }
    Ok(())
}

async fn copy_all(
    source: &dyn Journal,
    target: &dyn Journal,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), CopyError> {
    let known = source.sinks().await.map_err(CopyError::Reading)?;
    let sinks: Vec<SinkName> = known.into_iter().map(|sink| sink.sink).filter(|sink| sink.as_str() != MARK).collect();
    let begun = mark_status(target).await.map_err(CopyError::Writing)?.is_some();
    if !begun && target.status().events > 0 {
        return Err(CopyError::NotEmpty(target.status().events));
    }
    let specs: Vec<_> = sinks.iter().cloned().chain([mark()]).map(spec).collect();
    source.configure(specs.clone()).await.map_err(CopyError::Reading)?;
    target.configure(specs).await.map_err(CopyError::Writing)?;
    let mut copied = Copied::known(target).await.map_err(CopyError::Writing)?;
    copy_events(source, &mut copied, progress).await?;
    // All of them before the first place: what is appended now is behind every sink.
    let (mut dead, mut unreadable) = (HashMap::new(), 0);
    for sink in &sinks {
        let (letters, damaged) = copy_letters(source, &mut copied, sink).await?;
        dead.insert(sink, letters);
        if !damaged.is_empty() {
            unreadable += damaged.len() as u64;
            progress(Progress::Unreadable { sink: sink.clone(), letters: damaged });
        }
    }
    let others = copied.others;
    for sink in &sinks {
        let dead = dead.remove(sink).unwrap_or_default();
        let place = Place { dead, others: &others, parked: HashSet::new(), owed: HashSet::new() };
        copy_place(source, target, sink, place, progress).await?;
    }
    match unreadable {
        0 => Ok(()),
        letters => Err(CopyError::Letters(letters)),
    }
}

fn mark() -> SinkName {
    MARK.parse().expect("it is a name")
}

/// How far a copy from or into this journal is; none where none was begun, or it is complete.
pub(crate) async fn mark_status(journal: &dyn Journal) -> Result<Option<SinkStatus>, JournalError> {
    Ok(journal.sinks().await?.into_iter().find(|sink| sink.sink.as_str() == MARK))
}

/// A sink that wants everything: what it really wants is for the dispatcher, and is not known here.
fn spec(sink: SinkName) -> ConsumerSpec {
    ConsumerSpec { sink, wants: Filter::default(), from: StartFrom::Start, skip_when_full: false }
}

/// Appends what was not appended yet.
async fn copy_events(
    source: &dyn Journal,
    target: &mut Copied<'_>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), CopyError> {
    let reading = CopyError::Reading;
    let status = mark_status(source).await.map_err(reading)?;
    // Engines may count what was copied before among what is left.
    let (mut copied, total) = (0, status.map_or(0, |mark| mark.lag_events).min(source.status().events));
    let mut owed = Owed::to(source, &mark()).await.map_err(reading)?;
    progress(Progress::Events { copied, total });
    while let Some(entries) = owed.next().await.map_err(reading)? {
        let records = entries.iter().map(|entry| (*entry.record).clone()).collect();
        target.append(records).await.map_err(CopyError::Writing)?;
        copied += entries.len() as u64;
        let settled = entries.into_iter().map(|entry| (entry.ticket, Outcome::Delivered)).collect();
        owed.consumer.settle(settled).await.map_err(reading)?;
        progress(Progress::Events { copied, total });
    }
    owed.consumer.flush().await.map_err(reading)?;
    // Nothing is parked for the mark but what cannot be read here.
    match mark_status(source).await.map_err(reading)?.map_or(0, |mark| mark.parked) {
        0 => Ok(()),
        events => Err(reading(JournalError::Refused(format!(
            "{events} events were stored by a later version of hooksink; copy the journal with that one"
        )))),
    }
}

/// What a sink is owed, and what it gave up on.
struct Place<'a> {
    /// Owed, and put aside so that others could go on.
    parked: HashSet<EventId>,
    /// Owed, in the order of the log.
    owed: HashSet<EventId>,
    dead: DeadLetters,
    /// What of the new journal is no copy.
    others: &'a HashMap<EventId, Ticket>,
}

/// Why a sink gave up, and after how many attempts, by event.
type DeadLetters = HashMap<EventId, (String, u32)>;

/// Makes a sink's place in the new journal what it is in the old one.
async fn copy_place(
    source: &dyn Journal,
    target: &dyn Journal,
    sink: &SinkName,
    mut place: Place<'_>,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), CopyError> {
    let reading = CopyError::Reading;
    let mut owed = Owed::to(source, sink).await.map_err(reading)?;
    for ticket in std::mem::take(&mut owed.parked) {
        if let Some(entry) = owed.consumer.load(ticket).await.map_err(reading)? {
            place.parked.insert(entry.record.id);
        }
    }
    while let Some(entries) = owed.next().await.map_err(reading)? {
        for entry in entries {
            match entry.ticket {
                Ticket::Log(_) => place.owed.insert(entry.record.id),
                // A dead letter that waits to be tried again is owed; so is what is left of a replay.
                Ticket::Letter(_) | Ticket::Replay { .. } => place.parked.insert(entry.record.id),
            };
        }
    }
    drop(owed);

    let writing = CopyError::Writing;
    let mut open = Owed::to(target, sink).await.map_err(writing)?;
    while let Some(entries) = open.next().await.map_err(writing)? {
        let outcomes = entries.iter().filter_map(|entry| Some((entry.ticket, place.outcome(entry)?))).collect();
        open.consumer.settle(outcomes).await.map_err(writing)?;
    }
    open.consumer.flush().await.map_err(writing)?;
    let owed = (place.owed.len() + place.parked.len()) as u64;
    progress(Progress::Sink { sink: sink.clone(), owed, dead_letters: place.dead.len() as u64 });
    Ok(())
}

impl Place<'_> {
    /// What becomes of an event of the new journal; nothing, if it is to be handed out as any other.
    fn outcome(&self, entry: &Entry) -> Option<Outcome> {
        let id = &entry.record.id;
        if self.parked.contains(id) {
            return Some(Outcome::Parked);
        }
        if self.owed.contains(id) || self.others.contains_key(id) {
            return None;
        }
        Some(match self.dead.get(id) {
            Some((reason, attempts)) => Outcome::Dead { reason: reason.clone(), attempts: *attempts },
            None => Outcome::Delivered,
        })
    }
}

/// Dead letters outlive their events in the log, and are appended as events again for that. Those that cannot be read
/// come by their numbers.
async fn copy_letters(
    source: &dyn Journal,
    target: &mut Copied<'_>,
    sink: &SinkName,
) -> Result<(DeadLetters, Vec<i64>), CopyError> {
    let (reading, writing) = (CopyError::Reading, CopyError::Writing);
    let (mut dead, mut unreadable) = (DeadLetters::new(), Vec::new());
    let mut after = i64::MIN;
    loop {
        let letters = source.dead_letters(Some(sink), after, AT_ONCE).await.map_err(reading)?;
        let Some(last) = letters.last() else { return Ok((dead, unreadable)) };
        after = last.id;
        let (mut records, mut bytes) = (Vec::new(), 0);
        for letter in letters {
            let (letter, record) = match source.dead_letter(letter.id).await {
                Ok(Some(found)) => found,
                Ok(None) => continue,
                Err(JournalError::Refused(_)) => {
                    unreadable.push(letter.id);
                    continue;
                }
                Err(error) => return Err(reading(error)),
            };
            // One that is to be tried again is owed: its sink comes across it.
            if !letter.retrying {
                dead.insert(record.id, (letter.reason, letter.attempts));
            }
            bytes += record.raw.len();
            records.push(record);
            if bytes >= BYTES_AT_ONCE {
                target.append(std::mem::take(&mut records)).await.map_err(writing)?;
                bytes = 0;
            }
        }
        target.append(records).await.map_err(writing)?;
    }
}

/// The new journal, and what of it is no copy.
///
/// The place of the mark there tells them apart: what was copied is settled for it, durably before the old journal's
/// mark passes it. What it is owed beyond that came from senders, while a server ran on a copy that was not complete.
struct Copied<'a> {
    journal: &'a dyn Journal,
    mark: Owed<'a>,
    others: HashMap<EventId, Ticket>,
}

impl<'a> Copied<'a> {
    async fn known(journal: &'a dyn Journal) -> Result<Self, JournalError> {
        let mut mark = Owed::to(journal, &mark()).await?;
        let mut others = HashMap::new();
        while let Some(entries) = mark.next().await? {
            others.extend(entries.into_iter().map(|entry| (entry.record.id, entry.ticket)));
        }
        Ok(Self { journal, mark, others })
    }

    /// Appends, and notes that these are copies, as are those that were appended before without a note.
    async fn append(&mut self, records: Vec<Record>) -> Result<(), JournalError> {
        if records.is_empty() {
            return Ok(());
        }
        let ids: Vec<EventId> = records.iter().map(|record| record.id).collect();
        let appended = self.journal.append(records).await?;
        let stored = ids.iter().zip(appended).filter(|(_, appended)| *appended == Appended::Stored);
        let mut awaited: HashSet<EventId> = stored.map(|(id, _)| *id).collect();
        let mut copies: Vec<Ticket> = ids.iter().filter_map(|id| self.others.remove(id)).collect();
        while !awaited.is_empty() {
            let Some(entries) = self.mark.next().await? else { break };
            for entry in entries {
                if awaited.remove(&entry.record.id) {
                    copies.push(entry.ticket);
                } else {
                    self.others.insert(entry.record.id, entry.ticket);
                }
            }
        }
        self.mark.consumer.settle(copies.into_iter().map(|ticket| (ticket, Outcome::Delivered)).collect()).await?;
        self.mark.consumer.flush().await
    }
}

/// What a sink is owed, read from the first to the last.
struct Owed<'a> {
    journal: &'a dyn Journal,
    sink: SinkName,
    consumer: Box<dyn Consumer>,
    parked: Vec<Ticket>,
}

impl<'a> Owed<'a> {
    async fn to(journal: &'a dyn Journal, sink: &SinkName) -> Result<Self, JournalError> {
        let mut consumer = journal.consumer(sink).await?;
        let parked = consumer.parked().await?.into_iter().map(|parked| parked.ticket).collect();
        Ok(Self { journal, sink: sink.clone(), consumer, parked })
    }

    /// The next events; none when there are no more. Some may come again.
    async fn next(&mut self) -> Result<Option<Vec<Entry>>, JournalError> {
        let began = Instant::now();
        loop {
            if self.consumer.moved().is_cancelled() {
                // Parts of the log that another process had are ours now.
                self.consumer.flush().await?;
                *self = Self::to(self.journal, &self.sink).await?;
            }
            let entries = self.consumer.read(AT_ONCE, BYTES_AT_ONCE).await?;
            if !entries.is_empty() {
                return Ok(Some(entries));
            }
            if self.consumer.caught_up().await? {
                return Ok(None);
            }
            if began.elapsed() > PATIENCE {
                let why = "there is more, which another hooksink on this journal may have; stop it, and copy again";
                return Err(JournalError::Unavailable(why.to_owned()));
            }
            // Engines that read over a network hand events out as they come.
            let _ = tokio::time::timeout(LOOK_AGAIN, self.consumer.ready()).await;
        }
    }
}

async fn forget_mark(journal: &dyn Journal) -> Result<(), JournalError> {
    journal.configure(Vec::new()).await?;
    journal.drop_dead_letters(Letters::Sink(mark())).await?;
    journal.forget_sink(&mark()).await
}
