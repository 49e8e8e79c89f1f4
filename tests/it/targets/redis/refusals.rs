//! What Redis refuses in the middle of what it is sent: nothing of a person gets ahead of what was refused, and all of it
//! arrives when the trouble is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hooksink::event::{Event, Kind, Record};
use hooksink::names::SourceType;
use hooksink::sinks::{Blame, Sink, SinkError, Undelivered};
use serde_json::Value;

use super::super::Server as _;
use super::{RedisServer, cloud_events};
use crate::echo::{SECRET, echo};
use crate::support::senders::{SOURCE, check, has_all, owed, senders, under_load};
use crate::support::server::{TestServer, eventually};
use crate::support::{decode, record, runtime, sink_config};

fn sink(redis: &RedisServer, more: &str) -> String {
    format!("type = \"redis\"\nurl = \"redis://{}\"\nretry_initial = \"5ms\"\nretry_max = \"20ms\"\n{more}", redis.address())
}

fn built(redis: &RedisServer, more: &str) -> Arc<dyn Sink> {
    sink_config(&sink(redis, more)).kind.build(&"it".parse().unwrap(), [0; 32]).unwrap()
}

/// The memory is full, and then it is not, as fast as Redis can be told: in the middle of a pipeline too, since that is
/// read in parts. And the server becomes a replica, and is none again.
#[test]
fn refusals_in_the_middle_of_a_batch_keep_the_order() {
    let test = "targets::redis::refusals::refusals_in_the_middle_of_a_batch_keep_the_order";
    let Some(mut redis) = RedisServer::with(test, &["--maxmemory-policy", "noeviction", "--maxmemory", "1"]) else { return };
    // Among so many refusals by chance, one event meets ten in a row while others pass.
    let lines = "stream = \"events\"\nbatch_events = 1000\nmax_attempts = 1000";
    let server = TestServer::start(&format!("{SOURCE}[sinks.it]\n{}", sink(&redis, lines)));
    let mut senders = senders(8);
    under_load(&mut senders, server.public, |load| {
        eventually("a backlog builds up", || (load.acknowledged() >= 2_000).then_some(()));
    });
    let owed = owed(&senders);
    assert!(redis.events("events").is_empty());
    assert!(server.stderr().contains("(OOM)"), "{}", server.stderr());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut connection = redis.connect().expect("it runs");
            let mut tell = |words: &[&str]| {
                let _: () = redis::cmd(words[0]).arg(&words[1..]).query(&mut connection).expect("it does");
            };
            for round in 0_u32.. {
                tell(&["CONFIG", "SET", "maxmemory", "0"]);
                if over.load(Ordering::SeqCst) {
                    break;
                }
                tell(&["CONFIG", "SET", "maxmemory", "1"]);
                if round.is_multiple_of(16) {
                    tell(&["REPLICAOF", "127.0.0.1", "1"]);
                    tell(&["REPLICAOF", "NO", "ONE"]);
                }
            }
        });
        // Also when it does not, or the other thread would go on for ever.
        let _ends = Ends(&over);
        eventually("everything arrives", || has_all(&cloud_events(&redis.entries("events")), &owed).then_some(()));
    });
    check("it", &redis.events("events"), &owed);
    // A target that refuses everything is down, not right.
    runtime().block_on(server.no_dead_letters());
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Of this number, person and kind.
fn of(number: u64, person: &str, kind: Kind) -> Event {
    decode(Arc::new(Record { kind, ..record(number, Some(person)) }))
}

fn deliver(sink: &Arc<dyn Sink>, events: &[Event]) -> Result<(), Undelivered> {
    runtime().block_on(sink.deliver(events))
}

fn numbers(redis: &RedisServer, stream: &str) -> Vec<u64> {
    let number = |event: &Value| event["data"]["fields"]["number"].as_u64().expect("made by `record`");
    cloud_events(&redis.entries(stream)).iter().map(number).collect()
}

/// A transaction does not stop at a key of a wrong type: what this person has in other streams must wait all the same.
#[test]
fn a_key_that_is_no_stream_holds_back_the_other_streams_of_that_person() {
    let test = "targets::redis::refusals::a_key_that_is_no_stream_holds_back_the_other_streams_of_that_person";
    let Some(redis) = RedisServer::with(test, &[]) else { return };
    let (postback, message) = (Kind::ConnectPostback, Kind::ConnectMessage);
    let _: String = redis.ask("SET s:webex_connect.postback taken");
    let events =
        [of(1, "ann", message), of(2, "ann", postback), of(3, "ann", message), of(4, "bob", message), of(5, "ann", message)];
    let sink = built(&redis, "stream = \"s:{kind}\"");
    let failure = deliver(&sink, &events).unwrap_err();
    assert_eq!((failure.delivered, failure.blame), (1, Blame::Unknown), "{failure:?}");
    assert!(matches!(failure.cause, SinkError::Transient { .. }), "{failure:?}");
    assert!(failure.cause.to_string().ends_with("(WRONGTYPE)"), "{failure}");
    assert_eq!(numbers(&redis, "s:webex_connect.message"), [1, 4], "nothing of ann after what was refused");

    let _: u64 = redis.ask("DEL s:webex_connect.postback");
    deliver(&sink, &events[1..]).unwrap();
    assert_eq!(numbers(&redis, "s:webex_connect.postback"), [2]);
    assert_eq!(numbers(&redis, "s:webex_connect.message"), [1, 4, 4, 3, 5]);
}

