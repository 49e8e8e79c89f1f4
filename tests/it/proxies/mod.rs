//! The real Caddy and nginx with the shipped configurations, in front of a listener that records what reaches it and in
//! front of a real hooksink.

pub(crate) mod proxy;
mod recorder;

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;

use proxy::{Kind, Proxy};
use recorder::Recorder;

use crate::echo::{SECRET, echo, echo_request, signature};
use crate::support::mock_target::{Answer as Trouble, MockTarget, Place};
use crate::support::runtime;
use crate::support::server::{TestServer, eventually};
use crate::wire::{Answer, Wire, request};

/// Where the sender is; the proxy's own address is 127.0.0.1.
pub(crate) const SENDER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Runs a test behind each of the two.
macro_rules! behind_each_proxy {
    ($($test:ident),+ $(,)?) => {
        mod caddy {
            $(#[test] fn $test() { super::$test(super::Kind::Caddy); })+
        }
        mod nginx {
            $(#[test] fn $test() { super::$test(super::Kind::Nginx); })+
        }
    };
}

behind_each_proxy! {
    every_byte_and_header_reaches_hooksink_but_no_claim_about_the_address,
    no_log_holds_a_query_or_a_secret,
    signatures_hold_over_the_bytes_as_sent,
    the_client_address_is_the_peer_of_the_proxy_whatever_it_claims,
    head_and_the_subscription_check_pass,
    large_bodies_pass_up_to_the_limit_of_their_source,
    a_client_that_never_ends_its_request_is_let_go,
}

fn every_byte_and_header_reaches_hooksink_but_no_claim_about_the_address(kind: Kind) {
    let recorder = Recorder::start();
    let Some(proxy) = Proxy::start(kind, recorder.address, "proxies::every_byte_and_header") else { return };
    let body = br#"{"text":"Gr\u00fc\u00dfe \/ \ud83d\ude00", "n" : 1.0e+2 }  "#;
    let mut wire = proxy.connect(SENDER).unwrap();
    wire.send(&request(
        "POST",
        "/webhooks/messenger?key=a%2Fb&x=%7B",
        &[
            ("X-Hub-Signature-256", "sha256=abc"),
            ("Authorization", "Bearer t"),
            ("x_api_key", "k"),
            ("X-Forwarded-For", "203.0.113.9"),
            ("X-Forwarded-For", "203.0.113.10, 10.0.0.1"),
            ("Forwarded", "for=203.0.113.9"),
            ("X-Real-IP", "203.0.113.9"),
            ("Accept-Encoding", "gzip"),
        ],
        body,
    ))
    .unwrap();
    assert_eq!(wire.answer(false).unwrap().expect("an answer").status, 200);

    let (head, seen) = recorder.next();
    assert_eq!(seen, body);
    assert!(head.starts_with("POST /webhooks/messenger?key=a%2Fb&x=%7B HTTP/1.1\r\n"), "{head}");
    let head = head.to_ascii_lowercase();
    let of = |name: &str| {
        let start = format!("{name}: ");
        head.lines().filter_map(|line| line.strip_prefix(&start)).collect::<Vec<_>>()
    };
    assert_eq!(of("x-hub-signature-256"), ["sha256=abc"]);
    assert_eq!(of("authorization"), ["bearer t"]);
    assert_eq!(of("x_api_key"), ["k"]);
    assert_eq!(of("x-forwarded-for"), ["127.0.0.2"]);
    assert_eq!(of("forwarded"), [""; 0]);
    assert_eq!(of("x-real-ip"), [""; 0]);
    assert!(!head.contains("203.0.113"), "{head}");
}

fn no_log_holds_a_query_or_a_secret(kind: Kind) {
    let recorder = Recorder::start();
    let nobody = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
    // Errors are logged by other rules than requests are.
    for (upstream, status) in [(recorder.address, 200), (nobody, 502)] {
        let Some(proxy) = Proxy::start(kind, upstream, "proxies::no_log_holds_a_query_or_a_secret") else { return };
        let mut wire = proxy.connect(SENDER).unwrap();
        for (method, path) in [
            ("GET", "/webhooks/messenger?hub.mode=subscribe&hub.verify_token=marked-token&hub.challenge=marked-c"),
            ("POST", "/webhooks/connect?key=marked-key"),
            ("HEAD", "/webhooks/connect?key=marked-key"),
        ] {
            let headers = [
                ("Authorization", "Basic marked-basic"),
                ("X-Hub-Signature-256", "sha256=marked-signature"),
                ("X-Api-Key", "marked-api-key"),
                ("Referer", "https://example.com/?marked-referer"),
                ("User-Agent", "marked-agent"),
            ];
            let body: &[u8] = if method == "POST" { b"marked-body" } else { b"" };
            wire.send(&request(method, path, &headers, body)).unwrap();
            assert_eq!(wire.answer(method == "HEAD").unwrap().expect("an answer").status, status);
        }
        if let Kind::Nginx = kind {
            // What nginx itself refuses is an error's line too.
            let claim = "Host: localhost\r\nContent-Length: 99999999\r\n\r\n";
            wire.send(format!("POST /webhooks/connect?key=marked-key HTTP/1.1\r\n{claim}").as_bytes()).unwrap();
            assert_eq!(wire.answer(false).unwrap().expect("an answer").status, 413);
        }
        let logs = proxy.logs_once(|logs| logs.matches("/webhooks/connect").count() >= 2);
        assert!(logs.contains("/webhooks/messenger") && logs.contains(&status.to_string()), "{logs}");
        assert!(logs.contains("127.0.0.2"), "{logs}");
        assert!(!logs.contains("marked") && !logs.contains("hub."), "{logs}");
    }
}

/// A real hooksink behind a proxy. It believes the proxy, and nobody else, about a client's address.
fn hooksink(kind: Kind, test: &str) -> Option<(Proxy, TestServer)> {
    let config = format!(
        r#"
        [server]
        trusted_proxies = ["127.0.0.1/32"]
        body_read_timeout = "1s"
        [sources.messenger]
        type = "meta"
        verify_token = "token"
        app_secrets = ["{SECRET}"]
        [sources.the-sender]
        type = "webex-connect"
        allow_addresses = ["127.0.0.2/32"]
        [sources.somebody-else]
        type = "webex-connect"
        allow_addresses = ["203.0.113.0/24", "127.0.0.1/32"]
        [sources.mail]
        type = "webex-connect"
        signature_secrets = ["{SECRET}"]
        "#
    );
    let server = TestServer::start(&config);
    let proxy = Proxy::start(kind, server.public, test)?;
    Some((proxy, server))
}

fn ask(wire: &mut Wire, request: &[u8]) -> Answer {
    wire.send(request).unwrap();
    wire.answer(request.starts_with(b"HEAD ")).unwrap().expect("an answer")
}

fn signatures_hold_over_the_bytes_as_sent(kind: Kind) {
    let Some((proxy, _server)) = hooksink(kind, "proxies::signatures_hold_over_the_bytes_as_sent") else {
        return;
    };
    let mut wire = proxy.connect(SENDER).unwrap();
    let answer = ask(&mut wire, &echo_request("messenger", "m_1", "254"));
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"accepted":1,"duplicates":0}"#));
    assert!(answer.head.to_ascii_lowercase().contains("\r\nx-request-id: "), "{}", answer.head);

    // The same JSON in other bytes.
    let signed = echo("m_2", "254");
    let sent = String::from_utf8(signed.clone()).unwrap().replace(r"\u00fc", "\u{fc}");
    let headers = [("X-Hub-Signature-256", &*signature(&signed))];
    let answer = ask(&mut wire, &request("POST", "/webhooks/messenger", &headers, sent.as_bytes()));
    assert_eq!(answer.status, 401);
    assert!(answer.head.contains("application/problem+json"), "{}", answer.head);
}

fn the_client_address_is_the_peer_of_the_proxy_whatever_it_claims(kind: Kind) {
    let test = "proxies::the_client_address_is_the_peer_of_the_proxy_whatever_it_claims";
    let Some((proxy, _server)) = hooksink(kind, test) else { return };
    let claims: [&[(&str, &str)]; 4] = [
        &[],
        &[("X-Forwarded-For", "203.0.113.9")],
        &[("Forwarded", "for=203.0.113.9"), ("X-Real-IP", "203.0.113.9")],
        &[
            ("X-Forwarded-For", "203.0.113.9"),
            ("X-Forwarded-For", "203.0.113.9, 127.0.0.1"),
            ("Forwarded", "for=127.0.0.1"),
        ],
    ];
    let mut wire = proxy.connect(SENDER).unwrap();
    for (number, claims) in claims.iter().enumerate() {
        let body = format!(r#"{{"channel":"sms","event":"MO","number":{number}}}"#);
        for (source, status) in [("the-sender", 200), ("somebody-else", 401)] {
            let answer = ask(&mut wire, &request("POST", &format!("/webhooks/{source}"), claims, body.as_bytes()));
            assert_eq!(answer.status, status, "{source} with {claims:?}");
        }
    }
}

fn head_and_the_subscription_check_pass(kind: Kind) {
    let test = "proxies::head_and_the_subscription_check_pass";
    let Some((proxy, _server)) = hooksink(kind, test) else { return };
    let mut wire = proxy.connect(SENDER).unwrap();
    for source in ["mail", "messenger"] {
        assert_eq!(ask(&mut wire, &request("HEAD", &format!("/webhooks/{source}"), &[], b"")).status, 200);
    }
    let check = |token: &str, challenge: &str| {
        let query = format!("hub.mode=subscribe&hub.verify_token={token}&hub.challenge={challenge}");
        request("GET", &format!("/webhooks/messenger?{query}"), &[], b"")
    };
    let answer = ask(&mut wire, &check("token", "CHALLENGE_ACCEPTED"));
    assert_eq!((answer.status, answer.body.as_str()), (200, "CHALLENGE_ACCEPTED"));
    assert_eq!(ask(&mut wire, &check("wrong", "1")).status, 403);
    assert_eq!(ask(&mut wire, &request("GET", "/", &[], b"")).status, 404);
}

fn large_bodies_pass_up_to_the_limit_of_their_source(kind: Kind) {
    let test = "proxies::large_bodies_pass_up_to_the_limit_of_their_source";
    let Some((proxy, _server)) = hooksink(kind, test) else { return };
    const MIB: usize = 1 << 20;
    for (source, bytes, status) in [
        ("messenger", 39 * MIB / 10, 200),
        ("messenger", 5 * MIB, 413),
        ("messenger", 100, 401),
        ("messenger", 39 * MIB / 10, 401),
        ("mail", 159 * MIB / 10, 200),
        ("mail", 18 * MIB, 413),
        ("mail", 159 * MIB / 10, 401),
    ] {
        let body = format!(r#"{{"source":"{source}","padding":"{}"}}"#, "x".repeat(bytes)).into_bytes();
        let name = if source == "mail" { "x-hub-signature" } else { "X-Hub-Signature-256" };
        // A body that is too large is refused before anyone looks at its signature, and one without before it is read.
        let signature = if status == 200 { signature(&body) } else { String::new() };
        let request = request("POST", &format!("/webhooks/{source}"), &[(name, &signature)], &body);
        let ask = || {
            let mut wire = proxy.connect(SENDER).unwrap();
            // Who refuses may hang up before all is sent; what it has to say has been said by then.
            let sent = wire.send(&request);
            assert!(sent.is_ok() || status != 200, "{sent:?}");
            wire.answer(false).unwrap().expect("an answer").status
        };
        let (mut answered, began) = (ask(), std::time::Instant::now());
        // On a busy machine the proxy may lose its patience; senders send again then.
        while status == 200 && matches!(answered, 503 | 504) && began.elapsed() < crate::support::DEADLINE {
            answered = ask();
        }
        assert_eq!(answered, status, "{bytes} bytes to {source}");
    }
}

fn a_client_that_never_ends_its_request_is_let_go(kind: Kind) {
    let test = "proxies::a_client_that_never_ends_its_request_is_let_go";
    let Some((proxy, _server)) = hooksink(kind, test) else { return };
    let head = "POST /webhooks/messenger HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n";
    // Both at once, for the proxies take ten seconds to lose their patience.
    let wires = ["", "\r\n{\"object\":"].map(|rest| {
        let mut wire = proxy.connect(SENDER).unwrap();
        wire.send(format!("{head}{rest}").as_bytes()).unwrap();
        wire
    });
    for mut wire in wires {
        // With an answer or without, the connection ends, and nothing was accepted.
        while let Some(answer) = wire.answer(false).expect("the connection ends") {
            assert!((400..600).contains(&answer.status), "{answer:?}");
        }
    }
}

/// nginx alone bounds how many requests a client has at once.
#[test]
fn a_client_with_too_many_requests_at_once_is_refused_and_nobody_else() {
    let test = "proxies::a_client_with_too_many_requests_at_once_is_refused_and_nobody_else";
    let Some((proxy, _server)) = hooksink(Kind::Nginx, test) else { return };
    let whole = echo_request("messenger", "m_1", "254");
    let status = |from: Ipv4Addr| ask(&mut proxy.connect(from).unwrap(), &whole).status;
    let hanging = || {
        let mut wire = proxy.connect(SENDER).unwrap();
        let head = "POST /webhooks/messenger HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n";
        wire.send(head.as_bytes()).unwrap();
        wire
    };
    let few: Vec<_> = (0..100).map(|_| hanging()).collect();
    assert_eq!(status(SENDER), 200, "as many as no sender has are no trouble");
    let mut many: Vec<_> = (0..156).map(|_| hanging()).collect();
    // nginx counts a request when it has its head, and lets it go ten seconds later, which may be over for the first.
    eventually("the client is refused", || {
        many.push(hanging());
        (status(SENDER) == 503).then_some(())
    });
    assert_eq!(status(Ipv4Addr::new(127, 0, 0, 3)), 200);
    drop((few, many));
    eventually("the client is taken again", || (status(SENDER) == 200).then_some(()));
}

/// Behind nginx, for Caddy's file is for one machine.
#[test]
fn what_one_replica_does_not_answer_goes_to_the_next() {
    let runtime = runtime();
    let target = |answer| {
        let target = runtime.block_on(MockTarget::start());
        target.otherwise(Some(answer));
        target
    };
    let busy = target(Trouble::Status(503, vec![("retry-after", "5".to_owned())]));
    let breaking = target(Trouble::Drop);
    let hanging = target(Trouble::Wait(Arc::default()));
    let gone = Place::take();
    let source = "[sources.messenger]\ntype = \"meta\"\nverify_token = \"t\"\napp_secrets";
    let server = TestServer::start(&format!("{source} = [\"{SECRET}\"]\n"));
    let test = "proxies::what_one_replica_does_not_answer_goes_to_the_next";
    for (round, others) in [[busy.address, gone.address()], [breaking.address, hanging.address]].into_iter().enumerate()
    {
        let upstreams = [others[0], others[1], server.public];
        let Some(proxy) = Proxy::start_before(Kind::Nginx, &upstreams, test) else { return };
        // Each replica is the first to be asked of some of these.
        for number in 0..6 {
            let mut wire = proxy.connect(SENDER).unwrap();
            let answer = ask(&mut wire, &echo_request("messenger", &format!("m-{round}-{number}"), "ann"));
            assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"accepted":1,"duplicates":0}"#));
        }
    }
    for (name, target) in [("busy", busy), ("breaking", breaking), ("hanging", hanging)] {
        assert!(!target.requests().is_empty(), "{name} was asked too");
    }
}
