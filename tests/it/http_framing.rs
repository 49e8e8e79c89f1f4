//! How requests are told apart on a connection: what HTTP/1.1 allows, and what smugglers try.

use crate::door::{Door, META_BODY, plain, post, post_messenger};

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let requests =
        [post_messenger(META_BODY), plain("DELETE", "/webhooks/open"), post_messenger(META_BODY), plain("GET", "/")];
    client.send(&requests.concat()).await;
    assert_eq!(client.answer(true).await.text(), r#"{"accepted":2,"duplicates":0}"#);
    assert_eq!(client.answer(true).await.status, 405);
    assert_eq!(client.answer(true).await.text(), r#"{"accepted":0,"duplicates":2}"#);
    assert_eq!(client.answer(true).await.status, 404);
    door.close().await;
}

#[tokio::test]
async fn bytes_may_come_one_by_one_and_in_chunks() {
    let door = Door::open().await;
    let mut client = door.client().await;
    for byte in post_messenger(META_BODY) {
        client.send(&[byte]).await;
    }
    assert_eq!(client.answer(true).await.status, 200);
    let head = "POST /webhooks/open HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ntrailer: x-t\r\n\r\n";
    let chunks = "1;extension=1\r\n{\r\n8\r\n\"a\":\"b\"}\r\n0\r\nx-t: y\r\n\r\n";
    client.send(format!("{head}{chunks}").as_bytes()).await;
    assert_eq!(client.answer(true).await.status, 200);
    assert_eq!(&door.journal.records()[2].raw[..], br#"{"a":"b"}"#);
    door.close().await;
}

/// Each of these is a request whose end two servers could see in different places. None may be stored, and what follows
/// on the connection must not be taken for a request.
#[tokio::test]
async fn ambiguous_framing_ends_the_connection() {
    let door = Door::open().await;
    let smuggled = String::from_utf8(plain("HEAD", "/webhooks/open")).unwrap();
    for headers in [
        "content-length: 2\r\ncontent-length: 3\r\n",
        "content-length: 2, 3\r\n",
        "content-length: +2\r\n",
        "content-length: -2\r\n",
        "content-length: 0x2\r\n",
        "content-length: 2 2\r\n",
        "content-length: 99999999999999999999999\r\n",
        "content-length : 2\r\n",
        "transfer-encoding: gzip\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "x\0y: z\r\ncontent-length: 2\r\n",
        " folded: x\r\ncontent-length: 2\r\n",
    ] {
        let mut client = door.client().await;
        let request = format!("POST /webhooks/open HTTP/1.1\r\nhost: x\r\n{headers}\r\n{{}}{smuggled}");
        client.send(request.as_bytes()).await;
        if let Some(answer) = client.try_answer(true).await {
            assert_eq!(answer.status, 400, "{headers:?}");
            client.ended().await;
        }
    }
    assert!(door.journal.records().is_empty());
    assert_eq!(door.counted("open", "handshake"), 0);
    door.close().await;
}

/// RFC 9112, 6.1: with both, the chunks count, and the connection ends.
#[tokio::test]
async fn transfer_encoding_beside_content_length_ends_the_connection() {
    let door = Door::open().await;
    let smuggled = String::from_utf8(plain("HEAD", "/webhooks/open")).unwrap();
    let (length, chunked) = ("content-length: 4\r\n", "transfer-encoding: chunked\r\n");
    for headers in [format!("{length}{chunked}"), format!("{chunked}{length}")] {
        let mut client = door.client().await;
        let body = "2\r\n{}\r\n0\r\n\r\n";
        let request = format!("POST /webhooks/open HTTP/1.1\r\nhost: x\r\n{headers}\r\n{body}{smuggled}");
        client.send(request.as_bytes()).await;
        assert_eq!(client.answer(true).await.status, 200);
        client.ended().await;
    }
    assert!(door.journal.records().iter().all(|record| &record.raw[..] == b"{}"));
    assert_eq!(door.counted("open", "handshake"), 0);
    door.close().await;
}

#[tokio::test]
async fn a_broken_chunk_is_refused() {
    let door = Door::open().await;
    let mut client = door.client().await;
    client.send(b"POST /webhooks/open HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n").await;
    if let Some(answer) = client.try_answer(true).await {
        assert_eq!(answer.status, 400);
    }
    client.ended().await;
    assert!(door.journal.records().is_empty());
    assert_eq!(door.counted("open", "broken_body"), 1);
    door.close().await;
}

#[tokio::test]
async fn http_1_0_is_answered_and_ends_the_connection() {
    let door = Door::open().await;
    let mut client = door.client().await;
    let request = String::from_utf8(post_messenger(META_BODY)).unwrap().replacen("HTTP/1.1", "HTTP/1.0", 1);
    assert_eq!(client.ask(request.as_bytes()).await.status, 200);
    client.ended().await;
    door.close().await;
}

#[tokio::test]
async fn what_is_not_http_1_gets_nothing_done() {
    let door = Door::open().await;
    for bytes in [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..],
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
        b"POST /webhooks/open\r\n\r\n",
        b"POST /webhooks/open HTTP/3.0\r\n\r\n",
        b"POST  /webhooks/open HTTP/1.1\r\n\r\n",
        b"POST /webhooks/\xff HTTP/1.1\r\n\r\n",
        b"\0\r\n\r\n",
    ] {
        let mut client = door.client().await;
        client.send(bytes).await;
        if let Some(answer) = client.try_answer(true).await {
            assert!([400, 404].contains(&answer.status), "{bytes:?}: {}", answer.status);
        }
        drop(client);
    }
    assert!(door.journal.records().is_empty());
    door.close().await;
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on_only_when_its_body_is_wanted() {
    let door = Door::open().await;
    let expecting = |length: usize| {
        let head = format!("content-length: {length}\r\nexpect: 100-continue\r\n\r\n");
        format!("POST /webhooks/open HTTP/1.1\r\nhost: x\r\n{head}").into_bytes()
    };
    let mut client = door.client().await;
    client.send(&expecting(2)).await;
    assert_eq!(client.answer(false).await.status, 100);
    client.send(b"{}").await;
    assert_eq!(client.answer(true).await.status, 200);
    client.send(&expecting(usize::MAX / 4)).await;
    assert_eq!(client.answer(true).await.status, 413);
    door.close().await;
}

#[tokio::test]
async fn a_target_may_be_in_absolute_form() {
    let door = Door::open().await;
    assert_eq!(door.ask(&post("http://hooks.example/webhooks/open", &[], "{}")).await.status, 200);
    door.close().await;
}
