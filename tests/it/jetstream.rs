//! What is special to the journal on JetStream: what it asks of the servers, how long copies are known, what an answer
//! means, how replicas share the work and take it over, and that nobody waits for someone who is stuck. What it has in
//! common with the embedded journal stands in `journal`; what happens when servers and replicas die, in `cluster`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::stream;
use chrono::DateTime;
use futures_util::{FutureExt as _, StreamExt as _};
use hooksink::config::{Engine, JetstreamConfig, JournalConfig};
use hooksink::event::{Kind, Record};
use hooksink::filter::{Filter, Pattern};
use hooksink::journal::{
    Appended, Consumer, ConsumerSpec, Entry, Journal, JournalError, Letters, Outcome, ReplayRequest, Ticket,
};
use hooksink::metrics::Metrics;
use hooksink::names::SourceType;
use hooksink::secret::{Secret, Secrets};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::echo::{SECRET, echo};
use crate::grounds::{in_one_part, on_server, open, server};
use crate::jetstream_renaming::{self, denying};
use crate::journal::{delivered, read, record, sink, spec, until as until_async};
use crate::programs::{signal, strace_or_skip};
use crate::steady::steady;
use crate::support::mock_target::{Answer, MockTarget};
use crate::support::nats_proxy::NatsProxy;
use crate::support::nats_server::{NatsServer, OPEN, messages};
use crate::support::senders::SOURCE;
use crate::support::server::TestServer;
use crate::support::shell::Shell;
use crate::support::{DEADLINE, until};

fn with(config: JournalConfig, change: impl FnOnce(&mut JetstreamConfig)) -> JournalConfig {
    let Engine::Jetstream(mut own) = config.engine else { panic!("this is for the distributed journal") };
    change(&mut own);
    JournalConfig { engine: Engine::Jetstream(own), ..config }
}

fn serve(server: &NatsServer, settings: &str) -> Shell {
    let config = format!(
        "[journal]\nengine = \"jetstream\"\nreplicas = 1\nservers = [\"{}\"]\nstart_timeout = \"1s\"\n{settings}\n{SOURCE}",
        server.url()
    );
    Shell::new().file("hooksink.toml", &config)
}

#[tokio::test]
async fn a_server_that_takes_too_little_is_refused_saying_what_it_needs() {
    let name = "jetstream::a_server_that_takes_too_little_is_refused_saying_what_it_needs";
    let Some(server) = NatsServer::start(name, OPEN) else { return };
    let ran = serve(&server, "").run("serve").status(69);
    // Its own default is 1 MiB, and Meta's bodies may have 4.
    let expected = "its max_payload is 1048576 bytes, and the largest max_body of a source needs 4259840";
    assert!(ran.err().contains(expected), "{}", ran.err());
}

#[tokio::test]
async fn servers_that_are_not_there_are_waited_for_and_then_named() {
    let shell = Shell::new().file(
        "hooksink.toml",
        "[journal]\nengine = \"jetstream\"\nservers = [\"nats://127.0.0.1:1\"]\nstart_timeout = \"1s\"\n\
         token = \"not to be told\"\n",
    );
    let ran = shell.run("serve").status(69);
    assert!(ran.err().contains("the journal's NATS servers (nats://127.0.0.1:1) cannot be used"), "{}", ran.err());
    assert!(!ran.err().contains("not to be told"));
}

#[tokio::test]
async fn a_stream_with_other_settings_is_left_alone_and_each_difference_is_named() {
    let name = "jetstream::a_stream_with_other_settings_is_left_alone_and_each_difference_is_named";
    let Some(server) = server(name) else { return };
    let context = server.context(async_nats::ConnectOptions::new()).await;
    let config = stream::Config {
        name: "hooksink_log".to_owned(),
        subjects: vec!["hooksink.log.*".to_owned()],
        max_age: Duration::from_secs(3600),
        num_replicas: 1,
        max_consumers: 7,
        allow_rollup: true,
        allow_message_ttl: true,
        persist_mode: Some(stream::PersistenceMode::Async),
        republish: Some(stream::Republish {
            source: ">".to_owned(),
            destination: "copy.>".to_owned(),
            headers_only: false,
        }),
        ..stream::Config::default()
    };
    let made = context.create_stream(config).await.unwrap().cached_info().config.clone();
    let ran = serve(&server, "").run("serve").status(69);
    // Older servers know nothing of it.
    let persists = made.persist_mode.is_some().then_some("persist_mode is Async and has to be Default");
    for difference in persists.into_iter().chain([
        "discard is Old and has to be New",
        "duplicate_window is 120s and has to be 7200s",
        "max_age is 3600s",
        "max_consumers is 7 and has to be 0",
        "allow_rollup_hdrs is true and has to be false",
        "allow_msg_ttl is true and has to be false",
        "republish is true and has to be false",
    ]) {
        assert!(ran.err().contains(difference), "{difference}: {}", ran.err());
    }
    let mut stream = context.get_stream("hooksink_log").await.unwrap();
    assert_eq!(stream.info().await.unwrap().config, made);
    // The number of parts is settled when a journal is made.
    open(&with(on_server(&server), |own| own.stream = "other".to_owned())).await.close().await;
    let ran = serve(&server, "stream = \"other\"\npartitions = 5").run("serve").status(69);
    assert!(ran.err().contains("partitions is 12 since the journal was made"), "{}", ran.err());
}

