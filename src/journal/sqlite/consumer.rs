//! A sink's consumer: reads after its place in the log, and beside it what replays and retried dead letters ask for.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use super::letters;
use super::page::{self, Budget, Page};
use super::settle::{self, Change, Settlement};
use super::shared::{News, Reader, Shared};
use super::sinks::Place;
use crate::event::Lane;
use crate::journal::{Consumer, Entry, JournalError, Outcome, Parked, Ticket};
use crate::names::SinkName;

/// A consumer. A later one of the same sink takes the place from it.
pub(super) struct SqliteConsumer {
    shared: Arc<Shared>,
    sink: SinkName,
    /// Which consumer of the sink it is.
    number: u64,
    reader: Reader,
    news: watch::Receiver<News>,
    /// What it knew of other things than the log when it last looked.
    others: u64,
    /// Whether the last read stopped before the end.
    more: bool,
    /// Which stream comes first the next time, so that none starves the others.
    turn: usize,
}

/// Where events come from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Log,
    Letters,
    Replay(i64),
}

/// What one read looks for.
struct Plan {
    adopted: Vec<Ticket>,
    streams: Vec<Stream>,
    requests: Vec<Option<page::Request>>,
    letters_asked: u64,
    letters_handed: BTreeSet<i64>,
}

/// What one read found.
#[derive(Default)]
struct Found {
    adopted: Vec<Entry>,
    adopted_looked_at: usize,
    pages: Vec<(Stream, Page)>,
    letters: Option<letters::Waiting>,
    letters_asked: u64,
}

impl SqliteConsumer {
    /// The consumer of a configured sink.
    pub(super) fn new(shared: Arc<Shared>, sink: SinkName) -> Result<Self, JournalError> {
        let number = {
            let mut all = shared.sinks.all();
            match all.get_mut(&sink) {
                Some(place) if place.configured => place.take(),
                _ => return Err(JournalError::Refused(format!("sink {sink} is not in the configuration"))),
            }
        };
        let news = shared.news.subscribe();
        let reader = Reader::new(shared.file.path.clone());
        Ok(Self { shared, sink, number, reader, news, others: 0, more: true, turn: 0 })
    }

    /// Works on the place, if it is still this consumer's.
    fn place<T>(&self, work: impl FnOnce(&mut Place) -> T) -> Result<T, JournalError> {
        match self.shared.sinks.all().get_mut(&self.sink) {
            Some(place) if place.consumer == self.number => Ok(work(place)),
            _ => Err(JournalError::Refused(format!("another consumer has the place of sink {}", self.sink))),
        }
    }

    /// What there is to look for; nothing, if there can be nothing.
    fn plan(&mut self, max_events: usize) -> Result<Option<Plan>, JournalError> {
        let news = *self.news.borrow_and_update();
        self.others = news.others;
        let turn = self.turn;
        self.turn = self.turn.wrapping_add(1);
        self.place(|place| {
            let mut streams = vec![];
            if place.log.scanned() < news.last_seq {
                streams.push(Stream::Log);
            }
            if place.letters_asked != place.letters_seen {
                streams.push(Stream::Letters);
            }
            let unread = place.replays.iter().filter(|(_, replay)| replay.front.scanned() < replay.last_seq);
            streams.extend(unread.map(|(id, _)| Stream::Replay(*id)));
            if !streams.is_empty() {
                let first = turn % streams.len();
                streams.rotate_left(first);
            }
            let adopted: Vec<Ticket> = place.adopted.iter().take(max_events).copied().collect();
            if streams.is_empty() && adopted.is_empty() {
                return None;
            }
            let requests = streams.iter().map(|stream| place.request(*stream, news.last_seq)).collect();
            let letters_handed = place.letters_handed.clone();
            Some(Plan { adopted, streams, requests, letters_asked: place.letters_asked, letters_handed })
        })
    }

