//! Targets in every kind of trouble at once, each behind a sink of its own: nobody waits for them, none of them loses
//! anything, and each has everything in order once it is mended.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use hooksink::names::SourceType;
use serde_json::Value;

use crate::echo::{SECRET, echo};
use crate::support::mock_target::{Answer, MockTarget, Place, Request};
use crate::support::server::{TestServer, eventually};

const PEOPLE: usize = 5;
const EACH: usize = 4;

/// What a target asks for, in seconds: far longer than the longest wait of the sinks.
const RETRY_AFTER: u64 = 1;

fn sink(name: &str, url: &str) -> String {
    // Short where it has to pass, and long where it must not pass on a machine that has much else to do.
    let timeout = if ["hangs", "nowhere"].contains(&name) { "500ms" } else { "1m" };
    format!(
        r#"
        [sinks.{name}]
        type = "http"
        url = "{url}"
        concurrency = 1
        connect_timeout = "{timeout}"
        timeout = "{timeout}"
        max_attempts = 3
        retry_initial = "5ms"
        retry_max = "40ms"
        "#
    )
}

fn mid(request: &Request) -> String {
    let event: Value = serde_json::from_slice(&request.body).expect("a CloudEvent");
    event["data"]["mid"].as_str().expect("an echo").to_owned()
}

/// Each the first time.
fn mids(requests: &[Request]) -> Vec<String> {
    let mut seen = HashSet::new();
    requests.iter().map(mid).filter(|mid| seen.insert(mid.clone())).collect()
}

/// Whether these are all of so many rounds, each person's in order.
fn whole(mids: &[String], rounds: usize) -> bool {
    let of = |person: usize| {
        let of_person = format!("m-{person}-");
        mids.iter().filter_map(|mid| mid.strip_prefix(&of_person)?.parse::<usize>().ok()).collect::<Vec<_>>()
    };
    mids.len() == rounds * PEOPLE * EACH
        && (0..PEOPLE).all(|person| of(person) == (0..rounds * EACH).collect::<Vec<_>>())
}

async fn send(server: &TestServer, round: usize) {
    for number in round * EACH..(round + 1) * EACH {
        for person in 0..PEOPLE {
            let body = echo(&format!("m-{person}-{number}"), &format!("person-{person}"));
            let sent = server.post(SourceType::Meta, "messenger", SECRET, body).await;
            assert_eq!((sent.status, sent.body.as_str()), (200, r#"{"accepted":1,"duplicates":0}"#));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_in_trouble_lose_nothing_and_hold_nobody_up() {
    let later = Answer::Status(429, vec![("retry-after", RETRY_AFTER.to_string())]);
    let mut config = format!(
        r#"
        [server]
        shutdown_timeout = "1s"
        [sources.messenger]
        type = "meta"
        verify_token = "token"
        app_secrets = ["{SECRET}"]
        [sinks.archive]
        type = "file"
        path = "events.jsonl"
        "#
    );
    // Nobody listens there yet.
    let refusing = Place::take();
    config += &sink("refusing", &format!("http://{}/in", refusing.address()));
    config += &sink("nowhere", "http://no-such-host.invalid/in");
    let mut targets = Vec::new();
    for (name, trouble) in [
        ("well", None),
        ("slow", Some(Answer::Trickle)),
        // Its status has come, and that is what counts.
        ("breaks-off-its-body", Some(Answer::Cut("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"))),
        ("breaks-off-its-head", Some(Answer::Cut("HTTP/1.1 200 OK\r\ncontent-le"))),
        ("closes", Some(Answer::Drop)),
        ("hangs", Some(Answer::Wait(Arc::default()))),
        ("no-http", Some(Answer::Cut("220 mail.example ESMTP\r\n"))),
        ("later", Some(later)),
    ] {
        let target = MockTarget::start().await;
        target.otherwise(trouble);
        config += &sink(name, &target.url("/in"));
        targets.push((name, target));
    }
    let target = |name: &str| &targets.iter().find(|(other, _)| *other == name).expect("one of the above").1;
    let server = TestServer::start(&config);

    send(&server, 0).await;
    let archived = |rounds: usize| {
        eventually("the file has everything", || {
            let text = std::fs::read_to_string(server.folder().join("events.jsonl")).ok()?;
            (text.lines().count() == rounds * PEOPLE * EACH).then_some(())
        });
    };
    archived(1);
    for name in ["well", "slow", "breaks-off-its-body"] {
        eventually("what is no failure arrives", || whole(&mids(&target(name).requests()), 1).then_some(()));
        assert_eq!(target(name).requests().len(), PEOPLE * EACH, "{name}: once each");
    }
    for name in ["refusing", "nowhere", "breaks-off-its-head", "closes", "hangs", "no-http"] {
        let sink = format!("sink={name} ");
        let down = || server.stderr().lines().any(|line| line.contains("the sink is down") && line.contains(&sink));
        eventually("it is found to be down", || down().then_some(()));
    }
    eventually("the target has asked for time often enough", || (target("later").requests().len() >= 4).then_some(()));
    server.no_dead_letters().await;

    // While they are still in trouble, and then all is well.
    send(&server, 1).await;
    archived(2);
    targets.iter().for_each(|(_, target)| target.otherwise(None));
    let refusing = MockTarget::start_in(refusing);
    for (_, target) in &targets {
        eventually("all of it arrives in order", || whole(&mids(&target.requests()), 2).then_some(()));
    }
    for (_, target) in targets.iter().filter(|(name, _)| *name != "breaks-off-its-body") {
        eventually("all of it is taken", || whole(&mids(&target.taken()), 2).then_some(()));
    }
    eventually("the one that was not there has it too", || whole(&mids(&refusing.taken()), 2).then_some(()));

    // A target that asks for time is given it.
    let asked = target("later").requests();
    let refused = asked.len() - target("later").taken().len();
    for (number, pair) in asked.windows(2).take(refused).enumerate() {
        assert!(pair[1].at - pair[0].at >= Duration::from_secs(RETRY_AFTER), "after its answer {number}");
    }
    // What has no target waits in the journal.
    let owed = u64::try_from(2 * PEOPLE * EACH).unwrap();
    server.metric_becomes("hooksink_sink_lag_events{sink=\"nowhere\"}", owed).await;
    server.no_dead_letters().await;
}
