//! The marker test: secrets, header values, query strings, payload text, persons' ids and names, and URLs are marked,
//! sent through everything, good and bad, and looked for wherever they must not be.
//!
//! Two marks: `s3cr3t` is in every secret and every query string (which may hold one), `p3rs0n` in everything that a
//! person or a sender wrote. At info neither is in any diagnostic; at debug no secret is.

use std::collections::BTreeMap;

use hooksink::auth::hmac_signature::{Algorithm, sign};
use hooksink::config::{self, Inputs};
use hooksink::event::Format;
use hooksink::names::SourceType;
use hooksink::secret::Secret;
use hooksink::sources::Sources;
use reqwest::Method;
use rustix::process::Signal;

use crate::support::mock_target::{Answer, MockTarget};
use crate::support::server::{TestServer, answer, eventually};
use crate::support::shell::Shell;

const MARKS: [&str; 2] = ["s3cr3t", "p3rs0n"];

/// The marks found in a text, in any case, as they are or in the forms that credentials and bytes take.
#[track_caller]
fn without(marks: &[&str], what: &str, text: &str) {
    let lower = text.to_lowercase();
    for mark in marks {
        let decimals = mark.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ");
        for form in [(*mark).to_owned(), hex::encode(mark), decimals] {
            assert!(!lower.contains(&form), "{what} shows {form}:\n{text}");
        }
    }
    // Base64 of the Basic credentials below, and of what the target is sent.
    for form in ["dXNlcjpzM2NyM3Q", "Y3JtOnMzY3IzdA"] {
        assert!(!text.contains(form), "{what} shows {form}:\n{text}");
    }
}

fn config(target: &str, log: &str) -> String {
    format!(
        r#"
        [log]
        {log}
        [admin]
        token = "s3cr3t-admin"
        [journal]
        disk_reserve = "1 MiB"
        [sources.messenger]
        type = "meta"
        verify_token = "s3cr3t-verify"
        app_secrets = ["s3cr3t-app", {{ env = "APP" }}, {{ file = "secret" }}]
        max_body = "64 KiB"
        [sources.signed]
        type = "webex-connect"
        signature_secrets = "s3cr3t-signature"
        [sources.basic]
        type = "webex-connect"
        basic = "user:s3cr3t-basic"
        [sources.bearer]
        type = "webex-connect"
        bearer = "s3cr3t-bearer"
        [sources.header]
        type = "webex-connect"
        api_key = {{ header = "x-key", values = ["s3cr3t-key"] }}
        [sources.query]
        type = "webex-connect"
        api_key = {{ query = "key", values = ["s3cr3t-key"] }}
        [sources.open]
        type = "webex-connect"
        auth = "none"
        [sinks.console]
        type = "log"
        [sinks.lines]
        type = "log"
        format = "text"
        [sinks.archive]
        type = "file"
        path = "events.jsonl"
        [sinks.crm]
        type = "http"
        url = "{target}/s3cr3t-path?token=s3cr3t-query"
        signing_secret = "s3cr3t-signing"
        headers = {{ x-token = "s3cr3t-header" }}
        basic = "crm:s3cr3t-basic"
        max_attempts = 1
        retry_initial = "1ms"
        retry_max = "5ms"
        [sinks.nowhere]
        type = "http"
        url = "http://127.0.0.1:1/s3cr3t-path?token=s3cr3t-query"
        bearer = "s3cr3t-bearer"
        retry_initial = "1ms"
        retry_max = "50ms"
        [sinks.unresolvable]
        type = "http"
        url = "https://no-such-host.invalid/s3cr3t-path?token=s3cr3t-query"
        retry_max = "60s"
        [sinks.rabbitmq]
        type = "rabbitmq"
        url = "amqp://127.0.0.1:1"
        username = "hooksink"
        password = "s3cr3t-password"
        exchange = "hooks"
        retry_max = "50ms"
        retry_initial = "1ms"
        [sinks.stream]
        type = "nats"
        url = "nats://127.0.0.1:1"
        username = "hooksink"
        password = "s3cr3t-password"
        retry_max = "50ms"
        retry_initial = "1ms"
        [sinks.entries]
        type = "redis"
        url = "redis://127.0.0.1:1"
        username = "hooksink"
        password = "s3cr3t-password"
        retry_max = "50ms"
        retry_initial = "1ms"
        [sinks.rows]
        type = "postgres"
        url = "postgres://127.0.0.1:1/events"
        username = "hooksink"
        password = "s3cr3t-password"
        retry_max = "50ms"
        retry_initial = "1ms"
        "#
    )
}