    /// Notes what was found as handed out. What changed under the read is left, to be read again.
    fn hand_out(&mut self, plan_after: &[(Stream, u64)], found: Found) -> Result<Vec<Entry>, JournalError> {
        let mut entries = found.adopted;
        let mut more = false;
        let moved = self.place(|place| {
            place.adopted.drain(..found.adopted_looked_at.min(place.adopted.len()));
            more |= !place.adopted.is_empty();
            let mut moved = false;
            for (stream, page) in found.pages {
                more |= page.more;
                let replay = if let Stream::Replay(id) = stream { id } else { 0 };
                let unchanged = |front: &crate::journal::front::Front| plan_after.contains(&(stream, front.scanned()));
                let Some(front) = place.front(replay).filter(|front| unchanged(front)) else {
                    more = true;
                    continue;
                };
                let cursor = front.cursor();
                front.hand_out(page.events.iter().map(|(seq, _)| *seq), page.scanned);
                moved |= front.cursor() != cursor;
                entries.extend(page.events.into_iter().map(|(seq, record)| {
                    let ticket = if replay == 0 { Ticket::Log(seq) } else { Ticket::Replay { replay, seq } };
                    Entry { ticket, record }
                }));
            }
            if let Some(waiting) = found.letters {
                more |= waiting.more;
                if !waiting.more {
                    place.letters_seen = found.letters_asked;
                }
                for (letter, record) in waiting.letters {
                    place.letters_handed.insert(letter);
                    entries.push(Entry { ticket: Ticket::Letter(letter), record });
                }
            }
            place.dirty |= moved;
            moved
        })?;
        self.more = more;
        if moved {
            self.shared.queue.moved();
        }
        Ok(entries)
    }
}

/// Reads what is planned, what comes first as far as the budget goes. Each page is a view of the file of its own.
fn look(conn: &Connection, sink: &SinkName, plan: &Plan, mut budget: Budget) -> rusqlite::Result<Found> {
    let mut found = Found { letters_asked: plan.letters_asked, ..Found::default() };
    for ticket in &plan.adopted {
        if let Some(record) = letters::load(conn, *ticket)? {
            if !budget.admits(record.raw.len()) {
                break;
            }
            found.adopted.push(Entry { ticket: *ticket, record });
        }
        found.adopted_looked_at += 1;
    }
    for (stream, request) in plan.streams.iter().zip(&plan.requests) {
        match request {
            Some(request) => found.pages.push((*stream, page::read(conn, request, &mut budget)?)),
            None => found.letters = Some(letters::waiting(conn, sink, &plan.letters_handed, &mut budget)?),
        }
    }
    Ok(found)
}

impl Place {
    /// What of this stream comes next.
    fn request(&self, stream: Stream, last_seq: u64) -> Option<page::Request> {
        match stream {
            Stream::Letters => None,
            Stream::Log => Some(page::Request {
                after: self.log.scanned(),
                upto: last_seq,
                wants: vec![self.wants.clone()],
                received: None,
                except: self.log.parked_ahead(),
            }),
            Stream::Replay(id) => self.replays.get(&id).map(|replay| page::Request {
                after: replay.front.scanned(),
                upto: replay.last_seq,
                wants: vec![self.wants.clone(), replay.kinds.clone()],
                received: Some((replay.from, replay.to)),
                except: replay.front.parked_ahead(),
            }),
        }
    }
}

#[async_trait]
impl Consumer for SqliteConsumer {
    async fn parked(&mut self) -> Result<Vec<Parked>, JournalError> {
        self.place(|place| place.adopted.clear())?;
        let sink = self.sink.clone();
        self.reader.read(move |conn| parked(conn, &sink)).await
    }

    async fn load(&mut self, ticket: Ticket) -> Result<Option<Entry>, JournalError> {
        let record = self.reader.read(move |conn| letters::load(conn, ticket)).await?;
        Ok(record.map(|record| Entry { ticket, record }))
    }

    async fn read(&mut self, max_events: usize, max_bytes: usize) -> Result<Vec<Entry>, JournalError> {
        let max_events = max_events.max(1);
        let Some(plan) = self.plan(max_events)? else {
            self.more = false;
            return Ok(Vec::new());
        };
        // Until it is known what the file has: a future dropped here must not make `ready` wait for nothing.
        self.more = true;
        let after: Vec<(Stream, u64)> = plan
            .streams
            .iter()
            .zip(&plan.requests)
            .filter_map(|(stream, request)| Some((*stream, request.as_ref()?.after)))
            .collect();
        let mut budget = Budget::new(max_events, max_bytes);
        if let (true, [Stream::Log], [Some(request)]) = (plan.adopted.is_empty(), &plan.streams[..], &plan.requests[..])
            && let Some(page) = self.shared.tail.read(request, &mut budget)
        {
            return self.hand_out(&after, Found { pages: vec![(Stream::Log, page)], ..Found::default() });
        }
        let sink = self.sink.clone();
        let found = self.reader.read(move |conn| look(conn, &sink, &plan, budget)).await?;
        self.hand_out(&after, found)
    }

