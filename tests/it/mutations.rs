//! A hundred thousand random and mutated bodies and headers, with the fixtures as seeds, through the doors of listening
//! servers: nothing panics, nothing is answered 500, what is not authentic is not stored, and what becomes of one item
//! of a request costs its neighbours nothing.
//!
//! The seed is always the same unless `HOOKSINK_MUTATION_SEED` gives another number.

use std::collections::HashMap;
use std::fmt::Debug;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use hooksink::auth::hmac_signature::{Algorithm, sign};
use hooksink::event::{Event, EventId, Format, Record};
use hooksink::json;
use hooksink::names::SourceType;
use hooksink::secret::Secret;
use hooksink::sources::Sources;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::door::{CONNECT_SECRET, Client, Door, META_SECRET, sources, within};
use crate::fixtures::{Fixture, fixtures};
use crate::mutator::{Mutator, Parts};
use crate::support::server::{TestServer, eventually};

/// Cases of each kind, over all connections.
const NEIGHBOURS: usize = 24_000;
const BODIES: usize = 30_000;
const HEADERS: usize = 27_000;
const OF_THE_PROGRAM: usize = 20_000;

fn seed() -> u64 {
    let given = std::env::var("HOOKSINK_MUTATION_SEED").ok();
    given.map_or(2026, |seed| seed.parse().expect("HOOKSINK_MUTATION_SEED is a number"))
}

/// What requests are made of.
struct Seeds {
    fixtures: Vec<Fixture>,
    /// Their bodies, with escapes that stand for no text replaced, so that all are JSON to anybody.
    json: Vec<Vec<u8>>,
    parts: Arc<Parts>,
    /// The items of Meta's.
    items: Vec<Vec<u8>>,
}

impl Seeds {
    fn new() -> Self {
        let fixtures = fixtures();
        let repaired = |fixture: &Fixture| json::repair(fixture.body.trim_ascii()).into_owned();
        let mut items = Vec::new();
        for fixture in fixtures.iter().filter(|fixture| fixture.sender == SourceType::Meta) {
            take_items(str::from_utf8(&fixture.body).expect("a fixture is text"), &mut items);
        }
        items.sort();
        items.dedup();
        assert!(items.len() > 100, "most fixtures hold an item");
        let json: Vec<_> = fixtures.iter().map(repaired).collect();
        Self { parts: Arc::new(Parts::of(json.clone())), json, fixtures, items }
    }

    /// A fixture with something changed, or a body that owes nothing to one.
    fn mutant(&self, mutator: &mut Mutator) -> (SourceType, Vec<u8>) {
        let at = mutator.below(self.fixtures.len());
        let body = match mutator.below(10) {
            0 => mutator.random(),
            1..4 => mutator.bytes(&self.fixtures[at].body),
            _ => mutator.structure(&self.json[at]),
        };
        (self.fixtures[at].sender, body)
    }
}

/// The items of an envelope; a body without one is an item.
fn take_items(body: &str, items: &mut Vec<Vec<u8>>) {
    let mut enveloped = false;
    json::each_field(body, |name, entries| {
        enveloped |= name == "entry";
        json::each_item(entries, |entry| {
            json::each_field(entry, |name, list| {
                if matches!(name, "messaging" | "standby" | "changes") {
                    json::each_item(list, |item| items.push(item.into()));
                }
            });
        });
    });
    if !enveloped && body.starts_with('{') {
        items.push(body.trim_end().into());
    }
}

fn path(sender: SourceType) -> &'static str {
    match sender {
        SourceType::Meta => "/webhooks/messenger",
        SourceType::WebexConnect => "/webhooks/connect",
    }
}

/// The header that proves a body authentic.
fn proof(sender: SourceType, body: &[u8]) -> (&'static [u8], Vec<u8>) {
    let (name, secret) = match sender {
        SourceType::Meta => ("x-hub-signature-256", META_SECRET),
        SourceType::WebexConnect => ("x-hub-signature", CONNECT_SECRET),
    };
    (name.as_bytes(), sign(Algorithm::Sha256, &Secret::new(secret), body).into())
}

/// A POST with these headers, whatever is in them.
fn request(sender: SourceType, headers: &[(&[u8], Vec<u8>)], body: &[u8]) -> Vec<u8> {
    let mut request = format!("POST {} HTTP/1.1\r\nhost: hooks.example\r\n", path(sender)).into_bytes();
    for (name, value) in headers {
        request.extend([*name, b": ", value, b"\r\n"].concat());
    }
    request.extend(format!("content-length: {}\r\n\r\n", body.len()).into_bytes());
    request.extend_from_slice(body);
    request
}

