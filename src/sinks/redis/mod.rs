//! `type = "redis"`: events as entries of streams, with XADD.
//!
//! Order: where several events of a person are sent at once, they go as one transaction (MULTI, EXEC). A server that
//! refuses one of its commands, since it is out of memory, a replica, or loading, then runs none of them; a connection
//! that breaks leaves all of them or none. Without it, a person's later event could be taken after an earlier one was
//! refused. What a transaction does not stop at is a key that holds something else than a stream, so a person's events
//! are together in one only as long as they go to one stream; the next stream's turn comes when those before are
//! acknowledged. In a cluster, where a transaction is of one slot, each stream has its own. Where everybody has one event
//! there is no order to keep, and a transaction would cost the server as much again.
//!
//! Whatever else fails is mended by someone, or passes, and is no event's fault: only one that is too large is refused.
//! An event that was taken without our learning of it is added again, under the same id.

mod check;
mod connection;
mod failure;
mod settings;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use redis::{Cmd, Pipeline, RedisError, Value};
use uuid::Uuid;

use self::connection::Connection;
use self::failure::{describe, refusal};
pub use self::settings::{Address, Deployment, RedisSinkConfig};
use super::rounds::rounds;
use super::shared::Shared;
use super::{Blame, BoxError, Checked, Limits, Sink, Undelivered};
use crate::event::{Event, LaneMap};
use crate::model::with_rfc3339;

/// Every server takes values of this size: proto-max-bulk-len cannot be set to less.
const LEAST_LIMIT: usize = 1 << 20;

/// The arguments of an XADD, and about how many bytes they take without the data.
const ARGUMENTS: usize = 18;
const ARGUMENTS_BYTES: usize = 256;

/// Adds events to streams.
pub struct RedisSink {
    config: RedisSinkConfig,
    connection: Shared<Connection>,
}

/// How entries that are sent at once go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Together {
    /// Each by itself.
    Pipeline,
    /// All or none.
    Transaction,
}

/// An entry to be.
struct Entry<'a> {
    event: &'a Event,
    stream: Cow<'a, str>,
    /// Where its data lies among that of all entries.
    data: Range<usize>,
}

/// Entries, and the data of all of them.
#[derive(Default)]
struct Entries<'a> {
    entries: Vec<Entry<'a>>,
    data: Vec<u8>,
}

impl RedisSink {
    /// A sink of this configuration. Nothing is connected before the first event.
    pub fn new(config: RedisSinkConfig) -> Self {
        // A connection that ended is noticed by the next call that uses it.
        Self { config, connection: Shared::new(|_| true) }
    }

    async fn send(&self, events: &[Event], used: &OnceLock<Arc<Connection>>) -> Result<(), Undelivered> {
        let shared = self.connection.get(async || Connection::open(&self.config).await);
        let shared = shared.await.map_err(|cause| Undelivered::unknown(0, cause))?;
        let mut connection = used.get_or_init(|| shared).as_ref().clone();
        let mut batch = Entries::default();
        for event in events {
            let start = batch.data.len();
            self.config.encoding.encode_to(event, &mut batch.data);
            let data = start..batch.data.len();
            if data.len() > LEAST_LIMIT
                && let Some(limit) = check::largest_value(&mut connection).await
                && data.len() as u64 > limit
            {
                let cause =
                    format!("{} bytes are more than the server takes (proto-max-bulk-len: {limit})", data.len());
                // Those before it are not its fault.
                self.add(&mut connection, &batch).await?;
                return Err(Undelivered::refused(batch.entries.len(), cause));
            }
            batch.entries.push(Entry { event, stream: self.config.stream.render(&event.record), data });
        }
        self.add(&mut connection, &batch).await
    }

    /// Adds the entries, in turns that keep each person's order whatever fails.
    async fn add(&self, connection: &mut Connection, batch: &Entries<'_>) -> Result<(), Undelivered> {
        let entries = &batch.entries[..];
        if entries.is_empty() {
            return Ok(());
        }
        let mut added = vec![false; entries.len()];
        let together = if one_each(entries) { Together::Pipeline } else { Together::Transaction };
        let rounds = match together {
            Together::Pipeline => vec![(0..entries.len()).collect()],
            Together::Transaction => {
                rounds(entries.iter().map(|entry| (entry.event.record.lane_ref(), &*entry.stream)))
            }
        };
        for round in rounds {
            let transactions = match connection {
                Connection::Server(_) => vec![round],
                Connection::Cluster(_) => by_stream(&round, entries),
            };
            let runs = transactions.into_iter().map(|positions| {
                let mut connection = connection.clone();
                async move {
                    let results = self.send_together(&mut connection, &positions, batch, together).await;
                    positions.into_iter().zip(results).collect::<Vec<_>>()
                }
            });
            let mut failed: Option<(usize, RedisError)> = None;
            for (position, result) in join_all(runs).await.into_iter().flatten() {
                match result {
                    Ok(()) => added[position] = true,
                    Err(error) if failed.as_ref().is_none_or(|(first, _)| position < *first) => {
                        failed = Some((position, error));
                    }
                    Err(_) => {}
                }
            }
            if let Some((position, error)) = failed {
                let delivered = added.iter().position(|added| !added).unwrap_or(position);
                let cause = format!("{}: {}", entries[position].stream, describe(&error));
                return Err(Undelivered::unknown(delivered, cause));
            }
        }
        Ok(())
    }

