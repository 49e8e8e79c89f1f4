//! The machine of [`super::lanes`] in a made-up world: a journal in memory, a target that is a function, and a clock that
//! jumps. Every step checks what must always hold.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use proptest::prelude::*;
use uuid::Uuid;

use super::backoff::Backoff;
use super::lanes::{Bounds, CallId, Failure, Lanes, News, Next, Step};
use crate::event::{Arrival, Context, EventId, Kind, Lane, Record, Subject};
use crate::journal::{Entry, Outcome, Parked, Ticket};
use crate::names::SourceType;
use crate::sinks::{Blame, Limits};

const BATCHES: Limits = Limits {
    max_events: 16,
    max_bytes: 1000,
    concurrency: 1,
    timeout: Duration::from_secs(30),
    linger: Duration::ZERO,
};
const SINGLES: Limits = Limits { max_events: 1, concurrency: 8, ..BATCHES };

const BOUNDS: Bounds = Bounds {
    window: 64,
    window_bytes: 4000,
    max_parked: 10_000,
    max_attempts: 5,
    backoff: Backoff { initial: Duration::from_secs(1), max: Duration::from_secs(60) },
};

/// An event of this person, or of nobody; `number` is its position.
fn record(number: u64, person: Option<u64>) -> Arc<Record> {
    Arc::new(Record {
        id: EventId(Uuid::from_u128(u128::from(number))),
        source: "connect".parse().expect("a name"),
        source_type: SourceType::WebexConnect,
        kind: Kind::ConnectMessage,
        subject: person.and_then(|person| Subject::new(&person.to_string())),
        occurred_at: None,
        received_at: DateTime::<Utc>::UNIX_EPOCH,
        context: Arc::new(Context::bare(Arc::new(Arrival {
            request_id: String::new(),
            client_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            proofs: Vec::new(),
            content_type: None,
            content_encoding: None,
            user_agent: None,
            wx_gtrid: None,
        }))),
        raw: Bytes::from(vec![b'x'; 10 + (number % 50) as usize]),
    })
}

fn number(record: &Record) -> u64 {
    record.id.0.as_u128() as u64
}

/// A small generator of its own, so that a seed says everything.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.roll() % bound
    }

    fn unit(&mut self) -> f64 {
        self.below(1000) as f64 / 1000.0
    }
}

/// How long a call takes and what comes of it.
type Target = Box<dyn FnMut(&[Arc<Record>], Duration, &mut Dice) -> Result<(), Failure>>;

struct World {
    lanes: Lanes,
    limits: Limits,
    target: Target,
    dice: Dice,
    start: Instant,
    now: Instant,
    /// The log: when each event comes, and the event.
    log: Vec<(Duration, Arc<Record>)>,
    read: usize,
    calls: HashMap<CallId, (Instant, Vec<Arc<Record>>)>,
    /// Numbers delivered, in order, and when.
    delivered: Vec<(u64, Duration)>,
    dead: BTreeMap<u64, u32>,
    parked: HashSet<Ticket>,
    parked_ever: usize,
    made: usize,
    downs: usize,
}

impl World {
    fn new(limits: Limits, bounds: Bounds, seed: u64, target: Target) -> Self {
        let start = Instant::now();
        Self {
            lanes: Lanes::new(bounds),
            limits,
            target,
            dice: Dice(seed),
            start,
            now: start,
            log: Vec::new(),
            read: 0,
            calls: HashMap::new(),
            delivered: Vec::new(),
            dead: BTreeMap::new(),
            parked: HashSet::new(),
            parked_ever: 0,
            made: 0,
            downs: 0,
        }
    }

    /// An event of `person` comes at this time.
    fn event(&mut self, at: Duration, person: Option<u64>) -> u64 {
        let number = self.log.len() as u64;
        self.log.push((at, record(number, person)));
        number
    }

    fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Runs until nothing is left to do, or this much time has passed.
    fn run(&mut self, until: Duration) {
        while self.elapsed() < until {
            if let Some((events, bytes)) = self.lanes.room() {
                self.read(events, bytes);
            }
            let wake = self.call();
            let step = self.lanes.relieve();
            if !step.outcomes.is_empty() {
                self.settle(step);
                continue;
            }
            let arrives = self.log.get(self.read).map(|(at, _)| self.start + *at);
            let arrives = arrives.filter(|_| self.lanes.room().is_some());
            let ends = self.calls.values().map(|(end, _)| *end).min();
            let Some(next) = [wake, arrives, ends].into_iter().flatten().min() else { return };
            self.now = self.now.max(next);
            self.end_calls();
        }
    }

    fn read(&mut self, events: usize, bytes: usize) {
        let (mut entries, mut taken) = (Vec::new(), 0);
        while let Some((at, record)) = self.log.get(self.read) {
            let fits = entries.is_empty() || taken + record.raw.len() <= bytes;
            if entries.len() == events || !fits || *at > self.elapsed() {
                break;
            }
            taken += record.raw.len();
            entries.push(Entry { ticket: Ticket::Log(number(record)), record: record.clone() });
            self.read += 1;
        }
        let step = self.lanes.add(entries);
        self.settle(step);
    }

    fn call(&mut self) -> Option<Instant> {
        loop {
            match self.lanes.next(self.now, &self.limits) {
                Next::Load(lane, ticket) => {
                    assert!(self.parked.contains(&ticket), "only what is parked is loaded");
                    let Ticket::Log(number) = ticket else { unreachable!("made above") };
                    self.lanes.loaded(&lane, ticket, Some(self.log[number as usize].1.clone()));
                }
                Next::Call(call) => {
                    self.check_call(&call.records);
                    self.made += 1;
                    let end = self.now + Duration::from_millis(1 + self.dice.below(50));
                    self.calls.insert(call.id, (end, call.records));
                }
                Next::Wait(until) => {
                    assert!(until > self.now, "a wait is in the future");
                    return Some(until);
                }
                Next::Idle => return None,
            }
        }
    }

    fn check_call(&self, records: &[Arc<Record>]) {
        assert!(!records.is_empty() && records.len() <= self.limits.max_events);
        assert!(self.calls.len() < self.limits.concurrency);
        let bytes: usize = records.iter().map(|record| record.raw.len()).sum();
        assert!(records.len() == 1 || bytes <= self.limits.max_bytes);
        let busy: HashSet<Lane> =
            self.calls.values().flat_map(|(_, records)| records).map(|record| record.lane()).collect();
        let mut seen: Vec<Lane> = Vec::new();
        for record in records {
            let lane = record.lane();
            assert!(!busy.contains(&lane), "two calls at once for one person");
            if seen.last() != Some(&lane) {
                assert!(!seen.contains(&lane), "a person's events are side by side");
                seen.push(lane);
            }
        }
    }

    fn end_calls(&mut self) {
        let ended: Vec<CallId> =
            self.calls.iter().filter(|(_, (end, _))| *end <= self.now).map(|(id, _)| *id).collect();
        for id in ended {
            let (_, records) = self.calls.remove(&id).expect("it is there");
            let elapsed = self.elapsed();
            let result = (self.target)(&records, elapsed, &mut self.dice);
            let jitter = self.dice.unit();
            let step = self.lanes.done(id, result, self.now, jitter);
            self.settle(step);
        }
    }

    fn settle(&mut self, step: Step) {
        for (ticket, outcome) in step.outcomes {
            let Ticket::Log(number) = ticket else { unreachable!("made above") };
            match outcome {
                Outcome::Parked => {
                    assert!(self.parked.insert(ticket), "parked once");
                    self.parked_ever += 1;
                }
                Outcome::Delivered => {
                    self.parked.remove(&ticket);
                    self.delivered.push((number, self.elapsed()));
                }
                Outcome::LetGo => unreachable!("the machine lets go of nothing"),
                Outcome::Dead { attempts, .. } => {
                    self.parked.remove(&ticket);
                    assert!(self.dead.insert(number, attempts).is_none(), "dead once");
                }
            }
        }
        self.downs += step.news.iter().filter(|news| matches!(news, News::Down { .. })).count();
    }

