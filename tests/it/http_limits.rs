//! What a client cannot do to the public door: be slow, send too much, hold too much, take every place.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use hooksink::http::Listener;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::interval;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use crate::door::{Client, Door, MAX_BODY, META_BODY, Mode, plain, post, post_messenger, server_config, until, within};

/// Short enough for a test to wait for, long enough for a request to get through on a busy machine.
const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn silent_slow_and_idle_connections_end() {
    let door = Door::open_with(|config| config.header_read_timeout = SHORT).await;
    let silent = door.client().await;
    let mut partial = door.client().await;
    partial.send(b"POST /webhooks/open HTTP/1.1\r\nhost: x").await;
    let mut idle = door.client().await;
    assert_eq!(idle.ask(&plain("HEAD", "/webhooks/open")).await.status, 200);
    for client in [silent, partial, idle] {
        client.ended().await;
    }
    door.close().await;
}

#[tokio::test]
async fn headers_that_trickle_in_end_too() {
    let door = Door::open_with(|config| config.header_read_timeout = SHORT).await;
    let client = door.client().await;
    // A byte every few milliseconds: each is progress, and none moves the deadline.
    let trickle = async {
        let mut pace = interval(Duration::from_millis(5));
        while client.stream.try_write(b"x").is_ok() {
            pace.tick().await;
        }
    };
    within(trickle).await;
    door.close().await;
}

#[tokio::test]
async fn a_slow_body_is_answered_503_so_that_the_sender_tries_again() {
    let door = Door::open_with(|config| config.body_read_timeout = SHORT).await;
    let mut client = door.client().await;
    let request = post_messenger(META_BODY);
    client.send(&request[..request.len() - 1]).await;
    let answer = client.answer(true).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    client.ended().await;
    assert_eq!(door.counted("messenger", "slow_body"), 1);
    assert_eq!(door.ask(&request).await.status, 200);
    door.close().await;
}

#[tokio::test]
async fn headers_beyond_the_limit_are_answered_431() {
    let door = Door::open().await;
    let long = "x".repeat(64 * 1024);
    for headers in [vec![("x-long", long.as_str())], vec![("x-many", "0123456789"); 5_000]] {
        let mut client = door.client().await;
        let answer = client.ask(&post("/webhooks/open", &headers, "{}")).await;
        assert_eq!(answer.status, 431);
        client.ended().await;
    }
    let answer = door.ask(&plain("HEAD", &format!("/webhooks/open?{long}"))).await;
    assert!([414, 431].contains(&answer.status), "{}", answer.status);
    assert!(door.journal.records().is_empty());
    door.close().await;
}

