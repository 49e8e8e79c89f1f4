//! Sinks that are far behind at the journal's size limit: a forgotten one holds its events, and requests are refused,
//! until it is forgotten for good; one that may be skipped loses its oldest ones, counted, and nobody else notices.

use hooksink::names::SourceType;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::echo::{SECRET, echo};
use crate::support::mock_target::{Answer, MockTarget};
use crate::support::runtime;
use crate::support::senders::{SOURCE, events_in};
use crate::support::server::{self, TestServer, eventually};
use crate::support::shell::run_in;

/// Bytes of an event: the least limit holds about eighty.
const LARGE: usize = 200_000;

/// Bytes of one that is refused only where hooksink is not ready.
const ORDINARY: usize = 60_000;

const CONFIG: &str = r#"
    [journal]
    path = "journal.db"
    max_size = "16 MiB"
    disk_reserve = "1 MiB"
    [sinks.archive]
    type = "file"
    path = "events.jsonl"
"#;

async fn send(server: &TestServer, number: usize) -> server::Answer {
    send_of(server, number, LARGE).await
}

async fn send_of(server: &TestServer, number: usize, bytes: usize) -> server::Answer {
    let body = String::from_utf8(echo(&format!("m_{number}"), "ann")).unwrap().replacen("Gr", &"x".repeat(bytes), 1);
    server.post(SourceType::Meta, "messenger", SECRET, body).await
}

fn mids(events: &[Value]) -> Vec<String> {
    events.iter().map(|event| event["data"]["mid"].as_str().unwrap().to_owned()).collect()
}

/// Waits until the other sink has so many events of this process.
fn archived(runtime: &Runtime, server: &TestServer, count: usize) {
    let delivered = || runtime.block_on(server.metric("hooksink_sink_delivered_total{sink=\"archive\"}"));
    eventually("the other sink keeps up", || (delivered() >= count as u64).then_some(()));
}

#[test]
fn a_forgotten_sink_has_requests_refused_at_the_limit_until_it_is_forgotten() {
    let runtime = runtime();
    let server = TestServer::start(&format!(
        "{SOURCE}{CONFIG}\n[sinks.old]\ntype = \"http\"\nurl = \"http://127.0.0.1:1/\"\non_full = \"skip\"\n"
    ));
    assert_eq!(runtime.block_on(send(&server, 0)).status, 200);
    archived(&runtime, &server, 1);
    // It leaves the configuration, and with it what it allowed: nobody said that it is not wanted any more.
    let server = TestServer::start_with(server.stop(), &format!("{SOURCE}{CONFIG}"), &[]);
    assert!(server.stderr().contains("old"), "{}", server.stderr());
    let mut stored = 1;
    let refused = loop {
        let answer = runtime.block_on(send(&server, stored));
        if answer.status != 200 {
            break answer;
        }
        stored += 1;
    };
    assert_eq!(refused.status, 503);
    assert!(refused.headers.contains_key("retry-after"));
    assert!((60..90).contains(&stored), "{stored}");
    // What is smaller may fit still.
    while runtime.block_on(send_of(&server, stored, ORDINARY)).status == 200 {
        stored += 1;
    }
    assert_eq!(runtime.block_on(server.admin_get("/readyz")).status, 503);
    archived(&runtime, &server, stored - 1);
    let size = std::fs::metadata(server.folder().join("journal.db")).unwrap().len();
    assert!(size < 17 << 20, "{size}");
    // Waiting does not help, and neither does trying.
    assert_eq!(runtime.block_on(send(&server, stored)).status, 503);

    run_in(server.folder(), &format!("sinks forget old --admin http://{}", server.admin), &[]).status(0);
    eventually("it is ready again", || (runtime.block_on(server.admin_get("/readyz")).status == 200).then_some(()));
    // As often as it likes: what no sink is owed makes room.
    let end = stored + 20;
    for number in stored..end {
        assert_eq!(runtime.block_on(send(&server, number)).status, 200, "{number}");
        archived(&runtime, &server, number);
    }
    let expected: Vec<_> = (0..end).map(|number| format!("m_{number}")).collect();
    assert_eq!(mids(&events_in(&server.folder().join("events.jsonl"))), expected);
}

#[test]
fn a_sink_that_may_be_skipped_loses_its_oldest_events_and_nobody_is_refused() {
    const EVENTS: usize = 110;
    let runtime = runtime();
    let target = runtime.block_on(MockTarget::start());
    target.otherwise(Some(Answer::Status(503, Vec::new())));
    let server = TestServer::start(&format!(
        "{SOURCE}{CONFIG}\n[sinks.lag]\ntype = \"http\"\nurl = \"{}\"\non_full = \"skip\"\nretry_initial = \"10ms\"\nretry_max = \"100ms\"\nwindow = 10\n",
        target.url("/")
    ));
    for number in 0..EVENTS {
        assert_eq!(runtime.block_on(send(&server, number)).status, 200, "{number}");
        // Nothing is skipped for the other sink, so that it must keep up.
        archived(&runtime, &server, number + 1);
    }
    let skipped = || runtime.block_on(server.metric("hooksink_sink_skipped_total{sink=\"lag\"}")) as usize;
    assert!(skipped() > EVENTS / 10, "{}", skipped());
    assert!(server.stderr().contains("the sink's oldest unsent events were skipped"), "{}", server.stderr());

    target.otherwise(None);
    let last = format!("m_{}", EVENTS - 1);
    let taken = eventually("the target has what was not skipped", || {
        let events: Vec<Value> =
            target.taken().iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect();
        let mids = mids(&events);
        mids.contains(&last).then_some(mids)
    });
    let skipped = skipped();
    // The newest, in order and without a gap. What is not among them was counted; what was under way when it was skipped
    // may have been counted and come all the same.
    let lost = EVENTS - taken.len();
    let newest: Vec<_> = (lost..EVENTS).map(|number| format!("m_{number}")).collect();
    assert_eq!(taken, newest);
    assert!((1..=skipped).contains(&lost), "{lost} are lost, {skipped} were skipped");
}
