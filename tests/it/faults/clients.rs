//! Clients of every bad kind, all at once, beside a well-behaved one: each of them is answered or cut off within its
//! bounds, and the well-behaved one gets nothing but 200s.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Duration, interval};

use crate::door::{Client, plain, post};
use crate::echo::{SECRET, echo_request};
use crate::support::DEADLINE;
use crate::support::senders::events_in;
use crate::support::server::{TestServer, eventually};

/// Of each kind, at the same time.
const OF_EACH: usize = 20;

/// The most memory in MiB that the server may ever have had: what it has without anybody, `max_buffered`, and what the
/// connections cost.
const MEMORY: u64 = 90;

/// Short times and little memory, so that every bound is reached.
fn config() -> String {
    format!(
        r#"
        [server]
        header_read_timeout = "2s"
        body_read_timeout = "2s"
        max_buffered = "24 MiB"
        [log]
        level = "warn,hooksink::app=info"
        [sources.messenger]
        type = "meta"
        verify_token = "token"
        app_secrets = ["{SECRET}"]
        [sources.connect]
        type = "webex-connect"
        bearer = ["token"]
        [sources.lab]
        type = "webex-connect"
        auth = "none"
        max_body = "1 MiB"
        [sinks.archive]
        type = "file"
        path = "events.jsonl"
        sources = ["messenger"]
        "#
    )
}

/// A kind of client: how it is called, what it sends, and the statuses it may be answered with.
struct Kind {
    name: &'static str,
    sends: Sends,
    answered: &'static [u16],
    /// Whether the connection may end without any answer.
    or_ended: bool,
}

