//! SIGKILL under load, over and over: what was acknowledged is kept, once, and leaves in order through every sink.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::mock_target::MockTarget;
use crate::support::runtime;
use crate::support::senders::{SOURCE, check, check_journal, events, events_in, has_all, owed, senders, under_load};
use crate::support::server::{TestServer, eventually};

/// People who are sent messages, each over a connection of its own, so that commits hold events of several.
const PEOPLE: usize = 8;

fn config(target: &MockTarget) -> String {
    let url = target.url("/in");
    format!(
        r#"
        [journal]
        path = "journal.db"
        wal_limit = "1 MiB"
        segment_events = 1000
        {SOURCE}
        [sinks.archive]
        type = "file"
        path = "events.jsonl"
        batch_events = 50
        [sinks.console]
        type = "log"
        reveal = true
        [sinks.crm]
        type = "http"
        url = "{url}"
        "#
    )
}

/// A server that is killed before it has said anything, most likely while it recovers the journal.
fn start_and_kill(folder: &std::path::Path, after: Duration) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_hooksink"))
        .args(["serve", "--set", "server.listen=127.0.0.1:0", "--set", "admin.listen=127.0.0.1:0"])
        .current_dir(folder)
        .env_clear()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Not to wait for anything, but to kill at a moment that nothing marks.
    std::thread::sleep(after);
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn nothing_acknowledged_is_lost_doubled_or_overtaken() {
    let rounds = std::env::var("HOOKSINK_KILL_ROUNDS").map_or(20, |rounds| rounds.parse().expect("a number"));
    let runtime = runtime();
    let target = runtime.block_on(MockTarget::start());
    let config = config(&target);
    let mut folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut senders = senders(PEOPLE);
    // Each process begins its output anew.
    let mut output = String::new();
    for round in 0..rounds {
        let server = TestServer::start_with(folder, &config, &[]);
        // From the first answers, while the journal may still recover, to long after checkpoints and new segments: as
        // many short rounds as long ones.
        let enough = 2_f64.powf(rand::random_range(0.0..10.5)) as usize;
        folder = under_load(&mut senders, server.public, |load| {
            eventually("progress", || (load.acknowledged() >= enough).then_some(()));
            assert_eq!(load.refused(), 0, "round {round}");
            server.crash()
        });
        let console = std::fs::read_to_string(folder.path().join("stdout.log")).unwrap();
        output.push_str(&console[..console.rfind('\n').map_or(0, |end| end + 1)]);
        if round % 4 == 3 {
            start_and_kill(folder.path(), Duration::from_micros(rand::random_range(0..40_000)));
        }
    }

    let server = TestServer::start_with(folder, &config, &[]);
    let archive = server.folder().join("events.jsonl");
    let owed = owed(&senders);
    let console = || events(&format!("{output}{}", server.stdout()));
    let crm = || -> Vec<_> {
        target.taken().iter().map(|request| serde_json::from_slice(&request.body).expect("an event")).collect()
    };
    eventually("every acknowledged event is in the file", || has_all(&events_in(&archive), &owed).then_some(()));
    eventually("every acknowledged event was printed", || has_all(&console(), &owed).then_some(()));
    eventually("every acknowledged event reached the target", || has_all(&crm(), &owed).then_some(()));
    check("log", &console(), &owed);
    let folder = server.stop();
    check("file", &events_in(&archive), &owed);
    check("http", &crm(), &owed);
    // What was being written when the kill came may be there without having been acknowledged, one a person.
    check_journal(&folder.path().join("journal.db"), &owed, PEOPLE);
    println!("{rounds} kills, {} acknowledged events, none lost, doubled or overtaken", owed.len());
}
