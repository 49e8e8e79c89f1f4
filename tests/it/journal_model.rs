//! The journal, either engine, against a model of it in a few lines: random sequences of appends, reads, outcomes, retries and
//! restarts must look the same on both.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hooksink::config::{Engine, JournalConfig};
use hooksink::journal::{Appended, Consumer, Entry, Journal, Letters, Outcome, Ticket};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use tempfile::TempDir;

use crate::grounds;
use crate::journal::{config, record, sink, spec, with_file};
use crate::support::DEADLINE;

#[derive(Debug, Clone)]
enum Step {
    /// Appends events of these numbers; some are there already.
    Append(Vec<u64>),
    /// Reads at most so many.
    Read(usize),
    /// Settles some of what is in hand: which, and how.
    Settle(Vec<(usize, u8)>),
    /// Asks for every dead letter to be tried again.
    Retry,
    /// Closes and opens.
    Restart,
    /// The consumer is replaced, as when its dispatcher failed.
    NewConsumer,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(0..60_u64, 1..6).prop_map(Step::Append),
        4 => (1..12_usize).prop_map(Step::Read),
        6 => prop::collection::vec((0..20_usize, 0..4_u8), 1..5).prop_map(Step::Settle),
        1 => Just(Step::Retry),
        1 => Just(Step::Restart),
        1 => Just(Step::NewConsumer),
    ]
}

/// What the journal should know.
#[derive(Debug, Default)]
struct Model {
    /// The numbers of the events, by position from 1.
    log: Vec<u64>,
    /// The last position read.
    scanned: u64,
    /// Read, and without a final outcome or a row of its own.
    open: BTreeSet<u64>,
    parked: BTreeSet<u64>,
    /// Dead letters by number of the event, and whether they wait to be tried again.
    dead: BTreeMap<u64, bool>,
    /// Letters that were handed out.
    handed: BTreeSet<u64>,
}

impl Model {
    fn cursor(&self) -> u64 {
        self.open.first().map_or(self.scanned, |seq| seq - 1)
    }

    fn number(&self, seq: u64) -> u64 {
        self.log[usize::try_from(seq).unwrap() - 1]
    }

    fn append(&mut self, n: u64) -> Appended {
        if self.log.contains(&n) {
            return Appended::Duplicate;
        }
        self.log.push(n);
        Appended::Stored
    }

    /// What is to be read: letters and positions of the log.
    fn unread(&self) -> (Vec<u64>, Vec<u64>) {
        let mut letters: Vec<u64> = self.dead.iter().filter(|(_, retrying)| **retrying).map(|(n, _)| *n).collect();
        letters.retain(|n| !self.handed.contains(n));
        let unread = self.scanned + 1..=self.log.len() as u64;
        (letters, unread.filter(|seq| !self.parked.contains(seq)).collect())
    }

    /// Notes what was read; it must be what comes next.
    fn read(&mut self, entries: &[Entry], max: usize) {
        let (letters, next) = self.unread();
        assert_eq!(entries.len(), max.min(letters.len() + next.len()), "{letters:?} and {next:?} are to come");
        let mut next = next.into_iter();
        for entry in entries {
            match entry.ticket {
                Ticket::Log(seq) => {
                    assert_eq!(Some(seq), next.next());
                    assert_eq!(entry.record.id, record(self.number(seq)).id);
                    self.open.insert(seq);
                    self.scanned = seq;
                }
                Ticket::Letter(_) => {
                    let n = letters.iter().copied().find(|n| record(*n).id == entry.record.id);
                    self.handed.insert(n.expect("a letter that waits"));
                }
                Ticket::Replay { .. } => panic!("there is no replay"),
            }
        }
        // Reading passes over what is parked, up to the next event to hand out.
        while self.parked.contains(&(self.scanned + 1)) {
            self.scanned += 1;
        }
    }

    fn settle(&mut self, entry: &Entry, outcome: &Outcome) {
        match (entry.ticket, outcome) {
            (Ticket::Log(seq), Outcome::Parked) => {
                self.open.remove(&seq);
                self.parked.insert(seq);
            }
            (Ticket::Log(seq), outcome) => {
                self.open.remove(&seq);
                self.parked.remove(&seq);
                if let Outcome::Dead { .. } = outcome {
                    // One letter an event; one that waits to be tried again goes on waiting.
                    self.dead.entry(self.number(seq)).or_insert(false);
                }
            }
            (Ticket::Letter(_), Outcome::Parked) => {}
            (Ticket::Letter(_), outcome) => {
                let n = *self.handed.iter().find(|n| record(**n).id == entry.record.id).expect("in hand");
                self.handed.remove(&n);
                self.dead.remove(&n);
                if let Outcome::Dead { .. } = outcome {
                    self.dead.insert(n, false);
                }
            }
            (Ticket::Replay { .. }, _) => panic!("there is no replay"),
        }
    }

    /// What was read after the cursor is read again, and letters in hand come again.
    fn restart(&mut self) {
        self.scanned = self.cursor();
        self.open.clear();
        self.handed.clear();
    }
}

