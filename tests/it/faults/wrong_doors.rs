//! What a stranger may present at each scheme, through the port of the real binary: never 200, never stored, always the
//! documented status. Beside them what looks wrong and is right.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hooksink::auth::hmac_signature::{Algorithm, sign};
use hooksink::secret::Secret;
use rusqlite::Connection;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::door::{Client, plain, post};
use crate::support::server::{TestServer, eventually};

const CONFIG: &str = r#"
    [server]
    trusted_proxies = ["127.0.0.2"]
    [sources.meta]
    type = "meta"
    verify_token = "Verify-Token"
    app_secrets = ["the meta secret", "the older meta secret"]
    [sources.meta-sha1]
    type = "meta"
    verify_token = "another token"
    app_secrets = ["the other meta secret"]
    allow_sha1 = true
    [sources.hub]
    type = "webex-connect"
    signature_secrets = ["the hub secret"]
    [sources.hub-sha1]
    type = "webex-connect"
    signature_secrets = ["the other hub secret"]
    allow_sha1 = true
    [sources.basic]
    type = "webex-connect"
    basic = ["Ann:Pass:word"]
    [sources.bearer]
    type = "webex-connect"
    bearer = ["Right-Token"]
    [sources.key]
    type = "webex-connect"
    api_key = { header = "x-api-key", values = ["Right-Key"] }
    [sources.query]
    type = "webex-connect"
    api_key = { query = "key", values = ["Right-Key"] }
    [sources.here]
    type = "webex-connect"
    allow_addresses = ["127.0.0.0/8"]
    [sources.elsewhere]
    type = "webex-connect"
    allow_addresses = ["192.0.2.0/24"]
    [sources.all]
    type = "webex-connect"
    signature_secrets = ["the hub secret of all"]
    basic = ["Ann:Pass:word"]
    allow_addresses = ["127.0.0.0/8"]
    [sinks.archive]
    type = "file"
    path = "events.jsonl"
"#;

use Algorithm::{Sha1, Sha256, Sha512};

