//! A sink's consumer on this replica: the parts of the log that are this replica's, replays of them, and their dead
//! letters that are to be tried again.
//!
//! It is for the parts that were this replica's when it was made. When these change it says so ([`Consumer::moved`]):
//! its dispatcher finishes its calls, has everything written, and makes another.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::future::select_all;
use futures_util::stream;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::envelope::Kept;
use super::partition::Partition;
use super::places::{self, Places};
use super::reader::{Reader, Wanted};
use super::retries::{self, Retries};
use super::shared::{Shared, View};
use super::table::Replay;
use crate::filter::Filter;
use crate::journal::front::Front;
use crate::journal::{Consumer, Entry, JournalError, Outcome, Parked, Ticket};
use crate::names::SinkName;

/// Events or places read at once.
const AT_ONCE: usize = 16;
/// How often a replay that finds nothing more asks whether that is its end.
const LOOK_FOR_END: Duration = Duration::from_millis(300);

/// How long one call settles what the servers have to be asked for, once that failed for one.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where so much is parked, or of a later version held back, that nothing is read: how often it is looked again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What `read` may still hand out.
struct Budget {
    events: usize,
    bytes: usize,
    first: bool,
}

impl Budget {
    /// Whether an event of so many bytes fits; if so, it is counted.
    fn admits(&mut self, bytes: usize) -> bool {
        if self.events == 0 || (!self.first && bytes > self.bytes) {
            return false;
        }
        self.events -= 1;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.first = false;
        true
    }
}

/// A replay as this consumer walks it.
struct Walker {
    reader: Reader,
    replay: Replay,
    looked: Instant,
}

/// A consumer.
pub(super) struct JetstreamConsumer {
    shared: Arc<Shared>,
    sink: SinkName,
    wants: Filter,
    places: Arc<Places>,
    log: Option<Reader>,
    walkers: BTreeMap<i64, Walker>,
    view: watch::Receiver<View>,
    letters: Retries,
    /// What nobody could read before, and waits to be handed out.
    held_back: VecDeque<Ticket>,
    /// What was asked for when this consumer last looked.
    asked: Option<u64>,
    more: bool,
    turn: bool,
    /// Whether so much is parked, or of a later version held back, that nothing further is read.
    held_up: bool,
    told_of_later: bool,
    told_of_full: bool,
    task: AbortHandle,
}

impl JetstreamConsumer {
    /// The consumer of a configured sink.
    pub(super) async fn new(shared: Arc<Shared>, sink: SinkName) -> Result<Self, JournalError> {
        let Some(wants) = shared.specs().get(&sink).map(|spec| spec.wants.clone()) else {
            return Err(JournalError::Refused(format!("sink {sink} is not in the configuration")));
        };
        // What an earlier one settled is not handed out again.
        if let Some(earlier) = shared.working_on(&sink) {
            earlier.save(&shared, true).await?;
            earlier.moved().cancel();
        }
        let view = shared.view.subscribe();
        let parts = places::mine(&shared, &sink);
        let running: Vec<(i64, Replay)> =
            shared.table().running(&sink).map(|(id, replay)| (id, replay.clone())).collect();
        let places = Arc::new(Places::take(&shared, &sink, parts, &running).await?);
        shared.work_on(&sink, &places);
        let log = log_reader(&shared, &places, &wants).await?;
        tracing::info!(%sink, parts = places.parts().len(), "handing out these parts of the journal");
        let task = tokio::spawn(places::look_after(Arc::clone(&shared), Arc::clone(&places))).abort_handle();
        Ok(Self {
            shared,
            sink,
            wants,
            places,
            log,
            walkers: BTreeMap::new(),
            view,
            letters: Retries::default(),
            held_back: VecDeque::new(),
            asked: None,
            more: true,
            turn: false,
            held_up: false,
            told_of_later: false,
            told_of_full: false,
            task,
        })
    }