fn signed(sender: SourceType, body: &[u8]) -> Vec<u8> {
    request(sender, &[proof(sender, body)], body)
}

/// The answer, and on which statuses the request counts as handled well.
async fn ask(client: &mut Client, request: &[u8], expected: &[u16]) -> (u16, Value) {
    client.send_what_fits(request).await;
    let answer = client.try_answer(true).await;
    let status = answer.as_ref().map(|answer| answer.status);
    assert!(
        status.is_some_and(|status| expected.contains(&status)),
        "{status:?} instead of {expected:?}, seed {}, to:\n{}",
        seed(),
        request.escape_ascii()
    );
    let answer = answer.expect("it has a status");
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
}

/// What an authentic body is answered.
fn expected(body: &[u8]) -> &'static [u16] {
    if body.is_empty() { &[400] } else { &[200] }
}

/// Accepted, and copies.
fn counts(answer: &Value) -> (usize, usize) {
    let count = |name: &str| answer[name].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or_default();
    (count("accepted"), count("duplicates"))
}

/// A connection to a server of its own, whose journal is at hand.
struct Bench {
    seeds: Arc<Seeds>,
    mutator: Mutator,
    door: Door,
    client: Client,
    sources: Sources,
}

impl Bench {
    async fn new(seeds: Arc<Seeds>, seed: u64) -> Self {
        let door = Door::open().await;
        let (mutator, client) = (Mutator::new(seed, seeds.parts.clone()), door.client().await);
        Self { seeds, mutator, door, client, sources: sources() }
    }

    /// What was stored for one request, with its payload.
    fn stored(&mut self) -> Vec<Stored> {
        let decoded = |record: Record| {
            let event = self.sources.decode(Arc::new(record));
            let data = serde_json::to_string(&*event.payload).expect("a payload is JSON");
            Stored { event, data }
        };
        self.door.journal.take().into_iter().map(decoded).collect()
    }

    async fn body(&mut self) {
        let (sender, body) = self.seeds.mutant(&mut self.mutator);
        let (_, answer) = ask(&mut self.client, &signed(sender, &body), expected(&body)).await;
        let stored = self.stored();
        assert_eq!(stored.len(), counts(&answer).0, "{}", body.escape_ascii());
        assert_eq!(stored.is_empty(), body.is_empty(), "nothing authentic is lost: {}", body.escape_ascii());
        stored.iter().for_each(Stored::leaves_as_a_line);
    }

    async fn headers(&mut self) {
        let (sender, body) = self.seeds.mutant(&mut self.mutator);
        let (request, expected) = odd_headers(&mut self.mutator, sender, body);
        let (status, answer) = ask(&mut self.client, &request, expected).await;
        assert_eq!(self.stored().len(), counts(&answer).0, "{}", request.escape_ascii());
        assert!(status == 200 || counts(&answer) == (0, 0), "{}", request.escape_ascii());
        if status != 200 {
            // The server may have ended the connection.
            self.client = self.door.client().await;
        }
    }

    /// Sends a request, and then so many in which one item is another.
    async fn neighbours(&mut self, mutants: usize) {
        let batch = Batch::new(&mut self.mutator, &self.seeds.items);
        ask(&mut self.client, &signed(SourceType::Meta, &batch.body(None)), &[200]).await;
        let whole = self.stored();
        assert_eq!(whole.len(), batch.items.len());
        for _ in 0..mutants {
            let victim = self.mutator.below(batch.items.len());
            let victim = (victim, &*batch.items[victim].1);
            let mutant = self.mutated_item(victim.1);
            let body = batch.body(Some((victim.0, &mutant)));
            let (_, answer) = ask(&mut self.client, &signed(SourceType::Meta, &body), &[200]).await;
            let (accepted, duplicates) = counts(&answer);
            assert_eq!(accepted + duplicates, batch.items.len(), "each item is an event: {}", body.escape_ascii());
            let mut mutated: HashMap<EventId, _> =
                self.stored().into_iter().map(|stored| (stored.event.record.id, stored)).collect();
            for neighbour in whole.iter().filter(|stored| stored.event.record.raw != victim.1) {
                let mutated = mutated.remove(&neighbour.event.record.id);
                let same = mutated.as_ref().map(Stored::view) == Some(neighbour.view());
                assert!(same, "seed {}: {:?} in {}", seed(), neighbour.view(), body.escape_ascii());
            }
            mutated.values().for_each(Stored::leaves_as_a_line);
        }
    }

    /// An item with something changed, still JSON, so that the envelope is.
    fn mutated_item(&mut self, item: &[u8]) -> Vec<u8> {
        for _ in 0..8 {
            let mutant = self.mutator.bytes(item);
            if json::is_json(&json::repair(&mutant)) {
                return mutant;
            }
        }
        self.mutator.structure(&json::repair(item))
    }
}

