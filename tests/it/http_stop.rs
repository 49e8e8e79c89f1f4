//! Ends: a client that goes away, a journal that takes too long, a server that stops.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::door::{Client, Door, META_BODY, Mode, plain, post_messenger, until, within};

#[tokio::test]
async fn a_client_that_disconnects_does_not_abort_its_append() {
    let door = Door::open_with(|config| config.max_in_flight = 1).await;
    door.journal.set(Mode::Hold);
    let mut client = door.client().await;
    client.send(&post_messenger(META_BODY)).await;
    door.journal.appends(1).await;
    drop(client);
    until(|| door.counted("messenger", "disconnected") == 1).await;
    door.journal.set(Mode::Store);
    until(|| door.journal.records().len() == 2).await;
    assert_eq!(door.ask(&post_messenger(META_BODY)).await.text(), r#"{"accepted":0,"duplicates":2}"#);
    door.close().await;
}

#[tokio::test]
async fn an_append_slower_than_ack_timeout_goes_on_and_the_retry_is_a_duplicate() {
    let door = Door::open_with(|config| config.ack_timeout = Duration::from_millis(50)).await;
    door.journal.set(Mode::Hold);
    let answer = door.ask(&post_messenger(META_BODY)).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    assert_eq!(door.counted("messenger", "ack_timeout"), 1);
    door.journal.set(Mode::Store);
    until(|| door.journal.records().len() == 2).await;
    let retry = door.ask(&post_messenger(META_BODY)).await;
    // The journal may be slow again, on a machine that is; then the sender comes once more.
    assert!(retry.status == 503 || retry.text() == r#"{"accepted":0,"duplicates":2}"#);
    assert_eq!(door.journal.records().len(), 2);
    door.close().await;
}

#[tokio::test]
async fn draining_refuses_new_requests_and_ends_their_connections() {
    let door = Door::open().await;
    let mut client = door.client().await;
    assert_eq!(client.ask(&post_messenger(META_BODY)).await.status, 200);
    door.public.start_draining();
    let answer = client.ask(&post_messenger(META_BODY)).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("5"));
    assert_eq!(answer.header("connection"), Some("close"));
    client.ended().await;
    assert_eq!(door.counted("messenger", "draining"), 1);
    door.close().await;
}

#[tokio::test]
async fn requests_under_way_are_finished_when_the_server_stops() {
    let door = Door::open().await;
    door.journal.set(Mode::Hold);
    let mut client = door.client().await;
    client.send(&post_messenger(META_BODY)).await;
    let mut idle = door.client().await;
    assert_eq!(idle.ask(&plain("HEAD", "/webhooks/open")).await.status, 200);
    let silent = door.client().await;
    door.journal.appends(1).await;
    door.public.start_draining();
    door.stop.cancel();
    idle.ended().await;
    silent.ended().await;
    assert!(!door.serving.is_finished(), "it waits for the request under way");
    until_refused(door.address).await;
    door.journal.set(Mode::Store);
    let answer = client.answer(true).await;
    assert_eq!(answer.text(), r#"{"accepted":2,"duplicates":0}"#);
    client.ended().await;
    within(door.serving).await.unwrap();
}

async fn until_refused(address: std::net::SocketAddr) {
    within(async { while TcpStream::connect(address).await.is_ok() {} }).await;
}

/// The caller bounds how long stopping takes, by dropping the future.
#[tokio::test]
async fn what_is_left_at_the_deadline_is_cut_off() {
    let door = Door::open().await;
    door.journal.set(Mode::Hold);
    let mut client: Client = door.client().await;
    client.send(&post_messenger(META_BODY)).await;
    door.journal.appends(1).await;
    door.stop.cancel();
    door.serving.abort();
    assert!(client.try_answer(true).await.is_none());
    until(|| door.counted("messenger", "disconnected") == 1).await;
}
