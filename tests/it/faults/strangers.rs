//! Strangers who take what they can get, beside a sender who is authentic.

use reqwest::Method;
use tokio::net::TcpStream;

use crate::door::{Client, post};
use crate::echo::{SECRET, echo_request};
use crate::support::server::{TestServer, eventually};

/// Three quarters of the memory for bodies are there for large ones; of the last quarter each connection has 6 KiB.
const CONFIG: &str = r#"
    [server]
    max_in_flight = 2
    max_connections = 512
    max_buffered = "12 MiB"
    body_read_timeout = "1h"
    [sources.messenger]
    type = "meta"
    verify_token = "token"
    app_secrets = ["the app secret of these tests"]
    [sources.connect]
    type = "webex-connect"
    max_body = "8 MiB"
    basic = ["ann:password"]
    [sinks.archive]
    type = "file"
    path = "events.jsonl"
"#;

/// Connections of each kind of stranger.
const STRANGERS: usize = 60;

async fn connect(server: &TestServer) -> Client {
    Client::over(TcpStream::connect(server.public).await.expect("a place"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_starve_no_authentic_sender() {
    assert!(CONFIG.contains(SECRET));
    let server = TestServer::start(CONFIG);
    let forged = format!("sha256={}", "0".repeat(64));
    let signed = [("x-hub-signature-256", forged.as_str())];
    let unfinished = |headers: &[(&str, &str)], path: &str, length: usize, sent: usize| {
        let mut request = post(path, headers, vec![b'x'; length]);
        request.truncate(request.len() - (length - sent));
        request
    };
    let mut held = Vec::new();
    for _ in 0..STRANGERS {
        // Nothing but the form of a signature, and a body whose end never comes: it has to be waited for.
        let mut slow = connect(&server).await;
        slow.send(&unfinished(&signed, "/webhooks/messenger", 2000, 1999)).await;
        // The same, large: they take all there is for large bodies, and some are refused.
        let mut large = connect(&server).await;
        large.send_what_fits(&unfinished(&signed, "/webhooks/messenger", 4 << 20, 512 << 10)).await;
        held.extend([slow, large]);
        // Without any credential there is nothing to wait for, large or small.
        for (path, length) in
            [("/webhooks/messenger", 4 << 20), ("/webhooks/messenger", 2000), ("/webhooks/connect", 8 << 20)]
        {
            let mut stranger = connect(&server).await;
            stranger.send(&unfinished(&[], path, length, 0)).await;
            let answer = stranger.answer(true).await;
            assert_eq!((answer.status, answer.header("connection")), (401, Some("close")));
        }
    }
    eventually("the memory for large bodies is taken", || server.stderr().contains("outcome=\"busy\"").then_some(()));

    // Far more than there are places, all at once and one after another: every one of them gets through.
    let mut senders: Vec<Client> = Vec::new();
    for _ in 0..20 {
        senders.push(connect(&server).await);
    }
    for round in 0..20 {
        for (person, sender) in senders.iter_mut().enumerate() {
            let answer = sender.ask(&echo_request("messenger", &format!("m-{round}-{person}"), "ann")).await;
            assert_eq!((answer.status, answer.text()), (200, r#"{"accepted":1,"duplicates":0}"#));
        }
    }
    assert_eq!(crate::support::server::answer(server.request(Method::HEAD, "/webhooks/connect")).await.status, 200);

    // Who finishes a body that was not signed is refused, as ever.
    let mut slow = held.swap_remove(0);
    slow.send(b"x").await;
    assert_eq!(slow.answer(true).await.status, 401);
    drop(held);
    eventually("every event is in the file", || {
        let text = std::fs::read_to_string(server.folder().join("events.jsonl")).ok()?;
        (text.lines().count() == 400).then_some(())
    });
}
