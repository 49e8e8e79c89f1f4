//! `hooksink journal copy` through the real binary: events, order, what sinks are owed and gave up on, all of it also
//! when the copy is killed in the middle.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use hooksink::config::JournalConfig;
use hooksink::journal::copy::{CopyError, MARK, Progress};
use hooksink::journal::{Consumer, Journal, JournalError, Letters, Outcome, ReplayRequest};
use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;

use crate::echo::{SECRET, echo};
use crate::grounds::{self, Ground};
use crate::journal::{delivered, file, numbers, read, record, sink, spec, store, until, with_file};
use crate::steady::steady;
use crate::support::mock_target::{Answer, MockTarget, Place, Request};
use crate::support::nats_server::NatsServer;
use crate::support::runtime;
use crate::support::senders::{SOURCE, check, events_in, has_all};
use crate::support::server::{TestServer, answer, eventually};

const PEOPLE: usize = 5;
const EACH: usize = 60;

/// A journal, and three sinks: one that has everything, one that is owed everything, and one that gave up on something.
fn config(journal: &str, absent: &str, refusing: &str) -> String {
    format!(
        r#"
        [journal]
        {journal}
        {SOURCE}
        [sinks.archive]
        type = "file"
        path = "events.jsonl"
        [sinks.absent]
        type = "http"
        url = "{absent}"
        retry_initial = "5ms"
        retry_max = "50ms"
        [sinks.picky]
        type = "http"
        url = "{refusing}"
        retry_initial = "5ms"
        retry_max = "50ms"
        "#
    )
}

fn mid(person: usize, number: usize) -> String {
    format!("m_{person}-{number}")
}

async fn send(server: &TestServer, numbers: std::ops::Range<usize>) -> Vec<String> {
    let mut sent = Vec::new();
    for number in numbers {
        for person in 0..PEOPLE {
            let mid = mid(person, number);
            let body = echo(&mid, &person.to_string());
            assert_eq!(server.post(hooksink::names::SourceType::Meta, "messenger", SECRET, body).await.status, 200);
            sent.push(mid);
        }
    }
    sent
}

/// What a target has taken, as events.
fn taken(target: &MockTarget) -> Vec<Value> {
    let event = |request: Request| serde_json::from_slice(&request.body).expect("a CloudEvent");
    target.taken().into_iter().map(event).collect()
}

async fn dead_letters(server: &TestServer) -> Vec<Value> {
    let listed = answer(server.admin_request(Method::GET, "/api/v1/dead-letters")).await.json();
    let letter = |letter: &Value| serde_json::json!([letter["sink"], letter["event_id"], letter["reason"]]);
    listed.as_array().expect("a list").iter().map(letter).collect()
}