    /// Everything that came was settled exactly once, each person's events in the order they came.
    fn check_all_settled(&self) {
        let mut last: HashMap<Lane, u64> = HashMap::new();
        let mut seen = HashSet::new();
        for (number, _) in &self.delivered {
            assert!(seen.insert(*number), "{number} twice");
            let before = last.insert(self.log[*number as usize].1.lane(), *number);
            assert!(before.is_none_or(|before| before < *number), "{number} after {before:?}");
        }
        assert!(self.dead.keys().all(|number| seen.insert(*number)), "delivered and dead");
        assert_eq!(seen.len(), self.log.len(), "something is missing");
        assert!(self.parked.is_empty());
    }
}

fn failure(delivered: usize, blame: Blame, permanent: bool) -> Failure {
    Failure { delivered, blame, permanent, retry_after: None, cause: "refused".to_owned() }
}

/// Fails where one of these events stands: the events before it get through or not, the blame is told or not.
fn poisoned(poison: Vec<u64>, permanent: bool, tells: bool) -> Target {
    Box::new(move |records, _, _| match records.iter().position(|record| poison.contains(&number(record))) {
        None => Ok(()),
        Some(position) if tells => Err(failure(position, Blame::Event, permanent)),
        Some(_) => Err(failure(0, Blame::Unknown, permanent)),
    })
}

const HOUR: Duration = Duration::from_secs(3600);
const FOREVER: Duration = Duration::from_secs(3600 * 24 * 30);

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn random_failures_keep_the_order_and_lose_nothing(
        seed: u64, events in 1..300_u64, people in 1..30_u64, fails in 0..60_u64, batches: bool,
    ) {
        let limits = if batches { BATCHES } else { SINGLES };
        let target: Target = Box::new(move |records, _, dice| {
            if dice.below(100) >= fails {
                return Ok(());
            }
            let delivered = dice.below(records.len() as u64) as usize;
            let blame = if dice.below(2) == 0 { Blame::Event } else { Blame::Unknown };
            let retry_after = (dice.below(10) == 0).then_some(Duration::from_secs(5));
            Err(Failure { retry_after, ..failure(delivered, blame, dice.below(4) == 0) })
        });
        let mut world = World::new(limits, BOUNDS, seed, target);
        for _ in 0..events {
            let person = world.dice.below(people + 1);
            let at = Duration::from_millis(world.dice.below(1000));
            let at = at.max(world.log.last().map(|(at, _)| *at).unwrap_or_default());
            world.event(at, (person > 0).then_some(person));
        }
        world.run(FOREVER);
        world.check_all_settled();
    }

    #[test]
    fn an_outage_dead_letters_nothing(seed: u64, people in 1..40_u64, batches: bool, permanent: bool, hours in 1..6_u32) {
        let limits = if batches { BATCHES } else { SINGLES };
        let outage = seconds(10)..HOUR * hours;
        let end = outage.end;
        let target: Target = Box::new(move |_, at, _| {
            if outage.contains(&at) { Err(failure(0, Blame::Unknown, permanent)) } else { Ok(()) }
        });
        let mut world = World::new(limits, BOUNDS, seed, target);
        for n in 0..600 {
            let person = world.dice.below(people);
            world.event(Duration::from_millis(100 * n), Some(person));
        }
        world.run(end);
        prop_assert!(world.downs == 1, "it is told once, not {} times", world.downs);
        // About two probes a minute on average, and those it took to see that the sink is down.
        prop_assert!(world.made < 700 + 60 * 4 * hours as usize, "{} calls", world.made);
        if people >= 20 {
            prop_assert!(world.parked_ever == 0, "{} parked", world.parked_ever);
        }
        world.run(FOREVER);
        world.check_all_settled();
        prop_assert!(world.dead.is_empty());
        let took = world.delivered.last().map(|(_, at)| *at).unwrap_or_default();
        prop_assert!(took < end + seconds(300), "recovers soon, not after {:?}", took - end);
    }

    #[test]
    fn poison_among_others_dies_alone(seed: u64, batches: bool, permanent: bool, tells: bool, poison in 0..300_u64, second in 0..300_u64) {
        let limits = if batches { BATCHES } else { SINGLES };
        let mut world = World::new(limits, BOUNDS, seed, poisoned(vec![poison, second], permanent, tells));
        for n in 0..600 {
            let person = world.dice.below(25);
            // The first 300 at once, then one a second, so that others keep passing.
            world.event(seconds(u64::saturating_sub(n, 300)), Some(person));
        }
        world.run(FOREVER);
        world.check_all_settled();
        let mut expected = vec![poison, second];
        expected.sort_unstable();
        expected.dedup();
        let dead: Vec<u64> = world.dead.keys().copied().collect();
        prop_assert_eq!(&dead, &expected);
        let tries: Vec<u32> = world.dead.values().copied().collect();
        let enough = if permanent { 2 } else { BOUNDS.max_attempts };
        prop_assert!(tries.iter().all(|tries| *tries >= enough && *tries < enough + 8), "{:?}", tries);
    }
}