#[tokio::test]
async fn a_copy_is_known_for_the_duplicate_window_and_new_after_it() {
    let name = "jetstream::a_copy_is_known_for_the_duplicate_window_and_new_after_it";
    let Some(server) = server(name) else { return };
    let journal = open(&with(on_server(&server), |own| own.duplicate_window = Duration::from_secs(2))).await;
    let copy = async || journal.append(vec![record(1)]).await.unwrap()[0];
    assert_eq!(copy().await, Appended::Stored);
    assert_eq!(copy().await, Appended::Duplicate);
    let again = async {
        while copy().await == Appended::Duplicate {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(DEADLINE, again).await.expect("the servers forget it");
    assert_eq!(journal.status().last_seq, 2);
}

/// The syncs that a server makes while it takes 30 events one after the other.
async fn syncs(test: &str, settings: &str) -> Option<usize> {
    const EVENTS: u64 = 30;
    let strace = strace_or_skip(test)?;
    let store = TempDir::new().unwrap();
    let lines = format!("max_payload: 8MB\njetstream {{ store_dir: {:?}\n{settings}\n}}", store.path());
    let server = NatsServer::start(test, &lines)?;
    let journal = open(&on_server(&server)).await;
    let trace = store.path().join("trace");
    let mut process = Command::new(&strace)
        .args(["-f", "-e", "trace=fsync,fdatasync", "-o"])
        .arg(&trace)
        .args(["-p", &server.id().to_string()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(process.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("attached"), "{line}");
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    for n in 0..EVENTS {
        assert_eq!(journal.append(vec![record(n)]).await.unwrap(), [Appended::Stored]);
    }
    signal(&process, Signal::INT);
    process.wait().unwrap();
    let seen = std::fs::read_to_string(&trace).unwrap();
    // A call that another thread interrupts stands there in two halves.
    Some(seen.lines().filter(|line| line.contains("sync(")).count())
}

/// What `nats_sync` states, and hooksink repeats at start: the servers' own default leaves it to later, so that 200 means
/// in the memory of a majority; with `sync_interval: always` it means on their disks.
#[tokio::test(flavor = "multi_thread")]
async fn servers_sync_before_they_acknowledge_only_if_they_are_told_to() {
    let name = "jetstream::servers_sync_before_they_acknowledge_only_if_they_are_told_to";
    let (Some(interval), Some(always)) = (syncs(name, "").await, syncs(name, "sync_interval: always").await) else {
        return;
    };
    assert!(interval < 30 && always >= 30, "{interval} without, {always} with");
}

/// Another replica of this journal, with the sink `crm`.
async fn replica(config: &JournalConfig) -> Arc<dyn Journal> {
    let journal = open(config).await;
    journal.configure(vec![spec("crm")]).await.unwrap();
    journal
}

/// The consumer that this replica has when it is to hand out everything, or its share.
async fn consumer(journal: &Arc<dyn Journal>) -> Box<dyn Consumer> {
    journal.consumer(&sink("crm")).await.unwrap()
}

/// Reads until so many events came from these consumers together, each from one of them, which are made anew when they
/// are told to; nothing is settled.
async fn read_all(replicas: &[&Arc<dyn Journal>], count: usize) -> Vec<Vec<Entry>> {
    let mut consumers = Vec::new();
    for replica in replicas {
        consumers.push(consumer(replica).await);
    }
    let mut entries: Vec<Vec<Entry>> = vec![Vec::new(); replicas.len()];
    let all = async {
        // Until each has its share, too: the first had everything until the others came, and may not know yet what it has
        // no more.
        let shared = |entries: &[Vec<Entry>]| {
            let events: BTreeSet<u64> = entries.iter().flatten().map(number).collect();
            let handed_out = entries.iter().map(Vec::len).sum::<usize>();
            events.len() >= count && handed_out == events.len() && entries.iter().all(|entries| !entries.is_empty())
        };
        while !shared(&entries) {
            for (at, replica) in replicas.iter().enumerate() {
                if consumers[at].moved().is_cancelled() {
                    consumers[at].flush().await.unwrap();
                    consumers[at] = consumer(replica).await;
                    // What was handed out and not settled comes again, here or there.
                    entries[at].clear();
                }
                entries[at].extend(consumers[at].read(1000, usize::MAX).await.unwrap());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, all).await.expect("all should come");
    entries
}

fn number(entry: &Entry) -> u64 {
    (entry.record.id.0.as_u128() >> 64) as u64
}

/// Each person's events, in the order in which they were handed out.
fn by_person(entries: &[Entry]) -> BTreeMap<String, Vec<u64>> {
    let mut people: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for entry in entries {
        people.entry(format!("{:?}", entry.record.lane()) + &part(entry)).or_default().push(number(entry));
    }
    people
}

/// Tells lanes apart, whose Debug form hides the person.
fn part(entry: &Entry) -> String {
    entry.record.subject.as_ref().map(|subject| subject.as_str().to_owned()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_share_the_parts_and_each_event_is_handed_out_by_one() {
    let Some(server) = server("jetstream::replicas_share_the_parts_and_each_event_is_handed_out_by_one") else {
        return;
    };
    let config = on_server(&server);
    let (a, b) = (replica(&config).await, replica(&config).await);
    for n in 0..100 {
        a.append(vec![record(n)]).await.unwrap();
    }
    let read = read_all(&[&a, &b], 100).await;
    assert!(read.iter().all(|entries| !entries.is_empty()), "{} and {}", read[0].len(), read[1].len());
    let all: BTreeSet<u64> = read.iter().flatten().map(number).collect();
    assert_eq!(all, (0..100).collect());
    let people: Vec<BTreeMap<String, Vec<u64>>> = read.iter().map(|entries| by_person(entries)).collect();
    // All of a person's by the same one, in order.
    assert!(people[0].keys().all(|person| !people[1].contains_key(person)));
    assert!(people.iter().flat_map(BTreeMap::values).all(|numbers| numbers.is_sorted()));
    a.close().await;
    b.close().await;
}

/// A replica that dies is found out by its lease. What it had settled and written does not come again; what it had in
/// hand does, each person's from the oldest on.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_replica_had_in_hand_comes_from_the_next_in_order() {
    let Some(server) = server("jetstream::what_a_dead_replica_had_in_hand_comes_from_the_next_in_order") else {
        return;
    };
    let config = on_server(&server);
    let a = replica(&config).await;
    for n in 0..60 {
        a.append(vec![record(n)]).await.unwrap();
    }
    let mut first = consumer(&a).await;
    let mut entries = Vec::new();
    while entries.len() < 60 {
        first.ready().await;
        entries.extend(first.read(60 - entries.len(), usize::MAX).await.unwrap());
    }
    let settled: BTreeSet<u64> = entries[..20].iter().map(number).collect();
    let outcomes = entries[..20].iter().map(|entry| (entry.ticket, Outcome::Delivered)).collect();
    first.settle(outcomes).await.unwrap();
    first.flush().await.unwrap();
    // It ends without a word.
    drop((first, a));
    let b = replica(&config).await;
    let read = read_all(&[&b], 40).await.remove(0);
    let again: BTreeSet<u64> = read.iter().map(number).collect();
    assert!(again.is_superset(&(20..60).collect()) && again.is_disjoint(&settled), "{again:?}");
    assert!(by_person(&read).values().all(|numbers| numbers.is_sorted()));
    b.close().await;
}

/// Through the real binary: far more events of others pass than the window holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_is_stuck_delays_nobody_else() {
    let Some(nats) = server("jetstream::a_person_who_is_stuck_delays_nobody_else") else { return };
    let target = MockTarget::start().await;
    let person = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap()["subject"].as_str().unwrap().to_owned();
    target.choose(move |request| (person(&request.body) == "stuck").then(|| Answer::Status(503, Vec::new())));
    let hooksink = TestServer::start(&format!(
        "[journal]\nengine = \"jetstream\"\nreplicas = 1\npartitions = 1\nservers = [\"{}\"]\n{SOURCE}\n\
         [sinks.crm]\ntype = \"http\"\nurl = \"{}\"\nfrom = \"start\"\nwindow = 10\nretry_initial = \"5ms\"\n\
         retry_max = \"50ms\"\nmax_attempts = 1000000\n",
        nats.url(),
        target.url("/")
    ));
    let post = async |mid: &str, person: &str| {
        let answer = hooksink.post(SourceType::Meta, "messenger", SECRET, echo(mid, person)).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
    };
    for n in 0..5 {
        post(&format!("m-stuck-{n}"), "stuck").await;
    }
    for n in 0..60 {
        post(&format!("m-{n}"), &format!("person-{}", n % 7)).await;
    }
    until("the others' events arrive", || target.taken().len() == 60).await;
    target.choose(|_| None);
    until("and then those of the one", || target.taken().len() == 65).await;
    let mids: Vec<String> = target.taken()[60..]
        .iter()
        .map(|request| {
            serde_json::from_slice::<Value>(&request.body).unwrap()["data"]["mid"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(mids, ["m-stuck-0", "m-stuck-1", "m-stuck-2", "m-stuck-3", "m-stuck-4"]);
    drop(hooksink);
}

/// What another client or another version of hooksink put into the log: sinks get what is before and behind it, and
/// what is owed to nobody leaves as always.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_passed_over_and_a_kind_of_another_version_is_unrecognized() {
    let name = "jetstream::what_cannot_be_read_is_passed_over_and_a_kind_of_another_version_is_unrecognized";
    let Some(server) = server(name) else { return };
    let config = JournalConfig { retention: Duration::from_millis(1), ..in_one_part(on_server(&server)) };
    let metrics = Arc::new(Metrics::new());
    let journal = hooksink::journal::open(&config, Arc::clone(&metrics)).await.unwrap();
    journal.configure(vec![spec("crm")]).await.unwrap();
    let mut consumer = consumer(&journal).await;
    journal.append(vec![record(0)]).await.unwrap();
    let context = server.context(async_nats::ConnectOptions::new()).await;
    let publish = async |subject: &'static str, payload: Vec<u8>| {
        context.publish(subject, payload.into()).await.unwrap().await.unwrap();
    };
    let mut later = messages(&context, "hooksink_log", 1).await.remove(0).payload.to_vec();
    let kind = memchr::memmem::find(&later, b"meta.message_echo").expect("the kind of record 0");
    later[kind..kind + 17].copy_from_slice(b"meta.message_else");
    // It has an id of its own.
    later[1] = 1;
    publish("hooksink.log.0", b"no envelope".to_vec()).await;
    publish("hooksink.log.0", Vec::new()).await;
    publish("hooksink.log.abc", b"no part".to_vec()).await;
    publish("hooksink.log.0", later).await;
    publish("hooksink.log.77", b"no part of ours".to_vec()).await;
    journal.append(vec![record(2)]).await.unwrap();
    let mut entries = Vec::new();
    let all = async {
        while entries.len() < 3 {
            consumer.ready().await;
            entries.extend(consumer.read(10, usize::MAX).await.unwrap());
        }
    };
    tokio::time::timeout(DEADLINE, all).await.expect("all that are events should come");
    let kinds: Vec<Kind> = entries.iter().map(|entry| entry.record.kind).collect();
    assert_eq!(kinds, [Kind::MetaMessageEcho, Kind::MetaUnrecognized, Kind::MetaMessageEcho]);
    assert_eq!((number(&entries[0]), number(&entries[2])), (0, 2));
    assert_eq!(entries[1].record.raw, record(0).raw);
    consumer.settle(entries.iter().map(|entry| (entry.ticket, Outcome::Delivered)).collect()).await.unwrap();
    until("retention goes on", || journal.status().events == 0).await;
    assert!(journal.status().writable && journal.sinks().await.unwrap()[0].lag_events == 0);
    let gaps =
        |text: String| text.lines().find_map(|line| line.strip_prefix("hooksink_journal_gaps_total ")?.parse().ok());
    assert!(gaps(metrics.encode()).is_some_and(|gaps: u64| (2..=4).contains(&gaps)), "{}", metrics.encode());
    journal.close().await;
}

/// Reads and delivers until these have come; all that came.
async fn deliver_until(journal: &Arc<dyn Journal>, expected: std::ops::Range<u64>) -> BTreeSet<u64> {
    let mut came = BTreeSet::new();
    let mut crm = consumer(journal).await;
    let all = async {
        while !expected.clone().all(|n| came.contains(&n)) {
            if crm.moved().is_cancelled() {
                crm.flush().await.unwrap();
                crm = consumer(journal).await;
            }
            let entries = crm.read(1000, usize::MAX).await.unwrap();
            came.extend(entries.iter().map(number));
            crm.settle(entries.iter().map(|entry| (entry.ticket, Outcome::Delivered)).collect()).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let in_time = tokio::time::timeout(DEADLINE, all).await;
    assert!(in_time.is_ok(), "only these came: {came:?}");
    crm.flush().await.unwrap();
    came
}

/// The servers lose the end of the log, of which the sink is done with all, and others take its place: fewer than were
/// lost, or more; while a replica stays up, or before the next one starts.
async fn goes_back(name: &str, stays_up: bool, new: u64) {
    let Some(mut nats) = server(name) else { return };
    let config = on_server(&nats);
    let mut journal = replica(&config).await;
    for n in 0..40 {
        journal.append(vec![record(n)]).await.unwrap();
    }
    deliver_until(&journal, 0..40).await;
    let folder = TempDir::new().unwrap();
    nats.kill();
    nats.copy("hooksink_log", folder.path());
    nats.restart();
    for n in 40..60 {
        journal.append(vec![record(n)]).await.unwrap();
    }
    deliver_until(&journal, 40..60).await;
    if !stays_up {
        journal.close().await;
    }
    nats.kill();
    nats.put_back("hooksink_log", folder.path());
    nats.restart();
    if !stays_up {
        journal = replica(&config).await;
    }
    let (first, last) = (100, 100 + new);
    for n in first..last {
        assert_eq!(journal.append(vec![record(n)]).await.unwrap(), [Appended::Stored]);
    }
    deliver_until(&journal, first..last).await;
    // Nothing is owed, and nothing comes again.
    journal.append(vec![record(last)]).await.unwrap();
    assert_eq!(deliver_until(&journal, last..last + 1).await, [last].into());
    let crm = journal.sinks().await.unwrap().remove(0);
    assert_eq!((crm.cursor, crm.lag_events), (41 + new, 0));
    journal.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_goes_back_swallows_nothing_new() {
    for (stays_up, new) in [(false, 5), (false, 30), (true, 5), (true, 30)] {
        goes_back("jetstream::a_log_that_goes_back_swallows_nothing_new", stays_up, new).await;
    }
}

const KEY: &str = "UABYVXQCM6MS62P7CTBDVZFDVVE6B4X22EXXA5WUZFN7BRJGCXPVXETP";
const SEED: &str = "SUAFFBATCGDVV2VRZAZIRL5I2AA6GZ3FMH43W57J5TGH3HMUVBNYW26A6M";
const WRONG: &str = "SUAIO3FHUX5PNV2LQIIP7TZ3N4L7TX3W53MQGEIVYFIGA635OZCKEYHFLM";

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_log_in_works_and_a_wrong_one_does_not() {
    let name = "jetstream::every_way_to_log_in_works_and_a_wrong_one_does_not";
    let credentials = include_str!("targets/nats_operator/user.creds");
    type Set = fn(&mut JetstreamConfig, Secrets);
    let ways: [(String, Set, &str, String); 3] = [
        ("authorization { token: right }".to_owned(), |own, to| own.login.token = to, "right", "wrong".to_owned()),
        (
            format!("authorization {{ users = [ {{ nkey: {KEY} }} ] }}"),
            |own, to| own.login.nkey = to,
            SEED,
            WRONG.to_owned(),
        ),
        (
            include_str!("targets/nats_operator/operator.conf").to_owned(),
            |own, to| own.login.credentials = to,
            credentials,
            credentials.replace(SEED, WRONG),
        ),
    ];
    for (lines, set, right, wrong) in ways {
        let Some(server) = NatsServer::start(name, &format!("max_payload: 8MB\n{lines}")) else { return };
        let config = |text: &str, start_timeout| {
            with(on_server(&server), |own| {
                own.start_timeout = start_timeout;
                set(own, Secrets::new(vec![Secret::new(text)]));
            })
        };
        // A server that is slow ends connections whose login it waits for too long, whatever they would have said.
        let deadline = Instant::now() + DEADLINE;
        loop {
            let refused = hooksink::journal::open(&config(&wrong, Duration::ZERO), Arc::new(Metrics::new())).await;
            let why = refused.err().expect("nobody is let in with that").to_string();
            if why.contains("authorization violation") {
                break;
            }
            assert!(Instant::now() < deadline, "{why}");
        }
        let journal = open(&config(right, DEADLINE)).await;
        assert_eq!(journal.append(vec![record(1)]).await.unwrap(), [Appended::Stored]);
        journal.close().await;
    }
}

/// Through the real binary: the file changes, SIGHUP comes, and then the servers want the new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_was_rotated_is_taken_with_the_next_connection() {
    let name = "jetstream::a_password_that_was_rotated_is_taken_with_the_next_connection";
    let lines =
        |password: &str| format!("max_payload: 8MB\nauthorization {{ user: hooksink, password: \"{password}\" }}");
    let Some(mut nats) = NatsServer::start(name, &lines("marker-old")) else { return };
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("password"), "marker-old\n").unwrap();
    let config = format!(
        "[journal]\nengine = \"jetstream\"\nreplicas = 1\nservers = [\"{}\"]\nusername = \"hooksink\"\n\
         password = {{ file = \"password\" }}\n{SOURCE}",
        nats.url()
    );
    let hooksink = TestServer::start_with(folder, &config, &[]);
    let post = async |mid: &str| hooksink.post(SourceType::Meta, "messenger", SECRET, echo(mid, "ann")).await.status;
    assert_eq!(post("m-1").await, 200);
    std::fs::write(hooksink.folder().join("password"), "marker-new\n").unwrap();
    hooksink.signal(Signal::HUP);
    nats.reconfigure(&lines("marker-new"));
    nats.restart();
    let again = async {
        while post("m-2").await != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(DEADLINE, again).await.expect("events are taken again");
    assert!(!hooksink.stderr().contains("marker"), "{}", hooksink.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_larger_than_the_servers_take_is_refused_and_others_are_not() {
    let name = "jetstream::an_event_larger_than_the_servers_take_is_refused_and_others_are_not";
    let Some(server) = server(name) else { return };
    let journal = open(&on_server(&server)).await;
    let raw = |bytes: usize| Record { raw: vec![b' '; bytes].into(), ..record(bytes as u64) };
    for bytes in [8_000_000, 8 << 20, 9 << 20] {
        let stored = journal.append(vec![raw(bytes)]).await;
        assert_eq!(stored.is_ok(), bytes == 8_000_000, "{bytes}");
        assert!(stored.is_ok() || matches!(stored, Err(JournalError::Refused(_))), "{stored:?}");
        assert!(journal.status().writable);
    }
    assert_eq!(journal.append(vec![record(1)]).await.unwrap(), [Appended::Stored]);
}

/// What was stored before the servers were told to take less is larger than what is asked for at a time.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_larger_than_what_is_asked_for_at_a_time_comes_all_the_same() {
    let name = "jetstream::an_event_larger_than_what_is_asked_for_at_a_time_comes_all_the_same";
    let Some(mut server) = server(name) else { return };
    let config = on_server(&server);
    let journal = replica(&config).await;
    for n in 0..3 {
        let raw = vec![b' '; if n == 1 { 7 << 20 } else { 10 }].into();
        journal.append(vec![Record { raw, ..record(n) }]).await.unwrap();
    }
    journal.close().await;
    server.reconfigure("max_payload: 2MB");
    server.restart();
    let journal = replica(&config).await;
    assert_eq!(read_all(&[&journal], 3).await[0].len(), 3);
    journal.close().await;
}

/// What is refused while the journal is full costs its servers nothing, and is taken again when there is room.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_journal_is_surveyed_now_and_then_and_not_for_each_request() {
    let name = "jetstream::a_full_journal_is_surveyed_now_and_then_and_not_for_each_request";
    const REFUSED: u64 = 500;
    let Some(server) = server(name) else { return };
    let config = JournalConfig { max_size: 1 << 20, ..on_server(&server) };
    let journal = replica(&config).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    // What is asked of the documents, of which a survey reads twelve for each sink.
    let mut asked = client.subscribe("$JS.API.STREAM.MSG.GET.hooksink_state").await.unwrap();
    // The server has read what was sent before, and has sent what it had for us, when it answers.
    let settled = async || client.request("$JS.API.INFO", "".into()).await.unwrap();
    settled().await;
    let large = |n: u64| vec![Record { raw: vec![b'x'; 100_000].into(), ..record(n) }];
    let mut stored = 0;
    while journal.append(large(stored)).await.is_ok() {
        stored += 1;
    }
    let mut count = async || {
        settled().await;
        std::iter::from_fn(|| asked.next().now_or_never().flatten()).count()
    };
    assert!(count().await >= 12, "it was not surveyed at all");
    for n in 0..REFUSED {
        let refused = journal.append(large(1000 + n)).await;
        assert!(matches!(refused, Err(JournalError::Full(_))), "{refused:?}");
    }
    let surveys = count().await / 12;
    assert!((surveys as u64) < REFUSED / 10, "{surveys} surveys for {REFUSED} requests");
    deliver_until(&journal, 0..stored).await;
    let taken = async {
        while journal.append(large(2000)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, taken).await.expect("there is room again");
    journal.close().await;
}

/// The servers took a change, and what they said of it got lost; before it is tried again another replica has changed the
/// same document.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_acknowledgement_was_lost_is_made_once() {
    let name = "jetstream::a_change_whose_acknowledgement_was_lost_is_made_once";
    let Some(server) = server(name) else { return };
    let config = on_server(&server);
    let near = replica(&config).await;
    near.append(vec![record(1)]).await.unwrap();
    let proxy =
        NatsProxy::start(server.address(), |message| memchr::memmem::find(message, b"\"replays\":{\"1\"").is_some());
    let far = replica(&with(config, |own| own.servers = vec![proxy.url().parse().unwrap()])).await;
    let request = ReplayRequest { sink: sink("crm"), from: DateTime::UNIX_EPOCH, to: None, kinds: Vec::new() };
    let begun = far.start_replay(request).await.unwrap();
    assert!(proxy.has_lost());
    assert_eq!(begun.id, 1);
    assert!(near.replay(1).await.unwrap().is_some() && near.replay(2).await.unwrap().is_none());
    far.close().await;
    near.close().await;
}

/// What a replica of a later version stored, while this one still runs.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_version_stored_waits_for_a_replica_that_can_read_it() {
    let name = "jetstream::what_a_later_version_stored_waits_for_a_replica_that_can_read_it";
    let Some(server) = server(name) else { return };
    let config = JournalConfig { retention: Duration::from_millis(1), ..in_one_part(on_server(&server)) };
    let metrics = Arc::new(Metrics::new());
    let journal = hooksink::journal::open(&config, Arc::clone(&metrics)).await.unwrap();
    journal.configure(vec![spec("crm")]).await.unwrap();
    let mut crm = consumer(&journal).await;
    journal.append(vec![record(0)]).await.unwrap();
    let context = server.context(async_nats::ConnectOptions::new()).await;
    let publish = async |payload: Vec<u8>| {
        context.publish("hooksink.log.0", payload.into()).await.unwrap().await.unwrap();
    };
    let mut readable = messages(&context, "hooksink_log", 1).await.remove(0).payload.to_vec();
    // It has an id of its own.
    readable[1] = 1;
    let mut later = readable.clone();
    let source_type = memchr::memmem::find(&later, b"\"t\":\"meta\"").expect("the type of its source");
    later[source_type..source_type + 10].copy_from_slice(b"\"t\":\"beta\"");
    publish(later).await;
    for n in [2, 4] {
        journal.append(vec![record(n)]).await.unwrap();
    }
    let mut entries = Vec::new();
    let others = async {
        while entries.len() < 3 {
            crm.ready().await;
            entries.extend(crm.read(10, usize::MAX).await.unwrap());
        }
    };
    tokio::time::timeout(DEADLINE, others).await.expect("the others come");
    assert_eq!(entries.iter().map(number).collect::<Vec<_>>(), [0, 2, 4]);
    crm.settle(entries.iter().map(|entry| (entry.ticket, Outcome::Delivered)).collect()).await.unwrap();
    let owed = async || {
        let crm = journal.sinks().await.unwrap().remove(0);
        (crm.cursor, crm.parked, crm.lag_events)
    };
    assert_eq!(owed().await, (4, 1, 1));
    until("retention stops before it", || journal.status().events == 3).await;
    // The next consumer of this version neither hands it out nor lets it go.
    crm = consumer(&journal).await;
    assert!(crm.parked().await.unwrap().is_empty() && crm.read(10, usize::MAX).await.unwrap().is_empty());
    crm.flush().await.unwrap();
    assert_eq!(owed().await, (4, 1, 1));
    assert!(metrics.encode().contains("hooksink_journal_gaps_total 0"), "{}", metrics.encode());
    drop(crm);
    journal.close().await;

    // A log in which this version can read it stands for a replica that can.
    let rest = messages(&context, "hooksink_log", 3).await;
    let config_of_log = context.get_stream("hooksink_log").await.unwrap().cached_info().config.clone();
    context.delete_stream("hooksink_log").await.unwrap();
    context.create_stream(stream::Config { first_sequence: Some(2), ..config_of_log }).await.unwrap();
    publish(readable).await;
    for message in rest {
        publish(message.payload.to_vec()).await;
    }
    let journal = replica(&config).await;
    let mut crm = consumer(&journal).await;
    // It is new to whoever hands it out, and goes through what the sink says of new events.
    assert!(crm.parked().await.unwrap().is_empty());
    let entry = crm.read(10, usize::MAX).await.unwrap().remove(0);
    assert_eq!((entry.ticket, &entry.record.raw), (Ticket::Log(2), &record(0).raw));
    crm.settle(vec![(entry.ticket, Outcome::Delivered)]).await.unwrap();
    until("all are let go", || journal.status().events == 0).await;
    journal.close().await;
}

/// Nobody could tell whether the sink wants it.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_held_back_and_is_not_wanted_is_let_go_when_it_can_be_read() {
    let name = "jetstream::what_was_held_back_and_is_not_wanted_is_let_go_when_it_can_be_read";
    let Some(server) = server(name) else { return };
    let config = in_one_part(on_server(&server));
    let wants = Filter { sources: vec![Pattern::new("messenger")], kinds: Vec::new() };
    let opened = async || {
        let journal = open(&config).await;
        journal.configure(vec![ConsumerSpec { wants: wants.clone(), ..spec("crm") }]).await.unwrap();
        let crm = steady(&journal, "crm").await;
        (journal, crm)
    };
    let (journal, mut crm) = opened().await;
    // Of `messenger` and of `connect`.
    for n in 0..2 {
        journal.append(vec![record(n)]).await.unwrap();
    }
    let context = server.context(async_nats::ConnectOptions::new()).await;
    let publish = async |payload: Vec<u8>| {
        context.publish("hooksink.log.0", payload.into()).await.unwrap().await.unwrap();
    };
    let mut readable: Vec<Vec<u8>> =
        messages(&context, "hooksink_log", 1).await.into_iter().map(|message| message.payload.to_vec()).collect();
    for payload in &mut readable {
        // They have ids of their own.
        payload[1] = 1;
        publish([&[payload[0] + 1], &payload[1..]].concat()).await;
    }
    let entries = read(&mut crm, 1).await;
    crm.settle(delivered(&entries)).await.unwrap();
    let owed = async || {
        let crm = journal.sinks().await.unwrap().remove(0);
        (crm.cursor, crm.parked)
    };
    until_async("both are held back", async || {
        assert!(crm.read(10, usize::MAX).await.unwrap().is_empty());
        owed().await == (4, 2)
    })
    .await;
    drop(crm);
    journal.close().await;

    // A log in which this version can read them stands for a replica that can.
    let config_of_log = context.get_stream("hooksink_log").await.unwrap().cached_info().config.clone();
    context.delete_stream("hooksink_log").await.unwrap();
    context.create_stream(stream::Config { first_sequence: Some(3), ..config_of_log }).await.unwrap();
    for payload in readable {
        publish(payload).await;
    }
    let (journal, mut crm) = opened().await;
    assert!(crm.parked().await.unwrap().is_empty());
    let entries = read(&mut crm, 1).await;
    assert_eq!((entries[0].ticket, &entries[0].record.raw), (Ticket::Log(3), &record(0).raw));
    crm.settle(delivered(&entries)).await.unwrap();
    assert!(crm.read(10, usize::MAX).await.unwrap().is_empty());
    let state = journal.sinks().await.unwrap().remove(0);
    assert_eq!((state.cursor, state.parked, state.lag_events), (4, 0, 0));
    journal.close().await;
}

/// What no sink is owed makes room, but not for what would not fit if all of it were gone.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_removed_for_a_request_that_cannot_fit_beside_the_dead_letters() {
    let name = "jetstream::nothing_is_removed_for_a_request_that_cannot_fit_beside_the_dead_letters";
    let Some(server) = server(name) else { return };
    let journal = replica(&JournalConfig { max_size: 2 << 20, ..on_server(&server) }).await;
    let append =
        async |n: u64, bytes: usize| journal.append(vec![Record { raw: vec![b'x'; bytes].into(), ..record(n) }]).await;
    for n in 0..9 {
        append(n, 100_000).await.unwrap();
    }
    let mut crm = steady(&journal, "crm").await;
    let dead = || Outcome::Dead { reason: "422".to_owned(), attempts: 5 };
    let outcomes = read(&mut crm, 9).await.into_iter().map(|entry| (entry.ticket, dead())).collect();
    crm.settle(outcomes).await.unwrap();
    crm.flush().await.unwrap();
    let refused = append(100, 1_300_000).await;
    assert!(matches!(&refused, Err(JournalError::Full(why)) if why.contains("by themselves")), "{refused:?}");
    assert_eq!(journal.status().events, 9);
    append(101, 800_000).await.unwrap();
    assert!(journal.status().events < 10);
    journal.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_cannot_be_read_keeps_nothing_from_the_others() {
    let name = "jetstream::a_dead_letter_that_cannot_be_read_keeps_nothing_from_the_others";
    let Some(server) = server(name) else { return };
    let config = in_one_part(on_server(&server));
    let journal = replica(&config).await;
    for n in 0..2 {
        journal.append(vec![record(n)]).await.unwrap();
    }
    let mut crm = consumer(&journal).await;
    let mut read = async |count: usize| {
        let mut entries = Vec::new();
        let all = async {
            while entries.len() < count {
                entries.extend(crm.read(10, usize::MAX).await.unwrap());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, all).await.expect("they come");
        let dead = || Outcome::Dead { reason: "422".to_owned(), attempts: 5 };
        crm.settle(entries.iter().map(|entry| (entry.ticket, dead())).collect()).await.unwrap();
        entries
    };
    read(2).await;
    let context = server.context(async_nats::ConnectOptions::new()).await;
    let event = messages(&context, "hooksink_log", 1).await.remove(0).payload;
    let leave = async |subject: &'static str, description: &str, payload: &[u8]| {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Hooksink-Letter", description);
        let payload = payload.to_vec().into();
        context.publish_with_headers(subject, headers, payload).await.unwrap().await.unwrap();
    };
    leave("hooksink.dead.crm.x", "no description", b"no event").await;
    leave("hooksink.dead.crm.y", "{\"of\": \"a later version\"}", &event).await;
    leave("hooksink.dead.NOBODY.z", "{}", b"").await;
    let letters = journal.dead_letters(None, 0, 10).await.unwrap();
    let kinds: Vec<&str> = letters.iter().map(|letter| letter.kind.as_str()).collect();
    assert_eq!(kinds, ["meta.message_echo", "webex_connect.message", "unreadable", "unreadable"]);
    assert!(letters.iter().all(|letter| letter.sink == sink("crm")));
    assert!(matches!(journal.dead_letter(letters[2].id).await, Err(JournalError::Refused(_))));
    assert_eq!(journal.dead_letter(letters[3].id).await.unwrap().unwrap().1.raw, record(0).raw);
    // Three have an event that can be tried again.
    assert_eq!(journal.retry_dead_letters(Letters::Sink(sink("crm"))).await.unwrap(), 4);
    assert_eq!(read(3).await.iter().map(number).collect::<Vec<_>>(), [0, 1, 0]);
    let letters = journal.dead_letters(Some(&sink("crm")), 0, 10).await.unwrap();
    assert!(letters.iter().all(|letter| !letter.retrying));
    assert_eq!(letters[2].reason, "the event cannot be read");
    assert_eq!(journal.drop_dead_letters(Letters::Ids(vec![letters[2].id])).await.unwrap(), 1);
    journal.close().await;
    let journal = open(&JournalConfig { dead_letter_retention: Duration::from_millis(1), ..config }).await;
    let gone = async {
        while !journal.dead_letters(None, 0, 10).await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, gone).await.expect("the others grow too old");
    journal.close().await;
}

/// The servers take no dead letters; what became of the other events is as durable as ever.
#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_cannot_be_taken_in_takes_no_other_with_it() {
    let name = "jetstream::an_outcome_that_cannot_be_taken_in_takes_no_other_with_it";
    let Some(server) = NatsServer::start(name, &denying("nothing")) else { return };
    let config = in_one_part(jetstream_renaming::config(&server));
    let journal = replica(&config).await;
    for n in 0..5 {
        journal.append(vec![record(n)]).await.unwrap();
    }
    let mut crm = steady(&journal, "crm").await;
    let entries = read(&mut crm, 5).await;
    let dead = || Outcome::Dead { reason: "422".to_owned(), attempts: 5 };
    let mut outcomes = delivered(&entries);
    outcomes[1].1 = dead();
    server.reconfigure(&denying("hooksink.dead.crm.*"));
    crm.settle(outcomes).await.expect_err("it cannot be buried");
    drop(crm);
    let owed = async || {
        let crm = journal.sinks().await.unwrap().remove(0);
        (crm.cursor, crm.parked, crm.dead_letters)
    };
    assert_eq!(owed().await, (5, 1, 0));
    server.reconfigure(&denying("nothing"));
    let mut crm = steady(&journal, "crm").await;
    let parked = crm.parked().await.unwrap();
    assert_eq!(parked.iter().map(|parked| parked.ticket).collect::<Vec<_>>(), [entries[1].ticket]);
    until_async("the servers take it", async || crm.settle(vec![(entries[1].ticket, dead())]).await.is_ok()).await;
    crm.flush().await.unwrap();
    assert_eq!(owed().await, (5, 0, 1));
    journal.close().await;
}
