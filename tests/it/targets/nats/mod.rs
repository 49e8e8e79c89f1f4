//! The nats sink before a real nats-server.

mod login;
mod refusals;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use async_nats::ConnectOptions;
use async_nats::jetstream::{self, stream};
use hooksink::event::{Event, Format, Record};
use hooksink::names::SourceType;
use hooksink::sinks::{Blame, Sink, SinkError, Undelivered};
use rustix::process::Signal;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::Server;
use crate::echo::{SECRET, echo};
use crate::support::nats_server::{NatsServer, OPEN, add_stream, messages};
use crate::support::senders::SOURCE;
use crate::support::server::{TestServer, eventually};
use crate::support::{decode, event, finishes, readme_example, record, runtime, sink_config};

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
        finishes(&self.runtime, async {
            add_stream(&self.server.context(ConnectOptions::new()).await, place, config).await;
        });
    }

    fn events(&mut self, place: &str) -> Vec<Value> {
        let read = self.read.entry(place.to_owned()).or_default();
        let more = finishes(&self.runtime, async {
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

    fn signal(&self, signal: Signal) {
        self.server.signal(signal);
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
