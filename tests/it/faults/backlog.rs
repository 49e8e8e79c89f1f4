//! A target that is down while very many events come for it: memory stays flat, nobody else notices, and all of it
//! arrives in order when the target is back.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use crate::echo::{SECRET, echoes, signature};
use crate::support::mock_target::{MockTarget, Place};
use crate::support::server::{TestServer, eventually};
use crate::wire::{Wire, request};

/// Connections at once.
const SENDERS: usize = 8;

/// People a sender writes to, in turn.
const PEOPLE: usize = 25;

/// Events a request: twice the same people in turn.
const EVENTS: usize = 2 * PEOPLE;

/// The most memory in MiB that the server may ever have had.
const MEMORY: u64 = 120;

fn config(target: SocketAddr) -> String {
    format!(
        r#"
        [log]
        level = "warn,hooksink::app=info,hooksink::dispatch=info"
        [journal]
        path = "journal.db"
        [sources.messenger]
        type = "meta"
        verify_token = "token"
        app_secrets = ["{SECRET}"]
        [sinks.crm]
        type = "http"
        url = "http://{target}/in"
        format = "cloudevents_batch"
        retry_initial = "10ms"
        retry_max = "100ms"
        max_attempts = 3
        [sinks.archive]
        type = "file"
        path = "events.jsonl"
        "#
    )
}

/// What came of each person, checked as it comes.
#[derive(Default)]
struct Arrived {
    next: HashMap<String, usize>,
    events: usize,
    copies: usize,
    out_of_order: Vec<String>,
}

impl Arrived {
    fn note(&mut self, event: &Value) {
        let mid = event["data"]["mid"].as_str().expect("a mid");
        let (person, number) = mid["m_".len()..].split_once('-').expect("our own form");
        let number: usize = number.parse().expect("our own form");
        let next = self.next.entry(person.to_owned()).or_default();
        match number.cmp(next) {
            std::cmp::Ordering::Less => self.copies += 1,
            std::cmp::Ordering::Equal => {
                *next += 1;
                self.events += 1;
            }
            std::cmp::Ordering::Greater => self.out_of_order.push(mid.to_owned()),
        }
    }
}

/// Sends so many requests, one after another, of one sender's people; each again until it is answered 200.
fn send(sender: usize, requests: usize, to: SocketAddr, sent: &AtomicUsize) {
    let people: Vec<String> = (0..PEOPLE).map(|person| (sender * PEOPLE + person).to_string()).collect();
    let mut number = 0;
    while number < requests {
        let mut wire = Wire::connect(Ipv4Addr::LOCALHOST, to, None).expect("a place");
        while number < requests {
            let mids: Vec<String> =
                (0..EVENTS).map(|at| format!("m_{}-{}", people[at % PEOPLE], 2 * number + at / PEOPLE)).collect();
            let person = |at: usize| people[at % PEOPLE].as_str();
            let of: Vec<_> = mids.iter().enumerate().map(|(at, mid)| (mid.as_str(), person(at))).collect();
            let body = echoes(&of);
            let headers = [("X-Hub-Signature-256", &*signature(&body))];
            wire.send(&request("POST", "/webhooks/messenger", &headers, &body)).expect("it listens");
            // On a machine that has much else to do an answer may be late, or 503.
            let Ok(Some(answer)) = wire.answer(false) else { break };
            assert!([200, 503].contains(&answer.status), "{answer:?}");
            if answer.status == 200 {
                number += 1;
                sent.fetch_add(EVENTS, Ordering::SeqCst);
            }
        }
    }
}

/// Waits until there are so many, for as long as they become more.
fn all_of(what: &str, total: usize, count: impl Fn() -> usize) {
    let mut before = 0;
    while before < total {
        before = eventually(what, || Some(count()).filter(|now| *now > before));
    }
}

#[test]
fn a_backlog_takes_no_memory_and_arrives_when_its_target_is_back() {
    let wanted = std::env::var("HOOKSINK_BACKLOG").map_or(20_000, |events| events.parse().expect("a number"));
    let requests = usize::div_ceil(wanted, SENDERS * EVENTS);
    let total = requests * SENDERS * EVENTS;
    // Nobody listens there yet.
    let place = Place::take();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let server = TestServer::start_with(folder, &config(place.address()), &[]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let metric = |name: &str| usize::try_from(runtime.block_on(server.metric(name))).expect("a number");
    let archived = || metric("hooksink_sink_delivered_total{sink=\"archive\"}");

    let (sent, began) = (AtomicUsize::new(0), Instant::now());
    let (mut first, mut middle) = (began, began);
    thread::scope(|scope| {
        for sender in 0..SENDERS {
            let sent = &sent;
            scope.spawn(move || send(sender, requests, server.public, sent));
        }
        let reached =
            |part: usize| eventually("they are taken", || (sent.load(Ordering::SeqCst) >= part).then(Instant::now));
        all_of("they are taken", total / 10, || sent.load(Ordering::SeqCst));
        first = reached(total / 10);
        all_of("they are taken", total - total / 10, || sent.load(Ordering::SeqCst));
        middle = reached(total - total / 10);
    });
    let rate = |events: usize, from: Instant, to: Instant| events as f64 / (to - from).as_secs_f64();
    println!(
        "{total} events in {:?}: {:.0} a second in the first tenth, {:.0} in the last; {:?} MiB now and at most",
        began.elapsed(),
        rate(total / 10, began, first),
        rate(total / 10, middle, Instant::now()),
        server.resident(),
    );
    all_of("the other sink does not notice", total, archived);
    // All of it waits.
    runtime.block_on(server.metric_becomes("hooksink_sink_lag_events{sink=\"crm\"}", total as u64));
    println!("the other sink had everything after {:?}", began.elapsed());

    let arrived = Arc::new(Mutex::new(Arrived::default()));
    let back = Instant::now();
    let noted = arrived.clone();
    let _runtime = runtime.enter();
    let _target = MockTarget::start_forgetful(place, move |request| {
        let events: Vec<Value> = serde_json::from_slice(&request.body).expect("a batch");
        let mut arrived = noted.lock().expect("no panic");
        events.iter().for_each(|event| arrived.note(event));
        None
    });
    all_of("the backlog arrives", total, || {
        let arrived = arrived.lock().expect("no panic");
        assert!(arrived.out_of_order.is_empty(), "something before it is missing: {:?}", arrived.out_of_order);
        arrived.events
    });
    let (now, most) = server.resident();
    println!("the backlog arrived in {:?}; {now} MiB now, {most} MiB at most", back.elapsed());
    assert!(most <= MEMORY, "{most} MiB");
    runtime.block_on(server.metric_becomes("hooksink_sink_lag_events{sink=\"crm\"}", 0));
    runtime.block_on(server.no_dead_letters());
    let folder = server.stop();
    let mut archive = Arrived::default();
    for line in BufReader::new(File::open(folder.path().join("events.jsonl")).unwrap()).lines() {
        archive.note(&serde_json::from_str(&line.unwrap()).unwrap());
    }
    for (sink, arrived) in [("http", &*arrived.lock().unwrap()), ("file", &archive)] {
        assert!(arrived.out_of_order.is_empty(), "{sink}: {:?}", arrived.out_of_order);
        assert_eq!(arrived.events, total, "{sink}");
        println!("{sink}: {total} events, {} copies", arrived.copies);
    }
}