/// Whatever the server refuses while it is told to add several events of a person, it adds nothing of what was sent with
/// them.
#[test]
fn what_is_refused_is_refused_as_a_whole_and_described_without_content() {
    let test = "targets::redis::refusals::what_is_refused_is_refused_as_a_whole_and_described_without_content";
    let Some(redis) = RedisServer::with(test, &["--maxmemory-policy", "noeviction"]) else { return };
    let _: String = redis.ask("ACL SETUSER few on >s3cr3t ~s:webex_connect.message +xadd +multi +exec");
    let few = built(&redis, "stream = \"s:{kind}\"\nusername = \"few\"\npassword = \"s3cr3t\"");
    let wrong = built(&redis, "stream = \"s:{kind}\"\nusername = \"few\"\npassword = \"s3cr3t-wrong\"");
    let plain = built(&redis, "stream = \"s:{kind}\"");
    let events = [
        of(1, "ann", Kind::ConnectMessage),
        of(2, "bob", Kind::ConnectPostback),
        of(3, "ann", Kind::ConnectMessage),
    ];
    for (before, sink, after, expected) in [
        ("PING", &few, "PING", "the user has not the rights that are needed (NOPERM)"),
        ("PING", &wrong, "PING", "username or password is not accepted"),
        ("CONFIG SET requirepass s3cr3t", &plain, "PING", "the server wants a password (NOAUTH)"),
        ("CONFIG SET maxmemory 1", &plain, "CONFIG SET maxmemory 0", "maxmemory, and takes nothing meanwhile (OOM)"),
        ("REPLICAOF 127.0.0.1 1", &plain, "REPLICAOF NO ONE", "a replica, which takes nothing (READONLY)"),
        ("CONFIG SET min-replicas-to-write 1", &plain, "CONFIG SET min-replicas-to-write 0", "(NOREPLICAS)"),
    ] {
        let mut connection = redis.connect().unwrap();
        let mut tell = |command: &str| {
            let words: Vec<_> = command.split(' ').collect();
            let _: redis::Value = redis::cmd(words[0]).arg(&words[1..]).query(&mut connection).unwrap();
        };
        tell(before);
        let failure = deliver(sink, &events).unwrap_err();
        if before.contains("requirepass") {
            tell("CONFIG SET requirepass ");
        }
        tell(after);
        assert_eq!((failure.delivered, failure.blame), (0, Blame::Unknown), "{expected}: {failure:?}");
        assert!(matches!(failure.cause, SinkError::Transient { .. }), "{expected}: {failure:?}");
        let said = format!("{failure} {failure:?}");
        assert!(failure.to_string().ends_with(expected), "{expected}: {said}");
        assert!(!["s3cr3t", "ann", "bob", "number"].iter().any(|mark| said.contains(mark)), "{said}");
        assert_eq!(numbers(&redis, "s:webex_connect.message"), [0; 0], "{expected}");
    }
    // Where everybody has one event, there is no order that what gets through could break.
    let failure = deliver(&few, &events[..2]).unwrap_err();
    assert_eq!((failure.delivered, failure.blame), (1, Blame::Unknown), "{failure:?}");
    assert_eq!(numbers(&redis, "s:webex_connect.message"), [1]);
    deliver(&plain, &events).unwrap();
    assert_eq!(numbers(&redis, "s:webex_connect.message"), [1, 1, 3]);
}

#[test]
fn an_event_larger_than_the_server_takes_is_the_only_dead_letter() {
    let test = "targets::redis::refusals::an_event_larger_than_the_server_takes_is_the_only_dead_letter";
    let Some(redis) = RedisServer::with(test, &["--proto-max-bulk-len", "1mb"]) else { return };
    let config = format!("{SOURCE}[sinks.it]\n{}", sink(&redis, "stream = \"events\""));
    let server = TestServer::start(&config);
    let post = |mid: &str, person: &str| {
        let sent = runtime().block_on(server.post(SourceType::Meta, "messenger", SECRET, echo(mid, person)));
        assert_eq!(sent.status, 200, "{}", sent.body);
    };
    post("m_first", "ann");
    post(&format!("m_{}", "x".repeat(1 << 20)), "ann");
    post("m_last", "ann");
    eventually("it is tried", || server.stderr().contains("the sink is down").then_some(()));
    // A sink that takes nothing at all is down; that it takes another's shows whose fault it is.
    post("m_other", "bob");
    let letters = eventually("it is given up", || {
        let letters = runtime().block_on(server.admin_get("/api/v1/dead-letters")).json();
        letters.as_array().filter(|letters| !letters.is_empty()).cloned()
    });
    assert_eq!(letters.len(), 1, "{letters:?}");
    let reason = letters[0].to_string();
    assert!(reason.contains("are more than the server takes (proto-max-bulk-len: 1048576)"), "{reason}");
    let mids = eventually("the others arrive", || {
        let events = cloud_events(&redis.entries("events"));
        let mids: Vec<_> = events.iter().map(|event| event["data"]["mid"].as_str().unwrap().to_owned()).collect();
        mids.contains(&"m_last".to_owned()).then_some(mids)
    });
    let at = |mid: &str| mids.iter().position(|other| other == mid).unwrap();
    assert!(at("m_first") < at("m_last") && mids.len() == 3, "{mids:?}");
}
