//! The nats sink before a real nats-server.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use async_nats::ConnectOptions;
use async_nats::jetstream::{self, stream};
use futures_util::StreamExt as _;
use hooksink::event::{Event, Format, Record};
use hooksink::names::SourceType;
use hooksink::sinks::{Blame, Sink, SinkError, Undelivered};
use rustix::process::Signal;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::Server;
use crate::echo::{SECRET, echo};
use crate::support::mock_target::MockTarget;
use crate::support::nats_server::{NatsServer, OPEN, add_stream, messages};
use crate::support::senders::SOURCE;
use crate::support::server::{TestServer, eventually};
use crate::support::tls_target::Authority;
use crate::support::{decode, event, readme_example, record, runtime, sink_config};

/// The server, and what was read of its streams: they only grow.
pub(crate) struct Nats {
    server: NatsServer,
    runtime: Runtime,
    read: HashMap<String, Vec<Value>>,
}

impl Server for Nats {
    const TYPE: &'static str = "nats";

    fn start(test: &str) -> Option<Self> {
        let server = NatsServer::start(test, OPEN)?;
        Some(Self { server, runtime: runtime(), read: HashMap::new() })
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    fn settings(&self, address: SocketAddr, place: &str) -> String {
        format!(
            r#"
            type = "nats"
            url = "nats://{address}"
            subject = "{place}.{{source}}.{{kind}}"
            connect_timeout = "1s"
            timeout = "2s"
            "#
        )
    }

    fn prepare(&mut self, place: &str) {
        let config = stream::Config { subjects: vec![format!("{place}.>")], ..Default::default() };
        self.runtime.block_on(async {
            add_stream(&self.server.context(ConnectOptions::new()).await, place, config).await;
        });
    }

    fn events(&mut self, place: &str) -> Vec<Value> {
        let read = self.read.entry(place.to_owned()).or_default();
        let more = self.runtime.block_on(async {
            messages(&self.server.context(ConnectOptions::new()).await, place, read.len() as u64 + 1).await
        });
        read.extend(more.iter().map(|message| serde_json::from_slice(&message.payload).expect("a CloudEvent")));
        read.clone()
    }

    fn kill(&mut self) {
        self.server.kill();
    }

    fn restart(&mut self) {
        self.server.restart();
    }

    fn restart_empty(&mut self) {
        self.server.empty();
        self.read.clear();
        self.server.restart();
    }

    fn pause(&self) {
        self.server.signal(Signal::STOP);
    }

    fn resume(&self) {
        self.server.signal(Signal::CONT);
    }
}

/// What of a message a test looks at: its subject, its id, its media type, its number.
type Seen = (String, String, String, u64);

/// A user of each kind.
const USERS: &str = r#"
    authorization { users = [
        { user: admin, password: admin }
        { user: hooksink, password: "marker-word", permissions: { publish: "hooks.>", subscribe: "_INBOX.>" } }
        { user: elsewhere, password: "marker-word", permissions: { publish: "other.>", subscribe: "_INBOX.>" } }
        { user: deaf, password: "marker-word", permissions: { publish: "hooks.>", subscribe: "other.>" } }
    ] }
"#;

fn admin() -> ConnectOptions {
    ConnectOptions::new().user_and_password("admin".into(), "admin".into())
}

fn hooks() -> stream::Config {
    stream::Config { subjects: vec!["hooks.>".into()], ..Default::default() }
}

/// The sink that these lines, below `type`, describe.
fn sink(lines: &str) -> Arc<dyn Sink> {
    let config = sink_config(&format!("type = \"nats\"\n{lines}"));
    config.kind.build(&"it".parse().expect("a name"), [0; 32]).expect("a sink")
}

/// A sink of this server.
fn sink_at(nats: &NatsServer, lines: &str) -> Arc<dyn Sink> {
    sink(&format!("url = \"{}\"\n{lines}", nats.url()))
}

fn login(user: &str, password: &str) -> String {
    format!("username = \"{user}\"\npassword = \"{password}\"\n")
}

fn large(number: u64, person: &str, bytes: usize) -> Event {
    let raw = format!("{{\"number\":{number},\"text\":\"{}\"}}", "x".repeat(bytes));
    decode(Arc::new(Record { raw: raw.into(), ..record(number, Some(person)) }))
}

fn seen(message: &jetstream::message::StreamMessage) -> Seen {
    let header = |name: &str| message.headers.get(name).map(ToString::to_string).unwrap_or_default();
    let event: Value = serde_json::from_slice(&message.payload).expect("JSON");
    let number = event["data"]["fields"]["number"].as_u64().unwrap_or_default();
    (message.subject.to_string(), header("Nats-Msg-Id"), header("Content-Type"), number)
}

async fn numbers(context: &jetstream::Context, stream: &str) -> Vec<u64> {
    messages(context, stream, 1).await.iter().map(|message| seen(message).3).collect()
}

#[track_caller]
fn waits(result: Result<(), Undelivered>, why: &str) {
    match result.expect_err(why) {
        Undelivered { delivered: 0, blame: Blame::Unknown, cause: SinkError::Transient { source, .. } } => {
            let said = source.to_string();
            assert!(said.contains(why) && !said.contains("marker"), "{said}");
        }
        other => panic!("{why}: {other:?}"),
    }
}

#[track_caller]
fn refused(result: Result<(), Undelivered>, delivered: usize, why: &str) {
    let failure = result.expect_err(why);
    assert!(matches!(failure.cause, SinkError::Permanent { .. }), "{failure:?}");
    assert_eq!((failure.delivered, failure.blame), (delivered, Blame::Event));
    assert!(failure.cause.to_string().contains(why), "{failure}");
}

#[test]
fn the_example_of_the_readme_delivers_each_event_once_under_its_id() {
    let test = "targets::nats::the_example_of_the_readme_delivers_each_event_once_under_its_id";
    let Some(nats) = NatsServer::start(test, USERS) else { return };
    let runtime = runtime();
    let context = runtime.block_on(nats.context(admin()));
    runtime.block_on(add_stream(&context, "HOOKS", hooks()));

    let example = readme_example("nats").replace("nats.example:4222", &nats.address().to_string());
    let folder = tempfile::tempdir().expect("a folder");
    let password = [("NATS_PASSWORD", "marker-word")];
    let server = TestServer::start_with(folder, &format!("{SOURCE}\n{example}"), &password);
    for mid in ["m-1", "m-2", "m-1"] {
        let posted = runtime.block_on(server.post(SourceType::Meta, "messenger", SECRET, echo(mid, "ann")));
        assert_eq!(posted.status, 200);
    }
    let read = || runtime.block_on(messages(&context, "HOOKS", 1));
    let read = eventually("both arrive", || Some(read()).filter(|read| read.len() == 2));
    for (number, message) in read.iter().enumerate() {
        let event: Value = serde_json::from_slice(&message.payload).expect("a CloudEvent");
        let (subject, id, media_type, _) = seen(message);
        assert_eq!(subject, "hooks.messenger.meta.message_echo");
        assert_eq!(media_type, "application/cloudevents+json");
        assert_eq!(event["id"], id);
        assert_eq!(event["data"]["mid"], format!("m-{}", number + 1));
    }
    assert!(!server.stderr().contains("async_nats"), "the library says nothing:\n{}", server.stderr());
}

#[test]
fn what_the_stream_has_is_a_success_and_there_once() {
    let test = "targets::nats::what_the_stream_has_is_a_success_and_there_once";
    let Some(nats) = NatsServer::start(test, USERS) else { return };
    runtime().block_on(async {
        let context = nats.context(admin()).await;
        add_stream(&context, "HOOKS", hooks()).await;
        let raw = sink_at(&nats, &(login("hooksink", "marker-word") + "format = \"raw\""));
        for _ in 0..2 {
            raw.deliver(&[event(7, "ann")]).await.unwrap();
        }
        let read = messages(&context, "HOOKS", 1).await;
        assert_eq!(read.len(), 1);
        assert_eq!(&read[0].payload[..], br#"{"number":7}"#);
        assert_eq!((seen(&read[0]).1, seen(&read[0]).2), (record(7, None).id.to_string(), "application/json".into()));
    });
}

#[test]
fn a_check_leaves_nothing_behind_and_knows_the_exact_limit() {
    let test = "targets::nats::a_check_leaves_nothing_behind_and_knows_the_exact_limit";
    let Some(nats) = NatsServer::start(test, USERS) else { return };
    runtime().block_on(async {
        let context = nats.context(admin()).await;
        add_stream(&context, "HOOKS", hooks()).await;
        let least = sink_at(&nats, &login("hooksink", "marker-word"));
        let checked = least.check().await.unwrap();
        assert!(checked.found.ends_with("stream HOOKS (its limits are not shown to this user)"), "{checked:?}");
        let all = sink_at(&nats, &login("admin", "admin"));
        let checked = all.check().await.unwrap();
        assert!(checked.found.ends_with("stream HOOKS on hooks.>"), "{checked:?}");
        assert_eq!(messages(&context, "HOOKS", 1).await.len(), 0);
        let most = usize::try_from(checked.max_event_bytes.expect("there is one")).unwrap();
        let around = large(8, "ann", 0).to_json(Format::Cloudevents, false).len();
        least.deliver(&[large(8, "ann", most - around)]).await.unwrap();
        refused(least.deliver(&[large(9, "ann", most - around + 1)]).await, 0, "max_payload");
        assert_eq!(numbers(&context, "HOOKS").await, [8]);

        let config = stream::Config { max_message_size: 6_000, name: "HOOKS".into(), ..hooks() };
        context.update_stream(config).await.unwrap();
        let most = all.check().await.unwrap().max_event_bytes;
        assert!(most.is_some_and(|most| (5_800..6_000).contains(&most)), "that of the stream: {most:?}");
    });
}

#[test]
fn what_no_stream_takes_waits_and_says_what_to_do() {
    let test = "targets::nats::what_no_stream_takes_waits_and_says_what_to_do";
    let Some(nats) = NatsServer::start(test, USERS) else { return };
    let one = [event(1, "ann")];
    runtime().block_on(async {
        let context = nats.context(admin()).await;
        let least = sink_at(&nats, &login("hooksink", "marker-word"));
        waits(least.deliver(&one).await, "add one: nats stream add HOOKS --subjects 'hooks.>'");
        let missing = least.check().await.unwrap_err().to_string();
        assert!(missing.contains("no stream listens on hooks.check.meta.message_echo; add one"), "{missing}");

        // Another program that answers is no stream.
        let client = context.client();
        let mut asked = client.subscribe("hooks.>").await.unwrap();
        client.flush().await.unwrap();
        let answering = tokio::spawn(async move {
            while let Some(message) = asked.next().await {
                client.publish(message.reply.unwrap(), "thanks".into()).await.unwrap();
            }
        });
        waits(least.deliver(&one).await, "is no stream");
        answering.abort();
        assert!(answering.await.unwrap_err().is_cancelled());

        let discard = stream::DiscardPolicy::New;
        let small = stream::Config { max_bytes: 20_000, max_message_size: 6_000, discard, ..hooks() };
        add_stream(&context, "HOOKS", small.clone()).await;
        // What is too large is its own fault alone, and the others of the call get through.
        let mixed = [event(1, "ann"), large(2, "bob", 9_000), event(3, "cyd")];
        refused(least.deliver(&mixed).await, 1, "larger than the stream's max_msg_size");
        let arrived: BTreeSet<_> = numbers(&context, "HOOKS").await.into_iter().collect();
        assert_eq!(arrived, [1, 3].into());
        let mut full = None;
        for number in 4..10 {
            full = full.or(least.deliver(&[large(number, "ann", 4_000)]).await.err());
        }
        waits(full.map_or(Ok(()), Err), "maximum bytes exceeded");
        context.update_stream(stream::Config { name: "HOOKS".into(), max_bytes: -1, ..small }).await.unwrap();
        least.deliver(&[large(21, "ann", 4_000)]).await.unwrap();
        assert!(numbers(&context, "HOOKS").await.ends_with(&[21]));
    });
}

#[test]
fn missing_rights_and_wrong_targets_are_named_and_nothing_secret() {
    let test = "targets::nats::missing_rights_and_wrong_targets_are_named_and_nothing_secret";
    let Some(nats) = NatsServer::start(test, USERS) else { return };
    let one = [event(1, "ann")];
    runtime().block_on(async {
        let context = nats.context(admin()).await;
        add_stream(&context, "HOOKS", hooks()).await;
        // What the server says beside the line is no wait for the time-out.
        let patient = "timeout = \"10m\"\n";
        for (user, why) in [
            ("elsewhere", "the user may not publish to hooks.connect.webex_connect.unrecognized"),
            ("deaf", "the user may not subscribe to its inbox (inbox_prefix)"),
            ("nobody", "the server refuses the credentials"),
        ] {
            let sink = sink_at(&nats, &(login(user, "marker-word") + patient));
            waits(sink.deliver(&one).await, why);
            let unchecked = sink.check().await.unwrap_err().to_string();
            assert!(unchecked.contains(why.split(" hooks.").next().unwrap()), "{unchecked}");
        }
        let deaf = login("deaf", "marker-word") + "inbox_prefix = \"other.answers\"";
        sink_at(&nats, &deaf).deliver(&one).await.unwrap();

        let silent = stream::Config { subjects: vec!["silent.>".into()], no_ack: true, ..Default::default() };
        add_stream(&context, "SILENT", silent).await;
        let short = "subject = \"silent.{kind}\"\nconnect_timeout = \"300ms\"\ntimeout = \"300ms\"";
        waits(sink_at(&nats, &(login("admin", "admin") + short)).deliver(&one).await, "a stream with no_ack gives none");

        let other = MockTarget::start().await;
        waits(sink(&format!("url = \"nats://{}\"", other.address)).deliver(&one).await, "cannot connect");
        waits(sink("url = \"nats://no-such-host.invalid\"").deliver(&one).await, "the server's name has no address");
        let lines = "ca_file = \"/nowhere/authority.pem\"";
        waits(sink_at(&nats, lines).deliver(&one).await, "ca_file /nowhere/authority.pem cannot be read");
        let lines = format!("ca_file = {:?}", nats.folder().join("nats.conf"));
        waits(sink_at(&nats, &lines).deliver(&one).await, "ca_file holds no certificate (PEM)");
    });
}

/// What a client holds that reconnects by itself would be published when the server is there again.
#[test]
fn nothing_is_published_late_by_a_connection_that_broke() {
    let test = "targets::nats::nothing_is_published_late_by_a_connection_that_broke";
    let Some(mut nats) = NatsServer::start(test, OPEN) else { return };
    let runtime = runtime();
    let sink = sink_at(&nats, "");
    runtime.block_on(async {
        add_stream(&nats.context(ConnectOptions::new()).await, "HOOKS", hooks()).await;
        sink.deliver(&[event(1, "ann")]).await.unwrap();
    });
    nats.kill();
    for number in 2..20 {
        waits(runtime.block_on(sink.deliver(&[event(number, "bob")])), "connect");
    }
    nats.restart();
    runtime.block_on(async {
        let context = nats.context(ConnectOptions::new()).await;
        sink.deliver(&[event(20, "cyd")]).await.unwrap();
        assert_eq!(numbers(&context, "HOOKS").await, [1, 20]);
    });
}

#[test]
fn a_server_that_is_about_to_end_is_left_for_another() {
    let test = "targets::nats::a_server_that_is_about_to_end_is_left_for_another";
    let Some(first) = NatsServer::start(test, OPEN) else { return };
    let Some(second) = NatsServer::start(test, OPEN) else { return };
    let sink = sink(&format!("url = [\"{}\", \"{}\"]", first.url(), second.url()));
    let runtime = runtime();
    let contexts = [&first, &second].map(|server| {
        runtime.block_on(async {
            let context = server.context(ConnectOptions::new()).await;
            add_stream(&context, "HOOKS", hooks()).await;
            context
        })
    });
    let deliver = |number| runtime.block_on(sink.deliver(&[event(number, "ann")]));
    deliver(1).unwrap();
    let at_first = runtime.block_on(numbers(&contexts[0], "HOOKS")) == [1];
    let (left, other) = if at_first { (&first, &contexts[1]) } else { (&second, &contexts[0]) };
    // Lame duck mode: its connections end ten seconds later at the earliest.
    left.signal(Signal::USR2);
    let mut number = 1;
    eventually("the other gets events", || {
        number += 1;
        // Its streams are the first to end, which fails a call or two.
        let _ = deliver(number);
        (!runtime.block_on(numbers(other, "HOOKS")).is_empty()).then_some(())
    });
}

#[test]
fn a_password_that_was_changed_is_taken_with_sighup() {
    let test = "targets::nats::a_password_that_was_changed_is_taken_with_sighup";
    let Some(nats) = NatsServer::start(test, USERS) else { return };
    let runtime = runtime();
    let context = runtime.block_on(nats.context(admin()));
    runtime.block_on(add_stream(&context, "HOOKS", hooks()));
    let folder = tempfile::tempdir().expect("a folder");
    let password = folder.path().join("password");
    fs::write(&password, "marker-word\n").expect("a file");
    let config = format!(
        r#"{SOURCE}
        [sinks.stream]
        type = "nats"
        url = "{}"
        username = "hooksink"
        password = {{ file = "password" }}
        retry_initial = "10ms"
        retry_max = "50ms"
        "#,
        nats.url()
    );
    let server = TestServer::start_with(folder, &config, &[]);
    let post = |mid: &str| {
        let posted = runtime.block_on(server.post(SourceType::Meta, "messenger", SECRET, echo(mid, "ann")));
        assert_eq!(posted.status, 200);
    };
    let arrived = |count: usize| {
        let read = || runtime.block_on(messages(&context, "HOOKS", 1)).len();
        eventually("all arrive", || (read() == count).then_some(()));
    };
    post("m-1");
    arrived(1);
    nats.reconfigure(&USERS.replace("marker-word", "marker-other"));
    post("m-2");
    let down = || server.stderr().contains("the server refuses the credentials").then_some(());
    eventually("it is found to be down", down);
    fs::write(&password, "marker-other\n").expect("a file");
    server.signal(Signal::HUP);
    arrived(2);
    assert!(!server.stderr().contains("marker"), "{}", server.stderr());
}

#[test]
fn every_way_to_log_in_works_and_a_wrong_one_does_not() {
    const KEY: &str = "UABYVXQCM6MS62P7CTBDVZFDVVE6B4X22EXXA5WUZFN7BRJGCXPVXETP";
    const SEED: &str = "SUAFFBATCGDVV2VRZAZIRL5I2AA6GZ3FMH43W57J5TGH3HMUVBNYW26A6M";
    const WRONG: &str = "SUAIO3FHUX5PNV2LQIIP7TZ3N4L7TX3W53MQGEIVYFIGA635OZCKEYHFLM";
    let test = "targets::nats::every_way_to_log_in_works_and_a_wrong_one_does_not";
    let credentials = include_str!("nats_operator/user.creds");
    assert!(credentials.contains(SEED), "it is the same key");
    for (lines, options, setting, right, wrong) in [
        (
            "authorization { token: \"marker-token\" }".to_owned(),
            ConnectOptions::new().token("marker-token".into()),
            "token",
            "marker-token",
            "marker-wrong".to_owned(),
        ),
        (
            format!("authorization {{ users = [ {{ nkey: {KEY} }} ] }}"),
            ConnectOptions::new().nkey(SEED.into()),
            "nkey",
            SEED,
            WRONG.to_owned(),
        ),
        (
            include_str!("nats_operator/operator.conf").to_owned(),
            ConnectOptions::new().credentials(credentials).expect("JWT and seed"),
            "credentials",
            credentials,
            credentials.replace(SEED, WRONG),
        ),
    ] {
        let Some(nats) = NatsServer::start(test, &lines) else { return };
        runtime().block_on(async {
            let context = nats.context(options).await;
            add_stream(&context, "HOOKS", hooks()).await;
            for lines in [format!("{setting} = {wrong:?}"), String::new()] {
                let refused = sink_at(&nats, &lines).deliver(&[event(1, "ann")]).await;
                waits(refused, "the server refuses the credentials");
            }
            sink_at(&nats, &format!("{setting} = {right:?}")).deliver(&[event(2, "ann")]).await.unwrap();
            assert_eq!(numbers(&context, "HOOKS").await, [2], "{setting}");
        });
    }
}

#[test]
fn over_tls_both_sides_prove_who_they_are() {
    let test = "targets::nats::over_tls_both_sides_prove_who_they_are";
    let Some(plain) = NatsServer::start(test, OPEN) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        path
    };
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let ((certificate, key), (client, client_key)) = (ours.pems("localhost"), ours.pems("client.example"));
    let (ca, other_ca) = (write("ca.pem", &ours.pem()), write("other.pem", &theirs.pem()));
    let (certificate, key) = (write("server.pem", &certificate), write("server.key", &key));
    let (client, client_key) = (write("client.pem", &client), write("client.key", &client_key));
    let presents = format!("client_cert_file = {client:?}\nclient_key_file = {client_key:?}\n");
    let one = [event(1, "ann")];
    for first in [false, true] {
        let nats = NatsServer::start(
            test,
            &format!(
                "tls {{ cert_file: {certificate:?}, key_file: {key:?}, ca_file: {ca:?}, verify: true, \
                 handshake_first: {first} }}"
            ),
        );
        let port = nats.as_ref().map_or(0, |nats| nats.address().port());
        let with = |host: &str, ca: &std::path::Path, lines: &str| {
            sink(&format!("url = \"tls://{host}:{port}\"\nca_file = {ca:?}\ntls_first = {first}\n{lines}"))
        };
        runtime().block_on(async {
            waits(with("localhost", &other_ca, &presents).deliver(&one).await, "UnknownIssuer");
            waits(with("127.0.0.1", &ca, &presents).deliver(&one).await, "certificate not valid for name");
            waits(with("localhost", &ca, "").deliver(&one).await, "cannot connect");
            // Connected at last, and there is no stream.
            waits(with("localhost", &ca, &presents).deliver(&one).await, "no stream listens");
        });
    }
    // A server without TLS is not talked to where TLS must be used.
    let tls = sink(&format!("url = \"tls://localhost:{}\"\nca_file = {ca:?}", plain.address().port()));
    waits(runtime().block_on(tls.deliver(&one)), "cannot connect");
}