fn copy(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hooksink"));
    command.args(["journal", "copy", "--from", "old.toml", "--to", "new.toml"]).current_dir(folder).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Fills the first journal, moves to the second, and looks at what became of everything. `kills`: how often the copy is
/// killed before it may end.
fn moves_house(old: &str, new: &str, kills: usize) -> TempDir {
    let runtime = runtime();
    let place = Place::take();
    let refusing = runtime.block_on(MockTarget::start());
    // Of one person, an event in the middle is never taken.
    refusing.choose(|request| {
        let refused = String::from_utf8_lossy(&request.body).contains("\"m_1-7\"");
        refused.then(|| Answer::Status(400, vec![]))
    });
    let (absent, picky) = (format!("http://{}/in", place.address()), refusing.url("/in"));
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("old.toml"), config(old, &absent, &picky)).expect("a file");
    std::fs::write(folder.path().join("new.toml"), config(new, &absent, &picky)).expect("a file");

    let server = TestServer::start_with(folder, &config(old, &absent, &picky), &[]);
    let sent = runtime.block_on(send(&server, 0..EACH));
    eventually("the archive has everything", || {
        has_all(&events_in(&server.folder().join("events.jsonl")), &sent).then_some(())
    });
    let letters = eventually("one is a dead letter", || {
        Some(runtime.block_on(dead_letters(&server))).filter(|letters| letters.len() == 1)
    });
    eventually("the others got through", || (taken(&refusing).len() >= sent.len() - 1).then_some(()));
    // No server may have a journal that is copied.
    let refused = copy(server.folder()).output().expect("it starts");
    assert_eq!(refused.status.code(), Some(69), "{}", String::from_utf8_lossy(&refused.stderr));
    let folder = server.stop();

    let mut complete = false;
    for kill in 0..kills {
        let mut copying = copy(folder.path()).spawn().expect("it starts");
        // At moments that nothing marks, the first of them before anything is open.
        std::thread::sleep(Duration::from_millis(15 * kill as u64));
        let _ = copying.kill();
        complete = copying.wait().expect("it was started").success();
        if complete {
            println!("{kill} copies were killed before one was complete");
            break;
        }
    }
    let refused = "holds 300 events already: a complete copy, or other events; name a new one";
    let copied = (!complete).then(|| copy(folder.path()).output().expect("it starts"));
    let said = copied.as_ref().map(|copied| String::from_utf8_lossy(&copied.stderr).into_owned()).unwrap_or_default();
    // The last of those that were killed may have been complete, and killed before it could say so.
    if let Some(copied) = copied.filter(|_| !(kills > 0 && said.contains(refused))) {
        assert_eq!(copied.status.code(), Some(0), "{said}");
        assert!(said.contains("sink absent: is owed 300 events, has 0 dead letters\n"), "{said}");
        assert!(said.contains("sink archive: is owed 0 events, has 0 dead letters\n"), "{said}");
        assert!(said.contains("sink picky: is owed 0 events, has 1 dead letters\n"), "{said}");
    }
    // What is complete is not begun again.
    let again = copy(folder.path()).output().expect("it starts");
    assert_eq!(again.status.code(), Some(69));
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.contains(refused), "{said}");

    let server = TestServer::start_with(folder, &config(new, &absent, &picky), &[]);
    assert_eq!(runtime.block_on(dead_letters(&server)), letters, "what was given up on is the same");
    let later = runtime.block_on(send(&server, EACH..EACH + 5));
    let all: Vec<String> = sent.into_iter().chain(later).collect();
    let _guard = runtime.enter();
    let found = MockTarget::start_in(place);
    eventually("who was owed everything gets everything", || has_all(&taken(&found), &all).then_some(()));
    check("absent", &taken(&found), &all);
    let archive = || events_in(&server.folder().join("events.jsonl"));
    eventually("the archive has what came later", || has_all(&archive(), &all).then_some(()));
    check("archive", &archive(), &all);
    assert_eq!(archive().len(), all.len(), "nothing was sent twice");
    let sinks = runtime.block_on(server.admin_get("/api/v1/sinks")).body;
    assert!(!sinks.contains("journal-copy"), "{sinks}");
    server.stop()
}

#[test]
fn from_file_to_file() {
    moves_house("path = \"old.db\"", "path = \"new.db\"", 0);
}

#[test]
fn a_copy_that_is_killed_goes_on() {
    moves_house("path = \"old.db\"", "path = \"new.db\"", 12);
}

fn on(server: &NatsServer, stream: &str) -> String {
    let url = server.url();
    format!("engine = \"jetstream\"\nservers = [\"{url}\"]\nstream = \"{stream}\"\nreplicas = 1\nlease = \"1s\"")
}

#[test]
fn to_jetstream_and_back() {
    let Some(server) = grounds::server("journal_copy::to_jetstream_and_back") else { return };
    moves_house("path = \"old.db\"", &on(&server, "new"), 0);
    moves_house(&on(&server, "old"), "path = \"new.db\"", 0);
}

#[test]
fn a_copy_to_jetstream_that_is_killed_goes_on() {
    let Some(server) = grounds::server("journal_copy::a_copy_to_jetstream_that_is_killed_goes_on") else { return };
    moves_house("path = \"old.db\"", &on(&server, "new"), 12);
}

/// Copies in this process; what it said.
async fn copied(from: &JournalConfig, to: &JournalConfig) -> (Vec<Progress>, Result<(), CopyError>) {
    let mut said = Vec::new();
    let result = hooksink::journal::copy::copy(from, to, &mut |progress| said.push(progress)).await;
    (said, result)
}

/// The numbers of what `crm` is owed, in their order.
async fn owed(journal: &Arc<dyn Journal>) -> Vec<u64> {
    journal.configure(vec![spec("crm")]).await.expect("it is configured");
    let mut crm = steady(journal, "crm").await;
    let mut entries = Vec::new();
    for parked in crm.parked().await.expect("what is parked") {
        entries.push(crm.load(parked.ticket).await.expect("it is read").expect("it is there"));
    }
    until("all is handed out", async || {
        let more = crm.read(100, usize::MAX).await.expect("it is read");
        entries.extend(more.iter().cloned());
        more.is_empty() && crm.caught_up().await.expect("it is told")
    })
    .await;
    let mut owed = numbers(&entries);
    owed.sort_unstable();
    owed
}

