//! What is kept and said of a request: the evidence of its arrival beside each event, and one line in the log.

use hooksink::config::ClientAddressHeader;
use serde_json::Value;

use crate::captured_log;
use crate::door::{Door, META_BODY, Mode, plain, post, post_messenger};

#[tokio::test]
async fn the_evidence_of_arrival_stands_with_each_event() {
    let door = Door::open_with(|config| config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()]).await;
    let headers = [
        ("x-forwarded-for", "6.6.6.6, 192.0.2.7"),
        ("forwarded", "for=7.7.7.7"),
        ("x-api-key", "key-marker"),
        ("content-type", "application/json"),
        ("user-agent", "an agent"),
        ("x-wx-gtrid", "gtrid"),
    ];
    let answer = door.ask(&post("/webhooks/key", &headers, "{}")).await;
    assert_eq!(answer.status, 200);
    let record = door.journal.records().pop().unwrap();
    let arrival = &record.context.arrival;
    assert_eq!(arrival.request_id, answer.header("x-request-id").unwrap());
    assert_eq!(arrival.client_address.to_string(), "192.0.2.7");
    assert_eq!(arrival.content_type.as_deref(), Some("application/json"));
    assert_eq!(arrival.user_agent.as_deref(), Some("an agent"));
    assert_eq!(arrival.wx_gtrid.as_deref(), Some("gtrid"));
    door.close().await;
}

#[tokio::test]
async fn a_forged_address_does_not_pass_the_address_list() {
    // Whoever connects is trusted to name the client here, so that the list sees what the header says.
    let door = Door::open_with(|config| {
        config.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
        config.client_address_header = ClientAddressHeader::Forwarded;
    })
    .await;
    let ask = |forwarded: &'static str| post("/webhooks/address", &[("forwarded", forwarded)], "{}");
    assert_eq!(door.ask(&ask("for=192.0.2.7")).await.status, 401);
    assert_eq!(door.ask(&ask("for=127.0.0.9, for=192.0.2.7")).await.status, 401);
    assert_eq!(door.ask(&ask("for=127.0.0.9")).await.status, 200);
    door.close().await;
}

#[tokio::test(flavor = "current_thread")]
async fn each_request_is_one_line_without_anything_of_its_content() {
    captured_log::begin();
    let door = Door::open().await;
    let target = "/webhooks/key?token=query-marker";
    let check = "/webhooks/messenger?hub.mode=subscribe&hub.challenge=challenge-marker&hub.verify_token=verify-marker";
    let requests = [
        (post_messenger(META_BODY), 200, "accepted"),
        (post(target, &[("x-api-key", "key-marker"), ("user-agent", "agent-marker")], "{}"), 200, "accepted"),
        (post(target, &[("x-api-key", "header-marker")], "body-marker"), 401, "unauthorized"),
        (plain("GET", check), 200, "handshake"),
        (plain("PUT", target), 405, "method_not_allowed"),
        (plain("GET", &format!("/{}?x=query-marker", "p".repeat(5000))), 404, "not_found"),
    ];
    for (request, ..) in &requests {
        door.ask(request).await;
    }
    door.journal.set(Mode::Panic);
    door.ask(&post_messenger(META_BODY)).await;
    door.close().await;
    let text = captured_log::end();
    assert!(!text.contains("marker"), "{text}");
    assert!(!text.contains("127.0.0.1"), "{text}");
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["fields"].take()).collect();
    let expected: Vec<_> =
        requests.iter().map(|(_, status, outcome)| (*status, *outcome)).chain([(500, "failed")]).collect();
    let told: Vec<_> =
        lines.iter().map(|line| (line["status"].as_u64().unwrap(), line["outcome"].as_str().unwrap())).collect();
    assert_eq!(told, expected);
    let first = &lines[0];
    assert_eq!(first["source"], "messenger");
    assert_eq!(first["method"], "POST");
    assert_eq!(first["path"], "/webhooks/messenger");
    assert_eq!((&first["accepted"], &first["duplicates"]), (&2.into(), &0.into()));
    assert_eq!(first["bytes"], META_BODY.len());
    assert!(first["total_ms"].is_number() && first["journal_ms"].is_number() && first["request_id"].is_string());
    assert_eq!(lines[2]["reason"], "wrong credential for api_key");
    assert!(lines[5]["path"].as_str().unwrap().len() <= 200, "bounded");
}
