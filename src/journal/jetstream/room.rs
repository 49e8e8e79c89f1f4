//! Room in a journal that has reached its size limit. One task looks for it, once for all who ask meanwhile, and says
//! what it found; who stores something only looks at what it said.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::stream::Info;
use futures_util::StreamExt as _;
use tokio::sync::{Notify, watch};

use super::envelope::Kept;
use super::place::{self, Document};
use super::reader::{self, Wanted};
use super::shared::Shared;
use super::table::Known;
use crate::journal::JournalError;
use crate::metrics::SinkLabels;
use crate::names::SinkName;

/// Events that a sink loses at a time.
const STEP: u64 = 512;
/// For so long it is believed that there is no room. The keeper looks once a second.
const BELIEVED: Duration = Duration::from_millis(1500);

/// What is asked of the task that looks for room, and what it says.
#[derive(Default)]
pub(super) struct Room {
    asked: Notify,
    /// The most that anybody asks for who has no answer.
    bytes: AtomicU64,
    /// What dead letters take, as it was last measured.
    pub(super) beside_the_log: AtomicU64,
    found: watch::Sender<Found>,
}

/// What the last look found.
#[derive(Debug, Clone, Default)]
struct Found {
    looked: Option<Instant>,
    /// Why there is no room, if so.
    trouble: Option<JournalError>,
}

impl Found {
    fn trouble_of_late(&self) -> Option<JournalError> {
        let of_late = self.looked.is_some_and(|looked| looked.elapsed() < BELIEVED);
        self.trouble.clone().filter(|_| of_late)
    }
}

/// Looks for room whenever it is asked, until the journal stops.
pub(super) async fn look(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            () = shared.room.asked.notified() => {}
        }
        let bytes = shared.room.bytes.swap(0, Ordering::Relaxed);
        let trouble = shared.make_room(bytes).await.err();
        shared.room.found.send_replace(Found { looked: Some(Instant::now()), trouble });
    }
}

impl Shared {
    fn has_room(&self, bytes: u64) -> bool {
        self.status().bytes + bytes <= self.config.max_size
    }

    /// Whether so many bytes may be stored. Where they do not fit, and a look that is not old found no room, it is said at
    /// once that they may not: whatever senders do, the journal is surveyed about once a second.
    pub(super) async fn room_for(&self, bytes: u64) -> Result<(), JournalError> {
        if self.has_room(bytes) {
            return Ok(());
        }
        let lately = self.room.found.borrow().trouble_of_late();
        match lately {
            Some(trouble) => Err(trouble),
            None => self.look_for_room(bytes).await,
        }
    }

    /// Has it looked whether there is room for so many bytes, made if there can be, and waits for what comes of it.
    pub(super) async fn look_for_room(&self, bytes: u64) -> Result<(), JournalError> {
        let mut found = self.room.found.subscribe();
        let looks = async {
            loop {
                self.room.bytes.fetch_max(bytes, Ordering::Relaxed);
                self.room.asked.notify_one();
                if found.changed().await.is_err() {
                    return Err(JournalError::Closed);
                }
                let trouble = found.borrow_and_update().trouble.clone();
                match trouble {
                    _ if self.has_room(bytes) => return Ok(()),
                    Some(trouble) => return Err(trouble),
                    // The look had begun before, for less, or others were faster.
                    None => {}
                }
            }
        };
        tokio::select! {
            result = looks => result,
            () = self.stop.cancelled() => Err(JournalError::Closed),
            () = tokio::time::sleep(self.own.append_timeout) => {
                Err(JournalError::Unavailable("whether there is room cannot be found out".to_owned()))
            }
        }
    }

    /// Sees to it that so many bytes fit, or says why they do not.
    async fn make_room(&self, bytes: u64) -> Result<(), JournalError> {
        let limit = self.config.max_size;
        while !self.has_room(bytes) {
            let info = self.measure().await?;
            if self.has_room(bytes) {
                break;
            }
            let full = "journal.max_size is reached by events that sinks are still owed, and dead letters";
            let full = || JournalError::Full(full.to_owned());
            let state = &info.state;
            if self.room.beside_the_log.load(Ordering::Relaxed) + bytes > limit {
                // Whatever were taken from the log, it would not fit.
                let full = "journal.max_size is less than dead letters and what is to be stored take by themselves";
                return Err(JournalError::Full(full.to_owned()));
            }
            let Some(floor) = self.floor(&info).await? else { return Err(full()) };
            if state.messages > 0 && floor >= state.first_sequence {
                let over = (self.status().bytes + bytes).saturating_sub(limit);
                let each = (state.bytes / state.messages).max(1);
                let goes = (over / each + 1).max(state.messages / 100);
                self.purge_up_to(floor.min(state.first_sequence + goes)).await?;
            } else if state.messages == 0 || !self.skip(&info).await? {
                return Err(full());
            }
        }
        Ok(())
    }

