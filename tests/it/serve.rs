//! The whole server as a process: what it keeps over a crash and a stop, and what it never says.

use hooksink::names::SourceType;
use reqwest::Method;
use rustix::process::Signal;

use crate::support::server::{TestServer, answer, eventually};

const CONFIG: &str = r#"
    [sources.messenger]
    type = "meta"
    verify_token = "marker-verify"
    app_secrets = ["marker-app"]
    [sources.connect]
    type = "webex-connect"
    api_key = { query = "key", values = "marker-key" }
    [sinks.archive]
    type = "file"
    path = "events.jsonl"
    [sinks.console]
    type = "log"
    [journal]
    disk_reserve = "1 MiB"
"#;

fn echo(mid: &str) -> String {
    format!(
        r#"{{"object":"page","entry":[{{"id":"1","time":1,"messaging":[{{"sender":{{"id":"1"}},"recipient":{{"id":"marker-person"}},"timestamp":1458668856463,"message":{{"is_echo":true,"mid":"{mid}","text":"marker-text"}}}}]}}]}}"#
    )
}

fn lines(server: &TestServer, count: usize) -> Vec<serde_json::Value> {
    eventually("the events are in the file", || {
        let text = std::fs::read_to_string(server.folder().join("events.jsonl")).ok()?;
        let lines: Vec<_> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        (lines.len() >= count).then_some(lines)
    })
}

#[tokio::test]
async fn what_was_answered_200_outlives_a_crash_and_is_known_after_it() {
    let server = TestServer::start(CONFIG);
    let first = server.post(SourceType::Meta, "messenger", "marker-app", echo("m1")).await;
    assert_eq!((first.status, first.body.as_str()), (200, r#"{"accepted":1,"duplicates":0}"#));
    let server = TestServer::start_with(server.crash(), CONFIG, &[]);
    let again = server.post(SourceType::Meta, "messenger", "marker-app", echo("m1")).await;
    assert_eq!((again.status, again.json()["duplicates"].as_u64()), (200, Some(1)));
    assert_eq!(again.headers["content-type"], "application/json");
    let ids: std::collections::BTreeSet<_> = lines(&server, 1).iter().map(|line| line["id"].to_string()).collect();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn a_stop_says_that_everything_was_finished() {
    let server = TestServer::start(CONFIG);
    server.post(SourceType::Meta, "messenger", "marker-app", echo("m1")).await;
    assert_eq!(server.admin_get("/readyz").await.status, 200);
    server.signal(Signal::TERM);
    eventually("it says how the stop went", || {
        server.stderr().contains("stopped: every request was answered and every sink finished its calls").then_some(())
    });
    let folder = server.stop();
    // The journal is whole without its write-ahead log, and the events are where they belong.
    assert!(std::fs::read_to_string(folder.path().join("events.jsonl")).unwrap().contains("m1"));
}

#[tokio::test]
async fn no_secret_query_payload_or_person_reaches_diagnostics() {
    for format in ["text", "json"] {
        let config = format!("{CONFIG}\n[log]\nformat = \"{format}\"\nlevel = \"info\"");
        let server = TestServer::start(&config);
        let get = async |path: &str| answer(server.request(Method::GET, path)).await.status;
        assert_eq!(server.post(SourceType::Meta, "messenger", "marker-app", echo("marker-mid")).await.status, 200);
        assert_eq!(server.post(SourceType::Meta, "messenger", "marker-wrong", echo("marker-mid")).await.status, 401);
        let handshake = "/webhooks/messenger?hub.mode=subscribe&hub.challenge=marker-challenge&hub.verify_token=";
        assert_eq!(get(&format!("{handshake}marker-verify")).await, 200);
        assert_eq!(get(&format!("{handshake}marker-wrong")).await, 403);
        assert_eq!(get("/elsewhere?marker=query").await, 404);
        let connect = |key: &str| {
            let body = r#"{"channel":"rcs","event":"MO","msisdn":"marker-person","message":"marker-text"}"#;
            let path = format!("/webhooks/connect?key={key}");
            server.request(Method::POST, &path).header("user-agent", "marker-agent").body(body)
        };
        assert_eq!(answer(connect("marker-key")).await.status, 200);
        assert_eq!(answer(connect("marker-wrong")).await.status, 401);
        let admin = server.admin_request(Method::GET, "/api/v1/sinks/marker?marker=query").bearer_auth("marker-token");
        assert_eq!(answer(admin).await.status, 405);
        lines(&server, 2);
        let console = eventually("both events are on the console", || {
            let text = server.stdout();
            (text.lines().count() >= 2).then_some(text)
        });
        let said = server.stderr();
        // Both have said what they are there to say.
        assert!(console.contains("meta.message_echo") && said.contains("messenger"), "{console}{said}");
        for (name, text) in [("stdout", console), ("stderr", said)] {
            assert!(!text.contains("marker"), "{name}:\n{text}");
        }
    }
}
