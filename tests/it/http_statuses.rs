//! What each kind of request is answered: the table of design.md, row by row, and which row wins where several apply.

use hooksink::auth::hmac_signature::{Algorithm, sign};
use hooksink::auth::{basic, bearer};
use hooksink::event::Scheme;
use hooksink::secret::Secret;
use serde_json::{Value, json};

use crate::door::{
    CONNECT_SECRET, Door, Failure, MAX_BODY, META_BODY, Mode, plain, post, post_connect, post_messenger,
};

fn header_text(value: &http::HeaderValue) -> String {
    value.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_head_or_get_that_asks_whether_the_webhook_exists_is_answered_200() {
    let door = Door::open().await;
    for (method, path) in [
        ("HEAD", "/webhooks/connect"),
        ("HEAD", "/webhooks/messenger"),
        ("HEAD", "/webhooks/connect/"),
        ("GET", "/webhooks/connect"),
        ("GET", "/webhooks/open?anything=here"),
    ] {
        let answer = door.ask(&plain(method, path)).await;
        assert_eq!((answer.status, answer.text()), (200, ""), "{method} {path}");
        assert_eq!(answer.header("content-length"), Some("0"), "{method} {path}");
    }
    door.close().await;
}

#[tokio::test]
async fn meta_s_subscription_check_is_answered_byte_for_byte() {
    let door = Door::open().await;
    let check = |query: &str| plain("GET", &format!("/webhooks/messenger?{query}"));
    let right = "hub.challenge=CHALLENGE_%C3%A4%0A%3Cb%3E&hub.mode=subscribe&hub.verify_token=verify-marker";
    let answer = door.ask(&check(right)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.text(), "CHALLENGE_ä\n<b>");
    assert!(answer.header("content-type").unwrap().starts_with("text/plain"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    let wrong = door.ask(&check("hub.challenge=1&hub.mode=subscribe&hub.verify_token=wrong")).await;
    assert_eq!(wrong.status, 403);
    assert_eq!(door.ask(&check("")).await.status, 400);
    assert_eq!(door.ask(&plain("GET", "/webhooks/messenger")).await.status, 400);
    assert_eq!(door.counted("messenger", "handshake_refused"), 1);
    assert_eq!(door.counted("messenger", "handshake_incomplete"), 2);
    door.close().await;
}

#[tokio::test]
async fn an_authentic_post_is_answered_with_its_counts_once_it_is_stored() {
    let door = Door::open().await;
    for counts in [r#"{"accepted":2,"duplicates":0}"#, r#"{"accepted":0,"duplicates":2}"#] {
        let answer = door.ask(&post_messenger(META_BODY)).await;
        assert_eq!((answer.status, answer.text()), (200, counts));
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    assert_eq!(door.journal.records().len(), 2);
    assert_eq!(door.counted("messenger", "accepted"), 2);
    let text = door.metrics.encode();
    for line in [
        r#"hooksink_events_total{source="messenger",kind="meta.message",outcome="stored"} 1"#,
        r#"hooksink_events_total{source="messenger",kind="meta.read",outcome="duplicate"} 1"#,
        r#"hooksink_proofs_total{source="messenger",scheme="hmac_sha256",position="0"} 2"#,
        r#"hooksink_ack_seconds_count{source="messenger"} 2"#,
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    door.close().await;
}

#[tokio::test]
async fn copies_within_one_request_count_as_duplicates() {
    let door = Door::open().await;
    let item = r#"{"sender":{"id":"7"},"recipient":{"id":"1"},"timestamp":1700000000000,"read":{"watermark":1}}"#;
    let body = format!(r#"{{"object":"page","entry":[{{"id":"1","time":1,"messaging":[{item},{item}]}}]}}"#);
    assert_eq!(door.ask(&post_messenger(&body)).await.text(), r#"{"accepted":1,"duplicates":1}"#);
    door.close().await;
}

#[tokio::test]
async fn every_scheme_opens_its_own_door_and_no_other() {
    let door = Door::open().await;
    let body = r#"{"channel":"rcs","event":"MO"}"#;
    let hub = sign(Algorithm::Sha256, &Secret::new(CONNECT_SECRET), body.as_bytes());
    let pair = header_text(&basic::credentials(&Secret::new("ann:password-marker")));
    let token = header_text(&bearer::credentials(&Secret::new("token-marker")).unwrap());
    let schemes = [
        ("connect", Scheme::HmacSha256, ("x-hub-signature", hub.as_str()), None),
        ("basic", Scheme::Basic, ("authorization", pair.as_str()), Some(r#"Basic realm="hooksink""#)),
        ("bearer", Scheme::Bearer, ("authorization", token.as_str()), Some(r#"Bearer realm="hooksink""#)),
        ("key", Scheme::ApiKey, ("x-api-key", "key-marker"), None),
    ];
    for (at, (source, scheme, credential, challenge)) in schemes.into_iter().enumerate() {
        let path = format!("/webhooks/{source}");
        for (other, _, wrong, _) in schemes.into_iter().filter(|(other, ..)| *other != source) {
            let answer = door.ask(&post(&path, &[wrong], body)).await;
            assert_eq!(answer.status, 401, "{other}'s credential at {source}");
            assert_eq!(answer.header("www-authenticate"), challenge);
        }
        assert_eq!(door.journal.records().len(), at, "nothing is stored of what is not authentic");
        assert_eq!(door.ask(&post(&path, &[credential], body)).await.status, 200, "{source}");
        let proofs = door.journal.records().pop().unwrap().context.arrival.proofs.clone();
        assert_eq!(proofs.iter().map(|proof| proof.scheme).collect::<Vec<_>>(), [scheme]);
    }
    door.close().await;
}

#[tokio::test]
async fn a_body_that_is_not_json_is_kept_where_a_secret_proved_it() {
    let door = Door::open().await;
    let (body, key) = ("not JSON", ("x-api-key", "key-marker"));
    assert_eq!(door.ask(&post_messenger(body)).await.status, 200);
    assert_eq!(door.ask(&post_connect(body)).await.status, 200);
    assert_eq!(door.ask(&post("/webhooks/key", &[key], body)).await.status, 200);
    assert_eq!(door.journal.records().len(), 3);
    for source in ["address", "open"] {
        assert_eq!(door.ask(&post(&format!("/webhooks/{source}"), &[], body)).await.status, 400, "{source}");
        assert_eq!(door.counted(source, "not_json"), 1);
        assert_eq!(door.ask(&post(&format!("/webhooks/{source}"), &[], "{}")).await.status, 200, "{source}");
    }
    assert_eq!(door.ask(&post("/webhooks/messenger", &[], body)).await.status, 401);
    assert_eq!(door.journal.records().len(), 5);
    door.close().await;
}

#[tokio::test]
async fn an_empty_body_is_refused_once_it_is_authentic() {
    let door = Door::open().await;
    assert_eq!(door.ask(&post_messenger("")).await.status, 400);
    assert_eq!(door.ask(&post_connect("")).await.status, 400);
    assert_eq!(door.ask(&post("/webhooks/open", &[], "")).await.status, 400);
    assert_eq!(door.ask(&post("/webhooks/messenger", &[], "")).await.status, 401);
    assert_eq!(door.counted("messenger", "empty_body"), 1);
    assert!(door.journal.records().is_empty());
    door.close().await;
}

#[tokio::test]
async fn a_content_encoding_is_kept_and_never_undone() {
    let door = Door::open().await;
    let signature = sign(Algorithm::Sha256, &Secret::new(CONNECT_SECRET), b"{}");
    let headers = [("x-hub-signature", signature.as_str()), ("content-encoding", "gzip")];
    assert_eq!(door.ask(&post("/webhooks/connect", &headers, "{}")).await.status, 200);
    let record = door.journal.records().pop().unwrap();
    assert_eq!(&record.raw[..], b"{}");
    assert_eq!(record.context.arrival.content_encoding.as_deref(), Some("gzip"));
    door.close().await;
}

#[tokio::test]
async fn a_journal_that_cannot_store_is_answered_503_and_says_nothing_of_the_cause() {
    let door = Door::open().await;
    for (failure, outcome) in [
        (Failure::Busy, "journal_busy"),
        (Failure::Full, "journal_full"),
        (Failure::Unavailable, "journal_unavailable"),
        (Failure::Closed, "journal_unavailable"),
    ] {
        door.journal.set(Mode::Fail(failure));
        let before = door.counted("messenger", outcome);
        let answer = door.ask(&post_messenger(META_BODY)).await;
        assert_eq!(answer.status, 503, "{failure:?}");
        assert!(answer.header("retry-after").is_some());
        assert!(!answer.text().contains("marker"), "{}", answer.text());
        assert_eq!(door.counted("messenger", outcome), before + 1, "{failure:?}");
    }
    door.journal.set(Mode::Store);
    assert_eq!(door.ask(&post_messenger(META_BODY)).await.text(), r#"{"accepted":2,"duplicates":0}"#);
    door.close().await;
}

#[tokio::test]
async fn a_panic_costs_one_request() {
    let door = Door::open().await;
    let mut client = door.client().await;
    door.journal.set(Mode::Panic);
    let answer = client.ask(&post_messenger(META_BODY)).await;
    assert_eq!(answer.status, 500);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    door.journal.set(Mode::Store);
    assert_eq!(client.ask(&post_messenger(META_BODY)).await.status, 200, "the connection goes on");
    assert_eq!(door.counted("messenger", "failed"), 1);
    door.close().await;
}

#[tokio::test]
async fn what_does_not_exist_is_404_and_other_methods_are_405() {
    let door = Door::open().await;
    for path in [
        "/",
        "/webhooks",
        "/webhooks/",
        "/webhooks/nobody",
        "/webhooks/connect/deeper",
        "/webhooks/%2e%2e",
        "/webhooks/%ff",
        "/webhooks/CONNECT",
        "//webhooks/connect",
        "/hooks/webhooks/connect",
    ] {
        for method in ["POST", "GET", "HEAD", "DELETE"] {
            assert_eq!(door.ask(&plain(method, path)).await.status, 404, "{method} {path}");
        }
    }
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
        let answer = door.ask(&plain(method, "/webhooks/connect")).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD, POST")), "{method}");
    }
    for target in ["OPTIONS *", "CONNECT hooks.example:443"] {
        let (method, target) = target.split_once(' ').unwrap();
        assert_eq!(door.ask(&plain(method, target)).await.status, 404, "{method} {target}");
    }
    assert_eq!(door.counted("", "not_found"), 42, "under one label, whatever the path");
    assert_eq!(door.counted("connect", "method_not_allowed"), 6);
    door.close().await;
}

#[tokio::test]
async fn a_path_prefix_is_part_of_the_path() {
    let door = Door::open_with(|config| config.public_url_prefix = "/a/b".to_owned()).await;
    assert_eq!(door.ask(&plain("HEAD", "/a/b/webhooks/connect")).await.status, 200);
    assert_eq!(door.ask(&plain("HEAD", "/webhooks/connect")).await.status, 404);
    door.close().await;
}

#[tokio::test]
async fn the_first_row_that_applies_answers() {
    let door = Door::open_with(|config| config.max_in_flight = 1).await;
    let large = vec![b'x'; MAX_BODY + 1];
    let unsigned = |source: &str| post(&format!("/webhooks/{source}"), &[], &large);
    door.journal.set(Mode::Hold);
    let mut holder = door.client().await;
    holder.send(&post_messenger(META_BODY)).await;
    door.journal.appends(1).await;

    // Busy, with a large body that is not authentic.
    assert_eq!(door.ask(&unsigned("nobody")).await.status, 404);
    assert_eq!(door.ask(&plain("PUT", "/webhooks/messenger")).await.status, 405);
    assert_eq!(door.ask(&unsigned("messenger")).await.status, 503);
    door.journal.set(Mode::Fail(Failure::Unavailable));
    assert_eq!(holder.answer(true).await.status, 503);

    // Not busy any more.
    assert_eq!(door.ask(&unsigned("messenger")).await.status, 413);
    assert_eq!(door.ask(&post("/webhooks/messenger", &[], "")).await.status, 401);
    assert_eq!(door.ask(&post_messenger("")).await.status, 400);
    assert_eq!(door.ask(&post_messenger(META_BODY)).await.status, 503);
    door.journal.set(Mode::Store);
    assert_eq!(door.ask(&post_messenger(META_BODY)).await.status, 200);

    door.public.start_draining();
    assert_eq!(door.ask(&plain("PUT", "/webhooks/messenger")).await.status, 405);
    assert_eq!(door.ask(&unsigned("messenger")).await.status, 503);
    door.close().await;
}

#[tokio::test]
async fn errors_are_problems_and_every_answer_has_an_id_of_its_own() {
    let door = Door::open().await;
    let mut ids = std::collections::HashSet::new();
    for (request, problem) in [
        (post_messenger(META_BODY), None),
        (plain("HEAD", "/webhooks/connect"), None),
        (plain("POST", "/nowhere"), Some((404, "Not Found"))),
        (plain("PUT", "/webhooks/connect"), Some((405, "Method Not Allowed"))),
        (post("/webhooks/connect", &[("x-request-id", "forged")], "{}"), Some((401, "Unauthorized"))),
        (post("/webhooks/open", &[], ""), Some((400, "Bad Request"))),
        (post("/webhooks/open", &[], vec![b'x'; MAX_BODY + 1]), Some((413, "Payload Too Large"))),
    ] {
        let answer = door.ask(&request).await;
        let id: uuid::Uuid = answer.header("x-request-id").unwrap().parse().unwrap();
        assert_eq!(id.get_version_num(), 7);
        assert!(ids.insert(id));
        if let Some((status, title)) = problem {
            assert_eq!(answer.header("content-type"), Some("application/problem+json"));
            let mut body: Value = serde_json::from_slice(&answer.body).unwrap();
            assert!(
                body.as_object_mut().unwrap().remove("detail").unwrap().as_str().is_some_and(|text| text.len() > 5)
            );
            assert_eq!(body, json!({"type": "about:blank", "title": title, "status": status}));
            assert_eq!(answer.status, status);
        }
        assert_eq!(answer.header("server"), None);
    }
    let record = &door.journal.records()[0];
    assert!(ids.contains(&record.context.arrival.request_id.parse().unwrap()), "the id is kept with the event");
    door.close().await;
}
