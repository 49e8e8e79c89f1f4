//! Senders under load: each person's echoes in order, over a connection of its own, each again until it is acknowledged.
//! And the comparison of what the senders were told with what arrived.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{fs, thread};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::echo::echo_request;
use crate::wire::{Answer, Wire};

/// The source that they send to, with the secret that they sign with.
pub(crate) const SOURCE: &str = r#"
    [sources.messenger]
    type = "meta"
    verify_token = "token"
    app_secrets = ["the app secret of these tests"]
"#;

/// A sender of one person's echoes.
pub(crate) struct Sender {
    person: usize,
    /// How many were acknowledged: the number of the next one.
    next: usize,
    /// How long it waits after a 200.
    pace: Duration,
}

/// How far the senders are.
#[derive(Default)]
pub(crate) struct Load {
    acknowledged: AtomicUsize,
    refused: AtomicUsize,
    unanswered: AtomicUsize,
    /// How long each 200 took.
    took: Mutex<Vec<Duration>>,
    /// When the last 200 came, and the longest time without one.
    silence: Mutex<(Option<Instant>, Duration)>,
    over: AtomicBool,
}

impl Load {
    /// 200s.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// 503s.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    /// Requests whose connection ended without an answer.
    pub(crate) fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::SeqCst)
    }

    /// The time that so many of a thousand 200s took at most.
    pub(crate) fn took(&self, of_a_thousand: usize) -> Duration {
        let mut took = self.took.lock().expect("no panic").clone();
        took.sort_unstable();
        took.get((took.len() * of_a_thousand / 1000).min(took.len().saturating_sub(1))).copied().unwrap_or_default()
    }

    /// The longest time without a 200 so far.
    pub(crate) fn longest_without(&self) -> Duration {
        self.silence.lock().expect("no panic").1
    }

    fn acknowledge(&self, took: Duration) {
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
        self.took.lock().expect("no panic").push(took);
        let mut silence = self.silence.lock().expect("no panic");
        let now = Instant::now();
        let lasted = silence.0.replace(now).map_or(Duration::ZERO, |last| now - last);
        silence.1 = silence.1.max(lasted);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

/// Ends the load also when a test fails in the middle of it.
struct Ends<'a>(&'a Load);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::SeqCst);
    }
}

/// So many senders, of whom nobody has sent anything.
pub(crate) fn senders(count: usize) -> Vec<Sender> {
    (0..count).map(|person| Sender { person, next: 0, pace: Duration::ZERO }).collect()
}

/// Has all of them send until `test` is done, or until the server is gone.
pub(crate) fn under_load<T>(senders: &mut [Sender], to: SocketAddr, test: impl FnOnce(&Load) -> T) -> T {
    under_load_through(senders, &[503], || Wire::connect(Ipv4Addr::LOCALHOST, to, None), test)
}

/// The same at a walking pace, for a target that is read whole over and over: each waits this long after a 200.
pub(crate) fn under_gentle_load<T>(
    senders: &mut [Sender],
    to: SocketAddr,
    pace: Duration,
    test: impl FnOnce(&Load) -> T,
) -> T {
    senders.iter_mut().for_each(|sender| sender.pace = pace);
    under_load(senders, to, test)
}

/// The same over connections to a proxy, which answers with some of these statuses when it gets no answer itself.
pub(crate) fn under_load_through<T>(
    senders: &mut [Sender],
    refusals: &[u16],
    connect: impl Fn() -> std::io::Result<Wire> + Sync,
    test: impl FnOnce(&Load) -> T,
) -> T {
    let load = Load::default();
    let connect = &connect;
    thread::scope(|scope| {
        let _ends = Ends(&load);
        for sender in senders {
            scope.spawn(|| sender.send(refusals, connect, &load));
        }
        test(&load)
    })
}

impl Sender {
    fn send(&mut self, refusals: &[u16], connect: &(impl Fn() -> std::io::Result<Wire> + Sync), load: &Load) {
        while !load.is_over()
            && let Ok(mut wire) = connect()
        {
            // A connection that ends says nothing of the request on it: the next one sends it again.
            while !load.is_over() {
                let asked = Instant::now();
                let Some(answer) = self.ask(&mut wire) else {
                    load.unanswered.fetch_add(1, Ordering::SeqCst);
                    break;
                };
                self.note(&answer, refusals, asked.elapsed(), load);
            }
        }
    }

    fn ask(&self, wire: &mut Wire) -> Option<Answer> {
        let request = echo_request("messenger", &mid(self.person, self.next), &self.person.to_string());
        wire.send(&request).ok()?;
        wire.answer(false).expect("an answer, or the end of the connection")
    }

