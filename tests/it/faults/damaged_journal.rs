//! Journals that are damaged: it is said, nothing is overwritten, and what is not damaged can be got out again.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use hooksink::names::SourceType;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::echo::{SECRET, echo};
use crate::programs::find_or_skip;
use crate::support::runtime;
use crate::support::senders::{SOURCE, events_in, stored};
use crate::support::server::{TestServer, eventually};

const PAGE: usize = 4096;
const EVENTS: usize = 60;

fn config() -> String {
    let sink = "[sinks.archive]\ntype = \"file\"\npath = \"events.jsonl\"\nfrom = \"start\"\n";
    format!("{SOURCE}\n[journal]\npath = \"journal.db\"\ndisk_reserve = \"1 MiB\"\n{sink}")
}

/// A server that has stored events, each of a kilobyte, which no sink has yet.
fn filled() -> TestServer {
    let runtime = runtime();
    let server = TestServer::start(config().split("[sinks").next().unwrap());
    for number in 0..EVENTS {
        assert_eq!(runtime.block_on(send(&server, number)), 200);
    }
    server
}

async fn send(server: &TestServer, number: usize) -> u16 {
    let body = String::from_utf8(echo(&format!("m_0-{number}"), "0")).unwrap();
    server.post(SourceType::Meta, "messenger", SECRET, body.replacen("Gr", &"x".repeat(900), 1)).await.status
}

/// The file after a stop, which leaves no write-ahead log.
fn stopped() -> Vec<u8> {
    fs::read(filled().stop().path().join("journal.db")).unwrap()
}

/// The file and its log after a crash.
fn crashed() -> (Vec<u8>, Vec<u8>) {
    let folder = filled().crash();
    let read = |name| fs::read(folder.path().join(name)).unwrap();
    (read("journal.db"), read("journal.db-wal"))
}

fn garbage(bytes: &mut [u8]) {
    rand::fill(bytes);
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    fs::write(folder.path().join("hooksink.toml"), config()).unwrap();
    folder
}

