//! The admin listener of a running server: what it tells, whom it lets in, and what operators do through it and the
//! command line.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use hooksink::names::SourceType;
use reqwest::Method;
use rusqlite::Connection;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::door::{Answer, Client};
use crate::echo::{SECRET, echo};
use crate::support::DEADLINE;
use crate::support::mock_target::{self, MockTarget};
use crate::support::server::{TestServer, answer, eventually};
use crate::support::shell::{Shell, run_in};

const CONFIG: &str = r#"
    [sources.messenger]
    type = "meta"
    verify_token = "token"
    app_secrets = ["the app secret of these tests"]
    own_app_ids = ["1517776481860111"]
    [sinks.archive]
    type = "file"
    path = "events.jsonl"
    [journal]
    backup_dir = "copies"
    disk_reserve = "1 MiB"
"#;

async fn send(server: &TestServer, body: impl Into<Vec<u8>>) {
    assert_eq!(server.post(SourceType::Meta, "messenger", SECRET, body).await.status, 200);
}

/// The events in the file sink, when there are as many.
fn archived(server: &TestServer, count: usize) -> Vec<Value> {
    eventually("the events are in the file", || {
        let text = std::fs::read_to_string(server.folder().join("events.jsonl")).ok()?;
        let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let events: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        (events.len() >= count).then_some(events)
    })
}

fn shell(server: &TestServer) -> Shell {
    Shell::new().env("HOOKSINK_ADMIN_URL", &format!("http://{}", server.admin))
}