    /// Adds the entries at these positions: what became of each. In a transaction all or none of them are added, but for
    /// what stands in the way of single streams.
    async fn send_together(
        &self,
        connection: &mut Connection,
        positions: &[usize],
        batch: &Entries<'_>,
        together: Together,
    ) -> Vec<Result<(), RedisError>> {
        let in_transaction = together == Together::Transaction && positions.len() > 1;
        let mut pipeline = Pipeline::with_capacity(positions.len() + 2);
        pipeline.ignore_errors();
        if in_transaction {
            pipeline.cmd("MULTI");
        }
        let mut source = String::new();
        for position in positions {
            let entry = &batch.entries[*position];
            self.append(&mut pipeline, entry, &batch.data[entry.data.clone()], &mut source);
        }
        if in_transaction {
            pipeline.cmd("EXEC");
        }
        let answers = connection.run(&pipeline).await;
        let results = answers.and_then(|mut answers| {
            if !in_transaction {
                return if answers.len() == positions.len() { Ok(answers) } else { Err(no_answer()) };
            }
            match answers.pop() {
                Some(Value::Array(results)) if results.len() == positions.len() => Ok(results),
                // It was given up: the refusal of a command says why, that of EXEC only repeats it.
                last => Err(answers.into_iter().chain(last).find_map(refusal).unwrap_or_else(no_answer)),
            }
        });
        match results {
            Ok(results) => results.into_iter().map(|result| refusal(result).map_or(Ok(()), Err)).collect(),
            Err(error) => positions.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// Appends an XADD. `source` is memory for a text, used again for each entry.
    fn append(&self, pipeline: &mut Pipeline, entry: &Entry<'_>, data: &[u8], source: &mut String) {
        let record = &*entry.event.record;
        let mut add = Cmd::with_capacity(ARGUMENTS, data.len() + ARGUMENTS_BYTES);
        add.arg("XADD").arg(&*entry.stream);
        if let Some(max_len) = self.config.max_len {
            add.arg("MAXLEN").arg("~").arg(max_len);
        }
        // Always the same fields in the same order: their names are then stored once for many entries.
        add.arg("*").arg("id").arg(record.id.0.hyphenated().encode_lower(&mut Uuid::encode_buffer()) as &str);
        add.arg("type").arg(record.kind.as_str());
        source.clear();
        source.push_str("/webhooks/");
        source.push_str(record.source.as_str());
        add.arg("source").arg(&**source);
        add.arg("subject").arg(record.subject.as_ref().map_or("", |subject| subject.as_str()));
        with_rfc3339(record.occurred_at.unwrap_or(record.received_at), |time| {
            add.arg("time").arg(time).arg("data").arg(data)
        });
        pipeline.add_command(add);
    }
}

#[async_trait]
impl Sink for RedisSink {
    async fn deliver(&self, events: &[Event]) -> Result<(), Undelivered> {
        let used = OnceLock::new();
        let sent = tokio::time::timeout(self.config.calls.timeout, self.send(events, &used)).await;
        let failure = match sent {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(failure)) => failure,
            Err(_) => Undelivered::unknown(0, format!("no answer within {:?}", self.config.calls.timeout)),
        };
        if let Some(connection) = used.get()
            && failure.blame == Blame::Unknown
        {
            // The next call makes a new connection: to where the master is then, and with the password of then.
            self.connection.forget(connection);
        }
        Err(failure)
    }

    fn limits(&self) -> Limits {
        self.config.calls.limits(Duration::ZERO)
    }

    async fn check(&self) -> Result<Checked, BoxError> {
        match tokio::time::timeout(self.config.calls.timeout, check::check(&self.config)).await {
            Ok(checked) => checked,
            Err(_) => Err(format!("no answer within {:?}", self.config.calls.timeout).into()),
        }
    }

    async fn close(&self) -> Result<(), BoxError> {
        self.connection.take();
        Ok(())
    }
}

/// Whether no two of these are of one person.
fn one_each(entries: &[Entry<'_>]) -> bool {
    let mut seen = LaneMap::with_capacity_and_hasher(entries.len(), Default::default());
    entries.iter().all(|entry| seen.insert(entry.event.record.lane_ref(), ()).is_none())
}

/// The positions of each stream.
fn by_stream(positions: &[usize], entries: &[Entry<'_>]) -> Vec<Vec<usize>> {
    let mut streams: Vec<(&str, Vec<usize>)> = Vec::new();
    for position in positions {
        let stream = &*entries[*position].stream;
        match streams.iter_mut().find(|(other, _)| *other == stream) {
            Some((_, positions)) => positions.push(*position),
            None => streams.push((stream, vec![*position])),
        }
    }
    streams.into_iter().map(|(_, positions)| positions).collect()
}

/// What stands for an answer that is none.
fn no_answer() -> RedisError {
    (redis::ErrorKind::UnexpectedReturnType, "no array of results").into()
}
