//! Users of few rights, passwords that change, and what `check` tells.

use std::fs;
use std::sync::Arc;

use hooksink::names::SourceType;
use hooksink::sinks::{BoxError, Checked, Sink};
use rustix::process::Signal;

use super::RedisServer;
use crate::echo::{SECRET, echo};
use crate::support::senders::SOURCE;
use crate::support::server::{TestServer, eventually};
use crate::support::{runtime, sink_config};

#[test]
fn a_new_password_takes_a_signal() {
    let Some(redis) = RedisServer::with("targets::redis::rights::a_new_password_takes_a_signal", &[]) else { return };
    let _: String = redis.ask("ACL SETUSER hooksink on >s3cr3t-old ~hooksink:* +xadd +multi +exec");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("password"), "s3cr3t-old").unwrap();
    let sink = format!(
        "[sinks.it]\ntype = \"redis\"\nurl = \"redis://127.0.0.1:{}\"\nusername = \"hooksink\"\npassword = {{ file = \"password\" }}\nretry_initial = \"5ms\"\nretry_max = \"50ms\"",
        redis.port()
    );
    let server = TestServer::start_with(folder, &format!("{SOURCE}{sink}"), &[]);
    let post = |mid: &str| {
        let sent = runtime().block_on(server.post(SourceType::Meta, "messenger", SECRET, echo(mid, "ann")));
        assert_eq!(sent.status, 200);
    };
    let arrived = |count| {
        eventually("it arrives", || (redis.entries("hooksink:messenger").len() == count).then_some(()));
    };
    post("m_1");
    arrived(1);
    let _: String = redis.ask("ACL SETUSER hooksink <s3cr3t-old >s3cr3t-new");
    let _: u64 = redis.ask("CLIENT KILL USER hooksink");
    post("m_2");
    let refused = "username or password is not accepted";
    eventually("it is refused", || server.stderr().contains(refused).then_some(()));
    fs::write(server.folder().join("password"), "s3cr3t-new").unwrap();
    server.signal(Signal::HUP);
    arrived(2);
    assert!(!server.stderr().contains("s3cr3t"), "{}", server.stderr());
}

fn check(redis: &RedisServer, more: &str) -> Result<Checked, BoxError> {
    let config = format!("type = \"redis\"\nurl = \"redis://127.0.0.1:{}\"\n{more}", redis.port());
    let sink: Arc<dyn Sink> = sink_config(&config).kind.build(&"it".parse().unwrap(), [0; 32]).unwrap();
    runtime().block_on(sink.check())
}

#[test]
fn check_tells_what_may_be_done_and_what_is_kept() {
    let test = "targets::redis::rights::check_tells_what_may_be_done_and_what_is_kept";
    let Some(redis) = RedisServer::with(test, &["--proto-max-bulk-len", "2mb", "--appendfsync", "everysec"]) else { return };
    let checked = check(&redis, "").unwrap();
    assert!(checked.found.starts_with("Redis "), "{}", checked.found);
    let rest = checked.found.split_once("; ").unwrap().1;
    assert_eq!(
        rest,
        "XADD to hooksink:{source} is allowed; appendonly is on, with a sync each second: a crash loses the last two \
         seconds at most"
    );
    assert_eq!(checked.max_event_bytes, Some(2 << 20));

    for setting in ["appendonly no", "maxmemory-policy allkeys-lru", "maxmemory 100mb"] {
        let _: String = redis.ask(&format!("CONFIG SET {setting}"));
    }
    let warnings = check(&redis, "").unwrap().warnings.join("\n");
    for expected in ["appendonly is off: a crash of the server loses", "maxmemory-policy allkeys-lru drops whole streams"] {
        assert!(warnings.contains(expected), "{warnings}");
    }
    let keys: u64 = redis.ask("DBSIZE");
    assert_eq!(keys, 0, "it leaves nothing behind");

    // What a user of few rights may not be told is said to be unknown, and what it may not do is said to be missing.
    let login = "username = \"few\"\npassword = \"s3cr3t\"\n";
    for (rights, stream, expected) in [
        ("~hooksink:* +xadd +multi +exec", "", Ok("XADD to hooksink:{source} is allowed")),
        ("~hooksink:* +xadd +multi +exec", "", Ok("cannot be told (the user may not ask INFO)")),
        ("~hooksink:a +xadd +multi +exec", "", Ok("whether to all streams hooksink:{source} cannot be told")),
        ("~hooksink:* +xadd +exec", "", Err("the user may not use MULTI and EXEC (NOPERM)")),
        ("~hooksink:* +multi +exec", "", Err("XADD to hooksink:{source}: the user has not the rights that are needed (NOPERM)")),
        ("~other +xadd +multi +exec", "stream = \"all\"", Err("XADD to all: the user has not the rights that are needed (NOPERM)")),
    ] {
        let _: String = redis.ask(&format!("ACL SETUSER few reset on >s3cr3t {rights}"));
        match (check(&redis, &format!("{login}{stream}")), expected) {
            (Ok(checked), Ok(expected)) => assert!(checked.found.contains(expected), "{rights}: {}", checked.found),
            (Err(error), Err(expected)) => assert_eq!(error.to_string(), expected, "{rights}"),
            (other, _) => panic!("{rights}: {other:?}"),
        }
    }
    let _: String = redis.ask("SET all s3cr3t");
    assert_eq!(check(&redis, "stream = \"all\"").unwrap_err().to_string(), "the key all holds a string, which is no stream");
    let _: String = redis.ask("REPLICAOF 127.0.0.1 1");
    let error = check(&redis, "").unwrap_err().to_string();
    assert!(error.ends_with("(READONLY)"), "{error}");
    let error = check(&redis, "username = \"few\"\npassword = \"s3cr3t-wrong\"").unwrap_err().to_string();
    assert_eq!(error, "username or password is not accepted");
}