/// One request to the admin listener, written as it is.
async fn ask(server: &TestServer, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("content-length: 0\r\n\r\n");
    Client::over(TcpStream::connect(server.admin).await.unwrap()).ask(request.as_bytes()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_version_and_every_metric_are_told() {
    let server = TestServer::start(CONFIG);
    for path in ["/livez", "/readyz", "/healthz"] {
        let told = server.admin_get(path).await;
        assert_eq!((told.status, told.body.as_str()), (200, "ok\n"), "{path}");
    }
    let checks = "[+] journal_writable\n[+] disk_above_reserve\n[+] not_draining\nok\n";
    assert_eq!(server.admin_get("/readyz?verbose").await.body, checks);
    assert_eq!(
        server.admin_get("/version").await.json(),
        json!({"name": "hooksink", "version": env!("CARGO_PKG_VERSION")})
    );
    let status = server.admin_get("/api/v1/status").await.json();
    assert_eq!((status["writable"].as_bool(), status["events"].as_u64()), (Some(true), Some(0)));

    let with_news = String::from_utf8(echo("m1", "ann")).unwrap().replace(r#""is_echo""#, r#""brand_new":1,"is_echo""#);
    send(&server, with_news).await;
    archived(&server, 1);
    // Whatever strangers make up must not become a label.
    for number in 0..30 {
        let path = format!("/webhooks/made-up-{number}?made-up={number}");
        answer(server.request(Method::from_bytes(format!("MADE-UP-{number}").as_bytes()).unwrap(), &path)).await;
        let body = format!(r#"{{"object":"made-up-{number}","entry":[{{"messaging":[{{"made-up-{number}":1}}]}}]}}"#);
        send(&server, body).await;
        assert_eq!(server.post(SourceType::Meta, "messenger", "wrong", format!("made-up-{number}")).await.status, 401);
    }
    // Gauges are brought up to date about once a second.
    let told = |text: &str| {
        text.contains("hooksink_sink_delivered_total{sink=\"archive\"} 31\n")
            && text.contains("hooksink_sink_lag_events{sink=\"archive\"} 0\n")
            && text.contains("hooksink_sink_oldest_unsent_seconds{sink=\"archive\"} 0\n")
            && ["hooksink_journal_bytes", "hooksink_journal_wal_bytes"].iter().all(|name| value(text, name) > 0.0)
    };
    let text = metrics(&server, told).await;
    assert!(!text.contains("made-up") && !text.contains("MADE-UP"), "{text}");
    for name in [
        "hooksink_requests_total{source=",
        "hooksink_events_total{source=",
        "hooksink_ack_seconds_bucket{le=",
        "hooksink_journal_commit_seconds_bucket{le=",
        "hooksink_journal_batch_events_bucket{le=",
        "hooksink_journal_bytes ",
        "hooksink_journal_wal_bytes ",
        "hooksink_sink_delivered_total{sink=",
        "hooksink_sink_dead_letters{sink=",
        "hooksink_sink_lag_events{sink=",
        "hooksink_sink_oldest_unsent_seconds{sink=",
        "hooksink_unknown_fields_total{source=\"messenger\",kind=\"meta.message_echo\"} ",
        "hooksink_build_info{version=",
        "hooksink_sink_retries_total{sink=\"archive\"} 0",
    ] {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} in:\n{text}");
    }
    assert_eq!(value(&text, "hooksink_requests_total{source=\"\",outcome=\"not_found\"}"), 30.0);
    assert_eq!(value(&text, "hooksink_requests_total{source=\"messenger\",outcome=\"accepted\"}"), 31.0);
    assert_eq!(value(&text, "hooksink_requests_total{source=\"messenger\",outcome=\"unauthorized\"}"), 30.0);
    is_open_metrics(&text);
    let told = answer(server.admin_request(Method::GET, "/metrics")).await;
    assert_eq!(told.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
}

/// The metrics, once they tell what is waited for.
async fn metrics(server: &TestServer, told: impl Fn(&str) -> bool) -> String {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        let text = server.admin_get("/metrics").await.body;
        if told(&text) {
            return text;
        }
        assert!(tokio::time::Instant::now() < deadline, "not told:\n{text}");
    }
}

fn value(metrics: &str, name: &str) -> f64 {
    let found = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("{name} in:\n{metrics}")).parse().unwrap()
}

/// What a scraper insists on: each sample below its family's TYPE, with the suffix and labels of that type, families in
/// one piece, no sample twice, and the end.
fn is_open_metrics(text: &str) {
    let body = text.strip_suffix("# EOF\n").unwrap_or_else(|| panic!("no end:\n{text}"));
    let (mut families, mut samples) = (BTreeMap::new(), BTreeSet::new());
    let mut current = (String::new(), String::new());
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let (keyword, rest) = comment.split_once(' ').unwrap();
            let (name, what) = rest.split_once(' ').unwrap();
            match keyword {
                "TYPE" => {
                    assert!(families.insert(name.to_owned(), what.to_owned()).is_none(), "{name} has two types");
                    current = (name.to_owned(), what.to_owned());
                }
                "HELP" | "UNIT" => assert!(name.starts_with("hooksink_"), "{line}"),
                other => panic!("{other}: {line}"),
            }
            continue;
        }
        let (series, number) = line.rsplit_once(' ').unwrap();
        number.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
        assert!(samples.insert(series.to_owned()), "twice: {line}");
        let name = series.split('{').next().unwrap();
        let suffix = name.strip_prefix(&current.0).unwrap_or_else(|| panic!("{line} below {current:?}"));
        let allowed: &[&str] = match current.1.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "info" => &["_info"],
            "histogram" => &["_sum", "_count", "_bucket"],
            other => panic!("{other}"),
        };
        assert!(allowed.contains(&suffix), "{line} is a {}", current.1);
    }
}

