//! Expressions of sinks (`where`, `map`) through the real binary: what arrives, what is counted, what becomes a dead
//! letter, and what `check` says of a wrong one.

use hooksink::names::SourceType;
use reqwest::Method;
use serde_json::{Value, json};

use crate::echo::{SECRET, echo};
use crate::support::mock_target::MockTarget;
use crate::support::senders::events_in;
use crate::support::server::{TestServer, answer, eventually};
use crate::support::shell::Shell;

fn config(target: &MockTarget) -> String {
    let url = target.url("/in");
    format!(
        r#"
        [sources.messenger]
        type = "meta"
        verify_token = "token"
        app_secrets = ["{SECRET}"]
        [sinks.some]
        type = "http"
        url = "{url}"
        where = 'data.recipient_id == "ann" && data.text.startsWith("Grüße")'
        map = '{{"said": data.text, "to": subject, "by": data.app_id}}'
        [sinks.all]
        type = "file"
        path = "all.jsonl"
        [sinks.raw]
        type = "file"
        path = "raw.jsonl"
        format = "raw"
        map = '[kind, data.mid]'
        [sinks.unclear]
        type = "file"
        path = "unclear.jsonl"
        where = 'data.mid == "m-0" || data.attachments[0].type == "image"'
        [sinks.unmappable]
        type = "file"
        path = "unmappable.jsonl"
        map = 'data.mid == "m-2" ? data.nothing : data.mid'
        [sinks.console]
        type = "log"
        map = '{{data.text: data.mid, "type": data.text}}'
        "#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sinks_get_what_their_expressions_make_of_events() {
    let target = MockTarget::start().await;
    let server = TestServer::start(&config(&target));
    for (number, person) in ["ann", "bob", "ann", "cyd"].into_iter().enumerate() {
        let sent = server.post(SourceType::Meta, "messenger", SECRET, echo(&format!("m-{number}"), person)).await;
        assert_eq!(sent.status, 200);
    }
    let lines = |name: &str| events_in(&server.folder().join(name));
    eventually("all arrive", || (lines("all.jsonl").len() == 4 && lines("raw.jsonl").len() == 4).then_some(()));
    eventually("ann's arrive", || (target.taken().len() == 2).then_some(()));

    // The envelope is that of the event, and `data` what was made.
    let whole = |mid: &str| {
        // Of several people it may be in any order.
        lines("all.jsonl").into_iter().find(|event| event["data"]["mid"] == mid).expect("all have arrived")
    };
    let said = &whole("m-0")["data"]["text"];
    let events: Vec<Value> =
        target.taken().iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect();
    for (event, whole) in events.iter().zip([whole("m-0"), whole("m-2")]) {
        assert_eq!(event["data"], json!({"said": said, "to": "ann", "by": "1517776481860111"}));
        for attribute in ["id", "source", "type", "subject", "time", "receivedtime", "datacontenttype"] {
            assert_eq!(event[attribute], whole[attribute], "{attribute}");
        }
    }
    assert!(lines("raw.jsonl").contains(&json!(["meta.message_echo", "m-3"])));

    // Without a result, `where` counts as false, and the event is none that the sink is owed.
    eventually("the first arrives", || (lines("unclear.jsonl").len() == 1).then_some(()));
    let counted = async |name: &str, labels: &str, value| {
        server.metric_becomes(&format!("hooksink_{name}{{{labels}}}"), value).await;
    };
    counted("sink_filtered_total", "sink=\"unclear\"", 3).await;
    counted("sink_expression_failures_total", "sink=\"unclear\",expression=\"where\"", 3).await;
    counted("sink_filtered_total", "sink=\"some\"", 2).await;
    counted("sink_expression_failures_total", "sink=\"some\",expression=\"where\"", 0).await;
    counted("sink_delivered_total", "sink=\"some\"", 2).await;

    // Without a result, `map` makes a dead letter at once, and holds nobody up.
    eventually("the others arrive", || (lines("unmappable.jsonl").len() == 3).then_some(()));
    server.metric_becomes("hooksink_sink_dead_letters{sink=\"unmappable\"}", 1).await;
    let listed = answer(server.admin_request(Method::GET, "/api/v1/dead-letters")).await.json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(
        (listed[0]["sink"].as_str(), listed[0]["reason"].as_str(), listed[0]["event_id"].as_str()),
        (
            Some("unmappable"),
            Some("map: the event does not have a member that the expression asks for"),
            whole("m-2")["id"].as_str()
        )
    );
    counted("sink_expression_failures_total", "sink=\"unmappable\",expression=\"map\"", 1).await;

    // What somebody's own expression made is covered whole.
    eventually("the log has them", || (server.stdout().lines().count() == 4).then_some(()));
    let shown: Value = serde_json::from_str(server.stdout().lines().next().unwrap()).unwrap();
    assert!(shown["data"].as_str().is_some_and(|hash| hash.starts_with('#')), "{shown}");
    assert!(!server.stdout().contains("m-0") && !server.stdout().contains("Grüße"));
    assert!(!server.stderr().contains("Grüße") && !server.stderr().contains("m-2"), "{}", server.stderr());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_that_nobody_wants_is_passed_over() {
    let config = format!(
        "[sources.messenger]\ntype = \"meta\"\nverify_token = \"t\"\napp_secrets = [\"{SECRET}\"]\n\
         [sinks.few]\ntype = \"file\"\npath = \"few.jsonl\"\nwindow = 10\nwhere = 'data.mid.endsWith(\"7\")'\n"
    );
    let server = TestServer::start(&config);
    for number in 0..200 {
        let person = format!("person-{}", number % 7);
        let sent = server.post(SourceType::Meta, "messenger", SECRET, echo(&format!("m-{number}"), &person)).await;
        assert_eq!(sent.status, 200);
    }
    eventually("those arrive that are wanted", || {
        (events_in(&server.folder().join("few.jsonl")).len() == 20).then_some(())
    });
    server.metric_becomes("hooksink_sink_filtered_total{sink=\"few\"}", 180).await;
    // It is owed nothing of the rest.
    server.metric_becomes("hooksink_sink_lag_events{sink=\"few\"}", 0).await;
}

#[test]
fn a_wrong_expression_is_a_wrong_configuration() {
    for (lines, expected) in [
        ("where = 'data.status == '", "sinks.it.where: this is no CEL expression: "),
        ("where = 'status == \"failed\"'", "sinks.it.where: there is no \"status\"; an expression sees id, source,"),
        ("map = 'uuid()'", "sinks.it.map: there is no function \"uuid\"; there are bool, bytes"),
        ("map = 'data'\ninclude_raw = true", "sinks.it.include_raw: this has no meaning with map"),
        ("where = true", "sinks.it.where: this must be a text in quotes"),
    ] {
        let config = format!("[sinks.it]\ntype = \"file\"\npath = \"events.jsonl\"\n{lines}\n");
        let ran = Shell::new().file("hooksink.toml", &config).run("check").status(78);
        assert!(ran.err().contains(expected), "{lines}: {}", ran.err());
    }
}