#[test]
fn more_is_read_before_nothing_is_left_but_what_is_in_calls() {
    // Half of the window is in calls, as with default settings.
    let limits = Limits { max_events: BOUNDS.window / 8, concurrency: 4, ..BATCHES };
    let mut world = World::new(limits, BOUNDS, 1, Box::new(|_, _, _| Ok(())));
    for person in 0..200 {
        world.event(Duration::ZERO, Some(person));
    }
    while world.read < world.log.len() {
        let (events, bytes) = world.lanes.room().expect("there is room");
        assert!(events >= BOUNDS.window / 4, "it is worth a query: {events}");
        world.read(events, bytes);
        while world.call().is_none() && world.lanes.room().is_none() {
            world.now = world.calls.values().map(|(end, _)| *end).min().expect("calls are under way");
            world.end_calls();
        }
        assert!(world.lanes.at_hand() > 0, "calls would stand still while more is read");
    }
}

#[test]
fn poison_alone_waits() {
    for (limits, permanent) in [(BATCHES, false), (SINGLES, false), (BATCHES, true), (SINGLES, true)] {
        let mut world = World::new(limits, BOUNDS, 1, poisoned(vec![0], permanent, false));
        for _ in 0..5 {
            world.event(Duration::ZERO, Some(1));
        }
        world.run(HOUR * 10);
        assert!(world.dead.is_empty() && world.delivered.is_empty());
        assert!(world.made > 500, "it is still tried: {}", world.made);
    }
}

#[test]
fn a_newcomer_does_not_wait_for_the_back_off_of_one_bad_event() {
    let mut world = World::new(SINGLES, BOUNDS, 1, poisoned(vec![0], false, false));
    world.event(Duration::ZERO, Some(1));
    for n in 1..100 {
        world.event(HOUR * n, Some(1 + u64::from(n)));
    }
    world.run(FOREVER);
    for (number, at) in &world.delivered {
        assert!(*at <= HOUR * *number as u32 + seconds(2), "{number} at {at:?}");
    }
    assert_eq!(world.dead.keys().collect::<Vec<_>>(), [&0]);
}

#[test]
fn a_newcomer_waits_for_one_probe_where_many_people_have_bad_events() {
    let mut world = World::new(SINGLES, BOUNDS, 1, poisoned((0..20).collect(), false, false));
    for n in 0..20 {
        world.event(Duration::ZERO, Some(n));
    }
    for n in 1..200 {
        world.event(HOUR * n, Some(100 + u64::from(n)));
    }
    world.run(FOREVER);
    world.check_all_settled();
    for (number, at) in &world.delivered {
        let came = world.log[*number as usize].0;
        assert!(*at <= came + BOUNDS.backoff.max + seconds(1), "{number} came {came:?}, delivered {at:?}");
    }
    assert_eq!(world.dead.len(), 20);
}

#[test]
fn a_huge_backlog_of_one_person_behind_poison_does_not_hold_up_others() {
    for limits in [BATCHES, SINGLES] {
        let mut world = World::new(limits, BOUNDS, 3, poisoned(vec![0], false, false));
        for _ in 0..5000 {
            world.event(Duration::ZERO, Some(1));
        }
        let first = world.event(Duration::ZERO, Some(2));
        for n in 0..200 {
            world.event(seconds(n), Some(3 + n % 10));
        }
        world.run(FOREVER);
        world.check_all_settled();
        assert_eq!(world.dead.keys().collect::<Vec<_>>(), [&0]);
        for (number, at) in &world.delivered {
            if *number >= first {
                let came = world.log[*number as usize].0;
                assert!(*at < came + seconds(10), "{number} came {came:?}, delivered {at:?}");
            }
        }
        assert!(world.parked_ever >= 5000 - BOUNDS.window);
    }
}