/// Reads so many events and has them all, but for the first few, which it gives up on.
async fn give_up_on(crm: &mut Box<dyn Consumer>, letters: usize, of: usize) {
    let mut entries = read(crm, of).await;
    entries.sort_by_key(|entry| entry.record.id);
    let mut outcomes = delivered(&entries);
    for (_, outcome) in &mut outcomes[..letters] {
        *outcome = Outcome::Dead { reason: "422".to_owned(), attempts: 5 };
    }
    crm.settle(outcomes).await.expect("it is settled");
}

#[tokio::test]
async fn a_dead_letter_that_is_to_be_tried_again_is_owed_also_when_its_event_has_left() {
    let test = "journal_copy::a_dead_letter_that_is_to_be_tried_again_is_owed_also_when_its_event_has_left";
    for ground in grounds::each(test) {
        let from = JournalConfig { retention: Duration::from_millis(1), ..ground.config() };
        let from = if ground.is_distributed() { from } else { with_file(from, |file| file.segment_events = 4) };
        let journal = grounds::open(&from).await;
        journal.configure(vec![spec("crm")]).await.expect("it is configured");
        let mut crm = steady(&journal, "crm").await;
        store(&journal, (0..20).map(record)).await;
        give_up_on(&mut crm, 2, 20).await;
        until("all events should go", async || journal.status().events == 0).await;
        let letters = journal.dead_letters(None, 0, 10).await.expect("the letters");
        let first = letters.iter().find(|letter| letter.event_id == record(0).id).expect("it is there");
        assert_eq!(journal.retry_dead_letters(Letters::Ids(vec![first.id])).await.expect("it is marked"), 1);
        drop(crm);
        journal.close().await;

        let folder = TempDir::new().expect("a folder");
        let to = crate::journal::config(folder.path());
        let (said, result) = copied(&from, &to).await;
        result.expect("a copy");
        assert!(said.contains(&Progress::Sink { sink: sink("crm"), owed: 1, dead_letters: 1 }), "{said:?}");
        let journal = grounds::open(&to).await;
        assert_eq!(owed(&journal).await, [0]);
        let letters = journal.dead_letters(None, 0, 10).await.expect("the letters");
        assert_eq!(letters.iter().map(|letter| letter.event_id).collect::<Vec<_>>(), [record(1).id]);
        journal.close().await;
    }
}

#[tokio::test]
async fn what_senders_sent_between_two_calls_stays_owed() {
    for ground in grounds::each("journal_copy::what_senders_sent_between_two_calls_stays_owed") {
        let folder = TempDir::new().expect("a folder");
        let (from, to) = (crate::journal::config(folder.path()), ground.config());
        let journal = grounds::open(&from).await;
        journal.configure(vec![spec("crm")]).await.expect("it is configured");
        let mut crm = steady(&journal, "crm").await;
        store(&journal, (0..3).map(record)).await;
        give_up_on(&mut crm, 0, 2).await;
        crm.flush().await.expect("it is written");
        journal.close().await;
        // As a copy leaves it that is broken off when the old journal has forgotten the mark, and the new one has not.
        let journal = grounds::open(&to).await;
        journal.configure(vec![spec("crm"), spec(MARK)]).await.expect("it is configured");
        let mut mark = steady(&journal, MARK).await;
        store(&journal, (0..3).map(record)).await;
        give_up_on(&mut mark, 0, 3).await;
        mark.flush().await.expect("it is written");
        drop(mark);
        store(&journal, [record(7)]).await;
        journal.close().await;

        copied(&from, &to).await.1.expect("a copy");
        let journal = grounds::open(&to).await;
        assert_eq!(owed(&journal).await, [2, 7]);
        journal.close().await;
    }
}

