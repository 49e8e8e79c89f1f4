//! SIGKILL under load, over and over: what was acknowledged is kept, once, and leaves in order.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use crate::echo::{SECRET, echo_request};
use crate::support::server::{TestServer, eventually};

/// People who are sent messages, each over a connection of its own, so that commits hold events of several.
const PEOPLE: usize = 8;

/// A sender of one person's echoes: in order, and again until they are acknowledged.
struct Sender {
    person: usize,
    /// The number of the next event that was not acknowledged.
    next: usize,
}

impl Sender {
    /// Sends until the server is gone.
    fn send(&mut self, to: SocketAddr, acknowledged: &AtomicUsize) {
        while let Ok(stream) = TcpStream::connect(to) {
            if self.over(stream, acknowledged).is_err() {
                return;
            }
        }
    }

    fn over(&mut self, mut stream: TcpStream, acknowledged: &AtomicUsize) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        loop {
            stream.write_all(&echo_request("messenger", &mid(self.person, self.next), &self.person.to_string()))?;
            let mut answer = Vec::new();
            let mut buffer = [0; 4096];
            while !answer.ends_with(b"}") {
                let length = stream.read(&mut buffer)?;
                if length == 0 {
                    return Ok(());
                }
                answer.extend_from_slice(&buffer[..length]);
            }
            assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
            self.next += 1;
            acknowledged.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn mid(person: usize, number: usize) -> String {
    format!("m_{person}-{number}")
}

#[test]
fn nothing_acknowledged_is_lost_doubled_or_overtaken() {
    let rounds = std::env::var("HOOKSINK_KILL_ROUNDS").map_or(20, |rounds| rounds.parse().expect("a number"));
    let mut folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let config = format!(
        r#"
        [journal]
        path = "journal.db"
        wal_limit = "1 MiB"
        segment_events = 1000
        [sources.messenger]
        type = "meta"
        verify_token = "token"
        app_secrets = ["{SECRET}"]
        [sinks.archive]
        type = "file"
        path = "events.jsonl"
        batch_events = 50
        "#
    );
    let mut senders: Vec<_> = (0..PEOPLE).map(|person| Sender { person, next: 0 }).collect();
    for round in 0..rounds {
        let server = TestServer::start_with(folder, &config, &[]);
        let address = server.public;
        let acknowledged = AtomicUsize::new(0);
        // Early and late: some rounds end while the journal still recovers, others after a checkpoint.
        let enough = [1, 40, 400, 5, 150, 1000][round % 6];
        folder = thread::scope(|scope| {
            for sender in &mut senders {
                scope.spawn(|| sender.send(address, &acknowledged));
            }
            eventually("progress", || (acknowledged.load(Ordering::SeqCst) >= enough).then_some(()));
            server.crash()
        });
    }

    let server = TestServer::start_with(folder, &config, &[]);
    let path = server.folder().join("events.jsonl");
    let total: usize = senders.iter().map(|sender| sender.next).sum();
    let owed: Vec<String> =
        senders.iter().flat_map(|sender| (0..sender.next).map(|number| mid(sender.person, number))).collect();
    let arrived = || {
        let lines = fs::read_to_string(&path).unwrap_or_default();
        // The last line may be half written still.
        let whole = lines.rfind('\n').map_or("", |end| &lines[..end]);
        let events: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).expect("a whole line")).collect();
        events
    };
    let all_arrived = || {
        let events = arrived();
        let mids: HashSet<_> = events.iter().map(|event| event["data"]["mid"].as_str().expect("a mid")).collect();
        owed.iter().all(|mid| mids.contains(mid.as_str()))
    };
    eventually("every acknowledged event is in the file", || all_arrived().then_some(()));
    let folder = server.stop();

    // Per person in order, counting the first time: delivery is at least once, and always under the same id.
    let mut ids = HashMap::new();
    let mut last = HashMap::new();
    for event in arrived() {
        let mid = event["data"]["mid"].as_str().expect("a mid").to_owned();
        let id = event["id"].as_str().expect("an id").to_owned();
        let (person, number) = mid["m_".len()..].split_once('-').expect("our own form");
        let (person, number) = (person.to_owned(), number.parse::<usize>().expect("our own form"));
        match ids.insert(mid, id.clone()) {
            Some(earlier) => assert_eq!(earlier, id, "the id of an event changed"),
            None => {
                let before = last.insert(person.clone(), number);
                assert_eq!(before.map_or(0, |before| before + 1), number, "out of order for person {person}");
            }
        }
    }
    assert_eq!(ids.values().collect::<HashSet<_>>().len(), ids.len(), "two events share an id");

    let (rows, distinct) = ids_in_the_journal(&folder.path().join("journal.db"));
    assert_eq!(rows, distinct, "an event stands twice in the journal");
    // What was written when the kill came may be there without having been acknowledged, one a person.
    assert!((total..=total + PEOPLE).contains(&rows), "{rows} rows for {total} acknowledged events");
}

/// How many events the journal's segments hold, and how many different ids.
fn ids_in_the_journal(path: &Path) -> (usize, usize) {
    let journal = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    let mut tables = journal
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name LIKE 'events~_%' ESCAPE '~'")
        .unwrap();
    let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut ids = Vec::new();
    for table in tables {
        let mut statement = journal.prepare(&format!("SELECT id FROM {table}")).unwrap();
        ids.extend(statement.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap().map(Result::unwrap));
    }
    (ids.len(), ids.into_iter().collect::<HashSet<_>>().len())
}
