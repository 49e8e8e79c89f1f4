//! Room in a journal that has reached its size limit. One task looks for it, once for all who ask meanwhile, and says
//! what it found; who stores something only looks at what it said. That there is no room for a large request says
//! nothing of smaller ones.

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
use crate::journal::{JournalError, ORDINARY};
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
    /// The least that there is no room for, as far as is known.
    no_room: Option<NoRoom>,
}

#[derive(Debug, Clone)]
struct NoRoom {
    bytes: u64,
    why: JournalError,
    looked: Instant,
}

impl Found {
    /// Takes in what a look for so many bytes came to.
    fn note(&mut self, bytes: u64, result: Result<(), JournalError>) {
        let known = self.no_room.take().filter(|known| known.looked.elapsed() < BELIEVED);
        self.no_room = match result {
            Ok(()) => known.filter(|known| known.bytes > bytes),
            Err(why) => known
                .filter(|known| known.bytes < bytes)
                .or_else(|| Some(NoRoom { bytes, why, looked: Instant::now() })),
        };
    }

    /// Why there is no room for so many bytes, if that was found of late.
    fn trouble(&self, bytes: u64) -> Option<JournalError> {
        let known = self.no_room.as_ref()?;
        (known.bytes <= bytes && known.looked.elapsed() < BELIEVED).then(|| known.why.clone())
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
        let result = shared.make_room(bytes).await;
        shared.room.found.send_modify(|found| found.note(bytes, result));
    }
}

impl Shared {
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.status().bytes + bytes <= self.config.max_size
    }

    /// Lets a request of so many bytes in if there is room. The status tells of a refusal where an ordinary request would
    /// be refused as well: what is too large for the room that is left says nothing of others.
    pub(super) async fn admit(&self, bytes: u64) -> Result<(), JournalError> {
        let Err(error) = self.room_for(bytes).await else { return Ok(()) };
        let trouble = match &error {
            JournalError::Full(_) if bytes > ORDINARY => self.room_for(ORDINARY).await.err(),
            error => Some(error.clone()),
        };
        if trouble.is_some() {
            self.trouble(trouble.as_ref());
        }
        Err(error)
    }

    /// Whether so many bytes may be stored. Where they do not fit, and a look that is not old found no room, it is said at
    /// once that they may not: whatever senders do, the journal is surveyed about once a second.
    async fn room_for(&self, bytes: u64) -> Result<(), JournalError> {
        if self.has_room(bytes) {
            return Ok(());
        }
        let lately = self.room.found.borrow().trouble(bytes);
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
                let trouble = found.borrow_and_update().trouble(bytes);
                match trouble {
                    _ if self.has_room(bytes) => return Ok(()),
                    Some(trouble) => return Err(trouble),
                    // The look had begun before, for less, or found no room for more, or others were faster.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Result<(), JournalError> {
        Err(JournalError::Full("it is".to_owned()))
    }

    #[test]
    fn no_room_for_much_says_nothing_of_less() {
        let mut found = Found::default();
        let told = |found: &Found| [10, 50, 100, 200].map(|bytes| found.trouble(bytes).is_some());
        found.note(100, full());
        assert_eq!(told(&found), [false, false, true, true]);
        // What is known of less is kept.
        found.note(50, full());
        found.note(200, full());
        assert_eq!(told(&found), [false, true, true, true]);
        // Room for less says nothing of more.
        found.note(10, Ok(()));
        assert_eq!(told(&found), [false, true, true, true]);
        found.note(100, Ok(()));
        assert_eq!(told(&found), [false; 4]);
    }

    #[test]
    fn what_was_found_is_believed_for_a_while() {
        let Some(long_ago) = Instant::now().checked_sub(BELIEVED) else { return };
        let no_room = NoRoom { bytes: 10, why: JournalError::Closed, looked: long_ago };
        let mut found = Found { no_room: Some(no_room) };
        assert!(found.trouble(10).is_none());
        found.note(20, full());
        assert!(found.trouble(10).is_none() && found.trouble(20).is_some());
    }
}
