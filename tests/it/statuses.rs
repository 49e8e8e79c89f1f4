//! The table of answers of the public listener, row by row, against the running binary with its real journal. What the
//! rows mean in detail is asked in `http_statuses`, in-process.

use rusqlite::Connection;
use tokio::net::TcpStream;

use crate::door::{
    Answer, CONNECT_SECRET, Client, MAX_BODY, META_BODY, META_SECRET, plain, post, post_connect, post_messenger, within,
};
use crate::support::server::TestServer;

/// The sources of `door`, as a file has them.
fn config(server: &str, journal: &str) -> String {
    format!(
        r#"
        [server]
        {server}
        [journal]
        {journal}
        [sources.messenger]
        type = "meta"
        verify_token = ["old", "verify-marker"]
        app_secrets = ["{META_SECRET}"]
        max_body = "512 KiB"
        [sources.connect]
        type = "webex-connect"
        signature_secrets = ["{CONNECT_SECRET}"]
        max_body = "512 KiB"
        [sources.basic]
        type = "webex-connect"
        basic = ["ann:password-marker"]
        [sources.bearer]
        type = "webex-connect"
        bearer = ["token-marker"]
        [sources.key]
        type = "webex-connect"
        api_key = {{ query = "key", values = ["key-marker"] }}
        [sources.address]
        type = "webex-connect"
        allow_addresses = ["127.0.0.0/8"]
        [sources.elsewhere]
        type = "webex-connect"
        allow_addresses = ["192.0.2.0/24"]
        [sources.open]
        type = "webex-connect"
        auth = "none"
        "#
    )
}

async fn ask(server: &TestServer, request: &[u8]) -> Answer {
    Client::over(TcpStream::connect(server.public).await.unwrap()).ask(request).await
}

/// A row: what is asked, the status, and what else the answer must be.
type Row = (&'static str, Vec<u8>, u16, fn(&Answer) -> bool);

fn empty(answer: &Answer) -> bool {
    answer.body.is_empty() && answer.header("content-length") == Some("0")
}

/// A problem that says nothing of what was sent.
fn problem(answer: &Answer) -> bool {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    answer.header("content-type") == Some("application/problem+json")
        && body["status"] == answer.status
        && !answer.text().contains("marker")
}

fn later(answer: &Answer) -> bool {
    problem(answer)
        && answer.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok_and(|seconds| seconds > 0))
}

