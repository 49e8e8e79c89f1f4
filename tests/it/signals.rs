//! What a running server does when it is told something by a signal: SIGHUP and its two ways to stop.

use hooksink::auth::hmac_signature::{Algorithm, sign};
use hooksink::names::SourceType;
use hooksink::secret::Secret;
use reqwest::Method;
use rustix::process::Signal;
use tokio::net::TcpStream;

use crate::door::{Client, plain, post};
use crate::echo::{SECRET, echo, signature};
use crate::support::mock_target::{Answer, MockTarget};
use crate::support::server::{TestServer, answer, eventually};

const CONFIG: &str = r#"
    [sources.messenger]
    type = "meta"
    verify_token = "token"
    app_secrets = ["the app secret of these tests", { file = "second" }]
    own_app_ids = ["1517776481860111"]
    [sinks.archive]
    type = "file"
    path = "events.jsonl"
    [journal]
    disk_reserve = "1 MiB"
"#;

fn start(config: &str) -> TestServer {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("second"), "the second\n").unwrap();
    TestServer::start_with(folder, config, &[])
}

async fn send(server: &TestServer, secret: &str, mid: &str) -> u16 {
    server.post(SourceType::Meta, "messenger", secret, echo(mid, "ann")).await.status
}

fn said(server: &TestServer, text: &str) {
    eventually(text, || server.stderr().contains(text).then_some(()));
}

/// The mids in a file of the archive, when it has as many.
fn archived(server: &TestServer, file: &str, count: usize) -> Vec<String> {
    eventually("the events are in the file", || {
        let text = std::fs::read_to_string(server.folder().join(file)).ok()?;
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let events = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let mids: Vec<_> = events.map(|event| event["data"]["mid"].as_str().unwrap().to_owned()).collect();
        (mids.len() >= count).then_some(mids)
    })
}

