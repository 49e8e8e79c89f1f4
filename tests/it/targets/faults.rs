//! Servers in trouble while the real binary delivers to them: not there at first, killed, paused, slow, cut off,
//! emptied. Nothing is lost, each person's events come in order, and copies have the id of the first.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::Server;
use crate::support::senders::{SOURCE, check, has_all, owed, senders, under_gentle_load};
use crate::support::server::{TestServer, eventually};
use crate::support::tcp_proxy::{TcpProxy, Way};
use crate::support::{DEADLINE, runtime};

const PEOPLE: usize = 6;

/// How long a sender waits after a 200: what a server holds is read whole over and over.
const PACE: Duration = Duration::from_millis(50);

/// Requests that are acknowledged in each state of the server.
const STEP: usize = 150;

fn sink(name: &str, settings: &str) -> String {
    format!("\n[sinks.{name}]\n{settings}\nretry_initial = \"10ms\"\nretry_max = \"200ms\"\n")
}

fn metric(server: &TestServer, name: &str) -> u64 {
    runtime().block_on(server.metric(name))
}

/// Waits until all of it has arrived, and says what has not when nothing more comes.
#[track_caller]
fn arrives_all<S: Server>(target: &mut S, place: &str, owed: &[String]) {
    let (mut arrived, mut deadline) = (0, Instant::now() + DEADLINE);
    loop {
        let events = target.events(place);
        if has_all(&events, owed) {
            return;
        }
        if events.len() > arrived {
            (arrived, deadline) = (events.len(), Instant::now() + DEADLINE);
        }
        // `check` says what is missing.
        if Instant::now() >= deadline {
            return check(place, &events, owed);
        }
    }
}

/// Absent at the start, killed and restarted twice, paused, slow and cut off, all under load, with several sinks at once.
pub(super) fn trouble<S: Server>(test: &str) {
    let Some(mut target) = S::start(test) else { return };
    let proxy = TcpProxy::start(target.address());
    proxy.set(Way::Slow(Duration::from_millis(2)));
    // Two sinks side by side, and one that is far away.
    let places = ["left", "right", "far"];
    let address = |place: &str| if place == "far" { proxy.address() } else { target.address() };
    let sinks = places.map(|place| sink(place, &target.settings(address(place), place))).concat();
    places.iter().for_each(|place| target.prepare(place));

    target.kill();
    let server = TestServer::start(&format!("{SOURCE}{sinks}"));
    let mut senders = senders(PEOPLE);
    under_gentle_load(&mut senders, server.public, PACE, |load| {
        let more = |what: &str| {
            let enough = load.acknowledged() + STEP;
            eventually(what, || (load.acknowledged() >= enough).then_some(()));
        };
        let arrives = |target: &mut S, what: &str| {
            let before = target.events("left").len();
            eventually(what, || (target.events("left").len() > before).then_some(()));
        };
        more("requests are answered while the server is not there");
        target.restart();
        arrives(&mut target, "it gets events when it is there");
        for _ in 0..2 {
            target.kill();
            more("requests are answered while the server is dead");
            target.restart();
            arrives(&mut target, "it gets events after a crash");
        }
        target.pause();
        more("requests are answered while the server hangs");
        target.resume();
        arrives(&mut target, "it gets events when it goes on");
        proxy.set(Way::Cut);
        more("requests are answered while one sink is cut off");
        proxy.set(Way::Slow(Duration::from_millis(2)));
    });
    let owed = owed(&senders);
    for place in places {
        arrives_all(&mut target, place, &owed);
        check(place, &target.events(place), &owed);
    }
    runtime().block_on(server.no_dead_letters());
    println!("{}: {} events through {} sinks", S::TYPE, owed.len(), places.len());
}

/// What was not acknowledged when the server lost everything arrives, and so does everything later.
pub(super) fn emptied<S: Server>(test: &str) {
    let Some(mut target) = S::start(test) else { return };
    target.prepare("events");
    let server = TestServer::start(&format!("{SOURCE}{}", sink("it", &target.settings(target.address(), "events"))));
    let mut senders = senders(PEOPLE);
    let send = |senders: &mut Vec<_>| {
        under_gentle_load(senders, server.public, PACE, |load| {
            eventually("requests are answered", || (load.acknowledged() >= STEP).then_some(()));
        });
        owed(senders)
    };
    let before = send(&mut senders);
    eventually("all of it arrives", || has_all(&target.events("events"), &before).then_some(()));
    let delivered = "hooksink_sink_delivered_total{sink=\"it\"}";
    eventually("all of it is acknowledged", || (metric(&server, delivered) >= before.len() as u64).then_some(()));

    target.kill();
    let meanwhile = send(&mut senders);
    target.restart_empty();
    target.prepare("events");
    let later = send(&mut senders);
    let due: Vec<String> = later.iter().filter(|mid| !before.contains(mid)).cloned().collect();
    assert!(due.len() > later.len() - meanwhile.len(), "some were sent while it was dead");
    eventually("all that it is owed arrives", || has_all(&target.events("events"), &due).then_some(()));

    let events = target.events("events");
    let mid = |event: &Value| event["data"]["mid"].as_str().expect("an echo").to_owned();
    assert!(!events.iter().any(|event| before.contains(&mid(event))), "what it had acknowledged is not sent again");
    runtime().block_on(server.no_dead_letters());
}