    /// Looks for what was asked for since it last looked: replays begun or ended, letters to try again.
    async fn look(&mut self) -> Result<(), JournalError> {
        let table = self.view.borrow_and_update().table.clone();
        if self.asked == Some(table.asked) {
            return Ok(());
        }
        let running: Vec<(i64, Replay)> = table.running(&self.sink).map(|(id, replay)| (id, replay.clone())).collect();
        self.places.all().values_mut().for_each(|place| place.know(&running));
        self.walkers.retain(|id, _| running.iter().any(|(running, _)| running == id));
        for (id, replay) in running {
            let walks: Vec<(Partition, u64)> = self
                .places
                .all()
                .iter()
                .filter_map(|(part, place)| Some((*part, place.replays.get(&id)?.front.scanned())))
                .filter(|(_, scanned)| *scanned < replay.last_seq)
                .collect();
            let Some(after) = walks.iter().map(|(_, scanned)| *scanned).min() else { continue };
            let parts = walks.into_iter().map(|(part, _)| part).collect();
            let kinds = Filter { sources: Vec::new(), kinds: replay.kinds.clone() };
            self.walkers.entry(id).or_insert_with(|| {
                let wanted = Wanted { parts, after, filters: vec![self.wants.clone(), kinds] };
                let reader = Reader::start(Arc::clone(&self.shared), wanted);
                Walker { reader, replay, looked: Instant::now() }
            });
        }
        if !self.places.parts().is_empty() {
            let changed = self.shared.changed_letters(&self.sink).await?;
            self.letters.list(changed.into_iter().filter(|(_, part)| self.places.parts().contains(part)));
        }
        self.asked = Some(table.asked);
        Ok(())
    }

    /// Hands out letters that are to be tried again. What fails for one is tried again later, and says nothing of others.
    async fn read_letters(&mut self, budget: &mut Budget, entries: &mut Vec<Entry>) {
        let (shared, sink) = (&self.shared, &self.sink);
        self.letters.look(|letter, part| shared.is_asked_for(sink, part, letter)).await;
        for _ in 0..retries::LOOKED {
            let Some(id) = self.letters.next() else { return };
            let later = |error: JournalError| {
                tracing::debug!(letter = id, %error, "a dead letter is tried again later");
            };
            match self.shared.letter_event(id).await {
                Ok(Some(Kept::Event(record))) => {
                    if !budget.admits(record.raw.len()) {
                        return;
                    }
                    entries.push(Entry { ticket: Ticket::Letter(id), record: Arc::new(*record) });
                    self.letters.hand_out();
                }
                // It goes on waiting.
                Ok(Some(Kept::Later(_))) => {
                    self.tell_of_later();
                    self.letters.pass_over();
                }
                Ok(Some(Kept::Nothing)) => {
                    let buried = self.shared.bury_again(id, None, "the event cannot be read", Some(false)).await;
                    match buried.map_err(later) {
                        Ok(()) => self.letters.pass_over(),
                        Err(()) => self.letters.hand_out_later(),
                    }
                }
                Ok(None) => self.letters.pass_over(),
                Err(error) => {
                    later(error);
                    self.letters.hand_out_later();
                }
            }
        }
    }

    fn read_log(&mut self, budget: &mut Budget, entries: &mut Vec<Entry>) {
        let Some(reader) = &mut self.log else { return };
        let mut places = self.places.all();
        if self.places.moved().is_cancelled() {
            // The places may have gone back, and the reader did not.
            return;
        }
        let max_payload = self.shared.client.max_payload();
        let (mut passed, mut held_back, mut full) = (0, false, false);
        while let Some(found) = reader.peek() {
            let (seq, part) = (found.seq, found.part);
            // What a place has passed already, or parked, is not handed out again.
            let new = |front: &Front| seq > front.scanned() && !front.parked().contains(&seq);
            let place = places.get_mut(&part).filter(|place| new(&place.log));
            match (place, &found.record) {
                (Some(place), Some(_)) if place.is_full(max_payload) => {
                    full = true;
                    break;
                }
                (Some(place), Some(record)) => {
                    if !budget.admits(record.raw.len()) {
                        break;
                    }
                    place.log.hand_out([seq], seq);
                    entries.push(Entry { ticket: Ticket::Log(seq), record: Arc::clone(record) });
                }
                (Some(place), None) if found.later.is_some() => {
                    if !place.hold_back(0, seq) {
                        self.held_up = true;
                        break;
                    }
                    held_back = true;
                }
                _ => {}
            }
            if let Some(id) = found.id {
                self.places.trail().note(seq, id);
            }
            passed = seq;
            reader.take();
        }
        // All parts are read as one: what came before this position of any of them has come.
        for place in places.values_mut().filter(|place| place.log.scanned() < passed) {
            place.log.hand_out([], passed);
        }
        drop(places);
        if held_back {
            self.tell_of_later();
            self.places.changed();
        }
        if full {
            self.held_up = true;
            self.tell_of_full();
        }
    }

