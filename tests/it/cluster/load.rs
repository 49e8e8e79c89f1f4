//! Senders that record what was answered 200 and send again, to the next replica, what was not, as a proxy in front or
//! the sender itself does.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::Bench;
use crate::echo::{echo, signature};
use crate::support::senders::check;
use crate::support::{DEADLINE, mock_target::MockTarget};

/// People whose events are sent at the same time, each one's one after the other.
const PEOPLE: usize = 12;
/// As long as Meta waits.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Before it is sent again.
const AGAIN: Duration = Duration::from_millis(50);

/// What was answered so far.
#[derive(Default)]
struct Told {
    /// Where the replicas listen now.
    doors: Vec<SocketAddr>,
    /// When each event was answered 200, and how long that took from its first try on.
    acknowledged: Vec<(Instant, Duration)>,
    mids: Vec<String>,
    /// Answers other than 200, by status; 0 is none at all.
    others: BTreeMap<u16, usize>,
    over: bool,
}

impl Told {
    /// Notes an answer; whether it was the one that is waited for.
    fn note(&mut self, status: u16, mid: &str, began: Instant) -> bool {
        if status == 200 {
            self.acknowledged.push((Instant::now(), began.elapsed()));
            self.mids.push(mid.to_owned());
        } else {
            *self.others.entry(status).or_default() += 1;
        }
        status == 200
    }
}

/// The senders.
pub(super) struct Load {
    told: Arc<Mutex<Told>>,
    senders: Vec<JoinHandle<()>>,
}

impl Load {
    pub(super) fn start(bench: &Bench) -> Self {
        let told = Arc::new(Mutex::new(Told { doors: doors(bench), ..Told::default() }));
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().no_proxy().tls_certs_only([]).timeout(TIMEOUT).build().expect("a client");
        let senders = (0..PEOPLE).map(|person| tokio::spawn(send(person, client.clone(), Arc::clone(&told)))).collect();
        Self { told, senders }
    }

    /// The replicas listen elsewhere now.
    pub(super) fn doors(&self, bench: &Bench) {
        self.told().doors = doors(bench);
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().expect("no panic")
    }

    /// Waits until so many more events were answered 200.
    pub(super) async fn goes_on(&self, events: usize) {
        let (before, began) = (self.told().mids.len(), Instant::now());
        while self.told().mids.len() < before + events {
            let waited = began.elapsed();
            assert!(waited < DEADLINE, "more events should be taken; other answers so far: {:?}", self.told().others);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Waits until the target has everything that was answered 200 until now; how long that took.
    pub(super) async fn arrives(&self, target: &MockTarget) -> Duration {
        let began = Instant::now();
        let owed = self.told().mids.clone();
        loop {
            let events = events(target);
            let there = mids(&events);
            if owed.iter().all(|mid| there.contains(mid.as_str())) {
                return began.elapsed();
            }
            assert!(began.elapsed() < DEADLINE, "what was taken should arrive");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ends it, waits until the target has everything that was answered 200, and checks what it got: nothing is missing,
    /// copies have one id, and each person's events came first in their order. Prints what was measured.
    pub(super) async fn check(self, what: &str, target: &MockTarget) {
        self.told().over = true;
        for sender in self.senders {
            tokio::time::timeout(DEADLINE, sender).await.expect("it ends").expect("no panic");
        }
        let told = self.told.lock().expect("no panic");
        let deadline = Instant::now() + DEADLINE;
        let events = loop {
            let events = events(target);
            let there = mids(&events);
            if told.mids.iter().all(|mid| there.contains(mid.as_str())) || Instant::now() > deadline {
                break events;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        check(what, &events, &told.mids);
        let mut times: Vec<Instant> = told.acknowledged.iter().map(|(at, _)| *at).collect();
        times.sort_unstable();
        let window = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
        let longest = told.acknowledged.iter().map(|(_, took)| *took).max().unwrap_or_default();
        println!(
            "{what}: {} events answered 200, none lost, {} arrived again under the same id; other answers {:?}; the \
             longest time without a 200 {window:.1?}, the longest an event took to its 200 {longest:.1?}",
            told.mids.len(),
            events.len().saturating_sub(told.mids.len()),
            told.others,
        );
        // Meta gives a page up after an hour of failures, Webex Connect after about four minutes.
        assert!(window < Duration::from_secs(60), "{window:?} without an answer 200");
    }
}

/// Where the replicas listen that run.
fn doors(bench: &Bench) -> Vec<SocketAddr> {
    bench.replicas.iter().flatten().map(|replica| replica.public).collect()
}

/// What the target has, in the order in which it came.
fn events(target: &MockTarget) -> Vec<Value> {
    target.taken().iter().map(|request| serde_json::from_slice(&request.body).expect("an event")).collect()
}

fn mids(events: &[Value]) -> HashSet<&str> {
    events.iter().filter_map(|event| event["data"]["mid"].as_str()).collect()
}

async fn send(person: usize, client: Client, told: Arc<Mutex<Told>>) {
    for number in 0.. {
        let mid = format!("m_{person}-{number}");
        let body = echo(&mid, &person.to_string());
        let signature = signature(&body);
        let began = Instant::now();
        for turn in person.. {
            let door = {
                let told = told.lock().expect("no panic");
                // What was not answered 200 is owed to nobody.
                if told.over {
                    return;
                }
                told.doors[turn % told.doors.len()]
            };
            let request = client
                .post(format!("http://{door}/webhooks/messenger"))
                .header("content-type", "application/json")
                .header("X-Hub-Signature-256", &signature)
                .body(body.clone());
            let status = request.send().await.map_or(0, |answer| answer.status().as_u16());
            if told.lock().expect("no panic").note(status, &mid, began) {
                break;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}