#[tokio::test]
async fn a_rotated_secret_is_seen_in_the_metrics_while_nothing_restarts() {
    let server = start(CONFIG);
    let proven = async |position: u32| {
        let line =
            format!(r#"hooksink_proofs_total{{source="messenger",scheme="hmac_sha256",position="{position}"}} "#);
        let metrics = server.admin_get("/metrics").await.body;
        metrics.lines().find_map(|text| text.strip_prefix(&line)).map_or(0, |count| count.parse::<u32>().unwrap())
    };
    assert_eq!(send(&server, SECRET, "m1").await, 200);
    assert_eq!(send(&server, "the second", "m2").await, 200);
    assert_eq!(send(&server, "the third", "m3").await, 401);
    assert_eq!((proven(0).await, proven(1).await), (1, 1));
    std::fs::write(server.folder().join("second"), "the third\n").unwrap();
    server.signal(Signal::HUP);
    said(&server, r#"secrets read anew rotated=["sources.messenger.app_secrets"]"#);
    assert_eq!(send(&server, "the second", "m4").await, 401);
    assert_eq!(send(&server, "the third", "m5").await, 200);
    assert_eq!(send(&server, SECRET, "m6").await, 200);
    assert_eq!((proven(0).await, proven(1).await), (2, 2));

    // A secret that is gone or empty is no reason to let nobody in, or everybody.
    for broken in [None, Some("")] {
        match broken {
            None => std::fs::remove_file(server.folder().join("second")).unwrap(),
            Some(text) => std::fs::write(server.folder().join("second"), text).unwrap(),
        }
        let before = server.stderr().matches("the old one stays").count();
        server.signal(Signal::HUP);
        eventually("it refuses", || (server.stderr().matches("the old one stays").count() > before).then_some(()));
        assert_eq!(send(&server, "", &format!("m7-{broken:?}")).await, 401);
        assert_eq!(send(&server, "the third", &format!("m8-{broken:?}")).await, 200);
    }
}

#[tokio::test]
async fn a_file_that_was_renamed_is_left_and_a_new_one_begun() {
    let server = start(CONFIG);
    send(&server, SECRET, "m1").await;
    archived(&server, "events.jsonl", 1);
    let path = |name: &str| server.folder().join(name);
    std::fs::rename(path("events.jsonl"), path("events.jsonl.1")).unwrap();
    server.signal(Signal::HUP);
    said(&server, "sink files reopened");
    send(&server, SECRET, "m2").await;
    assert_eq!(archived(&server, "events.jsonl", 1), ["m2"]);
    assert_eq!(archived(&server, "events.jsonl.1", 1), ["m1"]);
}

/// Readiness goes first, then the door, then the process; and whoever was inside is served.
#[tokio::test]
async fn a_stop_turns_readiness_off_goes_on_for_a_while_and_finishes_what_is_under_way() {
    // As long as a test on a busy machine may need for two requests.
    let server = start(&format!("{CONFIG}\n[server]\ndrain_delay = \"4s\"\nshutdown_timeout = \"60s\""));
    let connect = async || Client::over(TcpStream::connect(server.public).await.unwrap());
    let (mut under_way, mut idle, mut late) = (connect().await, connect().await, connect().await);
    let body = echo("half", "ann");
    let request = post("/webhooks/messenger", &[("x-hub-signature-256", &signature(&body))], &body);
    let half = request.len() - body.len() / 2;
    under_way.send(&request[..half]).await;
    assert_eq!(idle.ask(&plain("HEAD", "/webhooks/messenger")).await.status, 200);
    late.send(b"HEAD /webhooks/mess").await;
    assert_eq!(server.admin_get("/readyz").await.status, 200);

    server.signal(Signal::TERM);
    said(&server, "stopping");
    let ready = answer(server.admin_request(Method::GET, "/readyz?verbose")).await;
    assert_eq!((ready.status, ready.body.lines().last()), (503, Some("not ready")));
    assert!(ready.body.contains("[-] not_draining\n") && ready.body.contains("[+] journal_writable\n"));
    assert_eq!(server.admin_get("/livez").await.status, 200, "it lives");
    assert_eq!(send(&server, SECRET, "late").await, 200, "and takes what still comes");

    // The door is closed: to new connections, to connections without a request, to a request that begins now.
    idle.ended().await;
    late.send_what_fits(b"enger HTTP/1.1\r\nhost: x\r\n\r\n").await;
    if let Some(answer) = late.try_answer(false).await {
        assert_eq!((answer.status, answer.header("retry-after").is_some()), (503, true));
    }
    let gone = async || TcpStream::connect(server.public).await.is_err();
    crate::door::within(async {
        while !gone().await {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Whoever was inside is served, and only then it ends.
    under_way.send(&request[half..]).await;
    let served = under_way.answer(true).await;
    assert_eq!((served.status, served.text()), (200, r#"{"accepted":1,"duplicates":0}"#));

    let log = server.folder().join("stderr.log");
    let (status, folder) = server.ended();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(status.success(), "{status}: {log}");
    assert!(log.contains("stopped: every request was answered and every sink finished its calls"), "{log}");
    // Whatever the sink did not get to before the stop it gets after the next start.
    let server = TestServer::start_with(folder, CONFIG, &[]);
    let mut mids = archived(&server, "events.jsonl", 2);
    mids.sort();
    assert_eq!(mids, ["half", "late"]);
}

/// The event is in the journal, whatever the sink does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_a_sink_that_hangs() {
    let target = MockTarget::start().await;
    target.otherwise(Some(Answer::Wait(std::sync::Arc::default())));
    let sink = format!("[sinks.crm]\ntype = \"http\"\nurl = \"{}\"\ntimeout = \"1m\"", target.url("/"));
    let server = start(&format!("{CONFIG}\n{sink}\n[server]\nshutdown_timeout = \"300ms\"\ndrain_delay = \"0s\""));
    assert_eq!(send(&server, SECRET, "m1").await, 200);
    eventually("the sink is called", || (!target.requests().is_empty()).then_some(()));
    // A request without end does not hold it up either.
    let mut slow = Client::over(TcpStream::connect(server.public).await.unwrap());
    slow.send(b"POST /webhooks/messenger HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n1").await;
    server.signal(Signal::TERM);
    let log = server.folder().join("stderr.log");
    let (status, folder) = server.ended();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(status.success(), "{status}: {log}");
    assert!(log.contains("stopped at shutdown_timeout; sinks are owed the rest, which is in the journal"), "{log}");
    assert!(!log.contains("stopped: every"), "{log}");

    target.otherwise(None);
    let server = TestServer::start_with(folder, &format!("{CONFIG}\n{sink}"), &[]);
    eventually("it is sent once more", || (!target.taken().is_empty()).then_some(()));
    assert_eq!(send(&server, SECRET, "m1").await, 200);
    assert!(server.admin_get("/metrics").await.body.contains(r#"kind="meta.message_echo",outcome="duplicate"} 1"#));
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    for second in [Signal::TERM, Signal::INT] {
        let server = start(&format!("{CONFIG}\n[server]\ndrain_delay = \"10m\"\nshutdown_timeout = \"11m\""));
        assert_eq!(send(&server, SECRET, "m1").await, 200);
        server.signal(Signal::TERM);
        said(&server, "stopping");
        server.signal(second);
        said(&server, "stopped at once by a second signal");
        let (status, folder) = server.ended();
        assert_eq!(status.code(), Some(70));
        let server = TestServer::start_with(folder, CONFIG, &[]);
        assert_eq!(archived(&server, "events.jsonl", 1)[0], "m1");
    }
}

/// Of the two ways to hand a body over, by an API key in place of a signature: what counts is only that it is kept.
#[tokio::test]
async fn a_hang_up_does_not_disturb_requests() {
    let server = start(CONFIG);
    let body = echo("m1", "ann");
    let signed = sign(Algorithm::Sha256, &Secret::new(SECRET), &body);
    let mut client = Client::over(TcpStream::connect(server.public).await.unwrap());
    let request = post("/webhooks/messenger", &[("x-hub-signature-256", &signed)], &body);
    client.send(&request[..request.len() - 10]).await;
    server.signal(Signal::HUP);
    said(&server, "secrets read anew");
    client.send(&request[request.len() - 10..]).await;
    assert_eq!(client.answer(true).await.status, 200);
}
