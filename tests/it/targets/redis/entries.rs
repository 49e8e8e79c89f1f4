//! What an entry of a stream holds, and how many a stream keeps.

use hooksink::names::SourceType;
use serde_json::Value;

use super::RedisServer;
use crate::echo::{SECRET, echo, echoes};
use crate::support::runtime;
use crate::support::senders::SOURCE;
use crate::support::server::{TestServer, eventually};

const README: &str = include_str!("../../../../README.md");

/// The section of the README about Redis.
fn section() -> &'static str {
    let section = README.split("### Redis streams\n").nth(1).expect("it is there");
    section.split("\n### ").next().expect("it ends")
}

fn post(server: &TestServer, body: Vec<u8>) {
    let sent = runtime().block_on(server.post(SourceType::Meta, "messenger", SECRET, body));
    assert_eq!(sent.status, 200, "{}", sent.body);
}

#[test]
fn the_example_of_the_readme_works() {
    let Some(redis) = RedisServer::with("targets::redis::entries::the_example_of_the_readme_works", &[]) else { return };
    let example = section().split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let user = section().split("`ACL SETUSER ").nth(1).and_then(|rest| rest.split('`').next()).expect("a user");
    let _: String = redis.ask(&format!("ACL SETUSER {}", user.replace("PASSWORD", "s3cr3t")));

    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("password");
    std::fs::write(&secret, "s3cr3t\n").unwrap();
    let example = example
        .replace("127.0.0.1:6379", &format!("127.0.0.1:{}", redis.port()))
        .replace("/run/secrets/redis_password", secret.to_str().unwrap());
    let server = TestServer::start_with(folder, &format!("{SOURCE}{example}"), &[]);
    post(&server, echo("m_1", "ann"));

    let entries = eventually("the entry is there", || {
        Some(redis.entries("hooksink:messenger")).filter(|entries| !entries.is_empty())
    });
    let [entry] = &entries[..] else { panic!("one entry: {entries:?}") };
    let event: Value = serde_json::from_str(&entry["data"]).unwrap();
    assert_eq!(event["data"]["mid"], "m_1");
    assert_eq!(event["specversion"], "1.0");
    for field in ["id", "type", "source", "subject", "time"] {
        assert_eq!(entry[field], event[field].as_str().unwrap(), "{field}");
    }
    assert_eq!((entry["type"].as_str(), entry["subject"].as_str()), ("meta.message_echo", "ann"));
    assert_eq!(entry.len(), 6, "{entry:?}");
}

#[test]
fn raw_json_and_events_of_nobody() {
    let Some(redis) = RedisServer::with("targets::redis::entries::raw_json_and_events_of_nobody", &[]) else { return };
    let sink = format!(
        "[sinks.it]\ntype = \"redis\"\nurl = \"redis://127.0.0.1:{}/3\"\nstream = \"{{sourcetype}}/{{kind}}\"\nformat = \"raw\"",
        redis.port()
    );
    let server = TestServer::start(&format!("{SOURCE}{sink}"));
    post(&server, br#"{ "object": "page",  "entry": "no list" }"#.to_vec());
    let known: String = eventually("the stream is there", || {
        let keys: String = redis.ask("INFO keyspace");
        keys.contains("db3:keys=1").then_some(keys)
    });
    assert!(!known.contains("db0:"), "{known}");
    let _: String = redis.ask("SWAPDB 0 3");
    let entries = redis.entries("meta/meta.unrecognized");
    assert_eq!(entries[0]["data"], r#"{"object":"page","entry":"no list"}"#);
    assert_eq!((entries[0]["subject"].as_str(), entries.len()), ("", 1));
}

#[test]
fn a_stream_keeps_about_so_many() {
    let Some(redis) = RedisServer::with("targets::redis::entries::a_stream_keeps_about_so_many", &[]) else { return };
    let sink = |name: &str, more: &str| {
        let url = format!("redis://127.0.0.1:{}", redis.port());
        format!("[sinks.{name}]\ntype = \"redis\"\nurl = \"{url}\"\nstream = \"{name}\"\n{more}\n")
    };
    let sinks = sink("short", "max_len = 200") + &sink("all", "");
    let server = TestServer::start(&format!("{SOURCE}{sinks}"));
    const EVENTS: usize = 2_000;
    for batch in (0..EVENTS).collect::<Vec<_>>().chunks(500) {
        let mids: Vec<_> = batch.iter().map(|number| format!("m_{number}")).collect();
        let items: Vec<_> = mids.iter().map(|mid| (mid.as_str(), "ann")).collect();
        post(&server, echoes(&items));
    }
    let last = |stream: &str| {
        let entries = redis.entries(stream);
        entries.last().is_some_and(|entry| entry["data"].contains("\"m_1999\"")).then_some(entries.len())
    };
    assert_eq!(eventually("everything arrives", || last("all")), EVENTS);
    let short = eventually("the newest arrive", || last("short"));
    // Redis takes away whole nodes of a hundred entries.
    assert!((200..400).contains(&short), "{short}");
}