#[tokio::test]
async fn only_who_has_the_token_and_names_a_known_host_gets_in() {
    let config = format!("{CONFIG}\n[admin]\ntoken = [{{ env = \"OLD\" }}, {{ env = \"NEW\" }}]");
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::start_with(folder, &config, &[("OLD", "old-token"), ("NEW", "new-token")]);
    let host = ("host", "localhost");
    let token = ("authorization", "Bearer new-token");
    for path in ["/livez", "/readyz", "/readyz?verbose", "/healthz"] {
        for host in ["localhost", "forged.example"] {
            assert_eq!(ask(&server, "GET", path, &[("host", host)]).await.status, 200, "{path} {host}");
        }
    }
    let others = [
        ("GET", "/"),
        ("GET", "/version"),
        ("GET", "/metrics"),
        ("GET", "/api/v1/status"),
        ("GET", "/api/v1/sinks"),
        ("DELETE", "/api/v1/sinks/archive"),
        ("POST", "/api/v1/sinks/archive/rename"),
        ("GET", "/api/v1/dead-letters"),
        ("GET", "/api/v1/dead-letters/1"),
        ("POST", "/api/v1/dead-letters/retry"),
        ("POST", "/api/v1/dead-letters/drop"),
        ("POST", "/api/v1/replays"),
        ("GET", "/api/v1/replays/1"),
        ("POST", "/api/v1/journal/backup"),
        ("GET", "/livez/"),
        ("GET", "//livez"),
        ("GET", "/no/such/path"),
    ];
    for (method, path) in others {
        let none = ask(&server, method, path, &[host]).await;
        assert_eq!((none.status, none.header("www-authenticate")), (401, Some("Bearer")), "{method} {path}");
        for wrong in ["Bearer wrong", "Bearer ", "Bearer", "Basic new-token", "new-token", "Bearer new-token2"] {
            let answer = ask(&server, method, path, &[host, ("authorization", wrong)]).await;
            assert_eq!(answer.status, 401, "{method} {path} {wrong}");
        }
        assert_eq!(ask(&server, method, path, &[host, token, token]).await.status, 401, "one token, not two");
        assert_eq!(
            ask(&server, method, path, &[("host", "forged.example"), token]).await.status,
            403,
            "{method} {path}"
        );
        let in_ = ask(&server, method, path, &[host, token]).await.status;
        assert!(![401, 403].contains(&in_), "{method} {path}: {in_}");
    }
    let other = ("authorization", "bearer old-token");
    assert_eq!(ask(&server, "GET", "/metrics", &[host, other]).await.status, 200);

    let bound = server.admin.to_string();
    for good in ["localhost", "LOCALHOST", "localhost:1", "127.0.0.1", bound.as_str(), "[::1]", "[::1]:9090"] {
        assert_eq!(ask(&server, "GET", "/version", &[("host", good), token]).await.status, 200, "{good}");
    }
    for forged in [
        "",
        ":9090",
        "localhost.",
        "localhost.forged.example",
        "forged.example:9090",
        "127.0.0.1.forged.example",
        "localhost:80:80",
        "localhost:port",
        "forged@localhost",
        "127.0.0.2",
        "2130706433",
        "[::2]:9090",
        "0.0.0.0",
    ] {
        let answer = ask(&server, "GET", "/version", &[("host", forged), token]).await;
        assert!([400, 403].contains(&answer.status), "{forged}: {}", answer.status);
    }
    assert_eq!(ask(&server, "GET", "/version", &[host, ("host", "forged.example"), token]).await.status, 403);

    for (site, get, post) in [
        ("cross-site", 200, 403),
        ("same-site", 200, 403),
        ("odd", 200, 403),
        ("same-origin", 200, 400),
        ("none", 200, 400),
    ] {
        let headers = [host, token, ("sec-fetch-site", site)];
        assert_eq!(ask(&server, "GET", "/api/v1/sinks", &headers).await.status, get, "{site}");
        let posted = ask(&server, "POST", "/api/v1/replays", &headers).await.status;
        // Past the protection: there is no body in it.
        assert!(posted == post || post == 400 && (400..500).contains(&posted) && posted != 403, "{site}: {posted}");
        let deleted = ask(&server, "DELETE", "/api/v1/sinks/nobody", &headers).await.status;
        assert_eq!(deleted == 403, post == 403, "{site}: {deleted}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_listed_shown_retried_and_dropped() {
    let target = MockTarget::start().await;
    let bad = |request: &mock_target::Request| {
        String::from_utf8_lossy(&request.body).contains("\"bad").then(|| mock_target::Answer::Status(422, Vec::new()))
    };
    target.choose(bad);
    let sink = format!(
        "[sinks.crm]\ntype = \"http\"\nurl = \"{}\"\nmax_attempts = 2\nretry_initial = \"2ms\"\nretry_max = \"10ms\"",
        target.url("/")
    );
    let server = TestServer::start(&format!("{CONFIG}\n{sink}"));
    let shell = shell(&server);
    let list = |arguments: &str| shell.run(&format!("dead-letters list {arguments}")).status(0).out();
    assert_eq!(list(""), "there are none\n");
    for number in 0..3 {
        send(&server, echo(&format!("bad-{number}"), &format!("person-{number}"))).await;
    }
    let mut good = 0;
    // Others pass until these are given up.
    let mut until = async |what: &str, holds: &dyn Fn() -> bool| {
        let from = good;
        while !holds() {
            assert!(good < from + 300, "in vain: {what}");
            send(&server, echo(&format!("good-{good}"), "ben")).await;
            good += 1;
            let taken = || target.taken().len() >= good;
            eventually("others pass", || taken().then_some(()));
        }
    };
    until("they are dead", &|| list("--json").lines().count() == 3).await;
    let letters: Vec<Value> = list("--json").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(letters.iter().all(|letter| letter["sink"] == "crm" && letter["reason"] == "the target answered 422"));
    assert_eq!(list("--sink archive"), "there are none\n");
    let table = list("--sink crm");
    assert!(table.starts_with("ID") && table.lines().count() == 4, "{table}");
    metrics(&server, |text| text.contains("hooksink_sink_dead_letters{sink=\"crm\"} 3\n")).await;

    let [first, second, third] = [0, 1, 2].map(|at: usize| letters[at]["id"].to_string());
    let shown: Value = serde_json::from_str(&shell.run(&format!("dead-letters show {first}")).status(0).out()).unwrap();
    assert_eq!(shown["event"]["id"], letters[0]["event_id"]);
    assert!(shown["event"]["data"]["mid"].as_str().unwrap().starts_with("bad-"));

    // Retried too early, it is given up once more; retried when the target has been mended, it arrives.
    assert_eq!(shell.run(&format!("dead-letters retry {first}")).status(0).out(), "1 will be tried again\n");
    let again = || {
        let letters = list("--json");
        letters.lines().count() == 3 && !letters.contains("\"retrying\":true")
    };
    until("it is dead once more", &again).await;
    assert!(!target.taken().iter().any(|request| bad(request).is_some()));
    target.choose(|_| None);
    let retried = shell.run(&format!("dead-letters retry {first} {second}")).status(0).out();
    assert_eq!(retried, "2 will be tried again\n");
    eventually("two arrive", || {
        (target.taken().iter().filter(|request| bad(request).is_some()).count() == 2).then_some(())
    });
    let ids: BTreeSet<_> = target
        .taken()
        .iter()
        .filter(|request| bad(request).is_some())
        .map(|request| request.header("webhook-id").unwrap().to_owned())
        .collect();
    let expected: BTreeSet<_> =
        letters[..2].iter().map(|letter| letter["event_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids, expected, "the same ids");
    eventually("one is left", || (list("--json").lines().count() == 1).then_some(()));

    assert_eq!(shell.run(&format!("dead-letters drop {first} {second} {third}")).status(0).out(), "1 dropped\n");
    assert_eq!(list(""), "there are none\n");
    assert!(server.stderr().contains("dead letters dropped"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_sends_what_was_asked_for_with_the_same_ids() {
    let server = TestServer::start(CONFIG);
    let shell = shell(&server);
    for number in 0..40 {
        send(&server, echo(&format!("early-{number}"), &format!("person-{}", number % 4))).await;
    }
    archived(&server, 40);
    let middle = chrono::Utc::now();
    // Times of receipt are whole milliseconds.
    eventually("the clock has moved on", || {
        (chrono::Utc::now() > middle + chrono::TimeDelta::milliseconds(2)).then_some(())
    });
    let middle = (middle + chrono::TimeDelta::milliseconds(1)).to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let read = r#"{"object":"page","entry":[{"id":"1","time":1,"messaging":[{"sender":{"id":"7"},"recipient":{"id":"1"},"timestamp":1762000000000,"read":{"watermark":1}}]}]}"#;
    send(&server, read).await;
    send(&server, echo("late", "person-0")).await;
    let all = archived(&server, 42);
    let ids = |events: &[Value]| events.iter().map(|event| event["id"].to_string()).collect::<BTreeSet<_>>();
    let mut expected = all.clone();
    for (arguments, count, which) in [
        (format!("--from 1h --to {middle}"), 40, &all[..40]),
        (format!("--from {middle} --kinds meta.read"), 1, &all[40..41]),
        (format!("--from {middle}"), 2, &all[40..]),
        ("--from 1h --kinds webex_connect.*".to_owned(), 0, &all[..0]),
        ("--from 2h --to 1h".to_owned(), 0, &all[..0]),
    ] {
        let said = shell.run(&format!("replay --sink archive {arguments}")).status(0).out();
        let last = said.lines().last().unwrap();
        assert!(last.ends_with(&format!(", {count} delivered, finished")), "{arguments}: {said}");
        expected.extend(which.iter().cloned());
        let now = archived(&server, expected.len());
        assert_eq!(now.len(), expected.len(), "{arguments}");
        assert_eq!(ids(&now[now.len() - count..]), ids(which), "{arguments}");
    }
    let unknown = shell.run("replay --sink nobody --from 1h").status(69);
    assert!(unknown.err().contains("nobody"), "{}", unknown.err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_made_under_load_is_whole_and_holds_what_was_acknowledged() {
    let server = TestServer::start(CONFIG);
    let shell = shell(&server);
    let (stop, begun) = (AtomicBool::new(false), AtomicBool::new(false));
    let mut acknowledged = Vec::new();
    for number in 0..50 {
        send(&server, echo(&format!("before-{number}"), "ann")).await;
        acknowledged.push(format!("before-{number}"));
    }
    let load = async {
        let mut number = 0;
        while !stop.load(Ordering::Relaxed) {
            send(&server, echo(&format!("during-{number}"), "ben")).await;
            begun.store(true, Ordering::Relaxed);
            number += 1;
        }
    };
    let copy = async {
        eventually("the load has begun", || begun.load(Ordering::Relaxed).then_some(()));
        let ran = tokio::task::block_in_place(|| shell.run("journal backup sub/copy.db"));
        stop.store(true, Ordering::Relaxed);
        ran.status(0)
    };
    // On two threads: the one that waits for the command must not hold up the one that sends.
    let ran = std::thread::scope(|scope| {
        let runtime = tokio::runtime::Handle::current();
        let load = scope.spawn(move || runtime.block_on(load));
        let ran = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(copy));
        load.join().unwrap();
        ran
    });
    assert!(ran.out().trim_end().ends_with("copies/sub/copy.db"), "{}", ran.out());
    assert!(ran.err().contains(" pages\n"), "{}", ran.err());
    let path = server.folder().join("copies/sub/copy.db");
    let opened = Connection::open(&path).unwrap();
    let check: String = opened.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    drop(opened);
    for (file, reason) in [("sub/copy.db", "it exists"), ("../copy.db", "without '..'"), ("/tmp/copy.db", "below")] {
        let refused = shell.run(&format!("journal backup {file}")).status(69);
        assert!(refused.err().contains(reason), "{file}: {}", refused.err());
    }

    // The copy is a journal: a server that is given it hands on everything in it.
    let other = tempfile::tempdir().unwrap();
    std::fs::create_dir(other.path().join("data")).unwrap();
    std::fs::copy(&path, other.path().join("data/journal.db")).unwrap();
    let config = CONFIG.replace("[sinks.archive]", "[sinks.restored]\nfrom = \"start\"");
    let restored = TestServer::start_with(other, &config, &[]);
    let mids = eventually("everything is handed on", || {
        let events = archived(&restored, acknowledged.len());
        let mids: BTreeSet<_> = events.iter().map(|event| event["data"]["mid"].as_str().unwrap().to_owned()).collect();
        acknowledged.iter().all(|mid| mids.contains(mid)).then_some(mids)
    });
    assert!(mids.len() >= acknowledged.len());
    let listed = run_in(restored.folder(), &format!("sinks list --json --admin http://{}", restored.admin), &[]);
    let sinks: Value = serde_json::from_str(&listed.status(0).out()).unwrap();
    let configured = |name: &str| {
        sinks.as_array().unwrap().iter().find(|sink| sink["sink"] == name).map(|sink| sink["configured"].clone())
    };
    assert_eq!((configured("archive"), configured("restored")), (Some(json!(false)), Some(json!(true))));
    let forgotten = run_in(restored.folder(), &format!("sinks forget archive --admin http://{}", restored.admin), &[]);
    forgotten.status(0);
}

#[tokio::test]
async fn answers_are_kept_by_no_cache_and_large_bodies_refused() {
    let server = TestServer::start(CONFIG);
    let answer = ask(&server, "GET", "/api/v1/sinks", &[("host", "localhost")]).await;
    assert_eq!(answer.status, 200);
    let head = format!("{answer:?}").to_lowercase();
    assert!(head.contains("no-store") && head.contains("nosniff"), "{head}");
    let http = reqwest::Client::new();
    let post = |bytes: usize| {
        let ids = format!("{{\"ids\":[{}1]}}", "1,".repeat(bytes / 2));
        http.post(format!("http://{}/api/v1/dead-letters/drop", server.admin))
            .header("content-type", "application/json")
            .body(ids)
            .send()
    };
    assert_eq!(post(1_000).await.unwrap().status(), 200);
    assert_eq!(post(100_000).await.unwrap().status(), 413);
}