/// What came of a start.
#[derive(Debug)]
enum Came {
    /// It ended with 69, saying this.
    Refused(String),
    /// It serves, and the sink has every event.
    Whole,
    /// It serves, and says that it cannot read everything.
    Lacking,
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(folder: &Path) -> Came {
    let log = folder.join("stderr.log");
    let process = Command::new(env!("CARGO_BIN_EXE_hooksink"))
        .args(["serve", "--set", "server.listen=127.0.0.1:0", "--set", "admin.listen=127.0.0.1:0"])
        .current_dir(folder)
        .env_clear()
        .stdout(Stdio::null())
        .stderr(File::create(&log).unwrap())
        .spawn();
    let mut process = Running(process.unwrap());
    eventually("it ends, delivers, or says why not", || {
        let ended = process.0.try_wait().unwrap();
        let said = fs::read_to_string(&log).unwrap();
        if let Some(status) = ended {
            assert_eq!(status.code(), Some(69), "{said}");
            return Some(Came::Refused(said));
        }
        // Not the last word of one that is about to end.
        if said.lines().any(|line| line.contains("malformed") && !line.starts_with("hooksink: ")) {
            return Some(Came::Lacking);
        }
        (events_in(&folder.join("events.jsonl")).len() == EVENTS).then_some(Came::Whole)
    })
}

#[track_caller]
fn refused(files: &[(&str, &[u8])], names: &str) {
    let folder = folder(files);
    let came = start(folder.path());
    let Came::Refused(said) = came else { panic!("{came:?}") };
    assert!(said.contains(&format!("hooksink: {names} is not a sound journal of hooksink: ")), "{said}");
    for (name, bytes) in files {
        assert!(fs::read(folder.path().join(name)).unwrap() == *bytes, "{name} was changed: {said}");
    }
}

#[test]
fn a_file_with_a_broken_beginning_or_without_its_end_is_refused_and_left_as_it_is() {
    let whole = stopped();
    assert_eq!(whole.len() % PAGE, 0);
    for length in [16, 100, PAGE] {
        let mut broken = whole.clone();
        garbage(&mut broken[..length]);
        refused(&[("journal.db", &broken)], "journal.db");
    }
    for length in [100, PAGE, PAGE + 1, whole.len() / 2, whole.len() - PAGE, whole.len() - 1] {
        refused(&[("journal.db", &whole[..length])], "journal.db");
    }
}

/// Whichever page it is. Of the pages with events, of which there may be millions, only those of the newest segment are
/// read at the start: what is damaged elsewhere is said when it is read.
#[test]
fn a_damaged_page_is_refused_or_said_and_never_passed_over() {
    let whole = stopped();
    let (mut refused, mut lacking) = (0, 0);
    for page in 0..whole.len() / PAGE {
        let mut broken = whole.clone();
        garbage(&mut broken[page * PAGE..(page + 1) * PAGE]);
        let folder = folder(&[("journal.db", &broken)]);
        match start(folder.path()) {
            Came::Refused(said) => {
                assert!(said.contains("is not a sound journal of hooksink: "), "page {page}: {said}");
                assert!(fs::read(folder.path().join("journal.db")).unwrap() == broken, "page {page} was changed");
                refused += 1;
            }
            Came::Lacking => lacking += 1,
            // An index of something else, or a page that is in no use.
            Came::Whole => {}
        }
    }
    println!("of {} pages, {refused} were refused and {lacking} said later", whole.len() / PAGE);
    assert!(refused > 5 && refused + lacking > 20, "{refused} {lacking}");
}

#[test]
fn a_log_that_sqlite_would_drop_is_refused_and_left_as_it_is() {
    let (file, log) = crashed();
    assert!(log.len() > 20 * PAGE, "{}", log.len());
    for length in [1, 32, 512] {
        let mut broken = log.clone();
        garbage(&mut broken[..length]);
        if broken[..32] != log[..32] {
            refused(&[("journal.db", &file), ("journal.db-wal", &broken)], "journal.db-wal");
        }
    }
    refused(&[("journal.db", b""), ("journal.db-wal", &log)], "journal.db");
    refused(&[("journal.db-wal", &log)], "journal.db");
}

/// It looks as after a power cut, from which nobody can tell it: what comes after the damage does not count.
#[test]
fn a_log_that_is_damaged_further_on_keeps_the_events_before_the_damage() {
    let (file, log) = crashed();
    let mut before = EVENTS;
    for at in [log.len() * 3 / 4, log.len() / 2, log.len() / 4] {
        let mut broken = log.clone();
        garbage(&mut broken[at..at + 512]);
        let folder = folder(&[("journal.db", &file), ("journal.db-wal", &broken)]);
        let server = TestServer::start_with(folder, &config(), &[]);
        assert_eq!(runtime().block_on(send(&server, EVENTS)), 200);
        let folder = server.stop();
        let journal = Connection::open(folder.path().join("journal.db")).unwrap();
        let mut mids: Vec<_> = stored(&journal).into_iter().map(|(_, mid)| mid).collect();
        assert_eq!(mids.pop(), Some(format!("m_0-{EVENTS}")));
        assert_eq!(mids, (0..mids.len()).map(|number| format!("m_0-{number}")).collect::<Vec<_>>());
        assert!(mids.len() < before && !mids.is_empty(), "{}", mids.len());
        before = mids.len();
    }
}

/// The commands of README.md, as they stand there.
#[test]
fn what_is_not_damaged_is_recovered_with_sqlite3() {
    const NAME: &str = "faults::damaged_journal::what_is_not_damaged_is_recovered_with_sqlite3";
    if find_or_skip(NAME, "sqlite3").is_none() {
        return;
    }
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    let commands = readme.split("```sh\n").find(|block| block.contains(".dump")).unwrap().split("```").next().unwrap();
    // With the events in the file, and with most of them in its log.
    let (file, log) = crashed();
    let files = [("damaged.db", file.as_slice()), ("damaged.db-wal", log.as_slice())];
    for (files, damage) in [(&[("damaged.db", stopped().as_slice())][..], 30), (&files[..], 0)] {
        let folder = folder(files);
        if damage > 0 {
            let mut broken = fs::read(folder.path().join("damaged.db")).unwrap();
            garbage(&mut broken[damage * PAGE..(damage + 1) * PAGE]);
            fs::write(folder.path().join("damaged.db"), broken).unwrap();
        }
        let ran = Command::new("sh").args(["-ec", commands]).current_dir(folder.path()).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        assert_eq!(String::from_utf8_lossy(&ran.stdout).lines().last(), Some("ok"));
        fs::rename(folder.path().join("recovered.db"), folder.path().join("journal.db")).unwrap();

        let server = TestServer::start_with(folder, &config(), &[]);
        assert_eq!(runtime().block_on(send(&server, EVENTS)), 200);
        let archive = server.folder().join("events.jsonl");
        let last = format!("m_0-{EVENTS}");
        let mids = eventually("the sink has what was recovered", || {
            let events = events_in(&archive);
            let mids: Vec<_> = events.iter().map(|event| event["data"]["mid"].as_str().unwrap().to_owned()).collect();
            (mids.last() == Some(&last)).then_some(mids)
        });
        // A page holds three of them at most.
        let lost = EVENTS + 1 - mids.len();
        assert!(if damage > 0 { (1..=3).contains(&lost) } else { lost == 0 }, "{mids:?}");
    }
}