    /// Says once why nothing further is read.
    fn tell_of_full(&mut self) {
        if !std::mem::replace(&mut self.told_of_full, true) {
            tracing::warn!(
                sink = %self.sink,
                max_payload = self.shared.client.max_payload(),
                "so much is parked that the servers' max_payload allows no more; nothing further is read until some get \
                 through"
            );
        }
    }

    /// Says once what becomes of events that a later version wrote.
    fn tell_of_later(&mut self) {
        if !std::mem::replace(&mut self.told_of_later, true) {
            tracing::warn!(
                sink = %self.sink,
                "events that a later version of hooksink wrote are held back for a replica that can read them; they stay \
                 owed"
            );
        }
    }

    async fn read_replays(&mut self, budget: &mut Budget, entries: &mut Vec<Entry>) -> Result<(), JournalError> {
        let mut ended = Vec::new();
        for (id, walker) in &mut self.walkers {
            let last_seq = walker.replay.last_seq;
            let mut passed = 0;
            while let Some(found) = walker.reader.peek() {
                let (seq, part) = (found.seq, found.part);
                passed = seq.min(last_seq);
                if seq > last_seq {
                    break;
                }
                let mut places = self.places.all();
                let new = |front: &mut Front| seq > front.scanned() && !front.parked().contains(&seq);
                let place = places.get_mut(&part);
                let place = place.and_then(|place| place.front(*id).is_some_and(new).then_some(place));
                let times = walker.replay.from..walker.replay.to;
                let record =
                    found.record.as_ref().filter(|record| times.contains(&record.received_at.timestamp_millis()));
                let later = found.later.as_ref().is_some_and(|later| {
                    later.received_at().is_none_or(|received| times.contains(&received.timestamp_millis()))
                });
                match (place, record) {
                    (Some(place), Some(_)) if place.is_full(self.shared.client.max_payload()) => {
                        self.held_up = true;
                        passed = seq - 1;
                        break;
                    }
                    (Some(place), Some(record)) => {
                        if !budget.admits(record.raw.len()) {
                            passed = seq - 1;
                            break;
                        }
                        if let Some(front) = place.front(*id) {
                            front.hand_out([seq], seq);
                        }
                        entries.push(Entry { ticket: Ticket::Replay { replay: *id, seq }, record: Arc::clone(record) });
                    }
                    (Some(place), None) if later => {
                        let held_back = place.hold_back(*id, seq);
                        if !held_back {
                            self.held_up = true;
                            passed = seq - 1;
                            break;
                        }
                    }
                    _ => {}
                }
                drop(places);
                walker.reader.take();
            }
            if passed < last_seq && walker.reader.peek().is_none() && walker.looked.elapsed() > LOOK_FOR_END {
                walker.looked = Instant::now();
                if is_end(&self.shared, &self.places, *id, passed, last_seq).await? {
                    passed = last_seq;
                }
            }
            let mut unfinished = false;
            for place in self.places.all().values_mut() {
                if let Some(running) = place.replays.get_mut(id) {
                    if running.front.scanned() < passed {
                        running.front.hand_out([], passed);
                        place.dirty = true;
                    }
                    unfinished |= running.front.scanned() < last_seq;
                }
            }
            if !unfinished {
                ended.push(*id);
            }
        }
        if !ended.is_empty() {
            self.places.changed();
        }
        self.walkers.retain(|id, _| !ended.contains(id));
        Ok(())
    }

