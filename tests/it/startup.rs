//! How the server starts, or says why it does not; what a sink that is added later begins with.

use hooksink::names::SourceType;

use crate::echo::{SECRET, echo};
use crate::support::server::{TestServer, eventually};
use crate::support::shell::{Shell, run_in};

const SOURCE: &str = r#"
    [sources.messenger]
    type = "meta"
    verify_token = "token"
    app_secrets = ["the app secret of these tests"]
    own_app_ids = ["1"]
    [journal]
    disk_reserve = "1 MiB"
"#;

async fn send(server: &TestServer, mid: &str) {
    assert_eq!(server.post(SourceType::Meta, "messenger", SECRET, echo(mid, "ann")).await.status, 200);
}

fn mids(server: &TestServer, file: &str, last: &str) -> Vec<String> {
    eventually("the last event is in the file", || {
        let text = std::fs::read_to_string(server.folder().join(file)).ok()?;
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let events = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let mids: Vec<_> = events.map(|event| event["data"]["mid"].as_str().unwrap().to_owned()).collect();
        mids.contains(&last.to_owned()).then_some(mids)
    })
}

#[tokio::test]
async fn without_a_sink_events_wait_for_one_that_asks_for_them() {
    let server = TestServer::start(SOURCE);
    assert!(server.stderr().contains("WARN"), "{}", server.stderr());
    assert!(server.stderr().contains("events wait in the journal until there is one"), "{}", server.stderr());
    for number in 1..=3 {
        send(&server, &format!("m{number}")).await;
    }
    let sinks = r#"
        [sinks.all]
        type = "file"
        path = "all.jsonl"
        from = "start"
        [sinks.new]
        type = "file"
        path = "new.jsonl"
    "#;
    let config = format!("{SOURCE}{sinks}");
    let server = TestServer::start_with(server.stop(), &config, &[]);
    send(&server, "m4").await;
    assert_eq!(mids(&server, "all.jsonl", "m4"), ["m1", "m2", "m3", "m4"]);
    assert_eq!(mids(&server, "new.jsonl", "m4"), ["m4"]);
    // Where a sink begins is asked once: then it goes on from where it is.
    let server = TestServer::start_with(server.stop(), &config.replace("from = \"start\"", ""), &[]);
    send(&server, "m5").await;
    assert_eq!(mids(&server, "all.jsonl", "m5").len(), 5);
    assert_eq!(mids(&server, "new.jsonl", "m5"), ["m4", "m5"]);
}

#[tokio::test]
async fn what_was_answered_200_outlives_a_crash_and_is_known_after_it() {
    let config = format!("{SOURCE}\n[sinks.archive]\ntype = \"file\"\npath = \"events.jsonl\"");
    let server = TestServer::start(&config);
    send(&server, "m1").await;
    let server = TestServer::start_with(server.crash(), &config, &[]);
    let again = server.post(SourceType::Meta, "messenger", SECRET, echo("m1", "ann")).await;
    assert_eq!((again.status, again.body.as_str()), (200, r#"{"accepted":0,"duplicates":1}"#));
    assert_eq!(mids(&server, "events.jsonl", "m1")[0], "m1");
}

#[tokio::test]
async fn a_door_without_a_lock_is_said_aloud() {
    let server = TestServer::start("[sources.lab]\ntype = \"webex-connect\"\nauth = \"none\"\ntimezone = \"UTC\"");
    let log = server.stderr();
    let line = log.lines().find(|line| line.contains("auth")).unwrap_or_else(|| panic!("{log}"));
    assert!(line.contains("WARN") && line.contains("lab") && line.contains("none"), "{line}");
    let metrics = server.admin_get("/metrics").await.body;
    assert!(metrics.contains("hooksink_unauthenticated_source{source=\"lab\"} 1\n"), "{metrics}");
}

/// The server here is started with a soft limit of 64.
#[test]
fn the_soft_limit_of_file_descriptors_is_raised() {
    let server = TestServer::start("");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let [soft, hard] = [3, 4].map(|column| line.split_whitespace().nth(column).unwrap());
    let soft: u64 = soft.parse().unwrap();
    assert!(soft > 64);
    assert_eq!(soft, hard.parse::<u64>().map_or(1 << 20, |hard| hard.min(1 << 20)));
}

#[test]
fn a_journal_of_a_later_version_is_left_alone() {
    let folder = TestServer::start(SOURCE).stop();
    let path = folder.path().join("data/journal.db");
    let journal = rusqlite::Connection::open(&path).unwrap();
    journal.pragma_update(None, "user_version", 4711).unwrap();
    drop(journal);
    let before = std::fs::read(&path).unwrap();
    let ran = run_in(folder.path(), "serve --set server.listen=127.0.0.1:0 --set admin.listen=127.0.0.1:0", &[]);
    let said = ran.status(69).err();
    assert!(said.contains("the journal data/journal.db has schema version 4711, this hooksink knows"), "{said}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn what_is_no_journal_is_left_alone() {
    let shell = Shell::new().file("notes.txt", &"not a journal, and not to be lost. ".repeat(200));
    let before = std::fs::read(shell.path().join("notes.txt")).unwrap();
    let said = shell.run("serve --set journal.path=notes.txt --set server.listen=127.0.0.1:0").status(69).err();
    assert!(said.contains("hooksink: notes.txt is not a sound journal of hooksink"), "{said}");
    assert_eq!(std::fs::read(shell.path().join("notes.txt")).unwrap(), before);
}

#[test]
fn an_unusable_path_of_the_journal_is_69_naming_it() {
    let shell = Shell::new().file("file", "");
    for path in ["file/below/journal.db", ".", "/proc/journal.db"] {
        let said =
            shell.run(&format!("serve --set journal.path={path} --set server.listen=127.0.0.1:0")).status(69).err();
        assert!(said.contains(path), "{path}: {said}");
    }
}

#[test]
fn both_ports_are_named_when_they_are_taken() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    for (key, other) in [("server.listen", "admin.listen"), ("admin.listen", "server.listen")] {
        let said = Shell::new().run(&format!("serve --set {key}={address} --set {other}=127.0.0.1:0")).status(69).err();
        assert!(said.contains(&format!("cannot listen on {address} ({key}): ")), "{said}");
    }
}

#[test]
fn beyond_loopback_the_admin_listener_asks_for_a_token() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9090"] {
        let said = Shell::new().run(&format!("serve --set admin.listen={address}")).status(78).err();
        assert!(said.contains("admin.token: this must be set"), "{said}");
    }
    let said =
        Shell::new().file("hooksink.toml", SOURCE.trim_start()).run("serve --set sources.messenger.app_secrets=[]");
    let said = said.status(78).err();
    assert!(said.contains("hooksink.toml") || said.contains("--set"), "{said}");
    assert!(said.contains("sources.messenger"), "{said}");
}
