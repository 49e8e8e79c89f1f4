//! Which events are handed to a sink next, and what becomes of each. Pure: records, time and randomness come in.
//!
//! Entries wait in lanes, a lane being the events of one person. A call takes events from the fronts of idle lanes and
//! makes those lanes busy, so that no two calls hold events of one lane. What a call does not get through goes back to
//! the fronts of its lanes:
//! - A failure that may be anyone's fault halves: each event of it remembers the largest call it may travel in (`cap`),
//!   and events travel only with those of the same cap, until one fails alone.
//! - A lane whose first event failed alone waits. Once the sink has accepted something else, which proves that it is up,
//!   the lane is parked in the journal, so that the cursor and the window go on for everyone else.
//! - While the sink is down, lanes are tried in turn, one event at a time.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::health::{Health, Mark, WITNESSES};
use super::queues::{Number, Queues};
use crate::event::{EventId, Kind, Lane, Record};
use crate::journal::{Entry, Outcome, Parked, Ticket};
use crate::sinks::{Blame, Limits};

/// The bounds the machine keeps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Events held that are not parked.
    pub(super) window: usize,
    /// Raw bytes of them, but for the last one read.
    pub(super) window_bytes: usize,
    /// Parked events, beyond which nothing further is read.
    pub(super) max_parked: usize,
    /// Counted failures after which an event is given up.
    pub(super) max_attempts: u32,
    /// How long to wait.
    pub(super) backoff: Backoff,
}

/// Names a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct CallId(u64);

/// Records to hand to the sink, each lane's in order and side by side.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: CallId,
    pub(super) records: Vec<Arc<Record>>,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Next {
    /// Make this call.
    Call(Call),
    /// Load this parked event first.
    Load(Lane, Ticket),
    /// Nothing before this moment, unless a call ends or entries come.
    Wait(Instant),
    /// Nothing, until a call ends or entries come.
    Idle,
}

/// A call that did not get everything through.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    /// Events from the front that got through.
    pub(super) delivered: usize,
    pub(super) blame: Blame,
    pub(super) permanent: bool,
    pub(super) retry_after: Option<Duration>,
    /// The text for logs and dead letters.
    pub(super) cause: String,
}

/// Something that people want to be told.
#[derive(Debug)]
pub(super) enum News {
    Down { cause: String },
    Up { lasted: Duration },
    Dead { id: EventId, kind: Kind, attempts: u32, cause: String },
}

/// What a step leads to.
#[derive(Debug, Default)]
pub(super) struct Step {
    /// For the journal, in this order.
    pub(super) outcomes: Vec<(Ticket, Outcome)>,
    /// For the log.
    pub(super) news: Vec<News>,
    /// Events delivered.
    pub(super) delivered: usize,
}

impl Step {
    /// What follows it.
    pub(super) fn append(&mut self, later: Self) {
        self.outcomes.extend(later.outcomes);
        self.news.extend(later.news);
        self.delivered += later.delivered;
    }
}

/// What is known of an event that was tried.
#[derive(Debug)]
struct Trouble {
    /// Failures alone, whether they count or not.
    alone: u32,
    /// Failures alone that turned out to be its own: others passed afterwards, and it failed again.
    counted: u32,
    /// Events the sink had accepted when this one was first tried.
    first: u64,
    /// Events the sink had accepted when this one last failed alone.
    last: Option<u64>,
}

#[derive(Debug)]
struct Item {
    ticket: Ticket,
    /// None while it is only in the journal.
    record: Option<Arc<Record>>,
    bytes: usize,
    parked: bool,
    /// The largest call it may travel in.
    cap: usize,
    trouble: Option<Box<Trouble>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In `ready`.
    Ready,
    /// A call holds events of it.
    Busy,
    /// In `waiting`, by this key.
    Waiting(Instant, u64),
}

#[derive(Debug)]
struct Queue {
    items: VecDeque<Item>,
    place: Place,
    /// Failures alone in a row.
    failures: u32,
    /// Parked events, those in a call included.
    parked: usize,
    /// The row of failures in which it last failed.
    failed_in: u64,
}

#[derive(Debug)]
struct Flight {
    items: Vec<(Number, Item)>,
    /// How many of them are not parked.
    held: usize,
    mark: Mark,
    /// Events the sink had accepted when it began.
    accepted: u64,
}