fn item(mid: &str) -> String {
    format!(
        r#"{{"object":"page","entry":[{{"id":"p3rs0n-page","time":1,"messaging":[{{"sender":{{"id":"p3rs0n-page"}},"recipient":{{"id":"p3rs0n-{mid}"}},"timestamp":1458668856463,"message":{{"is_echo":true,"mid":"{mid}","text":"p3rs0n text","metadata":"p3rs0n metadata","p3rs0n_field":{{"a":"p3rs0n"}},"attachments":[{{"type":"image","title":"p3rs0n title","payload":{{"url":"https://cdn.example/p3rs0n.jpg?sig=s3cr3t"}}}}]}}}}]}}]}}"#
    )
}

const MESSAGE: &str = r#"{"channel":"Facebook","event":"MO","psid":"p3rs0n-id","name":"p3rs0n name","profile_pic":"https://p3rs0n.example/s3cr3t","message":"p3rs0n text","attachments":"[{\"type\":\"location\",\"title\":\"p3rs0n\",\"url\":\"https://p3rs0n.example\",\"payload\":{\"coordinates\":{\"lat\":1,\"long\":2}}}]","ts":"1458668856463"}"#;
const NOTIFICATION: &str = r#"{"deliveryInfoNotification":{"deliveryInfo":{"deliveryChannel":"SMS","destinationType":"msisdn","destination":"p3rs0n-number","code":"7010","deliveryStatus":"Failed","Description":"p3rs0n description","additionalInfo":"p3rs0n info","timeStamp":"p3rs0n time"},"correlationid":"p3rs0n","callbackData":"p3rs0n s3cr3t","transid":"p3rs0n"}}"#;

