//! Delivery to sinks from a real journal: order, outages, poison, stuck people, restarts, panics and stops.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hooksink::config::{DeliveryConfig, Expressions};
use hooksink::dispatch::{Dispatcher, Sieve, supervise};
use hooksink::event::Event;
use hooksink::filter::Filter;
use hooksink::journal::sqlite::SqliteJournal;
use hooksink::journal::{
    Consumer, ConsumerSpec, Entry, Journal, JournalError, Outcome, Parked, SinkStatus, StartFrom, Ticket,
};
use hooksink::metrics::{Metrics, SinkLabels};
use hooksink::names::SinkName;
use hooksink::sinks::{Blame, Limits, Sink, SinkError, Undelivered};
use tempfile::TempDir;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::door::MemoryJournal;
use crate::support::{decode, number, record, until};

/// What a call to the sink does, given the numbers of its events and which call it is.
type Behaviour = Box<dyn Fn(&[u64], usize) -> Result<(), Undelivered> + Send + Sync>;

/// A sink that does as it is told and remembers what it took.
struct Told {
    limits: Limits,
    behaviour: Mutex<Arc<Behaviour>>,
    /// Calls begun.
    calls: AtomicUsize,
    /// Numbers that were accepted, in order.
    taken: Mutex<Vec<u64>>,
    /// Calls wait for a permit of it, if there is one.
    gate: Option<Semaphore>,
    closed: AtomicBool,
}

impl Told {
    fn new(
        limits: Limits,
        behaviour: impl Fn(&[u64], usize) -> Result<(), Undelivered> + Send + Sync + 'static,
    ) -> Self {
        Self {
            limits,
            behaviour: Mutex::new(Arc::new(Box::new(behaviour))),
            calls: AtomicUsize::new(0),
            taken: Mutex::default(),
            gate: None,
            closed: AtomicBool::new(false),
        }
    }

    /// From now on everything is accepted.
    fn mend(&self) {
        *self.behaviour.lock().unwrap() = Arc::new(Box::new(|_, _| Ok(())));
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    fn taken(&self) -> Vec<u64> {
        self.taken.lock().unwrap().clone()
    }

    fn took(&self, numbers: impl IntoIterator<Item = u64>) -> bool {
        let taken: BTreeSet<u64> = self.taken().into_iter().collect();
        numbers.into_iter().all(|number| taken.contains(&number))
    }
}

#[async_trait]
impl Sink for Told {
    async fn deliver(&self, events: &[Event]) -> Result<(), Undelivered> {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        let numbers: Vec<u64> = events.iter().map(|event| number(&event.record)).collect();
        let behaviour = self.behaviour.lock().unwrap().clone();
        let result = behaviour(&numbers, call);
        let delivered = result.as_ref().map_or_else(|failure| failure.delivered, |()| numbers.len());
        self.taken.lock().unwrap().extend(&numbers[..delivered]);
        result
    }

    fn limits(&self) -> Limits {
        self.limits
    }

    async fn close(&self) -> Result<(), hooksink::sinks::BoxError> {
        self.closed.store(true, Ordering::SeqCst);
        Ok(())
    }
}

const SINGLES: Limits = Limits {
    max_events: 1,
    max_bytes: 1 << 20,
    concurrency: 4,
    timeout: Duration::from_secs(60),
    linger: Duration::ZERO,
};
const BATCHES: Limits = Limits { max_events: 50, concurrency: 2, ..SINGLES };

fn again(delivered: usize) -> Undelivered {
    let cause = SinkError::Transient { retry_after: None, source: "not now".into() };
    Undelivered { delivered, blame: Blame::Unknown, cause }
}

fn refused() -> Undelivered {
    let cause = SinkError::Permanent { source: "never".into() };
    Undelivered { delivered: 0, blame: Blame::Unknown, cause }
}

/// Fails every call that holds one of these.
fn poisoned(poison: &'static [u64], failure: fn() -> Undelivered) -> impl Fn(&[u64], usize) -> Result<(), Undelivered> {
    move |numbers, _| if numbers.iter().any(|number| poison.contains(number)) { Err(failure()) } else { Ok(()) }
}

/// A journal and what it was given; sinks come and go.
struct Bench {
    folder: TempDir,
    journal: Arc<SqliteJournal>,
    people: HashMap<u64, String>,
    metrics: Arc<Metrics>,
    began: Instant,
}

fn sink_name() -> SinkName {
    "crm".parse().unwrap()
}

async fn open(folder: &TempDir) -> Arc<SqliteJournal> {
    let config = crate::journal::config(folder.path());
    let journal =
        Arc::new(SqliteJournal::open(&config, crate::journal::file(&config), Arc::new(Metrics::new())).unwrap());
    let (wants, from) = (Filter::default(), StartFrom::Start);
    journal.configure(vec![ConsumerSpec { sink: sink_name(), wants, from, skip_when_full: false }]).await.unwrap();
    journal
}

impl Bench {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let journal = open(&folder).await;
        Self { folder, journal, people: HashMap::new(), metrics: Arc::new(Metrics::new()), began: Instant::now() }
    }