    /// Takes the oldest events from the sinks that allow it, if no other sink is owed them; whether it did.
    async fn skip(&self, info: &Info) -> Result<bool, JournalError> {
        let table = self.table();
        let (first, last) = (info.state.first_sequence, info.state.last_sequence);
        let mut upto = (first + STEP - 1).min(last);
        let mut behind = Vec::new();
        for (sink, known) in &table.sinks {
            let floor = self.survey(sink, known, &table, last).await?.owed_nothing_up_to;
            let may = self.specs().get(sink).is_some_and(|spec| spec.skip_when_full);
            if may {
                behind.push((sink, known, floor));
            } else {
                upto = upto.min(floor);
            }
        }
        if upto < first {
            return Ok(false);
        }
        let mut skipped = false;
        for (sink, known, _) in behind.into_iter().filter(|(_, _, floor)| *floor < upto) {
            self.skip_for(sink, known, first, upto).await?;
            skipped = true;
        }
        Ok(skipped)
    }

    async fn skip_for(&self, sink: &SinkName, known: &Known, first: u64, upto: u64) -> Result<(), JournalError> {
        let mut owed = BTreeMap::new();
        for part in 0..self.partitions() {
            let mut before = Document::default();
            let skip = |document: &mut Document| {
                if document.version == 0 {
                    *document = Document::new(known);
                }
                before = document.clone();
                document.skip_to(upto);
                Ok(*document != before)
            };
            self.state.change(&place::key(sink, part), skip).await?;
            owed.insert(part, before);
        }
        let events = self.owed_between(sink, first, upto, &owed).await?;
        self.change_table(|table| {
            if let Some(known) = table.sinks.get_mut(sink) {
                known.skipped += events;
            }
            Ok(true)
        })
        .await?;
        if let Some(places) = self.working_on(sink) {
            // It finds out by writing, and hands out nothing of these any more.
            places.all().values_mut().for_each(|place| place.dirty = true);
            places.save(self, true).await?;
        }
        self.metrics.sink_skipped.get_or_create(&SinkLabels { sink: sink.to_string() }).inc_by(events);
        tracing::warn!(%sink, events, from = first, upto, "the journal is full: the sink's oldest unsent events were skipped");
        Ok(())
    }

    /// How many events of this range the sink wants and, by these places, does not have.
    async fn owed_between(
        &self,
        sink: &SinkName,
        first: u64,
        upto: u64,
        places: &BTreeMap<u16, Document>,
    ) -> Result<u64, JournalError> {
        let Some(wants) = self.specs().get(sink).map(|spec| spec.wants.clone()) else { return Ok(0) };
        let wanted = Wanted { parts: places.keys().copied().collect(), after: first - 1, filters: Vec::new() };
        let failed = |error: &dyn std::fmt::Display| super::error::unavailable("the log cannot be read", error);
        let consumer = reader::consumer(self, &wanted, first).await?;
        let count = usize::try_from(upto + 1 - first).unwrap_or(usize::MAX);
        let mut messages =
            consumer.fetch().max_messages(count).messages().await.map_err(|error| failed(&error.kind()))?;
        let mut events = 0;
        while let Some(message) = messages.next().await {
            let message = message.map_err(|error| failed(&error))?;
            let seq = message.info().map_err(|error| failed(&error))?.stream_sequence;
            let place = self.part_of(&message.subject).and_then(|part| places.get(&part));
            let owes = place.is_some_and(|place| seq > place.cursor || place.parked.contains(&seq));
            if seq > upto || !owes {
                continue;
            }
            events += u64::from(match self.understood(seq, &message.payload) {
                Kept::Event(record) => wants.matches(&record),
                Kept::Later(later) => later.may_fit(&wants),
                Kept::Nothing => false,
            });
        }
        Ok(events)
    }
}