#[tokio::test]
async fn what_a_replay_still_owes_is_owed() {
    for ground in grounds::each("journal_copy::what_a_replay_still_owes_is_owed") {
        let from = ground.config();
        let journal = grounds::open(&from).await;
        journal.configure(vec![spec("crm")]).await.expect("it is configured");
        let mut crm = steady(&journal, "crm").await;
        store(&journal, (0..5).map(record)).await;
        give_up_on(&mut crm, 0, 5).await;
        crm.flush().await.expect("it is written");
        let all = ReplayRequest { sink: sink("crm"), from: DateTime::UNIX_EPOCH, to: Some(Utc::now()), kinds: vec![] };
        journal.start_replay(all).await.expect("a replay");
        drop(crm);
        journal.close().await;

        let folder = TempDir::new().expect("a folder");
        let to = crate::journal::config(folder.path());
        copied(&from, &to).await.1.expect("a copy");
        let journal = grounds::open(&to).await;
        assert_eq!(owed(&journal).await, [0, 1, 2, 3, 4]);
        journal.close().await;
    }
}

#[tokio::test]
async fn dead_letters_that_cannot_be_read_are_named_and_all_else_is_copied() {
    let test = "journal_copy::dead_letters_that_cannot_be_read_are_named_and_all_else_is_copied";
    for ground in grounds::each(test) {
        let from = ground.config();
        let journal = grounds::open(&from).await;
        journal.configure(vec![spec("crm")]).await.expect("it is configured");
        let mut crm = steady(&journal, "crm").await;
        store(&journal, (0..3).map(record)).await;
        give_up_on(&mut crm, 2, 3).await;
        crm.flush().await.expect("it is written");
        let damaged = journal.dead_letters(None, 0, 10).await.expect("the letters")[0].id;
        // Also where it is to be tried again.
        assert_eq!(journal.retry_dead_letters(Letters::Ids(vec![damaged])).await.expect("it is marked"), 1);
        drop(crm);
        journal.close().await;
        let damaged = match &ground {
            Ground::Folder(_) => {
                let file = rusqlite::Connection::open(&file(&from).path).expect("the journal");
                let damage = "UPDATE dead_letters SET context = 'no context' WHERE letter = ?1";
                assert_eq!(file.execute(damage, [damaged]).expect("it is damaged"), 1);
                damaged
            }
            Ground::Server(server) => damage(server, damaged).await,
        };

        let folder = TempDir::new().expect("a folder");
        let to = crate::journal::config(folder.path());
        let (said, result) = copied(&from, &to).await;
        let error = result.expect_err("one letter is missing");
        assert!(error.to_string().contains("`hooksink dead-letters drop`"), "{error}");
        assert!(said.contains(&Progress::Unreadable { sink: sink("crm"), letters: vec![damaged] }), "{said:?}");
        assert!(said.contains(&Progress::Sink { sink: sink("crm"), owed: 0, dead_letters: 1 }), "{said:?}");

        let journal = grounds::open(&from).await;
        let shown = journal.dead_letter(damaged).await;
        assert!(matches!(&shown, Err(JournalError::Refused(why)) if why.contains("cannot be read")), "{shown:?}");
        assert_eq!(journal.drop_dead_letters(Letters::Ids(vec![damaged])).await.expect("it is dropped"), 1);
        journal.close().await;
        copied(&from, &to).await.1.expect("a copy");
        let journal = grounds::open(&to).await;
        assert!(owed(&journal).await.is_empty());
        assert_eq!(journal.dead_letters(None, 0, 10).await.expect("the letters").len(), 1);
        journal.close().await;
    }
}

/// Leaves a letter in the place of this one that nobody can read; its number.
async fn damage(server: &NatsServer, letter: i64) -> i64 {
    let context = server.context(async_nats::ConnectOptions::new()).await;
    let letters = context.get_stream("hooksink_dead").await.expect("the dead letters");
    letters.delete_message(letter.try_into().expect("a position")).await.expect("it is removed");
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Hooksink-Letter", "no description");
    let damaged = context.publish_with_headers("hooksink.dead.crm.x", headers, "no event".into());
    damaged.await.expect("it is sent").await.expect("it is stored").sequence.try_into().expect("a number")
}

#[test]
fn a_server_says_that_a_copy_is_not_complete() {
    let folder = TempDir::new().expect("a folder");
    runtime().block_on(async {
        let journal = grounds::open(&crate::journal::config(folder.path())).await;
        journal.configure(vec![spec(MARK)]).await.expect("it is configured");
        journal.close().await;
    });
    let nowhere = "http://127.0.0.1:9/in";
    let server = TestServer::start_with(folder, &config("path = \"journal.db\"", nowhere, nowhere), &[]);
    let said = server.stderr();
    assert!(said.contains("call `hooksink journal copy` once more"), "{said}");
    server.stop();
}