async fn consumer(journal: &Arc<dyn Journal>, model: &Model) -> (Box<dyn Consumer>, Vec<Entry>) {
    let mut consumer = journal.consumer(&sink("crm")).await.unwrap();
    let mut hand = Vec::new();
    let parked = consumer.parked().await.unwrap();
    let tickets: Vec<Ticket> = parked.iter().map(|parked| parked.ticket).collect();
    assert_eq!(tickets, model.parked.iter().map(|seq| Ticket::Log(*seq)).collect::<Vec<_>>());
    for parked in parked {
        let entry = consumer.load(parked.ticket).await.unwrap().expect("what is parked is kept");
        assert_eq!(entry.record.lane(), parked.lane);
        hand.push(entry);
    }
    (consumer, hand)
}

async fn run(config: &JournalConfig, steps: Vec<Step>) {
    let mut model = Model::default();
    let mut journal = grounds::open(config).await;
    journal.configure(vec![spec("crm")]).await.unwrap();
    let (mut place, mut hand) = consumer(&journal, &model).await;
    for step in steps {
        match step {
            Step::Append(numbers) => {
                // Of one request the distributed journal keeps the order of each person's events alone.
                let many = matches!(config.engine, Engine::Sqlite(_));
                for numbers in numbers.chunks(if many { numbers.len() } else { 1 }) {
                    let expected: Vec<Appended> = numbers.iter().map(|n| model.append(*n)).collect();
                    let records = numbers.iter().copied().map(record).collect();
                    assert_eq!(journal.append(records).await.unwrap(), expected);
                }
            }
            Step::Read(max) => {
                // A read may stop between two streams, and what comes from servers comes by and by.
                let (letters, next) = model.unread();
                let count = max.min(letters.len() + next.len());
                let mut entries = Vec::new();
                let all = async {
                    loop {
                        entries.extend(place.read(max - entries.len(), usize::MAX).await.unwrap());
                        if entries.len() >= count {
                            break;
                        }
                        place.ready().await;
                    }
                };
                tokio::time::timeout(DEADLINE, all).await.expect("more is there to be read");
                model.read(&entries, max);
                hand.extend(entries);
            }
            Step::Settle(choices) => {
                let mut outcomes = Vec::new();
                for (which, how) in choices {
                    if hand.is_empty() {
                        break;
                    }
                    let at = which % hand.len();
                    let outcome = match how {
                        0 | 1 => Outcome::Delivered,
                        2 => Outcome::Dead { reason: "no".to_owned(), attempts: 1 },
                        _ => Outcome::Parked,
                    };
                    // What is parked stays in hand, and may be settled later, but not twice in one call.
                    let again = outcomes.iter().any(|(ticket, _)| *ticket == hand[at].ticket);
                    if again {
                        continue;
                    }
                    model.settle(&hand[at], &outcome);
                    outcomes.push((hand[at].ticket, outcome.clone()));
                    if !matches!(outcome, Outcome::Parked) {
                        hand.remove(at);
                    }
                }
                place.settle(outcomes).await.unwrap();
            }
            Step::Retry => {
                let waiting = model.dead.values_mut().filter(|retrying| !**retrying);
                let count = waiting.map(|retrying| *retrying = true).count() as u64;
                assert_eq!(journal.retry_dead_letters(Letters::Sink(sink("crm"))).await.unwrap(), count);
            }
            Step::Restart => {
                journal.close().await;
                drop(place);
                journal = grounds::open(config).await;
                journal.configure(vec![spec("crm")]).await.unwrap();
                model.restart();
                (place, hand) = consumer(&journal, &model).await;
            }
            Step::NewConsumer => {
                model.restart();
                (place, hand) = consumer(&journal, &model).await;
            }
        }
        let state = journal.sinks().await.unwrap().remove(0);
        let expected = (model.cursor(), model.parked.len() as u64, model.dead.len() as u64);
        assert_eq!((state.cursor, state.parked, state.dead_letters), expected);
        assert_eq!(journal.status().last_seq, model.log.len() as u64);
    }
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap().block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_journal_behaves_like_its_model(steps in prop::collection::vec(step(), 1..40)) {
        let folder = TempDir::new().unwrap();
        let config = with_file(config(folder.path()), |file| file.segment_events = 7);
        block_on(run(&config, steps));
    }
}

#[test]
fn the_distributed_journal_behaves_like_its_model() {
    let name = "journal_model::the_distributed_journal_behaves_like_its_model";
    // One server for all cases, each with streams of its own.
    let Some(server) = grounds::server(name) else { return };
    let config = ProptestConfig { cases: 12, max_shrink_iters: 60, failure_persistence: None, ..Default::default() };
    let case = AtomicUsize::new(0);
    let outcome = TestRunner::new(config).run(&prop::collection::vec(step(), 1..40), |steps| {
        let mut config = grounds::in_one_part(grounds::on_server(&server));
        let Engine::Jetstream(own) = &mut config.engine else { unreachable!() };
        own.stream = format!("case{}", case.fetch_add(1, Ordering::Relaxed));
        block_on(run(&config, steps));
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}