#[tokio::test]
async fn an_announced_length_beyond_the_limit_is_refused_before_it_is_sent() {
    let door = Door::open().await;
    for length in [(MAX_BODY + 1).to_string(), "999999999999999999".to_owned()] {
        let mut client = door.client().await;
        let head = format!("POST /webhooks/messenger HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
        client.send(head.as_bytes()).await;
        assert_eq!(client.answer(true).await.status, 413);
        client.ended().await;
    }
    let body = vec![b'x'; MAX_BODY];
    assert_eq!(door.ask(&post_messenger(&body)).await.status, 200, "the limit itself is within");
    door.close().await;
}

/// The answer must reach a client that is still sending: closing with unread bytes would reset the connection, and some
/// systems then forget what they have received.
#[tokio::test]
async fn a_client_that_sends_on_reads_its_413_and_a_proper_end() {
    let door = Door::open().await;
    let mut client = door.client().await;
    client.send(&post("/webhooks/messenger", &[], vec![b'x'; 8 * MAX_BODY])[..100_000]).await;
    assert_eq!(client.answer(true).await.status, 413);
    assert_eq!(within(client.stream.read(&mut [0])).await.unwrap(), 0);
    door.close().await;
}

#[tokio::test]
async fn an_endless_chunked_body_is_answered_413() {
    let door = Door::open().await;
    let mut client = door.client().await;
    client.send(b"POST /webhooks/open HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let chunk = [&b"4000\r\n"[..], &[b'x'; 0x4000], b"\r\n"].concat();
    for _ in 0..2 * MAX_BODY / 0x4000 {
        client.send_what_fits(&chunk).await;
    }
    assert_eq!(client.answer(true).await.status, 413);
    door.close().await;
}

#[tokio::test]
async fn bodies_of_strangers_together_stay_within_max_buffered() {
    let door = Door::open_with(|config| config.max_buffered = 256 * 1024).await;
    // Ten strangers with 60 KB each and the form of a signature, none of whom ever finishes: at most four of them fit.
    let forged = format!("sha256={}", "0".repeat(64));
    let request = post("/webhooks/messenger", &[("x-hub-signature-256", &forged)], vec![b'x'; 100_000]);
    let mut strangers = Vec::new();
    for _ in 0..10 {
        let mut stranger = door.client().await;
        stranger.send_what_fits(&request[..60_000]).await;
        strangers.push(stranger);
    }
    until(|| door.counted("messenger", "busy") >= 6).await;
    // A stranger who goes away gives back what it held.
    drop(strangers);
    let over = || door.counted("messenger", "busy") + door.counted("messenger", "broken_body");
    until(|| over() == 10).await;
    assert_eq!(door.ask(&post_messenger(META_BODY)).await.status, 200);
    door.close().await;
}

#[tokio::test]
async fn an_append_that_outlives_its_answer_still_counts_as_buffered() {
    let door = Door::open_with(|config| {
        config.max_buffered = 150_000;
        config.ack_timeout = SHORT;
    })
    .await;
    door.journal.set(Mode::Hold);
    let large = post_messenger(vec![b'x'; 100_000]);
    assert_eq!(door.ask(&large).await.status, 503);
    assert_eq!(door.counted("messenger", "ack_timeout"), 1);
    assert_eq!(door.ask(&large).await.status, 503);
    assert_eq!(door.counted("messenger", "busy"), 1, "there is no room for two of them");
    door.journal.set(Mode::Store);
    until(|| door.journal.records().len() == 1).await;
    door.journal.clear();
    assert_eq!(door.ask(&large).await.text(), r#"{"accepted":0,"duplicates":1}"#);
    door.close().await;
}

#[tokio::test]
async fn requests_beyond_max_in_flight_are_answered_503_at_once() {
    let door = Door::open_with(|config| config.max_in_flight = 2).await;
    door.journal.set(Mode::Hold);
    let mut holders = [door.client().await, door.client().await];
    for holder in &mut holders {
        holder.send(&post_messenger(META_BODY)).await;
    }
    door.journal.appends(2).await;
    for request in [post_messenger(META_BODY), plain("HEAD", "/webhooks/open")] {
        let mut client = door.client().await;
        let answer = client.ask(&request).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    }
    door.journal.set(Mode::Store);
    for holder in &mut holders {
        assert_eq!(holder.answer(true).await.status, 200);
    }
    assert_eq!(door.ask(&post_messenger(META_BODY)).await.status, 200);
    door.close().await;
}

#[tokio::test]
async fn connections_beyond_max_connections_wait_for_their_turn() {
    let door = Door::open_with(|config| config.max_connections = 2).await;
    let head = plain("HEAD", "/webhooks/open");
    let (mut first, mut second) = (door.client().await, door.client().await);
    assert_eq!(first.ask(&head).await.status, 200);
    assert_eq!(second.ask(&head).await.status, 200);
    let mut third = door.client().await;
    third.send(&head).await;
    assert_eq!(first.ask(&head).await.status, 200);
    assert_eq!(second.ask(&head).await.status, 200);
    assert_eq!(door.counted("open", "handshake"), 4);
    drop(first);
    assert_eq!(third.answer(false).await.status, 200);
    door.close().await;
}

/// The admin listener has answers larger than what the kernel buffers; this one is larger than any.
#[tokio::test]
async fn a_client_that_never_reads_its_answer_is_cut_off() {
    let large = || async { vec![b'x'; 64 * 1024 * 1024] };
    let router = Router::new().route("/large", get(large)).route("/small", get(|| async {}));
    let listener = Listener { max_connections: 1, ..Listener::from(&server_config()) };
    let listener = Listener { header_read_timeout: SHORT, ..listener };
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let (stop, connect) = (CancellationToken::new(), || async { TcpStream::connect(address).await.map(Client::over) });
    let serving = tokio::spawn(listener.serve(tcp, move |_, request| router.clone().call(request), stop.clone()));
    let mut never_reads = connect().await.unwrap();
    never_reads.send(&plain("GET", "/large")).await;
    // There is one place: whoever comes next is served once the first is gone, and it never goes of itself.
    let mut next = connect().await.unwrap();
    assert_eq!(next.ask(&plain("GET", "/small")).await.status, 200);
    drop(never_reads);
    stop.cancel();
    within(serving).await.unwrap();
}