/// An event in the journal, and its payload as sinks see it.
struct Stored {
    event: Event,
    data: String,
}

impl Stored {
    /// All that its neighbours could have changed.
    fn view(&self) -> impl PartialEq + Debug {
        let (record, context) = (&*self.event.record, &self.event.record.context);
        (
            (record.kind, &record.subject, record.occurred_at, &record.raw, &self.data),
            (&context.object, &context.entry_id, &context.entry_time, &context.field, context.place),
        )
    }

    /// What leaves is one line of JSON.
    fn leaves_as_a_line(&self) {
        for format in [Format::Cloudevents, Format::Raw] {
            let line = self.event.to_json(format, true);
            let fine = json::is_json(&line) && !line.contains(&b'\n');
            assert!(fine, "{} of {}", line.escape_ascii(), self.event.record.raw.escape_ascii());
        }
    }
}

/// Items of Meta, all different, and where each stands.
struct Batch {
    /// The entry and the list, and the item.
    items: Vec<((usize, usize), Vec<u8>)>,
}

impl Batch {
    fn new(mutator: &mut Mutator, pool: &[Vec<u8>]) -> Self {
        let mut items: Vec<((usize, usize), Vec<u8>)> = Vec::new();
        let (count, entries) = (2 + mutator.below(5), 1 + mutator.below(2));
        while items.len() < count {
            let item = mutator.one_of(pool);
            if items.iter().all(|(_, other)| *other != item) {
                items.push(((mutator.below(entries), mutator.below(6).saturating_sub(3)), item));
            }
        }
        items.sort();
        Self { items }
    }