/// Everything a stranger or a sender may do; what they were answered with.
async fn traffic(server: &TestServer) -> String {
    let mut answers = String::new();
    let mut note = |what: &str, expected: u16, got: &crate::support::server::Answer| {
        assert_eq!(got.status, expected, "{what}: {}", got.body);
        answers.push_str(&format!("{what} {:?} {}\n", got.headers, got.body));
    };
    for (mid, secret, status) in [("m1", "s3cr3t-app", 200), ("m1", "s3cr3t-app", 200), ("m2", "s3cr3t-wrong", 401)] {
        note("meta", status, &server.post(SourceType::Meta, "messenger", secret, item(mid)).await);
    }
    for body in ["p3rs0n no JSON", r#"{"object":"page","entry":"p3rs0n"}"#, r#"["p3rs0n"]"#, "{\"p3rs0n\":\"\\ud800\"}"]
    {
        note("odd", 200, &server.post(SourceType::Meta, "messenger", "s3cr3t-file", body).await);
    }
    note("large", 413, &server.post(SourceType::Meta, "messenger", "s3cr3t-app", "p3rs0n".repeat(20_000)).await);
    for body in [MESSAGE, NOTIFICATION] {
        note("signed", 200, &server.post(SourceType::WebexConnect, "signed", "s3cr3t-signature", body).await);
    }
    let post = |path: &str| {
        let request = server.request(Method::POST, path).header("user-agent", "p3rs0n agent s3cr3t");
        request
            .header("x-wx-gtrid", "s3cr3t-gtrid")
            .header("cookie", "s3cr3t=s3cr3t")
            .header("x-forwarded-for", "p3rs0n")
    };
    let basic = |password: &str| post("/webhooks/basic?s3cr3t").basic_auth("user", Some(password)).body(MESSAGE);
    note("basic", 200, &answer(basic("s3cr3t-basic")).await);
    note("basic", 401, &answer(basic("s3cr3t-wrong")).await);
    note("basic", 401, &answer(post("/webhooks/basic").header("authorization", "Basic s3cr3t").body(MESSAGE)).await);
    note("bearer", 200, &answer(post("/webhooks/bearer").bearer_auth("s3cr3t-bearer").body(MESSAGE)).await);
    note("bearer", 401, &answer(post("/webhooks/bearer").bearer_auth("s3cr3t-wrong").body(MESSAGE)).await);
    note("header", 200, &answer(post("/webhooks/header").header("x-key", "s3cr3t-key").body(MESSAGE)).await);
    note("header", 401, &answer(post("/webhooks/header").header("x-key", "s3cr3t-wrong").body(MESSAGE)).await);
    note("query", 200, &answer(post("/webhooks/query?key=s3cr3t-key&p3rs0n=1").body(MESSAGE)).await);
    note("query", 401, &answer(post("/webhooks/query?key=s3cr3t-wrong&p3rs0n=1").body(MESSAGE)).await);
    note("no JSON", 400, &answer(post("/webhooks/open").body("p3rs0n s3cr3t")).await);
    note(
        "encoded",
        200,
        &answer(
            post("/webhooks/header").header("x-key", "s3cr3t-key").header("content-encoding", "s3cr3t").body("p3rs0n"),
        )
        .await,
    );
    note("unknown", 404, &answer(post("/webhooks/nobody?key=s3cr3t-key&p3rs0n").body(MESSAGE)).await);
    note("unknown", 404, &answer(post("/?key=s3cr3t-key&p3rs0n").body(MESSAGE)).await);
    note("method", 405, &answer(server.request(Method::DELETE, "/webhooks/query?key=s3cr3t-key")).await);
    let get = |path: &str| answer(server.request(Method::GET, path));
    let check = "/webhooks/messenger?hub.mode=subscribe&hub.challenge=p3rs0n-challenge&hub.verify_token=";
    // The one answer that holds what was asked.
    assert_eq!(get(&format!("{check}s3cr3t-verify")).await.body, "p3rs0n-challenge");
    note("check", 403, &get(&format!("{check}s3cr3t-wrong")).await);
    note("check", 400, &get("/webhooks/messenger?s3cr3t=p3rs0n").await);

    let admin = |method, path: &str| answer(server.admin_request(method, path).bearer_auth("s3cr3t-admin"));
    for path in ["/metrics", "/api/v1/sinks", "/api/v1/status", "/version"] {
        note("admin", 200, &admin(Method::GET, path).await);
    }
    let wrong = server.admin_request(Method::GET, "/api/v1/sinks?s3cr3t").bearer_auth("s3cr3t-wrong");
    note("admin", 401, &answer(wrong).await);
    let forged = server.admin_request(Method::GET, "/api/v1/sinks").header("host", "s3cr3t.example");
    note("admin", 403, &answer(forged.bearer_auth("s3cr3t-admin")).await);
    answers
}

/// What the server is told while it runs: new secrets, a broken file, other settings.
fn reload(server: &TestServer, good: &str) {
    let said = |text: &str| eventually(text, || server.stderr().contains(text).then_some(()));
    let set = |text: &str| {
        std::fs::write(server.folder().join("hooksink.toml"), text).unwrap();
        server.signal(Signal::HUP);
    };
    set(&good.replace("s3cr3t-verify", "s3cr3t-other").replace("s3cr3t-path", "s3cr3t-elsewhere"));
    said("sinks.crm.url");
    for (broken, what) in [
        (good.replace("verify_token = \"s3cr3t-verify\"", "verify_token = \"s3cr3t-unfinished"), "hooksink.toml:"),
        (good.replace("basic = \"user:s3cr3t-basic\"", "basic = \"s3cr3t-basic\""), "sources.basic.basic"),
        (good.replace("bearer = \"s3cr3t-bearer\"", "bearer = \"s3cr3t\\nbearer\""), "sources.bearer.bearer"),
        (good.replace("url = \"http", "url = \"s3cr3t http"), "sinks.crm.url"),
        (
            good.replace("= \"s3cr3t-signature\"", "= { fil = \"s3cr3t-signature\" }"),
            "sources.signed.signature_secrets",
        ),
        (good.replace("verify_token = \"s3cr3t-verify\"", "verify_token = 1.5"), "sources.messenger.verify_token"),
    ] {
        let before = server.stderr().matches("the old one stays").count();
        set(&broken);
        eventually(what, || {
            let log = server.stderr();
            (log.matches("the old one stays").count() > before && log.contains(what)).then_some(())
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_mark_is_in_what_a_server_says() {
    for (format, level, marks) in
        [("text", "info", &MARKS[..]), ("json", "info", &MARKS), ("text", "debug", &MARKS[..1])]
    {
        let target = MockTarget::start().await;
        // Refusals that hold all that was sent; until another event passes, no event is given up.
        target.choose(|request| {
            let echoed = request.body.windows(2).any(|window| window == b"m1");
            echoed.then_some(Answer::Echo(if request.connection.is_multiple_of(2) { 422 } else { 500 }))
        });
        let config = config(&format!("http://{}", target.address), &format!("format = \"{format}\"\nlevel = \"info\""));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("secret"), "s3cr3t-file\n").unwrap();
        let environment = [("APP", "s3cr3t-env"), ("RUST_LOG", level)];
        let server = TestServer::start_with(folder, &config, &environment);
        let answers = traffic(&server).await;
        without(&MARKS, "an answer", &answers);
        let letters = eventually("one is given up", || {
            let ask = server.admin_request(Method::GET, "/api/v1/dead-letters").bearer_auth("s3cr3t-admin");
            let letters = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(answer(ask)));
            (letters.json().as_array().unwrap().len() == 1).then_some(letters.body)
        });
        without(&MARKS, "the list of dead letters", &letters);
        let lines = eventually("every event is on the console twice", || {
            let text = server.stdout();
            (text.lines().count() >= 24).then_some(text)
        });
        let mut said = String::new();
        for sink in ["nowhere", "unresolvable", "crm", "stream", "rabbitmq", "entries", "rows"] {
            let (text, json) = (format!("sink={sink}"), format!("sink\":\"{sink}"));
            said =
                eventually(sink, || Some(server.stderr()).filter(|said| said.contains(&text) || said.contains(&json)));
        }
        assert!(said.contains("no-such-host") || said.contains("cannot connect"), "{said}");
        reload(&server, &config);
        without(&MARKS, "stdout", &lines);
        assert!(
            lines.contains("meta.message_echo") && lines.contains("webex_connect.delivery_notification"),
            "{lines}"
        );
        let said = server.stderr();
        assert!(said.contains("wrong credential") && said.contains("dead letter"), "{said}");
        without(marks, &format!("stderr at {level}"), &said);
        let metrics = answer(server.admin_request(Method::GET, "/metrics").bearer_auth("s3cr3t-admin")).await;
        without(&MARKS, "metrics", &metrics.body);
        // A stop says more.
        let log = server.folder().join("stderr.log");
        let folder = server.stop();
        without(marks, "the last words", &std::fs::read_to_string(log).unwrap());
        // The marks were there to be found.
        let archive = std::fs::read_to_string(folder.path().join("events.jsonl")).unwrap();
        assert!(MARKS.iter().all(|mark| archive.contains(mark)));
        assert!(target.requests().iter().any(|request| request.line.contains("s3cr3t-path")));
    }
}

#[test]
fn no_mark_is_in_what_commands_say() {
    let config = config("http://127.0.0.1:1", "");
    let shell = Shell::new().file("hooksink.toml", &config).file("secret", "s3cr3t-file\n").env("APP", "s3cr3t-env");
    let shell = ["HOOKSINK_SEND_SECRET", "HOOKSINK_SEND_BASIC", "HOOKSINK_SEND_API_KEY", "HOOKSINK_ADMIN_TOKEN"]
        .into_iter()
        .fold(shell, |shell, name| shell.env(name, "name=user:s3cr3t"));
    let shell = shell.env("HOOKSINK_ADMIN_URL", "http://user:s3cr3t@127.0.0.1:1/?key=s3cr3t");
    let said = |arguments: &str, status: i32| {
        let ran = shell.run(arguments).status(status);
        without(&MARKS, arguments, &(ran.out() + &ran.err()));
    };
    said("check", 0);
    for command in [
        "",
        "serve",
        "demo",
        "check",
        "send",
        "schema",
        "healthcheck",
        "dead-letters",
        "dead-letters list",
        "replay",
        "sinks",
        "sinks rename",
        "journal backup",
        "completions",
    ] {
        said(&format!("{command} --help"), 0);
    }
    for command in ["sinks list", "dead-letters list", "healthcheck", "replay --sink crm --from 1h"] {
        said(command, 69);
    }
    said("send meta echo.text --url http://127.0.0.1:1/webhooks/messenger?key=s3cr3t", 69);
    said("send meta echo.text --url http://user:s3cr3t@127.0.0.1:1/webhooks/messenger", 69);
    said("journal backup copy.db", 69);
    // Wrong in what was typed: the argument parser repeats it, so the options' names are all it may see.
    said("check --set sources.basic.basic=s3cr3t", 78);
    said("check --set sources.signed.signature_secrets=[\"\",\"s3cr3t\"]", 78);
    said("check --set sinks.crm.url=s3cr3t", 78);
    said("check --set sinks.crm.url=ftp://user:s3cr3t@host/", 78);
    said("check --set sinks.crm.headers.x-token=[\"s3cr3t\"]", 78);
    said("check --set sources.messenger.app_secrets=[{file=\"missing\"},\"s3cr3t\"]", 78);
    said("check --set admin.token=\"s3cr3t\\n\"", 78);
}

#[test]
fn no_mark_is_in_debug_output() {
    let inputs = Inputs {
        file: Some(("hooksink.toml".into(), config("http://127.0.0.1:1", ""))),
        environment: BTreeMap::from([("APP".to_owned(), "s3cr3t-env".to_owned())]),
        flags: Vec::new(),
        read_secret: &|_| Ok(b"s3cr3t-file".to_vec()),
    };
    let loaded = config::load(&inputs).unwrap();
    let shown = |what: &str, text: String| without(&MARKS, what, &text);
    shown("config", format!("{loaded:?} {loaded:#?} {:?}", loaded.config));
    let sources = Sources::new(&loaded.config.sources);
    for (name, header, secret, body) in [
        ("messenger", "x-hub-signature-256", "s3cr3t-app", item("m1")),
        ("signed", "x-hub-signature", "s3cr3t-signature", MESSAGE.to_owned()),
        ("signed", "x-hub-signature", "s3cr3t-signature", NOTIFICATION.to_owned()),
        ("signed", "x-hub-signature", "s3cr3t-signature", "p3rs0n".to_owned()),
    ] {
        let mut headers = http::HeaderMap::new();
        let signature = sign(Algorithm::Sha256, &Secret::new(secret), body.as_bytes());
        headers.insert(http::HeaderName::from_static(header), signature.parse().unwrap());
        for name in ["user-agent", "x-wx-gtrid", "content-type"] {
            headers.insert(http::HeaderName::from_static(name), "p3rs0n s3cr3t".parse().unwrap());
        }
        let received = hooksink::auth::Received {
            headers,
            query: "s3cr3t".to_owned(),
            body: body.into(),
            client_address: "127.0.0.1".parse().unwrap(),
            request_id: "request".to_owned(),
        };
        let source = sources.get(name).unwrap();
        let verified = source.authenticate(received).unwrap();
        shown("verified", format!("{verified:?}"));
        for record in source.split(&verified, chrono::Utc::now()).records {
            shown("record", format!("{record:?} {record:#?} {:?} {:?}", record.context, record.lane()));
            let event = sources.decode(record.into());
            shown("event", format!("{event:?} {event:#?}"));
            assert!(
                String::from_utf8_lossy(&event.to_json(Format::Cloudevents, true)).contains("p3rs0n")
                    || name == "signed"
            );
        }
    }
}