type Headers = Vec<(&'static str, String)>;

/// What is presented for a body.
type Presented = Box<dyn Fn(&[u8]) -> Headers>;

/// One try: where, what is tried, what is presented for a body, what becomes of the body on the way, and the answer.
struct Try {
    path: &'static str,
    case: &'static str,
    headers: Presented,
    sent: fn(&[u8]) -> Vec<u8>,
    status: u16,
}

fn as_it_is(body: &[u8]) -> Vec<u8> {
    body.to_vec()
}

fn wrong(path: &'static str, case: &'static str, headers: impl Fn(&[u8]) -> Headers + 'static) -> Try {
    Try { path, case, headers: Box::new(headers), sent: as_it_is, status: 401 }
}

fn right(path: &'static str, case: &'static str, headers: impl Fn(&[u8]) -> Headers + 'static) -> Try {
    Try { status: 200, ..wrong(path, case, headers) }
}

fn signature(algorithm: Algorithm, secret: &str, body: &[u8]) -> String {
    sign(algorithm, &Secret::new(secret), body)
}

fn bare(signature: &str) -> String {
    signature.split_once('=').expect("our own form").1.to_owned()
}

/// What both signing senders are tried with: their header, their algorithm, a secret that is right.
fn at_a_signature(path: &'static str, header: &'static str, algorithm: Algorithm, secret: &'static str) -> Vec<Try> {
    let sign = move |body: &[u8]| signature(algorithm, secret, body);
    // One header, made of the right signature.
    let made = |case, make: fn(&str) -> String| wrong(path, case, move |body| vec![(header, make(&sign(body)))]);
    vec![
        right(path, "right", move |body| vec![(header, sign(body))]),
        wrong(path, "missing", |_| vec![]),
        made("empty", |_| String::new()),
        made("blank", |_| "   ".to_owned()),
        made("the prefix alone", |right| right.split_inclusive('=').next().expect("a prefix").to_owned()),
        made("a digit too few", |right| right[..right.len() - 1].to_owned()),
        made("a byte too few", |right| right[..right.len() - 2].to_owned()),
        made("half of it", |right| right[..right.len() / 2 + 4].to_owned()),
        made("a byte too many", |right| format!("{right}00")),
        made("a word behind it", |right| format!("{right} x")),
        made("a comma behind it", |right| format!("{right},")),
        made("two in one", |right| format!("{right}, {right}")),
        made("not hex", |right| format!("{}g", &right[..right.len() - 1])),
        made("zeroes", |right| format!("sha256={}", "0".repeat(bare(right).len()))),
        made("a digit changed", |right| {
            let changed = if right.ends_with('0') { '1' } else { '0' };
            format!("{}{changed}", &right[..right.len() - 1])
        }),
        made("the name of another algorithm", |right| format!("sha384={}", bare(right))),
        made("the prefix of SHA-1", |right| format!("sha1={}", bare(right))),
        made("MD5", |_| format!("md5={}", "0".repeat(32))),
        made("in base64", |right| format!("sha256={}", STANDARD.encode(hex::decode(bare(right)).expect("hex")))),
        wrong(path, "another secret", move |body| vec![(header, signature(algorithm, "a guess", body))]),
        wrong(path, "no secret", move |body| vec![(header, signature(algorithm, "", body))]),
        wrong(path, "another source's secret", move |body| {
            vec![(header, signature(algorithm, "the hub secret of all", body))]
        }),
        wrong(path, "twice", move |body| vec![(header, sign(body)), (header, sign(body))]),
        wrong(path, "a wrong one first", move |body| vec![(header, sign(b"")), (header, sign(body))]),
        wrong(path, "a wrong one behind", move |body| vec![(header, sign(body)), (header, sign(b""))]),
        wrong(path, "of an empty body", move |_| vec![(header, sign(b""))]),
        wrong(path, "of another body", move |_| vec![(header, sign(b"{}"))]),
        wrong(path, "as Authorization", move |body| vec![("authorization", sign(body))]),
        Try {
            sent: |body| [body, b"x"].concat(),
            ..wrong(path, "a byte behind the body", move |body| vec![(header, sign(body))])
        },
        Try {
            sent: |body| body[..body.len() - 1].to_vec(),
            ..wrong(path, "a body without its last byte", move |body| vec![(header, sign(body))])
        },
        Try { sent: |_| Vec::new(), ..wrong(path, "no body", move |body| vec![(header, sign(body))]) },
    ]
}

fn at_meta() -> Vec<Try> {
    const STRONG: &str = "x-hub-signature-256";
    const WEAK: &str = "x-hub-signature";
    let mut tries = at_a_signature("meta", STRONG, Sha256, "the meta secret");
    tries.extend(at_a_signature("meta-sha1", STRONG, Sha256, "the other meta secret"));
    let ours = |algorithm, body: &[u8]| signature(algorithm, "the meta secret", body);
    let other = |algorithm, body: &[u8]| signature(algorithm, "the other meta secret", body);
    tries.extend([
        right("meta", "the older of two", |body| vec![(STRONG, signature(Sha256, "the older meta secret", body))]),
        right("meta", "beside a wrong one of the old kind", move |body| {
            vec![(STRONG, ours(Sha256, body)), (WEAK, format!("sha1={}", "0".repeat(40)))]
        }),
        wrong("meta", "without prefix", move |body| vec![(STRONG, bare(&ours(Sha256, body)))]),
        wrong("meta", "in capitals", move |body| {
            vec![(STRONG, format!("sha256={}", bare(&ours(Sha256, body)).to_uppercase()))]
        }),
        wrong("meta", "a prefix in capitals", move |body| {
            vec![(STRONG, ours(Sha256, body).replace("sha256", "SHA256"))]
        }),
        wrong("meta", "SHA-512", move |body| vec![(STRONG, ours(Sha512, body))]),
        wrong("meta", "in the header of SHA-1", move |body| vec![(WEAK, ours(Sha256, body))]),
        wrong("meta", "SHA-1, right", move |body| vec![(WEAK, ours(Sha1, body))]),
        wrong("meta", "SHA-1 in the header of SHA-256", move |body| vec![(STRONG, ours(Sha1, body))]),
        wrong("meta", "SHA-1, right, behind a wrong SHA-256", move |body| {
            vec![(STRONG, ours(Sha256, b"")), (WEAK, ours(Sha1, body))]
        }),
        // Where SHA-1 is allowed it is no way around a better signature.
        right("meta-sha1", "SHA-1", move |body| vec![(WEAK, other(Sha1, body))]),
        wrong("meta-sha1", "SHA-1, right, behind a wrong SHA-256", move |body| {
            vec![(STRONG, other(Sha256, b"")), (WEAK, other(Sha1, body))]
        }),
        wrong("meta-sha1", "SHA-1, right, behind an empty SHA-256", move |body| {
            vec![(STRONG, String::new()), (WEAK, other(Sha1, body))]
        }),
        wrong("meta-sha1", "SHA-1, truncated", move |body| vec![(WEAK, other(Sha1, body)[..43].to_owned())]),
        wrong("meta-sha1", "SHA-1 of another source", move |body| vec![(WEAK, ours(Sha1, body))]),
        wrong("meta-sha1", "SHA-1, twice", move |body| vec![(WEAK, other(Sha1, body)), (WEAK, other(Sha1, body))]),
        wrong("meta-sha1", "SHA-256 of another source", move |body| vec![(STRONG, ours(Sha256, body))]),
    ]);
    tries
}

fn at_webex_connect() -> Vec<Try> {
    const HUB: &str = "x-hub-signature";
    let mut tries = Vec::new();
    for algorithm in [Sha256, Sha512] {
        tries.extend(at_a_signature("hub", HUB, algorithm, "the hub secret"));
        tries.extend(at_a_signature("hub-sha1", HUB, algorithm, "the other hub secret"));
        let ours = move |body: &[u8]| signature(algorithm, "the hub secret", body);
        tries.extend([
            // This sender writes it in several ways.
            right("hub", "without prefix", move |body| vec![(HUB, bare(&ours(body)))]),
            right("hub", "in capitals", move |body| vec![(HUB, ours(body).to_uppercase())]),
            Try {
                sent: |body| [b"\r\n ", body, b"\n"].concat(),
                ..right("hub", "of the body without white space around it", move |body| vec![(HUB, ours(body))])
            },
            wrong("hub", "without prefix, truncated", move |body| vec![(HUB, bare(&ours(body))[2..].to_owned())]),
            wrong("hub", "the other length", move |body| {
                let name = if algorithm == Sha256 { "sha512" } else { "sha256" };
                vec![(HUB, format!("{name}={}", bare(&ours(body))))]
            }),
            wrong("hub", "in Meta's header", move |body| vec![("x-hub-signature-256", ours(body))]),
        ]);
    }
    tries.extend([
        wrong("hub", "SHA-1, right", |body| vec![(HUB, signature(Sha1, "the hub secret", body))]),
        wrong("hub", "SHA-1, without prefix", |body| vec![(HUB, bare(&signature(Sha1, "the hub secret", body)))]),
        right("hub-sha1", "SHA-1", |body| vec![(HUB, signature(Sha1, "the other hub secret", body))]),
        wrong("hub-sha1", "SHA-1 of another source", |body| vec![(HUB, signature(Sha1, "the hub secret", body))]),
        wrong("hub-sha1", "SHA-1 under the name of SHA-256", |body| {
            vec![(HUB, format!("sha256={}", bare(&signature(Sha1, "the other hub secret", body))))]
        }),
    ]);
    tries
}

fn at_basic() -> Vec<Try> {
    let one = |case, value: &str| {
        let value = value.to_owned();
        wrong("basic", case, move |_| vec![("authorization", value.clone())])
    };
    let pair = |case, pair: &str| one(case, &format!("Basic {}", STANDARD.encode(pair)));
    let value = format!("Basic {}", STANDARD.encode("Ann:Pass:word"));
    let same = value.clone();
    vec![
        Try { status: 200, ..pair("right", "Ann:Pass:word") },
        Try { status: 200, ..one("the scheme in another case", &value.replace("Basic", "bAsIc")) },
        Try { status: 200, ..one("without padding", value.trim_end_matches('=')) },
        wrong("basic", "missing", |_| vec![]),
        one("empty", ""),
        one("the scheme alone", "Basic"),
        one("the scheme and a space", "Basic "),
        one("another scheme", &value.replace("Basic", "Bearer")),
        one("Digest", "Digest username=\"Ann\", response=\"0\""),
        one("no scheme", &value["Basic ".len()..]),
        one("not base64", "Basic Ann:Pass:word"),
        one("the end cut off", &value[..value.len() - 5]),
        one("trailing text", &format!("{value} x")),
        one("two in one", &format!("{value}, {value}")),
        pair("nothing in it", ""),
        pair("a colon", ":"),
        pair("the user alone", "Ann"),
        pair("an empty password", "Ann:"),
        pair("the password alone", "Pass:word"),
        pair("another user", "Bob:Pass:word"),
        pair("the user in another case", "ann:Pass:word"),
        pair("the password in another case", "Ann:pass:word"),
        pair("truncated", "Ann:Pass:wor"),
        pair("trailing bytes", "Ann:Pass:word\n"),
        pair("a NUL behind it", "Ann:Pass:word\0"),
        pair("another source's", "Ann:Right-Token"),
        wrong("basic", "twice", move |_| vec![("authorization", value.clone()), ("authorization", value.clone())]),
        wrong("basic", "in the proxy's header", move |_| vec![("proxy-authorization", same.clone())]),
    ]
}

fn at_bearer() -> Vec<Try> {
    let one = |case, value: &'static str| wrong("bearer", case, move |_| vec![("authorization", value.to_owned())]);
    let right = "Bearer Right-Token".to_owned();
    vec![
        Try { status: 200, ..one("right", "Bearer Right-Token") },
        Try { status: 200, ..one("the scheme in another case", "bEARER Right-Token") },
        wrong("bearer", "missing", |_| vec![]),
        one("empty", ""),
        one("the scheme alone", "Bearer"),
        one("the scheme and a space", "Bearer "),
        one("no scheme", "Right-Token"),
        one("no space", "BearerRight-Token"),
        one("another scheme", "Basic Right-Token"),
        one("Token", "Token Right-Token"),
        one("in another case", "Bearer right-token"),
        one("truncated", "Bearer Right-Toke"),
        one("trailing bytes", "Bearer Right-Tokens"),
        one("quoted", "Bearer \"Right-Token\""),
        one("two tokens", "Bearer Right-Token Right-Token"),
        one("two in one", "Bearer Right-Token, Bearer Right-Token"),
        one("another source's", "Bearer Right-Key"),
        wrong("bearer", "twice", move |_| vec![("authorization", right.clone()), ("authorization", right.clone())]),
        wrong("bearer?access_token=Right-Token", "in the query", |_| vec![]),
    ]
}

fn at_api_keys() -> Vec<Try> {
    let one = |case, value: &'static str| wrong("key", case, move |_| vec![("x-api-key", value.to_owned())]);
    let asked = |path, case| wrong(path, case, |_| vec![]);
    vec![
        Try { status: 200, ..one("right", "Right-Key") },
        right("key", "the name in another case", |_| vec![("X-API-Key", "Right-Key".to_owned())]),
        wrong("key", "missing", |_| vec![]),
        one("empty", ""),
        one("in another case", "right-key"),
        one("truncated", "Right-Ke"),
        one("trailing bytes", "Right-Keys"),
        one("quoted", "\"Right-Key\""),
        one("two in one", "Right-Key, Right-Key"),
        one("another source's", "Right-Token"),
        wrong("key", "twice", |_| vec![("x-api-key", "Right-Key".to_owned()), ("x-api-key", "Right-Key".to_owned())]),
        wrong("key", "as a bearer token", |_| vec![("authorization", "Bearer Right-Key".to_owned())]),
        asked("key?x-api-key=Right-Key", "in the query"),
        Try { status: 200, ..asked("query?key=Right-Key", "right") },
        Try { status: 200, ..asked("query?a=b&k%65y=Right%2DKey&c", "encoded") },
        asked("query", "missing"),
        asked("query?key", "no value"),
        asked("query?key=", "empty"),
        asked("query?Key=Right-Key", "the name in another case"),
        asked("query?key=right-key", "in another case"),
        asked("query?key=Right-Ke", "truncated"),
        asked("query?key=Right-Key%00", "trailing bytes"),
        asked("query?key=Right-Key&key=Right-Key", "twice"),
        asked("query?key=no&key=Right-Key", "a wrong one first"),
        asked("query?key=Right-Token", "another source's"),
        asked("query?key=Right-Key;", "another separator"),
        wrong("query", "in a header", |_| vec![("key", "Right-Key".to_owned())]),
    ]
}

/// The client is 127.0.0.1, which is no trusted proxy.
fn at_address_lists() -> Vec<Try> {
    let named = |case, header, value: &'static str| wrong("elsewhere", case, move |_| vec![(header, value.to_owned())]);
    vec![
        right("here", "right", |_| vec![]),
        right("here", "another one named", |_| vec![("x-forwarded-for", "192.0.2.1".to_owned())]),
        wrong("elsewhere", "wrong", |_| vec![]),
        named("forged", "x-forwarded-for", "192.0.2.1"),
        named("forged through the proxy", "x-forwarded-for", "192.0.2.1, 127.0.0.2"),
        named("forged in the other header", "forwarded", "for=192.0.2.1"),
        named("forged in a third", "x-real-ip", "192.0.2.1"),
        named("empty", "x-forwarded-for", ""),
    ]
}

/// Where several schemes are configured each must hold.
fn at_all_at_once() -> Vec<Try> {
    let pair = || ("authorization", format!("Basic {}", STANDARD.encode("Ann:Pass:word")));
    let signed = |body: &[u8]| ("x-hub-signature", signature(Sha256, "the hub secret of all", body));
    vec![
        right("all", "all right", move |body| vec![pair(), signed(body)]),
        wrong("all", "only the address", |_| vec![]),
        wrong("all", "no signature", move |_| vec![pair()]),
        wrong("all", "no password", move |body| vec![signed(body)]),
        wrong("all", "a wrong signature", move |_| vec![pair(), signed(b"")]),
        wrong("all", "a wrong password", move |body| {
            vec![("authorization", "Basic QW5uOg==".to_owned()), signed(body)]
        }),
        wrong("all", "another source's signature", move |body| {
            vec![pair(), ("x-hub-signature", signature(Sha256, "the hub secret", body))]
        }),
    ]
}

/// A body of its own for each try: JSON that any source takes for an event.
fn body(number: usize) -> Vec<u8> {
    format!(r#"{{"channel":"rcs","event":"MO","number":"try-{number}"}}"#).into_bytes()
}

#[tokio::test]
async fn no_wrong_door_opens() {
    let server = TestServer::start(CONFIG);
    let mut stored = BTreeSet::new();
    let tries =
        [at_meta(), at_webex_connect(), at_basic(), at_bearer(), at_api_keys(), at_address_lists(), at_all_at_once()];
    let tries: Vec<Try> = tries.into_iter().flatten().collect();
    let sources: BTreeSet<_> = tries.iter().filter_map(|tried| tried.path.split('?').next()).collect();
    for source in CONFIG.lines().filter_map(|line| line.trim().strip_prefix("[sources.")?.strip_suffix(']')) {
        assert!(sources.contains(source), "nobody tries {source}");
    }
    for (number, tried) in tries.iter().enumerate() {
        let Try { path, case, headers, sent, status } = tried;
        let headers = headers(&body(number));
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let request = post(&format!("/webhooks/{path}"), &headers, sent(&body(number)));
        let answer = Client::over(TcpStream::connect(server.public).await.unwrap()).ask(&request).await;
        assert_eq!(answer.status, *status, "{path}: {case}");
        if *status == 200 {
            assert_eq!(answer.text(), r#"{"accepted":1,"duplicates":0}"#, "{path}: {case}");
            stored.insert(format!("try-{number}"));
        } else {
            assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}: {case}");
            let challenge = answer.header("www-authenticate");
            assert_eq!(challenge.is_some(), ["basic", "bearer", "all"].contains(&path.split('?').next().unwrap()));
        }
    }
    assert!(tries.len() > 250 && stored.len() > 20, "{} tries, {} of them right", tries.len(), stored.len());

    let numbers = |events: &[Value]| -> Vec<String> {
        // What Meta's sender does not know of stands under `fields`, what Webex Connect's does not under `extra`.
        let number = |event: &Value| {
            let data = &event["data"];
            let number = data["fields"]["number"].as_str().or_else(|| data["extra"]["number"].as_str());
            number.unwrap_or_else(|| panic!("{event}")).to_owned()
        };
        events.iter().map(number).collect()
    };
    let archive = server.folder().join("events.jsonl");
    let arrived = || crate::support::senders::events_in(&archive);
    eventually("the sink has what is right", || (arrived().len() >= stored.len()).then_some(()));
    let folder = server.stop();
    let archive = folder.path().join("events.jsonl");
    let arrived = numbers(&crate::support::senders::events_in(&archive));
    assert_eq!(arrived.len(), stored.len(), "nothing else");
    assert_eq!(arrived.into_iter().collect::<BTreeSet<_>>(), stored);
    let journal = Connection::open(folder.path().join("data/journal.db")).unwrap();
    let rows: usize = journal.query_row("SELECT count(*) FROM events_1", [], |row| row.get(0)).unwrap();
    assert_eq!(rows, stored.len(), "events in the journal");
}

#[tokio::test]
async fn no_wrong_token_is_given_the_challenge() {
    let server = TestServer::start(CONFIG);
    for (case, query, status) in [
        ("right", "hub.mode=subscribe&hub.verify_token=Verify-Token&hub.challenge=7", 200),
        ("encoded", "hub.mode=subscribe&hub.verify_token=Verify%2DToken&hub.challenge=7", 200),
        ("missing", "hub.mode=subscribe&hub.challenge=7", 400),
        ("empty", "hub.mode=subscribe&hub.verify_token=&hub.challenge=7", 403),
        ("in another case", "hub.mode=subscribe&hub.verify_token=verify-token&hub.challenge=7", 403),
        ("truncated", "hub.mode=subscribe&hub.verify_token=Verify-Toke&hub.challenge=7", 403),
        ("trailing bytes", "hub.mode=subscribe&hub.verify_token=Verify-Tokens&hub.challenge=7", 403),
        ("another source's", "hub.mode=subscribe&hub.verify_token=another+token&hub.challenge=7", 403),
        ("the app secret", "hub.mode=subscribe&hub.verify_token=the%20meta%20secret&hub.challenge=7", 403),
        (
            "a wrong one first",
            "hub.mode=subscribe&hub.verify_token=no&hub.verify_token=Verify-Token&hub.challenge=7",
            403,
        ),
        ("another mode", "hub.mode=unsubscribe&hub.verify_token=Verify-Token&hub.challenge=7", 403),
        ("a mode in capitals", "hub.mode=SUBSCRIBE&hub.verify_token=Verify-Token&hub.challenge=7", 403),
    ] {
        let request = plain("GET", &format!("/webhooks/meta?{query}"));
        let answer = Client::over(TcpStream::connect(server.public).await.unwrap()).ask(&request).await;
        assert_eq!(answer.status, status, "{case}");
        assert_eq!(answer.body == b"7", status == 200, "{case}");
    }
}