    /// Takes an outcome in. An event that cannot become a dead letter is parked, so that the place of others can pass it.
    async fn settle_one(&mut self, ticket: Ticket, mut outcome: Outcome) -> Result<(), JournalError> {
        let (replay, seq) = match ticket {
            Ticket::Log(seq) => (0, seq),
            Ticket::Replay { replay, seq } => (replay, seq),
            Ticket::Letter(id) => return self.settle_letter(id, outcome).await,
        };
        if !self.awaits(replay, seq) {
            // Settled before, skipped meanwhile, or another's now.
            return Ok(());
        }
        let mut result = Ok(());
        if let Outcome::Dead { reason, attempts } = &outcome {
            // Before the place says that the event is done with.
            result = self.bury(seq, *attempts, reason).await;
            if result.is_err() {
                outcome = Outcome::Parked;
            }
        }
        let mut places = self.places.all();
        for place in places.values_mut() {
            let Some(front) = place.front(replay).filter(|front| front.awaits(seq)) else { continue };
            match outcome {
                Outcome::Parked => {
                    if !front.parked().contains(&seq) {
                        front.park(seq);
                    }
                }
                Outcome::LetGo => {
                    front.done(seq);
                }
                Outcome::Delivered | Outcome::Dead { .. } => {
                    front.done(seq);
                    place.delivered |= matches!(outcome, Outcome::Delivered);
                    if let Some(running) = place.replays.get_mut(&replay) {
                        running.delivered += 1;
                    }
                }
            }
            // Whoever hands it out has seen it now.
            place.held_back.remove(&(replay, seq));
            place.dirty = true;
            break;
        }
        result
    }

    async fn bury(&self, seq: u64, attempts: u32, reason: &str) -> Result<(), JournalError> {
        match self.shared.event(seq).await? {
            Some(record) => self.shared.bury(&self.sink, &record, attempts, reason).await,
            None => Ok(()),
        }
    }

    async fn settle_letter(&mut self, id: i64, outcome: Outcome) -> Result<(), JournalError> {
        if !self.letters.awaits(id) {
            return Ok(());
        }
        match outcome {
            Outcome::Delivered | Outcome::LetGo => self.shared.drop_letter(id).await?,
            Outcome::Dead { reason, attempts } => {
                self.shared.bury_again(id, Some(attempts), &reason, Some(false)).await?;
            }
            // It is on its own already.
            Outcome::Parked => return Ok(()),
        }
        self.letters.settle(id);
        Ok(())
    }

    /// Lets go of parked events that nobody is to have any more. They do not count as delivered.
    fn let_go(&self, tickets: &[Ticket]) {
        let mut places = self.places.all();
        for (replay, seq) in tickets.iter().copied().filter_map(position) {
            for place in places.values_mut() {
                let Some(front) = place.front(replay).filter(|front| front.awaits(seq)) else { continue };
                front.done(seq);
                place.held_back.remove(&(replay, seq));
                place.dirty = true;
            }
        }
        drop(places);
        self.places.changed();
    }

    /// Whether nobody could read it yet.
    fn is_held_back(&self, ticket: Ticket) -> bool {
        position(ticket).is_some_and(|at| self.places.all().values().any(|place| place.held_back.contains(&at)))
    }

    /// Whether the sink wants what was held back, and the replay it is of, now that it can be read. Whoever held it back
    /// may have known neither its source nor its kind.
    fn wants_held_back(&self, entry: &Entry) -> bool {
        let of_replay = match entry.ticket {
            Ticket::Replay { replay, .. } => self.shared.table().replays.get(&replay).is_none_or(|replay| {
                let kinds = Filter { sources: Vec::new(), kinds: replay.kinds.clone() };
                let received_at = entry.record.received_at.timestamp_millis();
                kinds.matches(&entry.record) && (replay.from..replay.to).contains(&received_at)
            }),
            Ticket::Log(_) | Ticket::Letter(_) => true,
        };
        of_replay && self.wants.matches(&entry.record)
    }

    /// What was held back for a replica that can read it, which this one can.
    async fn read_held_back(&mut self, budget: &mut Budget, entries: &mut Vec<Entry>) -> Result<(), JournalError> {
        while let Some(ticket) = self.held_back.front().copied() {
            if let Some(entry) = self.load(ticket).await? {
                if !self.wants_held_back(&entry) {
                    self.let_go(&[ticket]);
                    self.held_back.pop_front();
                    continue;
                }
                if !budget.admits(entry.record.raw.len()) {
                    return Ok(());
                }
                entries.push(entry);
            }
            self.held_back.pop_front();
        }
        Ok(())
    }

    fn awaits(&self, replay: i64, seq: u64) -> bool {
        let mut places = self.places.all();
        places.values_mut().any(|place| place.front(replay).is_some_and(|front| front.awaits(seq)))
    }
}