/// The machine.
#[derive(Debug)]
pub(super) struct Lanes {
    bounds: Bounds,
    health: Health,
    queues: Queues<Queue>,
    /// Lanes that can be taken from, the longest waiting first.
    ready: VecDeque<Number>,
    /// Lanes in back-off. The `u64` tells equal moments apart.
    waiting: BTreeMap<(Instant, u64), Number>,
    /// Lanes whose first event failed alone since the sink last accepted something.
    troubled: HashSet<Number>,
    flights: HashMap<CallId, Flight>,
    /// Events held that are not parked, in calls or not, and their bytes.
    held: usize,
    held_bytes: usize,
    parked: usize,
    /// Events the sink accepted, ever.
    accepted: u64,
    /// Which row of failures this is: each acceptance ends one. The first is 1.
    row: u64,
    next_number: u64,
}

impl Lanes {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            health: Health::new(bounds.backoff),
            bounds,
            queues: Queues::default(),
            ready: VecDeque::new(),
            waiting: BTreeMap::new(),
            troubled: HashSet::new(),
            flights: HashMap::new(),
            held: 0,
            held_bytes: 0,
            parked: 0,
            accepted: 0,
            row: 1,
            next_number: 0,
        }
    }

    /// Takes over what an earlier process parked, oldest first.
    pub(super) fn restore(&mut self, parked: Vec<Parked>) {
        for Parked { ticket, lane } in parked {
            let item = Item { ticket, record: None, bytes: 0, parked: true, cap: usize::MAX, trouble: None };
            self.parked += 1;
            let queue = self.queue(lane);
            queue.parked += 1;
            queue.items.push_back(item);
        }
    }

    /// Events and bytes that may be read now.
    pub(super) fn room(&self) -> Option<(usize, usize)> {
        if self.full() || self.parked_full() {
            return None;
        }
        // As long as there is enough to do, reading waits until it is worth a query; but not until there is nothing to do
        // but what is in calls, which with default settings is half of the window.
        if self.held > self.bounds.window * 3 / 4 && !self.ready.is_empty() && !self.health.is_down() {
            return None;
        }
        Some((self.bounds.window - self.held, self.bounds.window_bytes - self.held_bytes))
    }

    /// Events held that are not parked, in calls or not.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Events held that are not in a call.
    pub(super) fn at_hand(&self) -> usize {
        self.held - self.flights.values().map(|flight| flight.held).sum::<usize>()
    }

    /// Whether so much is parked that nothing further is read.
    pub(super) fn parked_full(&self) -> bool {
        self.parked >= self.bounds.max_parked
    }

    /// Whether so little is parked that the limit is far.
    pub(super) fn parked_low(&self) -> bool {
        self.parked <= self.bounds.max_parked / 2
    }

    fn full(&self) -> bool {
        self.held >= self.bounds.window || self.held_bytes >= self.bounds.window_bytes
    }

    /// Takes over what was read. Those behind a parked event are parked at once.
    pub(super) fn add(&mut self, entries: Vec<Entry>) -> Step {
        let mut step = Step::default();
        for Entry { ticket, record } in entries {
            let bytes = record.raw.len();
            let queue = self.queue(record.lane());
            let parked = queue.parked > 0;
            let record = (!parked).then_some(record);
            queue.items.push_back(Item { ticket, record, bytes, parked, cap: usize::MAX, trouble: None });
            if parked {
                queue.parked += 1;
                self.parked += 1;
                step.outcomes.push((ticket, Outcome::Parked));
            } else {
                self.held += 1;
                self.held_bytes += bytes;
            }
        }
        step
    }

    /// What to do now.
    pub(super) fn next(&mut self, now: Instant, limits: &Limits) -> Next {
        self.wake(now);
        if let Some(until) = self.health.paused(now) {
            return Next::Wait(until);
        }
        if self.health.is_down() {
            return self.probe(now);
        }
        if self.flights.len() < limits.concurrency && !self.ready.is_empty() {
            let max_bytes = limits.max_bytes;
            return match self.plan(limits.max_events, max_bytes) {
                Plan::Load(lane, ticket) => Next::Load(lane, ticket),
                Plan::Take(taken) => Next::Call(self.take(taken)),
            };
        }
        self.earliest()
    }

    fn earliest(&self) -> Next {
        self.waiting.first_key_value().map_or(Next::Idle, |((at, _), _)| Next::Wait(*at))
    }

    /// While the sink is down: one event at a time, those of lanes first that have not failed yet.
    fn probe(&mut self, now: Instant) -> Next {
        if !self.flights.is_empty() {
            return Next::Idle;
        }
        if self.ready.is_empty() {
            return self.earliest();
        }
        let untried = |lane: &Number| self.queues.get(*lane).is_some_and(|queue| queue.failed_in != self.row);
        let newcomer = self.ready.iter().position(untried);
        if let Some(at) = self.health.probe_wait(newcomer.is_some(), now) {
            // A lane may become ready sooner, and be a newcomer.
            return match self.earliest() {
                Next::Wait(sooner) if sooner < at => Next::Wait(sooner),
                _ => Next::Wait(at),
            };
        }
        let position = newcomer.unwrap_or(0);
        let front = |lane: Number| Some((self.queues.lane(lane)?, self.queues.get(lane)?.items.front()?));
        let Some((lane, item)) = self.ready.get(position).and_then(|lane| front(*lane)) else {
            return Next::Idle;
        };
        if item.record.is_none() {
            return Next::Load(lane.clone(), item.ticket);
        }
        Next::Call(self.take(vec![(position, 1)]))
    }

    /// Chooses events of ready lanes: positions in `ready`, and how many of each.
    fn plan(&self, max_events: usize, max_bytes: usize) -> Plan {
        let mut taken = Vec::new();
        let (mut events, mut bytes) = (0, 0);
        let mut cap = None;
        for (position, number) in self.ready.iter().enumerate() {
            let (Some(lane), Some(queue)) = (self.queues.lane(*number), self.queues.get(*number)) else { continue };
            let mut count = 0;
            let mut full = false;
            for item in &queue.items {
                if *cap.get_or_insert(item.cap) != item.cap {
                    break;
                }
                if events >= max_events.min(item.cap) {
                    full = true;
                    break;
                }
                if item.record.is_none() {
                    return Plan::Load(lane.clone(), item.ticket);
                }
                if events > 0 && bytes + item.bytes > max_bytes {
                    full = true;
                    break;
                }
                events += 1;
                bytes += item.bytes;
                count += 1;
            }
            if count > 0 {
                taken.push((position, count));
            }
            if full || events >= max_events || bytes >= max_bytes {
                break;
            }
        }
        Plan::Take(taken)
    }

    /// Takes the planned events and makes their lanes busy.
    fn take(&mut self, taken: Vec<(usize, usize)>) -> Call {
        let mut items = Vec::new();
        let mut records = Vec::new();
        let mut passed_over = Vec::new();
        let end = taken.last().map_or(0, |(position, _)| position + 1).min(self.ready.len());
        let mut taken = taken.into_iter().peekable();
        for (position, lane) in self.ready.drain(..end).enumerate() {
            let Some((_, count)) = taken.next_if(|(next, _)| *next == position) else {
                passed_over.push(lane);
                continue;
            };
            let Some(queue) = self.queues.get_mut(lane) else { continue };
            queue.place = Place::Busy;
            for item in queue.items.drain(..count) {
                // A plan holds loaded events only.
                records.extend(item.record.clone());
                items.push((lane, item));
            }
        }
        passed_over.into_iter().rev().for_each(|lane| self.ready.push_front(lane));
        let id = CallId(self.number());
        let held = items.iter().filter(|(_, item)| !item.parked).count();
        self.flights.insert(id, Flight { items, held, mark: self.health.mark(), accepted: self.accepted });
        Call { id, records }
    }

    /// A parked event was loaded, or is not there any more.
    pub(super) fn loaded(&mut self, lane: &Lane, ticket: Ticket, record: Option<Arc<Record>>) {
        let Some(lane) = self.queues.find(lane) else { return };
        let Some(queue) = self.queues.get_mut(lane) else { return };
        let Some(position) = queue.items.iter().position(|item| item.ticket == ticket) else { return };
        if let Some(record) = record {
            let item = &mut queue.items[position];
            item.bytes = record.raw.len();
            item.record = Some(record);
            return;
        }
        if let Some(item) = queue.items.remove(position) {
            self.release(lane, &item);
            self.tidy(lane);
        }
    }

    /// A call ended.
    pub(super) fn done(&mut self, id: CallId, result: Result<(), Failure>, now: Instant, jitter: f64) -> Step {
        let mut step = Step::default();
        let Some(Flight { items, mark, accepted: accepted_before, .. }) = self.flights.remove(&id) else {
            return step;
        };
        let count = items.len();
        let delivered = result.as_ref().map_or_else(|failure| failure.delivered.min(count), |()| count);
        let mut lanes: Vec<Number> = items.iter().map(|(lane, _)| *lane).collect();
        lanes.dedup();
        let mut items = items.into_iter();
        for (lane, item) in items.by_ref().take(delivered) {
            self.release(lane, &item);
            if let Some(queue) = self.queues.get_mut(lane) {
                queue.failures = 0;
            }
            step.outcomes.push((item.ticket, Outcome::Delivered));
        }
        step.delivered = delivered;
        if delivered > 0 {
            self.accept(delivered, &lanes, now, &mut step);
        }
        let rest: Vec<(Number, Item)> = items.collect();
        let mut waits = None;
        if let (Err(failure), Some(&(lane, _))) = (result, rest.first()) {
            waits = self.fail(rest, failure, lane, mark, accepted_before, now, jitter, &mut step).map(|at| (lane, at));
        }
        for lane in lanes {
            let at = waits.filter(|(waiting, _)| *waiting == lane).map(|(_, at)| at);
            self.place(lane, at);
        }
        step
    }

    /// The sink accepted events.
    fn accept(&mut self, delivered: usize, busy: &[Number], now: Instant, step: &mut Step) {
        self.accepted += delivered as u64;
        self.row += 1;
        let troubled = std::mem::take(&mut self.troubled);
        let several = self.health.several_failed();
        if let Some(lasted) = self.health.accepted(now) {
            step.news.push(News::Up { lasted });
            // Those who failed when the sink went down will most likely get through now.
            if several {
                return;
            }
        }
        for lane in troubled {
            let stuck = self.queues.get(lane).is_some_and(|q| q.failures > 0 && q.place != Place::Busy);
            if stuck && !busy.contains(&lane) {
                self.park(lane, step);
            }
        }
    }

    /// Puts what was not delivered back to the fronts of its lanes. When the first lane is to be tried again, if it
    /// must wait.
    #[expect(clippy::too_many_arguments, reason = "the parts of one event, taken apart by its only caller")]
    fn fail(
        &mut self,
        mut rest: Vec<(Number, Item)>,
        failure: Failure,
        lane: Number,
        mark: Mark,
        accepted_before: u64,
        now: Instant,
        jitter: f64,
        step: &mut Step,
    ) -> Option<Instant> {
        let alone = failure.blame == Blame::Event || rest.len() == 1;
        let asked_of_all = failure.retry_after.filter(|_| failure.blame == Blame::Unknown);
        let failed = |lane| self.health.failed(mark, lane, asked_of_all, now, jitter);
        if self.queues.lane(lane).is_some_and(failed) {
            step.news.push(News::Down { cause: failure.cause.clone() });
        }
        if let Some(queue) = self.queues.get_mut(lane) {
            queue.failed_in = self.row;
        }
        let cap = rest.len().div_ceil(2);
        for (_, item) in if alone { &mut rest[..1] } else { &mut rest[..] } {
            let first = accepted_before;
            item.trouble.get_or_insert_with(|| Box::new(Trouble { alone: 0, counted: 0, first, last: None }));
            item.cap = item.cap.min(cap);
        }
        let mut dead = false;
        if alone {
            rest[0].1.cap = 1;
            dead = self.judge(lane, &mut rest[0].1, failure.permanent);
        }
        if dead {
            let (lane, item) = rest.remove(0);
            self.bury(lane, &item, failure.cause.clone(), step);
        }
        for (lane, mut item) in rest.into_iter().rev() {
            if item.parked {
                item.record = None;
            }
            if let Some(queue) = self.queues.get_mut(lane) {
                queue.items.push_front(item);
            }
        }
        // While the sink is down the probes have a back-off of their own.
        if !alone || dead || self.health.is_down() {
            return None;
        }
        self.troubled.insert(lane);
        let queue = self.queues.get_mut(lane)?;
        queue.failures = queue.failures.saturating_add(1);
        Some(now + self.bounds.backoff.delay_asked(queue.failures, jitter, failure.retry_after))
    }

    /// Whether an event that failed alone is given up.
    fn judge(&self, lane: Number, item: &mut Item, permanent: bool) -> bool {
        let Some(trouble) = item.trouble.as_deref_mut() else { return false };
        trouble.alone = trouble.alone.saturating_add(1);
        // The failure before this one counts if the sink has accepted something since: all failures of an outage are
        // one at most, however long it lasts.
        let counts = trouble.last.is_some_and(|then| self.accepted > then);
        if counts {
            trouble.counted = trouble.counted.saturating_add(1);
        }
        trouble.last = Some(self.accepted);
        if permanent {
            // Refused twice, and others passed meanwhile: after the last refusal, or before it while nobody else has
            // failed since. The second try keeps a target that starts to refuse everything, with calls of the better
            // time still under way, from turning those into dead letters.
            trouble.alone >= 2
                && self.accepted > trouble.first
                && (counts || self.queues.lane(lane).is_some_and(|lane| self.health.only_witness(lane)))
        } else {
            counts && trouble.counted + 1 >= self.bounds.max_attempts
        }
    }

    fn bury(&mut self, lane: Number, item: &Item, cause: String, step: &mut Step) {
        self.release(lane, item);
        if let Some(queue) = self.queues.get_mut(lane) {
            queue.failures = 0;
        }
        let attempts = item.trouble.as_ref().map_or(1, |trouble| trouble.alone);
        if let Some(record) = &item.record {
            let (id, kind) = (record.id, record.kind);
            step.news.push(News::Dead { id, kind, attempts, cause: cause.clone() });
        }
        step.outcomes.push((item.ticket, Outcome::Dead { reason: cause, attempts }));
    }

    /// Parks the largest lane of the window where it stands in everyone's way: the window is full of very few lanes,
    /// and nothing of them gets through.
    pub(super) fn relieve(&mut self) -> Step {
        let mut step = Step::default();
        // Lanes in a call are not seen here, so that nothing is judged before the call has ended.
        let stands = self.flights.is_empty() && (self.health.is_down() || self.ready.is_empty());
        if !stands || !self.full() || self.parked_full() {
            return step;
        }
        let unparked = |queue: &Queue| queue.items.iter().filter(|item| !item.parked).count();
        let mut sizes: Vec<(usize, Number)> =
            self.queues.iter().map(|(lane, queue)| (unparked(queue), lane)).filter(|(count, _)| *count > 0).collect();
        if sizes.len() >= WITNESSES {
            return step;
        }
        sizes.sort_by_key(|(count, _)| *count);
        if let Some((_, lane)) = sizes.pop() {
            self.park(lane, &mut step);
        }
        step
    }

    /// Gives everything that waits in a lane a row of its own in the journal.
    fn park(&mut self, lane: Number, step: &mut Step) {
        let Some(queue) = self.queues.get_mut(lane) else { return };
        for item in queue.items.iter_mut().filter(|item| !item.parked) {
            item.parked = true;
            item.record = None;
            queue.parked += 1;
            self.parked += 1;
            self.held -= 1;
            self.held_bytes -= item.bytes;
            step.outcomes.push((item.ticket, Outcome::Parked));
        }
    }

    /// An event is settled: it takes no room any more.
    fn release(&mut self, lane: Number, item: &Item) {
        if item.parked {
            self.parked -= 1;
            if let Some(queue) = self.queues.get_mut(lane) {
                queue.parked -= 1;
            }
        } else {
            self.held -= 1;
            self.held_bytes -= item.bytes;
        }
    }

    /// The lane's queue, made and ready if there is none.
    fn queue(&mut self, lane: Lane) -> &mut Queue {
        let empty = || Queue { items: VecDeque::new(), place: Place::Ready, failures: 0, parked: 0, failed_in: 0 };
        let (queue, new) = self.queues.of(lane, empty);
        self.ready.extend(new);
        queue
    }

    /// Puts a lane that was busy where it belongs: away, to the end of the ready ones, or to the waiting ones.
    fn place(&mut self, lane: Number, at: Option<Instant>) {
        let number = self.number();
        let Some(queue) = self.queues.get_mut(lane) else { return };
        if queue.items.is_empty() {
            self.remove(lane);
            return;
        }
        match at {
            Some(at) => {
                queue.place = Place::Waiting(at, number);
                self.waiting.insert((at, number), lane);
            }
            None => {
                queue.place = Place::Ready;
                self.ready.push_back(lane);
            }
        }
    }

    /// Drops an idle lane that became empty.
    fn tidy(&mut self, lane: Number) {
        let Some(queue) = self.queues.get(lane).filter(|queue| queue.items.is_empty()) else { return };
        match queue.place {
            Place::Busy => return,
            Place::Ready => self.ready.retain(|ready| *ready != lane),
            Place::Waiting(at, number) => {
                self.waiting.remove(&(at, number));
            }
        }
        self.remove(lane);
    }

    /// Drops a lane that is neither ready nor waiting, nor in a call.
    fn remove(&mut self, lane: Number) {
        if !self.troubled.is_empty() {
            self.troubled.remove(&lane);
        }
        self.queues.remove(lane);
    }

    /// Makes lanes ready whose wait is over.
    fn wake(&mut self, now: Instant) {
        while let Some(first) = self.waiting.first_entry().filter(|first| first.key().0 <= now) {
            let lane = first.remove();
            if let Some(queue) = self.queues.get_mut(lane) {
                queue.place = Place::Ready;
                self.ready.push_back(lane);
            }
        }
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}

enum Plan {
    Load(Lane, Ticket),
    Take(Vec<(usize, usize)>),
}
