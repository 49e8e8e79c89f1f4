//! `hooksink journal copy` through the real binary: events, order, what sinks are owed and gave up on, all of it also
//! when the copy is killed in the middle.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;

use crate::echo::{SECRET, echo};
use crate::grounds;
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
