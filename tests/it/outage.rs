//! What a whole server makes of a target that fails: outages dead-letter nothing, and one bad event is found among good
//! ones.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use hooksink::names::SourceType;
use reqwest::Method;
use serde_json::Value;

use crate::echo::{SECRET, echo};
use crate::support::mock_target::{Answer, MockTarget, Place, Request};
use crate::support::server::{TestServer, answer, eventually};

/// Three attempts and short waits, so that whoever gives up too early does so here.
fn config(target: SocketAddr) -> String {
    format!(
        r#"
        [sources.messenger]
        type = "meta"
        verify_token = "token"
        app_secrets = ["{SECRET}"]
        own_app_ids = ["1517776481860111"]
        [sinks.crm]
        type = "http"
        url = "http://{target}/hooks"
        max_attempts = 3
        retry_initial = "5ms"
        retry_max = "40ms"
        timeout = "5s"
        [journal]
        disk_reserve = "1 MiB"
        "#
    )
}

async fn send(server: &TestServer, mid: &str, person: &str) {
    let sent = server.post(SourceType::Meta, "messenger", SECRET, echo(mid, person)).await;
    assert_eq!((sent.status, sent.body.as_str()), (200, r#"{"accepted":1,"duplicates":0}"#));
}

fn mid(request: &Request) -> String {
    let event: Value = serde_json::from_slice(&request.body).expect("a CloudEvent");
    event["data"]["mid"].as_str().expect("an echo").to_owned()
}

/// What the target has taken, each the first time.
fn taken(target: &MockTarget) -> Vec<String> {
    let mut seen = HashSet::new();
    target.taken().iter().map(mid).filter(|mid| seen.insert(mid.clone())).collect()
}

async fn dead_letters(server: &TestServer) -> Vec<Value> {
    let listed = answer(server.admin_request(Method::GET, "/api/v1/dead-letters")).await;
    assert_eq!(listed.status, 200);
    listed.json().as_array().expect("a list").clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_any_kind_dead_letters_nothing_and_everything_arrives_in_order() {
    const PEOPLE: usize = 5;
    const EACH: usize = 4;
    // Nobody listens there yet.
    let place = Place::take();
    let server = TestServer::start(&config(place.address()));
    let mut sent: BTreeMap<usize, Vec<String>> = BTreeMap::new();
    let mut more = async |phase: &str| {
        for number in 0..EACH {
            for person in 0..PEOPLE {
                let mid = format!("m_{phase}-{person}-{number}");
                send(&server, &mid, &format!("person-{person}")).await;
                sent.entry(person).or_default().push(mid);
            }
        }
    };

    more("refused").await;
    // One call fails after another: many times over what an event alone would be given up after.
    eventually("the sink is found to be down", || server.stderr().contains("the sink is down").then_some(()));
    let target = MockTarget::start_in(place);
    for status in [503, 401, 400, 429, 302] {
        target.otherwise(Some(Answer::Status(status, Vec::new())));
        more(&status.to_string()).await;
        let before = target.requests().len();
        eventually("the target has refused a lot", || (target.requests().len() >= before + 12).then_some(()));
    }
    assert_eq!(target.taken().len(), 0);
    assert_eq!(dead_letters(&server).await, Vec::<Value>::new());

    target.otherwise(None);
    more("after").await;
    let total: usize = sent.values().map(Vec::len).sum();
    eventually("everything has arrived", || (taken(&target).len() == total).then_some(()));
    let arrived = taken(&target);
    for (person, sent) in &sent {
        let of_person = |mid: &&String| mid.split('-').nth(1) == Some(&person.to_string());
        assert_eq!(&arrived.iter().filter(of_person).cloned().collect::<Vec<_>>(), sent, "in order");
    }
    let mut ids: BTreeMap<String, HashSet<String>> = BTreeMap::new();
    for request in target.requests() {
        ids.entry(mid(&request)).or_default().insert(request.header("webhook-id").expect("an id").to_owned());
    }
    assert!(ids.values().all(|ids| ids.len() == 1), "an event has one id, however often it is sent");
    assert_eq!(dead_letters(&server).await, Vec::<Value>::new());
}

/// One target is not there and another takes every request and never answers: no sender waits for them, and neither does
/// the third.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_and_hanging_sinks_delay_no_answer_and_no_other_sink() {
    let nobody = Place::take();
    let hanging = MockTarget::start().await;
    hanging.otherwise(Some(Answer::Wait(Arc::default())));
    let more = format!(
        "[sinks.hanging]\ntype = \"http\"\nurl = \"{}\"\ntimeout = \"1h\"\n[sinks.archive]\ntype = \"file\"\npath = \"events.jsonl\"",
        hanging.url("/hooks")
    );
    let server = TestServer::start(&(config(nobody.address()) + &more + "\n[server]\nshutdown_timeout = \"300ms\""));
    send(&server, "first", "ann").await;
    eventually("a call hangs", || (!hanging.requests().is_empty()).then_some(()));
    eventually("a sink is found to be down", || server.stderr().contains("the sink is down").then_some(()));
    for number in 0..20 {
        send(&server, &format!("m-{number}"), "ann").await;
    }
    eventually("the third sink has everything", || {
        let text = std::fs::read_to_string(server.folder().join("events.jsonl")).ok()?;
        (text.lines().count() == 21).then_some(())
    });
    assert_eq!(hanging.taken().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_always_fails_waits_alone_and_is_given_up_among_others_that_pass() {
    for status in [400, 500] {
        let target = MockTarget::start().await;
        target.choose(move |request| mid(request).starts_with("bad").then(|| Answer::Status(status, Vec::new())));
        let server = TestServer::start(&config(target.address));
        let tries = |target: &MockTarget| target.requests().iter().filter(|request| mid(request) == "bad").count();

        // Alone: far more often than max_attempts.
        send(&server, "bad", "ann").await;
        eventually("it is tried again and again", || (tries(&target) >= 10).then_some(()));
        assert_eq!(dead_letters(&server).await, Vec::<Value>::new());

        // Behind it waits the same person's next, and nobody else's.
        send(&server, "next", "ann").await;
        let mut sent = Vec::new();
        let dead = loop {
            sent.push(format!("good-{}", sent.len()));
            send(&server, &sent[sent.len() - 1], "ben").await;
            let count = sent.len();
            eventually("others pass", || {
                let good = taken(&target).iter().filter(|mid| mid.starts_with("good")).count();
                (good == count).then_some(())
            });
            let dead = dead_letters(&server).await;
            if !dead.is_empty() {
                break dead;
            }
            if taken(&target).contains(&"next".to_owned()) {
                // Unless the one before was given up since.
                let dead = dead_letters(&server).await;
                assert!(!dead.is_empty(), "it overtook the one before");
                break dead;
            }
            // The one in trouble has its turn before more pass.
            let before = tries(&target);
            let turn = || (tries(&target) > before || taken(&target).contains(&"next".to_owned())).then_some(());
            eventually("it is tried among others", turn);
            assert!(sent.len() < 100, "it is never given up");
        };
        eventually("the next of the same person arrives", || taken(&target).contains(&"next".to_owned()).then_some(()));

        let [letter] = dead.as_slice() else { panic!("{dead:?}") };
        assert_eq!(
            (letter["sink"].as_str(), letter["reason"].as_str()),
            (Some("crm"), Some(format!("the target answered {status}").as_str()))
        );
        let shown = server.admin_get(&format!("/api/v1/dead-letters/{}", letter["id"])).await.json();
        assert_eq!(shown["event"]["data"]["mid"], "bad");
        assert_eq!(shown["event"]["data"]["raw"]["message"]["mid"], "bad");
        let good: Vec<_> = taken(&target).into_iter().filter(|mid| mid.starts_with("good")).collect();
        assert_eq!(good, sent, "{status}");
        assert_eq!(dead_letters(&server).await.len(), 1, "exactly that one");
    }
}