/// The replay, 0 for the log, and the position that this is of; none for a dead letter.
fn position(ticket: Ticket) -> Option<(i64, u64)> {
    match ticket {
        Ticket::Log(seq) => Some((0, seq)),
        Ticket::Replay { replay, seq } => Some((replay, seq)),
        Ticket::Letter(_) => None,
    }
}

/// Reads the log from the first event on that one of the places does not have.
async fn log_reader(shared: &Arc<Shared>, places: &Places, wants: &Filter) -> Result<Option<Reader>, JournalError> {
    let parts = places.parts();
    if parts.is_empty() {
        return Ok(None);
    }
    let last = shared.log_info().await?.state.last_sequence;
    let cursors: Vec<(Partition, u64)> = places.all().iter().map(|(part, place)| (*part, place.log.cursor())).collect();
    let first: Vec<Result<u64, JournalError>> = stream::iter(cursors)
        .map(|(part, cursor)| async move {
            if cursor >= last {
                return Ok(cursor);
            }
            // A place in which little happens lies far back, and nothing of others is to be read for its sake.
            let next = shared.next_event(Some(part), cursor + 1).await?;
            Ok(next.map_or(last, |(seq, _)| seq - 1).max(cursor))
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let first: Vec<u64> = first.into_iter().collect::<Result<_, _>>()?;
    let after = first.into_iter().min().unwrap_or(last);
    let wanted = Wanted { parts: parts.clone(), after, filters: vec![wants.clone()] };
    Ok(Some(Reader::start(Arc::clone(shared), wanted)))
}

/// Whether a replay has nothing more in these places, by the log's leader.
async fn is_end(
    shared: &Shared,
    places: &Places,
    replay: i64,
    passed: u64,
    last_seq: u64,
) -> Result<bool, JournalError> {
    let scanned: Vec<(Partition, u64)> = places
        .all()
        .iter()
        .filter_map(|(part, place)| Some((*part, place.replays.get(&replay)?.front.scanned().max(passed))))
        .collect();
    for (part, scanned) in scanned {
        if shared.next_event(Some(part), scanned + 1).await?.is_some_and(|(seq, _)| seq <= last_seq) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[async_trait]
impl Consumer for JetstreamConsumer {
    async fn parked(&mut self) -> Result<Vec<Parked>, JournalError> {
        let tickets: Vec<Ticket> = {
            let places = self.places.all();
            let log = places.values().flat_map(|place| place.log.parked().iter().map(|seq| Ticket::Log(*seq)));
            let replays = places.values().flat_map(|place| {
                place.replays.iter().flat_map(|(id, running)| {
                    running.front.parked().iter().map(|seq| Ticket::Replay { replay: *id, seq: *seq })
                })
            });
            let mut tickets: Vec<Ticket> = log.chain(replays).collect();
            // The log's before those of replays, each from the oldest on.
            tickets.sort_unstable();
            tickets
        };
        let shared = &self.shared;
        let loaded: Vec<Result<Option<Kept>, JournalError>> = stream::iter(tickets.clone())
            .map(|ticket| async move {
                let (Ticket::Log(seq) | Ticket::Replay { seq, .. }) = ticket else { return Ok(None) };
                shared.still_kept(seq).await
            })
            .buffered(AT_ONCE)
            .collect()
            .await;
        let mut parked = Vec::with_capacity(tickets.len());
        let mut gone = Vec::new();
        for (ticket, loaded) in tickets.into_iter().zip(loaded) {
            match loaded? {
                // It is new to whoever hands it out.
                Some(Kept::Event(_)) if self.is_held_back(ticket) => self.held_back.push_back(ticket),
                Some(Kept::Event(record)) => parked.push(Parked { ticket, lane: record.lane() }),
                Some(Kept::Later(_)) => self.tell_of_later(),
                Some(Kept::Nothing) | None => gone.push(ticket),
            }
        }
        if !gone.is_empty() {
            // Or the log would be kept from there on for ever.
            tracing::warn!(sink = %self.sink, events = gone.len(), "parked events are not in the journal any more");
            self.let_go(&gone);
        }
        Ok(parked)
    }

    async fn load(&mut self, ticket: Ticket) -> Result<Option<Entry>, JournalError> {
        let kept = match ticket {
            Ticket::Log(seq) | Ticket::Replay { seq, .. } => self.shared.still_kept(seq).await?,
            Ticket::Letter(id) => self.shared.letter_event(id).await?,
        };
        let Some(Kept::Event(record)) = kept else { return Ok(None) };
        Ok(Some(Entry { ticket, record: Arc::new(*record) }))
    }

    async fn read(&mut self, max_events: usize, max_bytes: usize) -> Result<Vec<Entry>, JournalError> {
        let mut entries = Vec::new();
        if self.places.moved().is_cancelled() {
            self.more = false;
            return Ok(entries);
        }
        // Until it is known what there is: a future dropped here must not make `ready` wait for nothing.
        self.more = true;
        self.held_up = false;
        let mut budget = Budget { events: max_events.max(1), bytes: max_bytes, first: true };
        self.look().await?;
        self.read_held_back(&mut budget, &mut entries).await?;
        self.read_letters(&mut budget, &mut entries).await;
        // The log and replays of it come first in turn, so that neither starves the other.
        self.turn = !self.turn;
        if self.turn {
            self.read_log(&mut budget, &mut entries);
        }
        self.read_replays(&mut budget, &mut entries).await?;
        if !self.turn {
            self.read_log(&mut budget, &mut entries);
        }
        self.more = !entries.is_empty() || self.letters.has_more() || !self.held_back.is_empty();
        Ok(entries)
    }

    async fn ready(&mut self) {
        if self.more {
            return;
        }
        let asked = self.asked;
        let held_up = self.held_up;
        let log = async {
            match &mut self.log {
                _ if held_up => tokio::time::sleep(LOOK_AGAIN).await,
                Some(reader) => reader.ready().await,
                None => std::future::pending().await,
            }
        };
        let replays = async {
            let walkers: Vec<_> = self.walkers.values_mut().map(|walker| Box::pin(walker.reader.ready())).collect();
            if walkers.is_empty() || held_up {
                return std::future::pending().await;
            }
            tokio::select! {
                _ = select_all(walkers) => {}
                () = tokio::time::sleep(LOOK_FOR_END) => {}
            }
        };
        let asked = async {
            if self.view.wait_for(|view| Some(view.table.asked) != asked).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let again_at = self.letters.again_at();
        let letters = async {
            match again_at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = log => {}
            () = replays => {}
            () = asked => {}
            () = letters => {}
        }
    }

    async fn settle(&mut self, outcomes: Vec<(Ticket, Outcome)>) -> Result<(), JournalError> {
        let mut failed: Option<(Instant, JournalError)> = None;
        for (ticket, outcome) in outcomes {
            let settled = match &failed {
                // Servers that do not answer are not waited for with each of them.
                Some((since, _)) if since.elapsed() > PATIENCE => match (ticket, outcome) {
                    (Ticket::Letter(_), _) => continue,
                    (_, Outcome::Dead { .. }) => self.settle_one(ticket, Outcome::Parked).await,
                    (_, outcome) => self.settle_one(ticket, outcome).await,
                },
                _ => self.settle_one(ticket, outcome).await,
            };
            if let Err(error) = settled {
                failed.get_or_insert_with(|| (Instant::now(), error));
            }
        }
        self.places.changed();
        let Some((_, error)) = failed else { return Ok(()) };
        // Whoever hears of it lets go of this consumer, and the others of these are not to come again.
        if let Err(error) = self.places.save(&self.shared, false).await {
            tracing::debug!(sink = %self.sink, %error, "what was settled comes again");
        }
        Err(error)
    }

    async fn flush(&mut self) -> Result<(), JournalError> {
        self.places.save(&self.shared, true).await
    }

    async fn caught_up(&mut self) -> Result<bool, JournalError> {
        if self.places.parts().len() < usize::from(self.shared.partitions()) {
            return Ok(false);
        }
        let asked = self.view.borrow().table.asked;
        let beside = !self.walkers.is_empty() || !self.letters.is_done() || !self.held_back.is_empty();
        if beside || self.asked != Some(asked) {
            return Ok(false);
        }
        let last = self.shared.log_info().await?.state.last_sequence;
        let scanned: Vec<_> = self.places.all().iter().map(|(part, place)| (*part, place.log.scanned())).collect();
        for (part, scanned) in scanned {
            if scanned < last && self.shared.next_event(Some(part), scanned + 1).await?.is_some() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn moved(&self) -> CancellationToken {
        self.places.moved().clone()
    }
}

impl Drop for JetstreamConsumer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