#[derive(Clone)]
enum Sends {
    /// All of it, and then nothing more.
    Once(Vec<u8>),
    /// The beginning, and then this, every few milliseconds.
    Slowly(Vec<u8>, &'static [u8]),
    /// The beginning, and then this as fast as it is taken.
    Endlessly(Vec<u8>, Vec<u8>),
}

fn kinds() -> Vec<Kind> {
    let forged = format!("sha256={}", "0".repeat(64));
    let signed = [("x-hub-signature-256", forged.as_str())];
    let head = |path: &str, headers: &str| format!("POST {path} HTTP/1.1\r\nhost: x\r\n{headers}\r\n").into_bytes();
    let chunked = "transfer-encoding: chunked\r\n";
    let forged_chunked = format!("x-hub-signature-256: {forged}\r\n{chunked}");
    let chunk = [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat();
    let half = |request: Vec<u8>| request[..request.len() - 1000].to_vec();
    let pipelined: Vec<u8> = (0..200).flat_map(|_| plain("HEAD", "/webhooks/connect")).collect();
    let kind = |name, sends, answered, or_ended| Kind { name, sends, answered, or_ended };
    vec![
        kind("says nothing", Sends::Once(Vec::new()), &[], true),
        kind("stops within its headers", Sends::Once(b"POST /webhooks/lab HTTP/1.1\r\nhost".to_vec()), &[], true),
        kind("trickles its headers", Sends::Slowly(b"POST /webhooks/lab HTTP/1.1\r\nx: ".to_vec(), b"x"), &[408], true),
        kind(
            "sends headers without end",
            Sends::Endlessly(b"GET /webhooks/lab HTTP/1.1\r\n".to_vec(), b"x: y\r\n".repeat(1000)),
            &[431],
            false,
        ),
        kind(
            "sends a header without end",
            Sends::Endlessly(b"GET /webhooks/lab HTTP/1.1\r\nx: ".to_vec(), vec![b'x'; 10_000]),
            &[431],
            false,
        ),
        kind(
            "sends a target without end",
            Sends::Endlessly(b"GET /webhooks/".to_vec(), vec![b'x'; 10_000]),
            &[414, 431],
            false,
        ),
        kind("stops within its body", Sends::Once(half(post("/webhooks/lab", &[], vec![b'x'; 5000]))), &[503], false),
        kind(
            "trickles its body",
            Sends::Slowly(head("/webhooks/lab", "content-length: 100000\r\n"), b"x"),
            &[503],
            false,
        ),
        kind("trickles chunks", Sends::Slowly(head("/webhooks/lab", chunked), b"1\r\nx\r\n"), &[503], false),
        kind(
            "sends chunks without end",
            Sends::Endlessly(head("/webhooks/lab", chunked), chunk.clone()),
            &[413, 503],
            false,
        ),
        kind(
            "sends a chunk's length without end",
            Sends::Endlessly(head("/webhooks/lab", chunked), vec![b'1'; 1000]),
            &[400],
            false,
        ),
        kind(
            "sends an extension without end",
            Sends::Endlessly(head("/webhooks/lab", &format!("{chunked}\r\n1;")), vec![b'x'; 1000]),
            &[400, 503],
            true,
        ),
        kind(
            "sends trailers without end",
            Sends::Endlessly([head("/webhooks/lab", chunked), b"0\r\n".to_vec()].concat(), b"x: y\r\n".repeat(100)),
            &[400, 503],
            true,
        ),
        kind(
            "sends large bodies with a forged signature",
            Sends::Once(post("/webhooks/messenger", &signed, vec![b'x'; 4 << 20])),
            &[401, 503],
            false,
        ),
        kind(
            "sends forged chunks without end",
            Sends::Endlessly(head("/webhooks/messenger", &forged_chunked), chunk.clone()),
            &[413, 503],
            false,
        ),
        kind(
            "holds half a large forged body",
            Sends::Once(half(post("/webhooks/messenger", &signed, vec![b'x'; 2 << 20]))),
            &[503],
            false,
        ),
        kind(
            "sends large bodies without credentials",
            Sends::Once(post("/webhooks/messenger", &[], vec![b'x'; 4 << 20])),
            &[401],
            false,
        ),
        kind(
            "sends large bodies without a token",
            Sends::Once(post("/webhooks/connect", &[], vec![b'x'; 8 << 20])),
            &[401],
            false,
        ),
        kind(
            "sends chunks without a token",
            Sends::Endlessly(head("/webhooks/connect", chunked), chunk),
            &[401],
            false,
        ),
        kind(
            "announces more than is taken",
            Sends::Once(head("/webhooks/lab", "content-length: 99999999999\r\n")),
            &[413],
            false,
        ),
        kind(
            "has two lengths",
            Sends::Once(head("/webhooks/lab", "content-length: 2\r\ncontent-length: 3\r\n")),
            &[400],
            true,
        ),
        kind(
            "has a length and chunks",
            Sends::Once(
                [
                    head("/webhooks/lab", &format!("content-length: 4\r\n{chunked}")),
                    b"2\r\n{}\r\n0\r\n\r\nGET".to_vec(),
                ]
                .concat(),
            ),
            &[200],
            false,
        ),
        kind("sends two hundred requests at once", Sends::Once(pipelined), &[200], false),
        kind("sends no HTTP", Sends::Endlessly(Vec::new(), vec![0; 1000]), &[400], true),
    ]
}

/// Sends until the other side has had enough, reads what it answers, and waits for the end: the first answer's status.
async fn misbehave(server: std::net::SocketAddr, sends: Sends) -> Option<u16> {
    let mut client = Client::over(TcpStream::connect(server).await.expect("a place"));
    match sends {
        Sends::Once(bytes) => client.send_what_fits(&bytes).await,
        Sends::Slowly(beginning, rest) => {
            client.send_what_fits(&beginning).await;
            let mut pace = interval(Duration::from_millis(20));
            while client.stream.try_write(rest).is_ok() {
                pace.tick().await;
            }
        }
        Sends::Endlessly(beginning, rest) => {
            client.send_what_fits(&beginning).await;
            while client.try_send(&rest).await.is_ok() {}
        }
    }
    let mut first = None;
    while let Some(answer) = client.try_answer(false).await {
        if answer.status == 503 {
            assert!(answer.header("retry-after").is_some());
        }
        first = first.or(Some(answer.status));
    }
    first
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_clients_are_answered_or_cut_off_and_a_good_one_does_not_notice() {
    let server = TestServer::start(&config());
    let mut bad = JoinSet::new();
    for number in 0..OF_EACH {
        for kind in kinds() {
            let to = server.public;
            bad.spawn(async move {
                let answer = tokio::time::timeout(DEADLINE, misbehave(to, kind.sends)).await;
                let answer = answer.unwrap_or_else(|_| panic!("who {} is never cut off", kind.name));
                let expected = answer.map_or(kind.or_ended, |status| kind.answered.contains(&status));
                assert!(expected, "who {} is answered {answer:?} (the {number}th)", kind.name);
            });
        }
    }
    let over = Arc::new(AtomicBool::new(false));
    let (to, done) = (server.public, over.clone());
    let good = tokio::spawn(async move {
        let mut sent = 0;
        // Now over a connection that lasts, now over a new one.
        while !done.load(Ordering::SeqCst) || sent < 100 {
            let mut sender = Client::over(TcpStream::connect(to).await.expect("a place"));
            for _ in 0..10 {
                let answer = sender.ask(&echo_request("messenger", &format!("m-{sent}"), "ann")).await;
                assert_eq!((answer.status, answer.text()), (200, r#"{"accepted":1,"duplicates":0}"#));
                sent += 1;
            }
        }
        sent
    });
    bad.join_all().await;
    over.store(true, Ordering::SeqCst);
    let sent = good.await.expect("nothing but 200s");
    let (_, most) = server.resident();
    println!("{} bad clients, {sent} good requests, {most} MiB at most", OF_EACH * kinds().len());
    assert!(most <= MEMORY, "{most} MiB");
    let archive = server.folder().join("events.jsonl");
    eventually("the sink has what was good", || (events_in(&archive).len() == sent).then_some(()));
}
