//! A sink of the distributed journal under another name, or forgotten: whatever fails half-way, it can be called again and
//! ends, and nothing of a renamed sink is lost or there twice.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hooksink::config::{Engine, JournalConfig};
use hooksink::journal::{
    Consumer, ConsumerSpec, DeadLetter, Entry, Journal, JournalError, Letters, Outcome, StartFrom,
};
use hooksink::secret::{Secret, Secrets};

use crate::grounds::{on_server, open};
use crate::journal::{delivered, numbers, read, record, sink, spec, store, until};
use crate::steady::steady;
use crate::support::nats_proxy::NatsProxy;
use crate::support::nats_server::NatsServer;

/// What a server is told so that hooksink may not publish there.
pub(crate) fn denying(subject: &str) -> String {
    format!(
        "max_payload: 8MB\nauthorization {{ users = [ {{ user: hooksink, password: secret, permissions: {{ publish: {{ \
         deny: [\"{subject}\"] }} }} }} ] }}"
    )
}

/// The settings of a distributed journal on a server that wants a password.
pub(crate) fn config(server: &NatsServer) -> JournalConfig {
    let config = on_server(server);
    let Engine::Jetstream(mut own) = config.engine else { panic!("this is for the distributed journal") };
    own.login.username = Some("hooksink".to_owned());
    own.login.password = Secrets::new(vec![Secret::new("secret")]);
    JournalConfig { engine: Engine::Jetstream(own), ..config }
}

fn now(name: &str) -> ConsumerSpec {
    ConsumerSpec { from: StartFrom::Now, ..spec(name) }
}

/// Of ten events, `crm` has two, parked one, and gave up on two, one of which is to be tried again.
async fn leave_something_of_everything(config: &JournalConfig) -> Vec<DeadLetter> {
    let journal = open(config).await;
    journal.configure(vec![spec("crm")]).await.unwrap();
    store(&journal, (0..10).map(record)).await;
    let (mut consumer, entries) = owed(&journal, "crm", 5).await;
    let mut outcomes = delivered(&entries);
    outcomes[1].1 = Outcome::Parked;
    for at in [2, 3] {
        outcomes[at].1 = Outcome::Dead { reason: "422".to_owned(), attempts: 5 };
    }
    consumer.settle(outcomes).await.unwrap();
    consumer.flush().await.unwrap();
    let letters = journal.dead_letters(None, 0, 10).await.unwrap();
    assert_eq!(journal.retry_dead_letters(Letters::Ids(vec![letters[1].id])).await.unwrap(), 1);
    journal.close().await;
    letters
}

/// The first events that a sink is owed, what is parked before the rest, and the consumer that handed them out.
async fn owed(journal: &Arc<dyn Journal>, name: &str, count: usize) -> (Box<dyn Consumer>, Vec<Entry>) {
    let mut consumer = steady(journal, name).await;
    let mut entries = Vec::new();
    for parked in consumer.parked().await.unwrap() {
        entries.extend(consumer.load(parked.ticket).await.unwrap());
    }
    let rest = count - entries.len();
    entries.extend(read(&mut consumer, rest).await);
    (consumer, entries)
}

async fn refused_naming(names: [&str; 2], result: impl Future<Output = Result<(), JournalError>>) {
    let refused = result.await;
    let Err(JournalError::Refused(why)) = &refused else { panic!("{refused:?}") };
    assert!(why.contains(&format!("sinks rename {} {}", names[0], names[1])), "{why}");
}

async fn fails_half_way(subject: &str) {
    let name = "jetstream_renaming::what_fails_half_way_ends_when_it_is_called_again";
    let Some(server) = NatsServer::start(name, &denying("nothing")) else { return };
    let config = config(&server);
    let before = leave_something_of_everything(&config).await;
    let journal = open(&config).await;
    journal.configure(vec![now("new"), now("other")]).await.unwrap();
    let (crm, new, other) = (sink("crm"), sink("new"), sink("other"));
    server.reconfigure(&denying(subject));
    let failed = journal.rename_sink(&crm, &new).await;
    assert!(
        matches!(&failed, Err(JournalError::Unavailable(why)) if why.contains("when it is called again")),
        "{subject}: {failed:?}"
    );
    let names = ["crm", "new"];
    refused_naming(names, journal.forget_sink(&crm)).await;
    refused_naming(names, journal.rename_sink(&crm, &other)).await;
    refused_naming(names, journal.rename_sink(&crm, &sink("third"))).await;
    // Neither name is handed anything meanwhile.
    let mut halted = journal.consumer(&new).await.unwrap();
    assert!(halted.parked().await.unwrap().is_empty() && !halted.moved().is_cancelled());
    server.reconfigure(&denying("nothing"));
    until("it ends when it is called again", async || journal.rename_sink(&crm, &new).await.is_ok()).await;
    // Also when it has ended.
    journal.rename_sink(&crm, &new).await.unwrap();
    halted.moved().cancelled().await;
    check(&journal, before).await;
    // The old name is free.
    journal.configure(vec![now("new"), now("other"), now("crm")]).await.unwrap();
    let fresh = journal.sinks().await.unwrap().remove(0);
    assert_eq!((fresh.sink, fresh.cursor, fresh.parked, fresh.dead_letters), (crm, 10, 0, 0));
    journal.close().await;
}