    /// The envelope, with this item instead of the one at this position.
    fn body(&self, instead: Option<(usize, &[u8])>) -> Vec<u8> {
        let mut body = br#"{"object":"page","entry":["#.to_vec();
        let mut last = None;
        for (position, ((entry, list), item)) in self.items.iter().enumerate() {
            let name = ["messaging", "standby", "changes"][*list];
            body.extend_from_slice(
                match last {
                    Some(place) if place == (entry, list) => b",".to_vec(),
                    Some((other, _)) if other == entry => format!(r#"],"{name}":["#).into_bytes(),
                    _ => {
                        let end = if last.is_some() { "]}," } else { "" };
                        format!(r#"{end}{{"id":"10492713587200{entry}","time":178904831077{entry},"{name}":["#)
                            .into_bytes()
                    }
                }
                .as_slice(),
            );
            body.extend_from_slice(instead.filter(|(at, _)| *at == position).map_or(item, |(_, mutant)| mutant));
            last = Some((entry, list));
        }
        body.extend_from_slice(b"]}]}");
        body
    }
}

/// A request whose headers are not as they should be, and what it may be answered.
fn odd_headers(mutator: &mut Mutator, sender: SourceType, body: Vec<u8>) -> (Vec<u8>, &'static [u16]) {
    let (name, value) = proof(sender, &body);
    let proven = expected(&body);
    match mutator.below(12) {
        0 => {
            let mut wrong = value;
            let at = wrong.len() - 1 - mutator.below(64);
            wrong[at] = if wrong[at] == b'0' { b'1' } else { b'0' };
            (request(sender, &[(name, wrong)], &body), &[401])
        }
        1 => (request(sender, &[], &body), &[401]),
        2 => {
            let mut visible = mutator.noise(200);
            visible.retain(|byte| *byte > b' ' && *byte != 0x7f);
            (request(sender, &[(name, visible)], &body), &[401])
        }
        3 => {
            let cut = value[..mutator.below(value.len())].to_vec();
            (request(sender, &[(name, cut)], &body), &[401])
        }
        4 => {
            let sha1 = sign(Algorithm::Sha1, &Secret::new(META_SECRET), &body).into_bytes();
            (request(sender, &[(b"x-hub-signature", sha1)], &body), &[401])
        }
        5 => {
            let mut other = body.clone();
            other.push(b'x');
            (request(sender, &[(name, value)], &other), &[401])
        }
        6 => {
            // A control character ends every parser's patience.
            let at = mutator.below(value.len());
            let mut broken = value;
            broken[at] = mutator.one_of(b"\0\x01\x08\x0b\x1f\x7f");
            (request(sender, &[(name, broken)], &body), &[400])
        }
        7 => (request(sender, &[(b"x-long", vec![b'x'; 40_000]), (name, value)], &body), &[431]),
        8 => {
            let large = vec![b' '; crate::door::MAX_BODY + 1 + mutator.below(100)];
            (request(sender, &[(name, value)], &large), &[413])
        }
        9 => {
            let encoding = mutator.one_of(&["gzip", "br", "identity", "", "x, y"]);
            (request(sender, &[(name, value), (b"content-encoding", encoding.into())], &body), proven)
        }
        10 => {
            let upper = value.to_ascii_uppercase();
            (request(sender, &[(name, upper)], &body), if body.is_empty() { &[400, 401] } else { &[200, 401] })
        }
        _ => {
            let mut odd = mutator.noise(200);
            odd.retain(|byte| *byte >= b' ' && *byte != 0x7f);
            let others: [&[u8]; 6] =
                [b"content-type", b"user-agent", b"x-forwarded-for", b"forwarded", b"x-wx-gtrid", b"authorization"];
            let other = mutator.one_of(&others);
            (request(sender, &[(other, odd), (name, value)], &body), proven)
        }
    }
}

#[test]
fn no_mutant_breaks_the_door_or_costs_a_neighbour() {
    const CONNECTIONS: usize = 4;
    /// Of one request.
    const MUTANTS: usize = 8;
    let seeds = Arc::new(Seeds::new());
    let one = |number: u64| {
        let seeds = seeds.clone();
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let mut bench = Bench::new(seeds, seed().wrapping_add(number)).await;
                for _ in 0..NEIGHBOURS / CONNECTIONS / MUTANTS {
                    bench.neighbours(MUTANTS).await;
                    for _ in 0..MUTANTS * BODIES / NEIGHBOURS {
                        bench.body().await;
                    }
                    for _ in 0..MUTANTS * HEADERS / NEIGHBOURS {
                        bench.headers().await;
                    }
                }
                drop(bench.client);
                bench.door.close().await;
            });
        }
    };
    let threads: Vec<_> = (1..).take(CONNECTIONS).map(|number| thread::spawn(one(number))).collect();
    let failed = threads.into_iter().filter_map(|thread| thread.join().err()).count();
    assert_eq!(failed, 0, "seed {}", seed());
    println!("{NEIGHBOURS} mutated items among others, {BODIES} bodies, {HEADERS} odd headers; seed {}", seed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mutant_that_the_program_accepts_reaches_its_sink_once() {
    const CONNECTIONS: usize = 16;
    let server = TestServer::start(&format!(
        r#"
        [sources.messenger]
        type = "meta"
        verify_token = "verify"
        app_secrets = ["{META_SECRET}"]
        [sources.connect]
        type = "webex-connect"
        signature_secrets = ["{CONNECT_SECRET}"]
        [sinks.archive]
        type = "file"
        path = "events.jsonl"
        [journal]
        disk_reserve = "1 MiB"
        [log]
        level = "info,hooksink::http::request_log=warn"
        "#
    ));
    let (seeds, address, cases) = (Arc::new(Seeds::new()), server.public, OF_THE_PROGRAM / CONNECTIONS);
    let tasks: Vec<_> =
        (101..).take(CONNECTIONS).map(|number| tokio::spawn(send(address, cases, number, seeds.clone()))).collect();
    let mut accepted = 0;
    for task in tasks {
        accepted += task.await.expect("every answer was as it should be");
    }
    let lines = || fs::read(server.folder().join("events.jsonl")).unwrap_or_default();
    let lines = eventually("every event is in the file", || {
        let lines = lines();
        (lines.iter().filter(|byte| **byte == b'\n').count() >= accepted).then_some(lines)
    });
    let mut ids = HashMap::new();
    for line in str::from_utf8(&lines).expect("a sink is handed text").lines() {
        let event: HashMap<&str, &serde_json::value::RawValue> = serde_json::from_str(line).expect("a CloudEvent");
        *ids.entry(event["id"].get()).or_insert(0) += 1;
    }
    assert_eq!(ids.len(), accepted);
    assert!(ids.values().all(|times| *times == 1), "nothing was down, so nothing came twice");
    assert_eq!(server.admin_get("/readyz").await.status, 200);
    println!("{OF_THE_PROGRAM} bodies, {accepted} events; seed {}", seed());
}

/// Sends so many mutants over one connection; how many events they were.
async fn send(address: SocketAddr, cases: usize, number: u64, seeds: Arc<Seeds>) -> usize {
    let mut mutator = Mutator::new(seed().wrapping_add(number), seeds.parts.clone());
    let mut client = Client::over(within(TcpStream::connect(address)).await.expect("it listens"));
    let mut accepted = 0;
    for _ in 0..cases {
        let (sender, body) = seeds.mutant(&mut mutator);
        let (_, answer) = ask(&mut client, &signed(sender, &body), expected(&body)).await;
        accepted += counts(&answer).0;
    }
    accepted
}