    /// Stores one event for each of these people; their numbers.
    async fn store(&mut self, people: impl IntoIterator<Item = String>) -> Vec<u64> {
        assert!(self.began.elapsed() < crate::support::DEADLINE, "waited in vain while storing more and more");
        let mut numbers = Vec::new();
        let mut records = Vec::new();
        for person in people {
            let number = self.people.len() as u64;
            records.push(record(number, Some(&person)));
            self.people.insert(number, person);
            numbers.push(number);
        }
        self.journal.append(records).await.unwrap();
        numbers
    }

    fn dispatch(&self, sink: &Arc<Told>) -> Running {
        self.dispatch_with(sink.clone(), QUICK)
    }

    fn dispatch_with(&self, target: Arc<dyn Sink>, delivery: DeliveryConfig) -> Running {
        let stop = CancellationToken::new();
        let sieve = Sieve::new(sink_name(), Expressions::default(), Arc::new(decode), self.metrics.clone());
        let dispatcher = Dispatcher {
            sink: sink_name(),
            target,
            delivery,
            journal: self.journal.clone(),
            sieve: Arc::new(sieve),
            metrics: self.metrics.clone(),
        };
        Running { task: tokio::spawn(supervise(dispatcher, stop.clone())), stop }
    }

    async fn status(&self) -> SinkStatus {
        self.journal.sinks().await.unwrap().remove(0)
    }

    /// As after a crash: another journal on the same file.
    async fn reopen(&mut self) {
        self.journal.close().await;
        // The file is locked until the journal is gone.
        let elsewhere = TempDir::new().unwrap();
        drop(std::mem::replace(&mut self.journal, open(&elsewhere).await));
        self.journal = open(&self.folder).await;
    }

    /// Numbers of the dead letters.
    async fn dead(&self) -> Vec<u64> {
        let letters = self.journal.dead_letters(None, 0, 1000).await.unwrap();
        letters.iter().map(|letter| letter.event_id.0.as_u128() as u64).collect()
    }