/// That `new` has all that `crm` had, once.
async fn check(journal: &Arc<dyn Journal>, before: Vec<DeadLetter>) {
    let letters = journal.dead_letters(None, 0, 10).await.unwrap();
    let told = |letters: Vec<DeadLetter>| {
        letters.into_iter().map(|it| (it.event_id, it.died_at, it.attempts, it.reason, it.bytes)).collect::<Vec<_>>()
    };
    assert!(letters.iter().all(|letter| letter.sink == sink("new")));
    assert_eq!(letters.iter().map(|letter| letter.retrying).collect::<Vec<_>>(), [false, true]);
    assert_eq!(told(letters), told(before));
    let states = journal.sinks().await.unwrap();
    assert_eq!(states.iter().map(|state| state.sink.as_str()).collect::<Vec<_>>(), ["new", "other"]);
    assert_eq!((states[0].cursor, states[0].parked, states[0].dead_letters), (5, 1, 2));
    let (mut consumer, entries) = owed(journal, "new", 7).await;
    assert_eq!(numbers(&entries), [1, 3, 5, 6, 7, 8, 9]);
    consumer.settle(delivered(&entries)).await.unwrap();
    consumer.flush().await.unwrap();
    until("nothing is left", async || journal.sinks().await.unwrap()[0].lag_events == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_half_way_ends_when_it_is_called_again() {
    let half_ways = [
        // Some of the places are copied.
        "hooksink.state.place.new.7",
        // All of them, and no dead letter.
        "hooksink.dead.new.*",
        // A dead letter is there under both names.
        "$JS.API.STREAM.MSG.DELETE.hooksink_dead",
        // Some of the old ones are to be removed.
        "$JS.API.STREAM.PURGE.hooksink_state",
    ];
    let all = futures_util::future::join_all(half_ways.map(fails_half_way));
    tokio::time::timeout(Duration::from_secs(120), all).await.expect("all of them end");
}

/// Of a sink that is forgotten, nothing is left that one of the same name could find.
#[tokio::test(flavor = "multi_thread")]
async fn a_forgetting_that_fails_half_way_ends_when_it_is_called_again() {
    let name = "jetstream_renaming::a_forgetting_that_fails_half_way_ends_when_it_is_called_again";
    let half_ways = [("$JS.API.STREAM.MSG.DELETE.hooksink_dead", false), ("$JS.API.STREAM.PURGE.hooksink_state", true)];
    for (half_way, by_a_start) in half_ways {
        let Some(server) = NatsServer::start(name, &denying("nothing")) else { return };
        let config = config(&server);
        leave_something_of_everything(&config).await;
        let journal = open(&config).await;
        journal.configure(vec![now("other")]).await.unwrap();
        let (crm, other) = (sink("crm"), sink("other"));
        server.reconfigure(&denying(half_way));
        let failed = journal.forget_sink(&crm).await;
        assert!(
            matches!(&failed, Err(JournalError::Unavailable(why)) if why.contains("when it is called again")),
            "{half_way}: {failed:?}"
        );
        until("it is known no more", async || {
            let known = journal.sinks().await.unwrap_or_default();
            known.iter().map(|it| &it.sink).eq([&other])
        })
        .await;
        server.reconfigure(&denying("nothing"));
        if !by_a_start {
            // Or the keeper is faster, and then it is not known.
            until("it ends when it is called again", async || match journal.forget_sink(&crm).await {
                Ok(()) => true,
                Err(JournalError::Refused(why)) => why.contains("knows no sink crm"),
                Err(_) => false,
            })
            .await;
            assert!(journal.dead_letters(None, 0, 10).await.unwrap().is_empty());
        }
        journal.close().await;
        let journal = open(&config).await;
        journal.configure(vec![now("other"), now("crm")]).await.unwrap();
        let fresh = journal.sinks().await.unwrap().remove(0);
        assert_eq!((fresh.sink, fresh.cursor, fresh.parked, fresh.dead_letters), (crm, 10, 0, 0), "{half_way}");
        journal.close().await;
    }
}

/// A start with the old name in its configuration ends it, and makes the sink known anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_with_the_old_name_ends_it_first() {
    let name = "jetstream_renaming::a_start_with_the_old_name_ends_it_first";
    let Some(server) = NatsServer::start(name, &denying("nothing")) else { return };
    let config = config(&server);
    let before = leave_something_of_everything(&config).await;
    let journal = open(&config).await;
    journal.configure(vec![now("new")]).await.unwrap();
    server.reconfigure(&denying("hooksink.dead.new.*"));
    assert!(journal.rename_sink(&sink("crm"), &sink("new")).await.is_err());
    journal.close().await;
    server.reconfigure(&denying("nothing"));
    let journal = open(&config).await;
    journal.configure(vec![now("crm"), now("new")]).await.unwrap();
    let states = journal.sinks().await.unwrap();
    let found: Vec<_> = states.iter().map(|it| (it.sink.as_str(), it.cursor, it.parked, it.dead_letters)).collect();
    assert_eq!(found, [("crm", 10, 0, 0), ("new", 5, 1, before.len() as u64)]);
    journal.close().await;
}

/// What a replica calls to have `crm` gone, and what it is held up at meanwhile.
#[derive(Clone, Copy, Debug)]
enum Slow {
    ForgettingAtItsPlaces,
    RenamingAtItsPlaces,
    RenamingAtItsLetters,
}

impl Slow {
    async fn call(self, journal: &Arc<dyn Journal>) -> Result<(), JournalError> {
        match self {
            Self::ForgettingAtItsPlaces => journal.forget_sink(&sink("crm")).await,
            Self::RenamingAtItsPlaces | Self::RenamingAtItsLetters => {
                journal.rename_sink(&sink("crm"), &sink("new")).await
            }
        }
    }

    fn is_held_up_at(self, message: &[u8]) -> bool {
        let what: &[u8] = match self {
            Self::ForgettingAtItsPlaces | Self::RenamingAtItsPlaces => b"\"filter\":\"hooksink.state.place.crm.",
            Self::RenamingAtItsLetters => b"\"sink\":\"new\"",
        };
        memchr::memmem::find(message, what).is_some()
    }
}

/// What one replica was held up with, another has ended, and a sink of the old name has begun.
async fn goes_on_too_late(slow: Slow) {
    let name = "jetstream_renaming::a_replica_that_goes_on_too_late_takes_nothing_from_a_new_sink_of_the_name";
    let Some(server) = NatsServer::start(name, &denying("nothing")) else { return };
    let near = config(&server);
    leave_something_of_everything(&near).await;
    let (go_on, held_up) = std::sync::mpsc::channel::<()>();
    let (is_held_up, held_up) = (Arc::new(AtomicBool::new(false)), Mutex::new(held_up));
    let proxy = {
        let is_held_up = Arc::clone(&is_held_up);
        NatsProxy::start(server.address(), move |message| {
            if slow.is_held_up_at(message) && !is_held_up.swap(true, Ordering::SeqCst) {
                let _ = held_up.lock().unwrap().recv();
            }
            false
        })
    };
    let far = {
        let Engine::Jetstream(mut own) = near.engine.clone() else { panic!("this is for the distributed journal") };
        own.servers = vec![proxy.url().parse().unwrap()];
        open(&JournalConfig { engine: Engine::Jetstream(own), ..near.clone() }).await
    };
    far.configure(vec![now("other")]).await.unwrap();
    let called = tokio::spawn({
        let far = Arc::clone(&far);
        async move { slow.call(&far).await }
    });
    until("it is held up", async || is_held_up.load(Ordering::SeqCst)).await;
    let journal = open(&near).await;
    journal.configure(vec![now("new"), now("other")]).await.unwrap();
    until("another ends it", async || match slow.call(&journal).await {
        Ok(()) => true,
        Err(JournalError::Refused(why)) => why.contains("knows no sink crm"),
        Err(_) => false,
    })
    .await;
    journal.configure(vec![now("new"), now("other"), spec("crm")]).await.unwrap();
    let (mut consumer, entries) = owed(&journal, "crm", 10).await;
    let mut outcomes = delivered(&entries);
    outcomes[2].1 = Outcome::Dead { reason: "422".to_owned(), attempts: 5 };
    consumer.settle(outcomes).await.unwrap();
    consumer.flush().await.unwrap();
    let has = async || {
        let crm = journal.sinks().await.unwrap().remove(0);
        (crm.sink, crm.cursor, crm.dead_letters)
    };
    assert_eq!(has().await, (sink("crm"), 10, 1), "{slow:?}");
    drop(go_on);
    let _ = called.await.unwrap();
    // What it had sent is through when this is.
    until("it is connected", async || far.sinks().await.is_ok()).await;
    assert_eq!(has().await, (sink("crm"), 10, 1), "{slow:?}");
    far.close().await;
    journal.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_goes_on_too_late_takes_nothing_from_a_new_sink_of_the_name() {
    let slow = [Slow::ForgettingAtItsPlaces, Slow::RenamingAtItsPlaces, Slow::RenamingAtItsLetters];
    let all = futures_util::future::join_all(slow.map(goes_on_too_late));
    tokio::time::timeout(Duration::from_secs(120), all).await.expect("all of them end");
}