fn rows() -> Vec<Row> {
    let check = |query: &str| plain("GET", &format!("/webhooks/messenger?{query}"));
    let json = r#"{"channel":"rcs","event":"MO"}"#;
    let gzip = [("content-encoding", "gzip"), ("authorization", "Bearer token-marker")];
    let basic = ("authorization", "Basic YW5uOnBhc3N3b3JkLW1hcmtlcg==");
    vec![
        ("HEAD webex-connect", plain("HEAD", "/webhooks/connect"), 200, empty),
        ("HEAD meta", plain("HEAD", "/webhooks/messenger"), 200, empty),
        ("HEAD, with a query", plain("HEAD", "/webhooks/key?key=wrong-marker"), 200, empty),
        ("GET webex-connect", plain("GET", "/webhooks/connect"), 200, empty),
        (
            "the subscription check, byte for byte",
            check("hub.challenge=CHALLENGE_%22ACCEPTED%22%0A&hub.verify_token=verify-marker&hub.mode=subscribe"),
            200,
            |answer| {
                answer.body == b"CHALLENGE_\"ACCEPTED\"\n"
                    && answer.header("content-type").is_some_and(|value| value.starts_with("text/plain"))
                    && answer.header("x-content-type-options") == Some("nosniff")
            },
        ),
        (
            "the check with the other token",
            check("hub.mode=subscribe&hub.verify_token=old&hub.challenge=1158201444"),
            200,
            |answer| answer.body == b"1158201444",
        ),
        ("wrong token", check("hub.mode=subscribe&hub.verify_token=x-marker&hub.challenge=1"), 403, problem),
        ("wrong mode", check("hub.mode=unsubscribe&hub.verify_token=verify-marker&hub.challenge=1"), 403, problem),
        ("no parameters", plain("GET", "/webhooks/messenger"), 400, problem),
        ("no challenge", check("hub.mode=subscribe&hub.verify_token=verify-marker"), 400, problem),
        ("authentic POST", post_messenger(META_BODY), 200, |answer| {
            answer.text() == r#"{"accepted":2,"duplicates":0}"#
                && answer.header("content-type") == Some("application/json")
                && answer.header("x-request-id").is_some()
        }),
        ("its copy", post_messenger(META_BODY), 200, |answer| answer.text() == r#"{"accepted":0,"duplicates":2}"#),
        ("Webex Connect", post_connect(json), 200, |answer| answer.text() == r#"{"accepted":1,"duplicates":0}"#),
        ("Basic", post("/webhooks/basic", &[basic], json), 200, |_| true),
        ("bearer", post("/webhooks/bearer", &[("authorization", "bearer token-marker")], json), 200, |_| true),
        ("API key", post("/webhooks/key?key=key-marker", &[], json), 200, |_| true),
        ("address", post("/webhooks/address", &[], json), 200, |_| true),
        ("unknown object", post_messenger(r#"{"object":"new","entry":[]}"#), 200, |_| true),
        ("no signature", post("/webhooks/messenger", &[], META_BODY), 401, problem),
        (
            "wrong signature",
            post("/webhooks/messenger", &[("x-hub-signature-256", "sha256=00")], META_BODY),
            401,
            problem,
        ),
        ("no Basic", post("/webhooks/basic", &[], json), 401, |answer| {
            problem(answer) && answer.header("www-authenticate").is_some_and(|value| value.starts_with("Basic "))
        }),
        ("no bearer", post("/webhooks/bearer", &[basic], json), 401, |answer| {
            problem(answer) && answer.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer"))
        }),
        ("wrong key", post("/webhooks/key?key=x-marker", &[], json), 401, problem),
        ("wrong address", post("/webhooks/elsewhere", &[], json), 401, problem),
        ("no JSON, signed", post_messenger("no JSON"), 200, |_| true),
        ("no JSON, Basic", post("/webhooks/basic", &[basic], "no JSON"), 200, |_| true),
        ("no JSON, from an address", post("/webhooks/address", &[], "no JSON marker"), 400, problem),
        ("no JSON, from anybody", post("/webhooks/open", &[], "no JSON marker"), 400, problem),
        ("no JSON, unsigned", post("/webhooks/messenger", &[], "no JSON marker"), 401, problem),
        ("empty, signed", post_messenger(""), 400, problem),
        ("empty, from anybody", post("/webhooks/open", &[], ""), 400, problem),
        ("encoded, with a token", post("/webhooks/bearer", &gzip, "\u{1f}not really gzip"), 200, |_| true),
        ("encoded, from anybody", post("/webhooks/open", &gzip[..1], json), 400, problem),
        ("too large, unsigned", post("/webhooks/connect", &[], vec![b'x'; MAX_BODY + 1]), 413, |answer| {
            problem(answer) && answer.header("connection") == Some("close")
        }),
        ("as large as may be", post_connect(vec![b'7'; MAX_BODY]), 200, |_| true),
        ("unknown path", plain("GET", "/?marker"), 404, problem),
        ("unknown source", post("/webhooks/nobody?marker", &[], json), 404, problem),
        ("other method", plain("DELETE", "/webhooks/messenger"), 405, |answer| {
            problem(answer) && answer.header("allow") == Some("GET, HEAD, POST")
        }),
        ("other method, unknown source", plain("PUT", "/webhooks/nobody"), 404, problem),
    ]
}

#[tokio::test]
async fn every_row_of_the_table_holds_against_the_running_binary() {
    let server = TestServer::start(&config("", "disk_reserve = \"1 MiB\""));
    for (row, request, status, rest) in rows() {
        let answer = ask(&server, &request).await;
        assert_eq!(answer.status, status, "{row}: {}", answer.text());
        assert!(rest(&answer), "{row}: {answer:?}");
    }
}

/// Somebody else has the journal locked. The append goes on, and its copy is one.
#[tokio::test]
async fn a_journal_slower_than_ack_timeout_is_answered_503_and_the_retry_is_a_duplicate() {
    let server = TestServer::start(&config("ack_timeout = \"50ms\"", "disk_reserve = \"1 MiB\""));
    let journal = Connection::open(server.folder().join("data/journal.db")).unwrap();
    journal.execute_batch("BEGIN IMMEDIATE").unwrap();
    let slow = META_BODY.replace("m1", "slow");
    let refused = ask(&server, &post_messenger(&slow)).await;
    assert_eq!((refused.status, later(&refused)), (503, true), "{refused:?}");
    journal.execute_batch("ROLLBACK").unwrap();
    let counts = r#"{"accepted":0,"duplicates":2}"#;
    let answer = within(async {
        loop {
            // While it catches up, the answer may be 503 again, but never that the events are new.
            let again = ask(&server, &post_messenger(&slow)).await;
            if again.status != 503 {
                return again;
            }
        }
    })
    .await;
    assert_eq!((answer.status, answer.text()), (200, counts));
}

#[tokio::test]
async fn while_all_places_are_taken_the_answer_is_503() {
    let server = TestServer::start(&config("max_in_flight = 1\nack_timeout = \"1h\"", "disk_reserve = \"1 MiB\""));
    let connect = || async { Client::over(TcpStream::connect(server.public).await.unwrap()) };
    // Whoever only sends takes no place, with a right signature or with none.
    let request = post_messenger(META_BODY.replace("m1", "held"));
    let end = request.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let (mut sending, mut holder) = (connect().await, connect().await);
    sending.send(&[&request[..end], b"\r\nexpect: 100-continue\r\n\r\n"].concat()).await;
    assert_eq!(sending.answer(false).await.status, 100, "its body is waited for");
    assert_eq!(ask(&server, &post_messenger(META_BODY)).await.status, 200);

    // Somebody else has the journal locked, and so the holder waits.
    let journal = Connection::open(server.folder().join("data/journal.db")).unwrap();
    journal.execute_batch("BEGIN IMMEDIATE").unwrap();
    holder.send(&post_messenger(META_BODY.replace("m1", "slow"))).await;
    within(async { while ask(&server, &plain("HEAD", "/webhooks/connect")).await.status != 503 {} }).await;
    for refused in [
        ask(&server, &post_messenger(META_BODY)).await,
        ask(&server, &post("/webhooks/messenger", &[], META_BODY)).await,
        ask(&server, &post("/webhooks/messenger", &[], vec![b'x'; MAX_BODY + 1])).await,
    ] {
        assert_eq!((refused.status, later(&refused)), (503, true), "{refused:?}");
    }
    sending.send(&request[end + 4..]).await;
    let refused = sending.answer(true).await;
    assert_eq!((refused.status, later(&refused)), (503, true), "it came to the last place too late: {refused:?}");
    assert_eq!(ask(&server, &plain("PUT", "/webhooks/messenger")).await.status, 405);
    assert_eq!(ask(&server, &plain("HEAD", "/webhooks/nobody")).await.status, 404);
    journal.execute_batch("ROLLBACK").unwrap();
    assert_eq!(holder.answer(true).await.status, 200);
    assert_eq!(sending.ask(&request).await.text(), r#"{"accepted":1,"duplicates":1}"#);
}

#[tokio::test]
async fn below_the_disk_reserve_the_answer_is_503() {
    // No disk has as much.
    let server = TestServer::start(&config("", "disk_reserve = \"1000000 TiB\""));
    let refused = ask(&server, &post_messenger(META_BODY)).await;
    assert_eq!((refused.status, later(&refused)), (503, true), "{refused:?}");
    assert_eq!(
        ask(&server, &post("/webhooks/messenger", &[], META_BODY)).await.status,
        401,
        "asked before the journal"
    );
    assert_eq!(ask(&server, &plain("HEAD", "/webhooks/connect")).await.status, 200);
    let ready = server.admin_get("/readyz?verbose").await;
    assert_eq!(ready.status, 503);
    assert!(
        ready.body.contains("[-] disk_above_reserve\n") && ready.body.contains("[+] not_draining\n"),
        "{}",
        ready.body
    );
    assert_eq!(server.admin_get("/healthz").await.status, 503);
    assert_eq!(server.admin_get("/livez").await.status, 200);
}