#[test]
fn a_stuck_person_is_parked_when_someone_else_gets_through() {
    let bounds = Bounds { max_attempts: u32::MAX, ..BOUNDS };
    let mut world = World::new(SINGLES, bounds, 3, poisoned(vec![0], false, false));
    for _ in 0..3 {
        world.event(Duration::ZERO, Some(1));
    }
    world.run(seconds(30));
    assert_eq!(world.parked_ever, 0, "as long as nobody does, it may be the sink");
    world.event(seconds(31), Some(2));
    world.event(seconds(32), Some(1));
    world.run(seconds(200));
    assert_eq!((world.parked.len(), world.delivered.len()), (4, 1), "what comes later is parked too");
}

#[test]
fn no_more_is_parked_than_may_be() {
    let bounds = Bounds { max_parked: 200, ..BOUNDS };
    let mut world = World::new(SINGLES, bounds, 3, poisoned(vec![0], false, false));
    for _ in 0..5000 {
        world.event(Duration::ZERO, Some(1));
    }
    world.run(HOUR);
    assert!(world.parked.len() <= 200 + BOUNDS.window, "{}", world.parked.len());
    assert!(world.dead.is_empty());
}

#[test]
fn what_an_earlier_process_parked_comes_first_and_in_order() {
    let mut world = World::new(BATCHES, BOUNDS, 5, poisoned(vec![], false, false));
    for n in 0..100 {
        world.event(Duration::ZERO, Some(n % 3));
    }
    // The earlier process had read 40 and parked all of person 0.
    let parked: Vec<Parked> = (0..40)
        .filter(|n| n % 3 == 0)
        .map(|n| Parked { ticket: Ticket::Log(n), lane: world.log[n as usize].1.lane() })
        .collect();
    world.parked = parked.iter().map(|parked| parked.ticket).collect();
    world.delivered = (0..40).filter(|n| n % 3 != 0).map(|n| (n, Duration::ZERO)).collect();
    world.read = 40;
    world.lanes.restore(parked);
    world.run(HOUR);
    world.check_all_settled();
}

#[test]
fn a_parked_event_that_is_gone_holds_nobody_up() {
    let mut lanes = Lanes::new(BOUNDS);
    let (gone, there) = (record(0, Some(1)), record(1, Some(1)));
    lanes.restore(vec![
        Parked { ticket: Ticket::Log(0), lane: gone.lane() },
        Parked { ticket: Ticket::Log(1), lane: there.lane() },
    ]);
    let now = Instant::now();
    let Next::Load(lane, ticket) = lanes.next(now, &SINGLES) else { panic!("it is loaded first") };
    lanes.loaded(&lane, ticket, None);
    let Next::Load(lane, ticket) = lanes.next(now, &SINGLES) else { panic!("then the next") };
    lanes.loaded(&lane, ticket, Some(there));
    let Next::Call(call) = lanes.next(now, &SINGLES) else { panic!("which is handed over") };
    assert_eq!(number(&call.records[0]), 1);
    assert_eq!(lanes.done(call.id, Ok(()), now, 0.5).delivered, 1);
    assert!(matches!(lanes.next(now, &SINGLES), Next::Idle));
}

#[test]
fn a_batch_is_halved_until_the_poison_is_alone() {
    let mut world = World::new(BATCHES, BOUNDS, 1, poisoned(vec![5], true, false));
    for n in 0..16 {
        world.event(Duration::ZERO, Some(n));
    }
    world.run(seconds(1) / 2);
    // 16, 8 + 8, 4 + 4, 2 + 2, 1 + 1: nine calls isolate one of sixteen, and everyone else is through.
    assert_eq!(world.delivered.len(), 15);
    assert!(world.made <= 10, "{} calls", world.made);
}
