//! A consumer of a journal that one process has to itself, for tests of what comes from it. On JetStream it is told to
//! end where the process was too slow to renew its lease, as on a busy machine; as a dispatcher does then, it asks for
//! another, and whoever reads notices nothing: what was handed out and not settled does not come twice.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use hooksink::journal::{Consumer, Entry, Journal, JournalError, Outcome, Parked, Ticket};
use hooksink::names::SinkName;
use tokio_util::sync::CancellationToken;

use crate::journal::sink;

struct Steady {
    journal: Arc<dyn Journal>,
    sink: SinkName,
    consumer: Box<dyn Consumer>,
    /// Handed out, and not settled.
    in_hand: BTreeSet<Ticket>,
    /// Told of as parked, or parked here.
    parked: BTreeSet<Ticket>,
    /// What came while it was waited for what is in hand.
    waiting: VecDeque<Entry>,
}

/// The consumer of this sink.
pub(crate) async fn steady(journal: &Arc<dyn Journal>, name: &str) -> Box<dyn Consumer> {
    let consumer = journal.consumer(&sink(name)).await.unwrap_or_else(|error| panic!("{error}"));
    Box::new(Steady {
        journal: Arc::clone(journal),
        sink: sink(name),
        consumer,
        in_hand: BTreeSet::new(),
        parked: BTreeSet::new(),
        waiting: VecDeque::new(),
    })
}

impl Steady {
    /// Asks for another consumer as long as it is told to, until that has handed out what is in hand.
    async fn keep_up(&mut self) -> Result<(), JournalError> {
        let all = async {
            while self.consumer.moved().is_cancelled() {
                println!("the consumer of {} was told to end", self.sink);
                // It writes what the one before has settled; where the servers are too slow for that, it is tried again.
                match self.journal.consumer(&self.sink).await {
                    Ok(consumer) => {
                        self.consumer = consumer;
                        self.begin().await?;
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
            Ok(())
        };
        tokio::time::timeout(Duration::from_secs(60), all).await.expect("what was handed out should come again")
    }

    async fn begin(&mut self) -> Result<(), JournalError> {
        let mut again = self.in_hand.clone();
        self.waiting.clear();
        for Parked { ticket, .. } in self.consumer.parked().await? {
            again.remove(&ticket);
            // Where the one before had no part of the log, this one is the first to tell of it.
            if !self.parked.contains(&ticket) && !self.in_hand.contains(&ticket) {
                self.waiting.extend(self.consumer.load(ticket).await?);
            }
        }
        let moved = self.consumer.moved();
        while !again.is_empty() && !moved.is_cancelled() {
            tokio::select! {
                () = self.consumer.ready() => {}
                () = moved.cancelled() => break,
            }
            for entry in self.consumer.read(1000, usize::MAX).await? {
                if !again.remove(&entry.ticket) {
                    self.waiting.push_back(entry);
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Consumer for Steady {
    async fn parked(&mut self) -> Result<Vec<Parked>, JournalError> {
        let parked = self.consumer.parked().await?;
        self.parked.extend(parked.iter().map(|parked| parked.ticket));
        Ok(parked)
    }

    async fn load(&mut self, ticket: Ticket) -> Result<Option<Entry>, JournalError> {
        self.consumer.load(ticket).await
    }

    async fn read(&mut self, max_events: usize, max_bytes: usize) -> Result<Vec<Entry>, JournalError> {
        self.keep_up().await?;
        let entries = match self.waiting.is_empty() {
            true => self.consumer.read(max_events, max_bytes).await?,
            false => self.waiting.drain(..max_events.min(self.waiting.len())).collect(),
        };
        self.in_hand.extend(entries.iter().map(|entry| entry.ticket));
        Ok(entries)
    }

    async fn ready(&mut self) {
        if !self.waiting.is_empty() {
            return;
        }
        let moved = self.consumer.moved();
        tokio::select! {
            () = self.consumer.ready() => {}
            () = moved.cancelled() => {}
        }
    }

    async fn settle(&mut self, outcomes: Vec<(Ticket, Outcome)>) -> Result<(), JournalError> {
        self.keep_up().await?;
        for (ticket, outcome) in &outcomes {
            self.in_hand.remove(ticket);
            match outcome {
                Outcome::Parked => self.parked.insert(*ticket),
                Outcome::Delivered | Outcome::LetGo | Outcome::Dead { .. } => self.parked.remove(ticket),
            };
        }
        self.consumer.settle(outcomes).await
    }

    async fn flush(&mut self) -> Result<(), JournalError> {
        self.consumer.flush().await
    }

    async fn caught_up(&mut self) -> Result<bool, JournalError> {
        Ok(self.waiting.is_empty() && self.consumer.caught_up().await?)
    }

    fn moved(&self) -> CancellationToken {
        self.consumer.moved()
    }
}