    fn note(&mut self, answer: &Answer, refusals: &[u16], took: Duration, load: &Load) {
        match answer.status {
            200 => {
                self.next += 1;
                load.acknowledge(took);
                if !self.pace.is_zero() {
                    thread::sleep(self.pace);
                }
            }
            503 => {
                assert!(answer.head.to_lowercase().contains("\r\nretry-after: "), "{answer:?}");
                load.refused.fetch_add(1, Ordering::SeqCst);
            }
            status if refusals.contains(&status) => {
                load.refused.fetch_add(1, Ordering::SeqCst);
                // Such an answer costs a proxy nothing, and a sender takes its time.
                thread::sleep(Duration::from_millis(20));
            }
            _ => panic!("neither 200 nor {refusals:?}: {answer:?}"),
        }
    }
}

fn mid(person: usize, number: usize) -> String {
    format!("m_{person}-{number}")
}

/// The mids of all events that were acknowledged.
pub(crate) fn owed(senders: &[Sender]) -> Vec<String> {
    senders.iter().flat_map(|sender| (0..sender.next).map(|number| mid(sender.person, number))).collect()
}

/// The events of a text of JSON Lines; a last line without its end is left out.
pub(crate) fn events(lines: &str) -> Vec<Value> {
    let whole = lines.rfind('\n').map_or("", |end| &lines[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The events in a file of a sink.
pub(crate) fn events_in(file: &Path) -> Vec<Value> {
    events(&fs::read_to_string(file).unwrap_or_default())
}

/// Whether all that is owed is among these.
pub(crate) fn has_all(events: &[Value], owed: &[String]) -> bool {
    let mids: HashSet<_> = events.iter().filter_map(|event| event["data"]["mid"].as_str()).collect();
    owed.iter().all(|mid| mids.contains(mid.as_str()))
}

/// Checks what a sink was handed, in the order it came: nothing owed is missing, copies have the id of the first, no two
/// events share one, and the first copies of each person's events come in order and without a gap.
#[track_caller]
pub(crate) fn check(sink: &str, events: &[Value], owed: &[String]) {
    let mut ids = HashMap::new();
    let mut next: HashMap<String, usize> = HashMap::new();
    for event in events {
        let mid = event["data"]["mid"].as_str().expect("a mid").to_owned();
        let id = event["id"].as_str().expect("an id").to_owned();
        let (person, number) = mid["m_".len()..].split_once('-').expect("our own form");
        let (person, number) = (person.to_owned(), number.parse::<usize>().expect("our own form"));
        match ids.insert(mid, id.clone()) {
            Some(earlier) => assert_eq!(earlier, id, "{sink}: the id of an event changed"),
            None => {
                let next = next.entry(person.clone()).or_default();
                assert_eq!(*next, number, "{sink}: out of order for person {person}");
                *next += 1;
            }
        }
    }
    let lost: Vec<_> = owed.iter().filter(|mid| !ids.contains_key(*mid)).collect();
    assert!(lost.is_empty(), "{sink}: lost {lost:?}");
    assert_eq!(ids.values().collect::<HashSet<_>>().len(), ids.len(), "{sink}: two events share an id");
}

/// Checks the journal of a server that has ended: it is sound, holds every event that was acknowledged, and none twice.
/// What was not acknowledged may be there: `unanswered` events at most. How many it holds.
#[track_caller]
pub(crate) fn check_journal(path: &Path, owed: &[String], unanswered: usize) -> usize {
    let journal = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).expect("a journal");
    let sound: String = journal.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a database");
    assert_eq!(sound, "ok");
    let stored = stored(&journal);
    let distinct: HashSet<_> = stored.iter().map(|(id, _)| id).collect();
    assert_eq!(distinct.len(), stored.len(), "an event stands twice in the journal");
    let mids: HashSet<_> = stored.iter().map(|(_, mid)| mid.as_str()).collect();
    let lost: Vec<_> = owed.iter().filter(|mid| !mids.contains(mid.as_str())).collect();
    assert!(lost.is_empty(), "not in the journal: {lost:?}");
    assert!(
        (owed.len()..=owed.len() + unanswered).contains(&stored.len()),
        "{} rows for {} acknowledged events",
        stored.len(),
        owed.len()
    );
    stored.len()
}

/// The id and the mid of every event that the journal holds.
pub(crate) fn stored(journal: &Connection) -> Vec<(Vec<u8>, String)> {
    let mut tables = journal
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'events~_%' ESCAPE '~'")
        .expect("a journal");
    let tables: Vec<String> = tables.query_map([], |row| row.get(0)).expect("a journal").map(Result::unwrap).collect();
    let mut stored = Vec::new();
    for table in tables {
        let mut statement = journal.prepare(&format!("SELECT id, raw FROM {table} ORDER BY seq")).expect("a segment");
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?));
        for row in statement.query_map([], row).expect("a segment") {
            let (id, raw) = row.expect("a row");
            let item: Value = serde_json::from_slice(&raw).expect("an echo");
            stored.push((id, item["message"]["mid"].as_str().expect("an echo").to_owned()));
        }
    }
    stored
}