    async fn caught_up(&mut self) -> Result<bool, JournalError> {
        let last = self.news.borrow().last_seq;
        let scanned = self.place(|place| place.log.scanned())?;
        Ok(!self.more && scanned >= last)
    }

    async fn ready(&mut self) {
        if self.more {
            return;
        }
        let Ok(scanned) = self.place(|place| place.log.scanned()) else {
            // Reading says why.
            return;
        };
        let others = self.others;
        if self.news.wait_for(|news| news.last_seq > scanned || news.others != others).await.is_err() {
            // The journal is closed: nothing will come any more.
            std::future::pending::<()>().await;
        }
    }

    async fn settle(&mut self, outcomes: Vec<(Ticket, Outcome)>) -> Result<(), JournalError> {
        let (changes, moved) = self.place(|place| {
            let mut moved = false;
            let mut changes = Vec::new();
            for (ticket, outcome) in outcomes {
                match place.settle(ticket, outcome) {
                    Some(change) => changes.push(change),
                    None => moved = true,
                }
            }
            place.dirty |= moved;
            (changes, moved)
        })?;
        if moved {
            self.shared.queue.moved();
        }
        if changes.is_empty() {
            return Ok(());
        }
        let (reply, answer) = oneshot::channel();
        let sink = self.sink.clone();
        self.shared.queue.settle(Settlement { sink, consumer: self.number, changes, reply })?;
        answer.await.unwrap_or(Err(JournalError::Closed))
    }

    async fn flush(&mut self) -> Result<(), JournalError> {
        self.shared.ask(|writer| writer.transact(|_| Ok(())).map_err(|error| super::error::failure(&error))).await
    }
}

impl Place {
    /// Takes an outcome in: the change of rows that it needs, if any.
    fn settle(&mut self, ticket: Ticket, outcome: Outcome) -> Option<Change> {
        let delivered = matches!(outcome, Outcome::Delivered);
        let (replay, seq) = match ticket {
            Ticket::Log(seq) => (0, seq),
            Ticket::Replay { replay, seq } => (replay, seq),
            Ticket::Letter(letter) if self.letters_handed.contains(&letter) => {
                self.delivered |= delivered;
                return match outcome {
                    Outcome::Delivered | Outcome::LetGo => Some(Change::Revive { letter }),
                    Outcome::Dead { reason, attempts } => Some(Change::BuryAgain { letter, attempts, reason }),
                    // It has a row of its own already.
                    Outcome::Parked => None,
                };
            }
            Ticket::Letter(_) => return None,
        };
        let front = self.front(replay)?;
        // Settled before, or skipped meanwhile.
        if !front.awaits(seq) {
            return None;
        }
        let parked = front.parked().contains(&seq);
        self.delivered |= delivered;
        match outcome {
            Outcome::Delivered | Outcome::LetGo if parked => Some(Change::Unpark { replay, seq }),
            Outcome::Delivered => {
                settle::finish(self, replay, seq);
                None
            }
            Outcome::LetGo => {
                self.front(replay).map(|front| front.done(seq));
                None
            }
            Outcome::Parked if parked => None,
            Outcome::Parked => Some(Change::Park { replay, seq }),
            Outcome::Dead { reason, attempts } => Some(Change::Bury { replay, seq, attempts, reason }),
        }
    }
}

/// What is parked for this sink, oldest first: of the log before that of replays.
fn parked(conn: &Connection, sink: &SinkName) -> rusqlite::Result<Vec<Parked>> {
    let mut statement = conn
        .prepare_cached("SELECT replay, seq, id, source, subject FROM parked WHERE sink = ?1 ORDER BY replay, seq")?;
    let mut rows = statement.query([sink.as_str()])?;
    let mut parked = Vec::new();
    while let Some(row) = rows.next()? {
        let (replay, seq) = (row.get(0)?, row.get(1)?);
        let ticket = if replay == 0 { Ticket::Log(seq) } else { Ticket::Replay { replay, seq } };
        let lane = match super::row::subject(row, 4)? {
            Some(subject) => {
                let source = row.get_ref(3)?.as_str()?.parse().map_err(|error| super::row::invalid(3, error))?;
                Lane::Person(source, subject)
            }
            None => Lane::Single(super::row::id(row, 2)?),
        };
        parked.push(Parked { ticket, lane });
    }
    Ok(parked)
}