    /// Waits until nothing is owed any more.
    async fn settled(&self) {
        let all = async {
            loop {
                let status = self.status().await;
                if status.lag_events == 0 && status.parked == 0 {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(crate::support::DEADLINE, all).await.expect("everything should be settled");
    }

    /// Each person's events reached the sink in the order they were stored; every event once, or as often as it had to.
    fn check_order(&self, taken: &[u64]) {
        let mut seen = BTreeSet::new();
        let firsts = taken.iter().filter(|number| seen.insert(**number));
        let mut by_person: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
        for number in firsts {
            by_person.entry(&self.people[number]).or_default().push(*number);
        }
        for (person, numbers) in by_person {
            assert!(numbers.is_sorted(), "{person}: {numbers:?}");
        }
    }
}

const QUICK: DeliveryConfig = DeliveryConfig {
    max_attempts: 5,
    retry_initial: Duration::from_millis(1),
    retry_max: Duration::from_millis(8),
    window: 64,
    max_parked: 10_000,
};

/// Gives nothing up, so that only parking can help others.
const PATIENT: DeliveryConfig = DeliveryConfig { max_attempts: 1_000_000, ..QUICK };

struct Running {
    task: JoinHandle<()>,
    stop: CancellationToken,
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(crate::support::DEADLINE, self.task).await.expect("it should stop").unwrap();
    }

    /// As a crash would: nothing is settled or flushed.
    async fn abort(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

fn people(count: u64, of: u64) -> impl Iterator<Item = String> {
    (0..count).map(move |n| format!("person-{}", (n * 7 + n / 3) % of))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_failures_keep_each_persons_order_and_lose_nothing() {
    for limits in [SINGLES, BATCHES] {
        let mut bench = Bench::new().await;
        let numbers = bench.store(people(500, 20)).await;
        // Every third call or so fails, some of them halfway.
        let sink = Arc::new(Told::new(limits, |numbers, call| match call * 2_654_435_761 % 7 {
            0 => Err(again(0)),
            1 => Err(again(numbers.len() / 2)),
            _ => Ok(()),
        }));
        // With two calls of seven failing at random, five attempts would give some events up, and rightly so.
        let running = bench.dispatch_with(sink.clone(), PATIENT);
        bench.settled().await;
        running.stop().await;
        assert!(sink.took(numbers));
        assert_eq!(sink.taken().len(), 500, "nothing is delivered again that was accepted");
        bench.check_order(&sink.taken());
        assert_eq!(bench.dead().await, [0_u64; 0]);
        let labels = SinkLabels { sink: "crm".to_owned() };
        assert_eq!(bench.metrics.sink_delivered.get_or_create(&labels).get(), 500);
        assert!(bench.metrics.sink_retries.get_or_create(&labels).get() > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_dead_letters_nothing_and_then_everything_arrives_in_order() {
    for (limits, failure) in
        [(SINGLES, refused as fn() -> Undelivered), (BATCHES, refused), (SINGLES, || again(0)), (BATCHES, || again(0))]
    {
        let mut bench = Bench::new().await;
        let sink = Arc::new(Told::new(limits, move |_, _| Err(failure())));
        let running = bench.dispatch(&sink);
        let mut numbers = bench.store(people(150, 12)).await;
        until("many more failures than an event has attempts", || sink.calls() > 100).await;
        numbers.extend(bench.store(people(150, 12)).await);
        until("it goes on trying", || sink.calls() > 130).await;
        assert_eq!(bench.status().await.parked, 0);
        sink.mend();
        bench.settled().await;
        running.stop().await;
        assert!(sink.took(numbers));
        bench.check_order(&sink.taken());
        assert_eq!(bench.dead().await, [0_u64; 0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_always_fails_while_others_pass_is_the_only_dead_letter() {
    for (limits, failure) in
        [(SINGLES, refused as fn() -> Undelivered), (BATCHES, refused), (SINGLES, || again(0)), (BATCHES, || again(0))]
    {
        let mut bench = Bench::new().await;
        let sink = Arc::new(Told::new(limits, poisoned(&[3], failure)));
        let running = bench.dispatch(&sink);
        bench.store(people(40, 10)).await;
        // Others keep arriving, until it is given up.
        while bench.dead().await.is_empty() {
            let numbers = bench.store(people(1, 1)).await;
            until("others pass", || bench.people[&numbers[0]] == bench.people[&3] || sink.took(numbers.clone())).await;
        }
        bench.settled().await;
        running.stop().await;
        assert_eq!(bench.dead().await, [3]);
        let letter = bench.journal.dead_letters(None, 0, 10).await.unwrap().remove(0);
        assert!(letter.attempts >= 2, "{}", letter.attempts);
        assert!(["never", "not now"].contains(&&*letter.reason), "{}", letter.reason);
        assert!(sink.took((0..bench.people.len() as u64).filter(|number| *number != 3)));
        bench.check_order(&sink.taken());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_fails_alone_waits() {
    for failure in [refused as fn() -> Undelivered, || again(0)] {
        let mut bench = Bench::new().await;
        let sink = Arc::new(Told::new(SINGLES, poisoned(&[0], failure)));
        let running = bench.dispatch(&sink);
        bench.store(["ann".to_owned(), "ann".to_owned()]).await;
        until("many more tries than an event has attempts", || sink.calls() > 40).await;
        assert_eq!(bench.dead().await, [0_u64; 0]);
        assert_eq!(sink.taken(), [0_u64; 0]);
        sink.mend();
        bench.settled().await;
        running.stop().await;
        assert_eq!(sink.taken(), [0, 1]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stuck_person_with_a_backlog_larger_than_the_window_holds_nobody_up() {
    for limits in [SINGLES, BATCHES] {
        let mut bench = Bench::new().await;
        let sink = Arc::new(Told::new(limits, poisoned(&[0], || again(0))));
        // The poison is never given up here, so that only parking can help the others.
        let running = bench.dispatch_with(sink.clone(), PATIENT);
        bench.store((0..300).map(|_| "stuck".to_owned())).await;
        let others = bench.store(people(100, 10)).await;
        until("the others pass", || sink.took(others.clone())).await;
        let behind = bench.store((0..10).map(|_| "stuck".to_owned())).await;
        let others = bench.store(people(100, 10)).await;
        until("they still do", || sink.took(others.clone())).await;
        assert!(!sink.took([1]), "nobody overtakes within a person's events");
        sink.mend();
        bench.settled().await;
        running.stop().await;
        assert!(sink.took(behind));
        bench.check_order(&sink.taken());
        assert_eq!(sink.taken().len(), 510);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_parked_outlives_a_crash() {
    let mut bench = Bench::new().await;
    let sink = Arc::new(Told::new(BATCHES, poisoned(&[0], || again(0))));
    let running = bench.dispatch_with(sink.clone(), PATIENT);
    bench.store((0..30).map(|_| "stuck".to_owned())).await;
    while bench.status().await.parked < 30 {
        let others = bench.store(people(5, 5)).await;
        until("the others pass", || sink.took(others.clone())).await;
    }
    running.abort().await;
    bench.reopen().await;
    assert_eq!(bench.status().await.parked, 30);
    let behind = bench.store((0..5).map(|_| "stuck".to_owned())).await;
    sink.mend();
    let running = bench.dispatch(&sink);
    bench.settled().await;
    running.stop().await;
    assert!(sink.took((0..30).chain(behind)));
    assert_eq!(bench.dead().await, [0_u64; 0]);
    bench.check_order(&sink.taken());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_panics_the_sink_is_poison_like_any_other() {
    let mut bench = Bench::new().await;
    let sink = Arc::new(Told::new(BATCHES, |numbers, _| {
        assert!(!numbers.contains(&3), "on purpose");
        Ok(())
    }));
    let running = bench.dispatch(&sink);
    bench.store(people(20, 10)).await;
    while bench.dead().await.is_empty() {
        bench.store(people(1, 1)).await;
    }
    bench.settled().await;
    running.stop().await;
    assert_eq!(bench.dead().await, [3]);
    assert!(sink.closed.load(Ordering::SeqCst));
}

/// A sink that panics where nobody expects it.
struct PanicsAtFirst {
    left: AtomicUsize,
    taken: AtomicUsize,
}

#[async_trait]
impl Sink for PanicsAtFirst {
    async fn deliver(&self, events: &[Event]) -> Result<(), Undelivered> {
        self.taken.fetch_add(events.len(), Ordering::SeqCst);
        Ok(())
    }

    fn limits(&self) -> Limits {
        let left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        assert!(left.is_err(), "on purpose");
        SINGLES
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_that_panics_is_started_again() {
    let mut bench = Bench::new().await;
    bench.store(people(10, 3)).await;
    let sink = Arc::new(PanicsAtFirst { left: AtomicUsize::new(2), taken: AtomicUsize::new(0) });
    let running = bench.dispatch_with(sink.clone(), QUICK);
    bench.settled().await;
    running.stop().await;
    assert_eq!(sink.taken.load(Ordering::SeqCst), 10);
}

/// A consumer that hands out what it has, and then reads until it is told that the journal failed.
struct ReadsForLong {
    entries: Vec<Entry>,
    fails: Arc<Notify>,
    moved: CancellationToken,
    settled: Arc<Mutex<Vec<Ticket>>>,
}

#[async_trait]
impl Consumer for ReadsForLong {
    async fn parked(&mut self) -> Result<Vec<Parked>, JournalError> {
        Ok(Vec::new())
    }

    async fn load(&mut self, _: Ticket) -> Result<Option<Entry>, JournalError> {
        Ok(None)
    }

    async fn read(&mut self, _: usize, _: usize) -> Result<Vec<Entry>, JournalError> {
        if self.entries.is_empty() {
            self.fails.notified().await;
            return Err(JournalError::Closed);
        }
        Ok(std::mem::take(&mut self.entries))
    }

    async fn ready(&mut self) {}

    async fn settle(&mut self, outcomes: Vec<(Ticket, Outcome)>) -> Result<(), JournalError> {
        let delivered = outcomes.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Delivered));
        self.settled.lock().unwrap().extend(delivered.map(|(ticket, _)| *ticket));
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), JournalError> {
        Ok(())
    }

    async fn caught_up(&mut self) -> Result<bool, JournalError> {
        Ok(false)
    }

    fn moved(&self) -> CancellationToken {
        self.moved.clone()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_go_on_while_the_journal_is_read_and_are_settled_however_that_ends() {
    for ending in ["failed", "stopped", "moved"] {
        let (fails, moved, settled) = (Arc::new(Notify::new()), CancellationToken::new(), Arc::default());
        let entry = |number| Entry { ticket: Ticket::Log(number), record: Arc::new(record(number, Some("ann"))) };
        let consumer = ReadsForLong {
            entries: (1..=6).map(entry).collect(),
            fails: Arc::clone(&fails),
            moved: moved.clone(),
            settled: Arc::clone(&settled),
        };
        let journal = MemoryJournal::default();
        journal.consumers.lock().unwrap().push(Box::new(consumer));
        // Three calls, of which each begins when the one before has ended.
        let limits = Limits { max_events: 2, ..SINGLES };
        let sink = Arc::new(Told::new(limits, |_, _| Ok(())));
        let metrics = Arc::new(Metrics::new());
        let sieve = Sieve::new(sink_name(), Expressions::default(), Arc::new(decode), Arc::clone(&metrics));
        let (target, sieve): (Arc<dyn Sink>, _) = (sink.clone(), Arc::new(sieve));
        let dispatcher =
            Dispatcher { sink: sink_name(), target, delivery: QUICK, journal: Arc::new(journal), sieve, metrics };
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let stop = stop.clone();
            async move { dispatcher.run(&stop).await.is_ok() }
        });
        until("all is delivered though the read goes on", || sink.taken().len() == 6).await;
        match ending {
            "failed" => fails.notify_one(),
            "stopped" => stop.cancel(),
            _ => moved.cancel(),
        }
        let ended = tokio::time::timeout(crate::support::DEADLINE, running).await.expect("it should end").unwrap();
        assert_eq!(ended, ending == "stopped", "there is no other consumer");
        assert_eq!(*settled.lock().unwrap(), [1, 2, 3, 4, 5, 6].map(Ticket::Log), "{ending}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_lets_calls_end_and_makes_no_new_ones() {
    let mut bench = Bench::new().await;
    // Everyone once: then events end in the order they were stored, and the cursor passes all of them.
    bench.store((0..100).map(|n| format!("person-{n}"))).await;
    let sink = Arc::new(Told { gate: Some(Semaphore::new(10)), ..Told::new(SINGLES, |_, _| Ok(())) });
    let running = bench.dispatch(&sink);
    until("four calls wait behind the ten that passed", || sink.calls() == 14 && sink.taken().len() == 10).await;
    running.stop.cancel();
    tokio::task::yield_now().await;
    assert!(!running.task.is_finished(), "calls under way are waited for");
    sink.gate.as_ref().unwrap().add_permits(100);
    running.stop().await;
    assert_eq!(sink.calls(), 14, "no call begins after the stop");
    assert!(sink.closed.load(Ordering::SeqCst));
    // What was delivered is not delivered again.
    let rest = Arc::new(Told::new(SINGLES, |_, _| Ok(())));
    let running = bench.dispatch(&rest);
    bench.settled().await;
    running.stop().await;
    assert_eq!(rest.taken().len(), 86);
    let all: Vec<u64> = sink.taken().into_iter().chain(rest.taken()).collect();
    bench.check_order(&all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sink_that_gathers_gets_the_first_at_once_and_then_as_many_as_fit() {
    let mut bench = Bench::new().await;
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = calls.clone();
    let limits = Limits { linger: Duration::from_secs(3600), ..BATCHES };
    let sink = Arc::new(Told::new(limits, move |numbers, _| {
        seen.lock().unwrap().push(numbers.len());
        Ok(())
    }));
    let running = bench.dispatch_with(sink.clone(), DeliveryConfig { window: 1000, ..QUICK });
    bench.store(people(1, 1)).await;
    until("the first arrives", || sink.calls() == 1).await;
    // One by one, so that each could be a call of its own.
    for _ in 0..50 {
        bench.store(["p".to_owned()]).await;
    }
    until("those that fit arrive", || sink.calls() == 2).await;
    bench.settled().await;
    running.stop().await;
    assert_eq!(*calls.lock().unwrap(), [1, 50]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_never_ends_counts_as_failed() {
    let mut bench = Bench::new().await;
    bench.store(people(20, 10)).await;
    let limits = Limits { timeout: Duration::from_millis(5), ..SINGLES };
    let sink = Arc::new(Told { gate: Some(Semaphore::new(3)), ..Told::new(limits, |_, _| Ok(())) });
    let running = bench.dispatch(&sink);
    until("it is tried again and again", || sink.calls() > 20).await;
    sink.gate.as_ref().unwrap().add_permits(1000);
    bench.settled().await;
    running.stop().await;
    assert!(sink.took(0..20));
    assert_eq!(bench.dead().await, [0_u64; 0]);
}
