//! Ten thousand connections that do nothing: they cost a known amount of memory, and nobody else notices them.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::door::{Client, plain};
use crate::echo::{SECRET, echo_request};
use crate::programs::skipped;
use crate::support::server::TestServer;

/// Connections that have been asked something and are silent since, and as many that were silent from the start.
const EACH: usize = 5_000;

/// File descriptors for everything else, of this process and of the server.
const SPARE: usize = 1_000;

/// The most memory in KiB that each of them may cost.
const MEMORY: u64 = 24;

/// Connects from one of several addresses, since each has ports for some 28,000 connections, most of them in use after
/// a few runs.
async fn connect(to: SocketAddr, number: usize) -> Client {
    let socket = TcpSocket::new_v4().expect("a socket");
    let from = Ipv4Addr::new(127, 0, 0, 2 + u8::try_from(number % 8).expect("below 8"));
    socket.bind((from, 0).into()).expect("a port");
    Client::over(socket.connect(to).await.expect("a place"))
}

/// All of them, once the server has them: the last is answered.
async fn idle_connections(to: SocketAddr) -> Vec<Client> {
    let mut tasks = JoinSet::new();
    for task in 0..8 {
        tasks.spawn(async move {
            let mut idle = Vec::new();
            for number in (task..2 * EACH).step_by(8) {
                let mut client = connect(to, number).await;
                if number % 2 == 0 {
                    assert_eq!(client.ask(&plain("HEAD", "/webhooks/messenger")).await.status, 200);
                }
                idle.push(client);
            }
            idle
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections_hold_nobody_up() {
    let descriptors = hooksink::http::raise_fd_limit().unwrap_or_default();
    if descriptors < (2 * EACH + SPARE) as u64 {
        skipped(
            "faults::idle::ten_thousand_idle_connections_hold_nobody_up",
            &format!("{descriptors} file descriptors are allowed, which is not enough for ten thousand connections"),
        );
        return;
    }
    let server = TestServer::start(&format!(
        r#"
        [server]
        max_connections = {}
        header_read_timeout = "1h"
        [log]
        level = "warn,hooksink::app=info"
        [sources.messenger]
        type = "meta"
        verify_token = "token"
        app_secrets = ["{SECRET}"]
        "#,
        2 * EACH + 1
    ));
    let (before, _) = server.resident();
    let mut idle = idle_connections(server.public).await;
    let (with_all, most) = server.resident();
    let each = (most - before) * 1024 / (2 * EACH as u64);
    println!("{} idle connections: {with_all} MiB, {before} MiB without, at most {each} KiB each", 2 * EACH);
    assert!(each <= MEMORY, "{each} KiB");

    // There is one place left, and whoever has it is served.
    let mut sender = Client::over(TcpStream::connect(server.public).await.unwrap());
    for number in 0..100 {
        let answer = sender.ask(&echo_request("messenger", &format!("m-{number}"), "ann")).await;
        assert_eq!((answer.status, answer.text()), (200, r#"{"accepted":1,"duplicates":0}"#));
    }
    // The next waits until another one goes.
    let mut waiting = Client::over(TcpStream::connect(server.public).await.unwrap());
    waiting.send(&echo_request("messenger", "m-waiting", "ann")).await;
    for number in 100..200 {
        let answer = sender.ask(&echo_request("messenger", &format!("m-{number}"), "ann")).await;
        assert_eq!(answer.status, 200);
    }
    assert!(waiting.stream.try_read(&mut [0]).is_err(), "there is no place for it");
    // Those who were silent are still served.
    for client in idle.iter_mut().step_by(1000) {
        assert_eq!(client.ask(&plain("HEAD", "/webhooks/messenger")).await.status, 200);
    }
    idle.truncate(EACH);
    assert_eq!(waiting.answer(true).await.status, 200);
}
