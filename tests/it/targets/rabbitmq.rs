//! The rabbitmq sink before a real rabbitmq-server.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use hooksink::event::{Event, Kind, Record};
use hooksink::names::SourceType;
use hooksink::sinks::{Blame, Sink, SinkError, Undelivered};
use lapin::message::Delivery;
use lapin::types::{AMQPValue, FieldTable};
use rustix::process::Signal;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::Server;
use crate::echo::{SECRET, echo};
use crate::support::daemon::free_port;
use crate::support::mock_target::MockTarget;
use crate::support::rabbitmq_server::{
    ADMIN, MAX_MESSAGE, RabbitmqServer, TAKEN_AT_ONCE, User, bind_queue, declare_exchange, take_some,
};
use crate::support::senders::SOURCE;
use crate::support::server::{TestServer, eventually};
use crate::support::tls_target::Authority;
use crate::support::{decode, deliver, event, finishes, readme_example, record, runtime, sink_config};

/// The server, and what was taken out of its queues.
pub(crate) struct Rabbitmq {
    server: RabbitmqServer,
    runtime: Runtime,
    prepared: Vec<String>,
    taken: HashMap<String, Vec<Value>>,
}

impl Rabbitmq {
    fn declare(&self, place: &str) {
        finishes(&self.runtime, async {
            let (_connection, channel) = self.server.channel().await;
            declare_exchange(&channel, place).await;
            bind_queue(&channel, place, FieldTable::default(), place, "#").await;
        });
    }
}

impl Server for Rabbitmq {
    const TYPE: &'static str = "rabbitmq";

    fn start(test: &str) -> Option<Self> {
        let server = RabbitmqServer::start(test, &[], "")?;
        Some(Self { server, runtime: runtime(), prepared: Vec::new(), taken: HashMap::new() })
    }

    fn address(&self) -> SocketAddr {
        self.server.address()
    }

    fn settings(&self, address: SocketAddr, place: &str) -> String {
        format!(
            r#"
            type = "rabbitmq"
            url = "amqp://{address}"
            username = "{}"
            password = "{}"
            exchange = "{place}"
            heartbeat = "2s"
            connect_timeout = "1s"
            timeout = "2s"
            "#,
            ADMIN[0], ADMIN[1]
        )
    }

    fn prepare(&mut self, place: &str) {
        self.declare(place);
        self.prepared.push(place.to_owned());
    }

    fn events(&mut self, place: &str) -> Vec<Value> {
        let taken = self.taken.entry(place.to_owned()).or_default();
        loop {
            let more = finishes(&self.runtime, async {
                let (_connection, channel) = self.server.channel().await;
                take_some(&channel, place).await
            });
            let data = |message: &Delivery| serde_json::from_slice::<Value>(&message.data).expect("a CloudEvent");
            taken.extend(more.iter().map(data));
            // It was all that there was: what is sent meanwhile never ends.
            if more.len() < TAKEN_AT_ONCE {
                break;
            }
        }
        taken.clone()
    }

    fn kill(&mut self) {
        self.server.kill();
    }

    fn restart(&mut self) {
        self.server.restart();
        // A binding that was confirmed just before a crash was seen to be gone after it: messages came back as NO_ROUTE.
        self.prepared.iter().for_each(|place| self.declare(place));
    }

    fn restart_empty(&mut self) {
        self.server.empty();
        self.taken.clear();
        self.prepared.clear();
        self.server.restart();
    }

    fn signal(&self, signal: Signal) {
        self.server.signal(signal);
    }
}

/// A user with the least rights, and one who may write elsewhere.
const USERS: &[User] = &[
    User { name: "hooksink", password: "marker-word", write: "^hooks" },
    User { name: "elsewhere", password: "marker-word", write: "^other" },
];

/// The sink that these lines, below `type`, describe.
fn sink(lines: &str) -> Arc<dyn Sink> {
    let config = sink_config(&format!("type = \"rabbitmq\"\n{lines}"));
    config.kind.build(&"it".parse().expect("a name"), [0; 32]).expect("a sink")
}

fn login(name: &str) -> String {
    format!("username = \"{name}\"\npassword = \"marker-word\"\n")
}

fn large(number: u64, person: &str, bytes: usize) -> Event {
    let raw = format!("{{\"number\":{number},\"text\":\"{}\"}}", "x".repeat(bytes));
    decode(Arc::new(Record { raw: raw.into(), ..record(number, Some(person)) }))
}

#[track_caller]
fn waits(result: Result<(), Undelivered>, delivered: usize, why: &str) {
    match result.expect_err(why) {
        Undelivered { delivered: found, blame: Blame::Unknown, cause: SinkError::Transient { source, .. } } => {
            let said = source.to_string();
            assert!(said.contains(why) && !said.contains("marker"), "{said}");
            assert_eq!(found, delivered, "{said}");
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

/// One server for all of it, since starting one takes seconds.
struct Broker {
    server: RabbitmqServer,
    runtime: Runtime,
}

impl Broker {
    /// A sink at its own door; the exchange is `hooks` unless the lines say another.
    fn sink(&self, lines: &str) -> Arc<dyn Sink> {
        let exchange = if lines.contains("exchange = ") { "" } else { "exchange = \"hooks\"" };
        sink(&format!("url = \"amqp://{}\"\n{exchange}\n{lines}", self.server.address()))
    }

    fn deliver(&self, sink: &Arc<dyn Sink>, events: &[Event]) -> Result<(), Undelivered> {
        self.runtime.block_on(deliver(&**sink, events))
    }

    fn declare(&self, exchange: &str) {
        finishes(&self.runtime, async {
            let (_connection, channel) = self.server.channel().await;
            declare_exchange(&channel, exchange).await;
        });
    }

    fn bind(&self, queue: &str, arguments: FieldTable, exchange: &str, pattern: &str) {
        finishes(&self.runtime, async {
            let (_connection, channel) = self.server.channel().await;
            bind_queue(&channel, queue, arguments, exchange, pattern).await;
        });
    }

    fn take(&self, queue: &str) -> Vec<Delivery> {
        finishes(&self.runtime, async {
            let (_connection, channel) = self.server.channel().await;
            take_some(&channel, queue).await
        })
    }

    fn numbers(&self, queue: &str) -> Vec<u64> {
        let number = |message: &Delivery| {
            let event: Value = serde_json::from_slice(&message.data).expect("a CloudEvent");
            event["data"]["fields"]["number"].as_u64().expect("made by `record`")
        };
        self.take(queue).iter().map(number).collect()
    }

    /// The example of the README in the real binary; a password that was changed; a server that hangs.
    fn the_example_of_the_readme(&self) {
        let folder = tempfile::tempdir().expect("a folder");
        let password = folder.path().join("password");
        fs::write(&password, "marker-word\n").expect("a file");
        let example = readme_example("rabbitmq")
            .replace("rabbitmq.example:5672", &self.server.address().to_string())
            .replace("{ env = \"RABBITMQ_PASSWORD\" }", "{ file = \"password\" }");
        let quick = "retry_initial = \"10ms\"\nretry_max = \"50ms\"\nconnect_timeout = \"300ms\"\ntimeout = \"300ms\"";
        // What comes back from an exchange without queues, the library would write whole.
        self.declare("hooks-nowhere");
        let nowhere = example.replace("[sinks.rabbitmq]", "[sinks.nowhere]").replace("\"hooks\"", "\"hooks-nowhere\"");
        let config = format!("{SOURCE}\n{example}{quick}\n{nowhere}{quick}");
        let server = TestServer::start_with(folder, &config, &[("RUST_LOG", "info")]);
        let post = |mid: &str| {
            let posted = finishes(&self.runtime, server.post(SourceType::Meta, "messenger", SECRET, echo(mid, "ann")));
            assert_eq!(posted.status, 200);
        };
        let arrives = |mid: &str| {
            let message = eventually("it arrives", || {
                self.take("hooks").into_iter().find(|message| String::from_utf8_lossy(&message.data).contains(mid))
            });
            let event: Value = serde_json::from_slice(&message.data).expect("a CloudEvent");
            let properties = &message.properties;
            let text = |text: &Option<lapin::types::ShortString>| text.as_ref().map(ToString::to_string);
            assert_eq!(text(properties.message_id()), event["id"].as_str().map(str::to_owned));
            assert_eq!(text(properties.kind()).as_deref(), Some("meta.message_echo"));
            assert_eq!(text(properties.content_type()).as_deref(), Some("application/cloudevents+json"));
            assert_eq!(text(properties.app_id()).as_deref(), Some("hooksink"));
            assert_eq!(*properties.delivery_mode(), Some(2), "it is persistent");
            assert!(properties.timestamp().is_some());
            assert_eq!(message.routing_key.as_str(), "messenger.meta.message_echo");
        };
        post("m-1");
        arrives("m-1");
        let came_back = || server.stderr().contains("no queue is bound to exchange \"hooks-nowhere\"").then_some(());
        eventually("what comes back is said", came_back);

        self.server.control(&["change_password", "hooksink", "marker-other"]);
        self.server.control(&["close_all_connections", "a test"]);
        post("m-2");
        let down = || server.stderr().contains("the server refuses the credentials").then_some(());
        eventually("it is found to be down", down);
        fs::write(&password, "marker-other\n").expect("a file");
        server.signal(Signal::HUP);
        arrives("m-2");

        // Each attempt at a server that hangs ends with all it began, threads of the library too.
        self.server.signal(Signal::STOP);
        post("m-3");
        let retries = "hooksink_sink_retries_total{sink=\"rabbitmq\"}";
        let before = finishes(&self.runtime, server.metric(retries));
        let enough = || (finishes(&self.runtime, server.metric(retries)) > before + 12).then_some(());
        eventually("it is tried often enough", enough);
        let tasks = fs::read_dir(format!("/proc/{}/task", server.id())).expect("Linux says so");
        let threads = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok());
        let threads = threads.filter(|name| name.starts_with("lapin")).count();
        self.server.signal(Signal::CONT);
        assert!(threads <= 4, "{threads} threads");
        arrives("m-3");
        self.server.control(&["change_password", "hooksink", "marker-word"]);

        let said = server.stderr();
        assert!(!said.contains("marker") && !said.contains("lapin"), "what failed is said once, by the sink:\n{said}");
    }

    /// What no queue takes is a failure, and of the right event.
    fn unroutable(&self) {
        self.declare("hooks-unbound");
        let unbound = self.sink(&(login("hooksink") + "exchange = \"hooks-unbound\""));
        let why = "no queue is bound to exchange \"hooks-unbound\" for routing key \"connect.webex_connect.unrecognized\"";
        waits(self.deliver(&unbound, &[event(1, "ann"), event(2, "bob")]), 0, why);
        self.bind("unbound", FieldTable::default(), "hooks-unbound", "connect.webex_connect.unrecognized");
        self.deliver(&unbound, &[event(1, "ann"), event(2, "bob")]).unwrap();
        let mut numbers = self.numbers("unbound");
        numbers.sort_unstable();
        assert_eq!(numbers, [1, 2]);

        // Confirmations come several at once, and what came back belongs to one of them.
        for round in 0..20 {
            let lost = 7 + round * 3;
            let events: Vec<_> = (0..100)
                .map(|number| {
                    let made = record(number, Some(&format!("person-{number}")));
                    let kind = if number == lost { Kind::ConnectMessage } else { made.kind };
                    decode(Arc::new(Record { kind, ..made }))
                })
                .collect();
            let delivered = usize::try_from(lost).unwrap();
            waits(self.deliver(&unbound, &events), delivered, "for routing key \"connect.webex_connect.message\"");
            assert_eq!(self.take("unbound").len(), 99);
        }
    }

    fn refusals(&self) {
        let one = [event(1, "ann")];
        let missing = self.sink(&(login("hooksink") + "exchange = \"hooks-missing\""));
        waits(self.deliver(&missing, &one), 0, "no exchange 'hooks-missing' in vhost '/'; declare it");
        let unchecked = finishes(&self.runtime, missing.check()).unwrap_err().to_string();
        assert!(unchecked.contains("no exchange 'hooks-missing'"), "{unchecked}");
        for (lines, why) in [
            (login("elsewhere"), "give the user the right to write to the exchange"),
            (login("nobody"), "the server refuses the credentials"),
            (login("hooksink") + "vhost = \"elsewhere\"", "vhost elsewhere not found"),
        ] {
            let sink = self.sink(&lines);
            waits(self.deliver(&sink, &one), 0, why);
            let unchecked = finishes(&self.runtime, sink.check()).unwrap_err().to_string();
            assert!(unchecked.contains(why), "{unchecked}");
        }
        let least = self.sink(&login("hooksink"));
        let checked = finishes(&self.runtime, least.check()).unwrap();
        assert!(checked.found.contains("publishing to exchange \"hooks\" in vhost / allowed"), "{checked:?}");
        assert_eq!(self.take("hooks").len(), 0, "a check leaves nothing behind");

        let other = finishes(&self.runtime, MockTarget::start());
        let url = format!("url = \"amqp://{}\"\nexchange = \"hooks\"\n{}", other.address, login("hooksink"));
        waits(self.deliver(&sink(&url), &one), 0, "");
    }

    /// A message that is too large closes the channel, which costs the others of its call no more than another attempt.
    fn too_large(&self) {
        let least = self.sink(&login("hooksink"));
        let mixed = [event(1, "ann"), large(2, "bob", MAX_MESSAGE), event(3, "cyd")];
        self.deliver(&least, &mixed).unwrap_err();
        refused(self.deliver(&least, &mixed), 1, &format!("more than the server's max_message_size of {MAX_MESSAGE}"));
        let arrived: BTreeSet<_> = self.numbers("hooks").into_iter().collect();
        assert_eq!(arrived, [1, 3].into());
        refused(self.deliver(&least, &mixed[1..2]), 0, "more than the server's max_message_size");
        // Raised while the connection lives on.
        self.server.control(&["eval", "persistent_term:put(max_message_size, 2000000), application:set_env(rabbit, max_message_size, 2000000)."]);
        self.deliver(&least, &mixed[1..2]).unwrap();
        self.deliver(&least, &mixed).unwrap();
        assert_eq!(self.take("hooks").len(), 4);
    }

    /// Nodes that take connections and say nothing, before the one that lives.
    fn dead_nodes(&self) {
        let dead = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let [first, second] = dead.each_ref().map(|dead| dead.local_addr().expect("it is bound"));
        let urls = format!("url = [\"amqp://{first}\", \"amqp://{second}\", \"amqp://{}\"]\n", self.server.address());
        let quick = "exchange = \"hooks\"\nconnect_timeout = \"300ms\"\ntimeout = \"300ms\"\n";
        let sink = sink(&(urls + quick + &login("hooksink")));
        eventually("the third is reached", || self.deliver(&sink, &[event(1, "ann")]).ok());
        assert!(self.numbers("hooks").contains(&1));
    }

    fn full_queue(&self) {
        self.declare("hooks-full");
        let mut arguments = FieldTable::default();
        arguments.insert("x-max-length".into(), AMQPValue::LongInt(2));
        arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        self.bind("full", arguments, "hooks-full", "#");
        let full = self.sink(&(login("hooksink") + "exchange = \"hooks-full\""));
        let events: Vec<_> = (0..10).map(|number| event(number, "ann")).collect();
        let failure = self.deliver(&full, &events).expect_err("there is no room");
        let delivered = failure.delivered;
        assert!((2..10).contains(&delivered), "{failure:?}");
        waits(Err(failure), delivered, "a queue refuses it; it is full");
        let rest = self.numbers("full");
        self.deliver(&full, &events[..1]).unwrap();
        assert_eq!(rest, (0..rest.len() as u64).collect::<Vec<_>>(), "each person's in order");
    }

    /// While an alarm is on the server takes nothing, and says so to who publishes.
    fn alarm(&self) {
        let quick = "connect_timeout = \"500ms\"\ntimeout = \"500ms\"";
        let least = self.sink(&(login("hooksink") + quick));
        self.take("hooks");
        self.server.control(&["set_vm_memory_high_watermark", "absolute", "1"]);
        eventually("the alarm is on", || {
            let failure = self.deliver(&least, &[event(1, "ann")]).err()?;
            failure.to_string().contains("its memory or disk alarm is on").then_some(())
        });
        for _ in 0..3 {
            waits(self.deliver(&least, &[event(1, "ann")]), 0, "its memory or disk alarm is on");
        }
        self.server.control(&["set_vm_memory_high_watermark", "0.4"]);
        eventually("it takes events again", || self.deliver(&least, &[event(1, "ann"), event(2, "ann")]).ok());
        let numbers = self.numbers("hooks");
        assert!(numbers.contains(&1) && numbers.ends_with(&[2]), "{numbers:?}");
        assert!(numbers.len() < 8, "attempts do not pile up: {numbers:?}");
    }

    fn tls(&self, port: u16, files: &Path) {
        let one = [event(1, "ann")];
        let file = |name: &str| format!("{:?}", files.join(name));
        let presents =
            format!("client_cert_file = {}\nclient_key_file = {}\n", file("client.pem"), file("client.key"));
        let with = |host: &str, ca: &str, lines: &str| {
            let url = format!("url = \"amqps://{host}:{port}\"\nexchange = \"hooks\"\nca_file = {}\n", file(ca));
            self.deliver(&sink(&(url + &login("hooksink") + lines)), &one)
        };
        waits(with("localhost", "other.pem", &presents), 0, "UnknownIssuer");
        waits(with("127.0.0.1", "ca.pem", &presents), 0, "certificate not valid for name");
        waits(with("localhost", "ca.pem", ""), 0, "");
        waits(with("localhost", "client.key", ""), 0, "ca_file holds no certificate (PEM)");
        assert_eq!(self.take("hooks").len(), 0, "not a byte of an event");
        with("localhost", "ca.pem", &presents).unwrap();
        assert_eq!(self.numbers("hooks"), [1]);
    }
}

#[test]
fn what_the_server_says_is_understood() {
    let test = "targets::rabbitmq::what_the_server_says_is_understood";
    let files = tempfile::tempdir().expect("a folder");
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let write = |name: &str, text: &str| fs::write(files.path().join(name), text).expect("a file");
    for (name, host) in [("server", "localhost"), ("client", "client.example")] {
        let (certificate, key) = ours.pems(host);
        write(&format!("{name}.pem"), &certificate);
        write(&format!("{name}.key"), &key);
    }
    write("ca.pem", &ours.pem());
    write("other.pem", &theirs.pem());
    let tls_port = free_port();
    let folder = files.path().display();
    let lines = format!(
        "listeners.ssl.1 = 127.0.0.1:{tls_port}\nssl_options.cacertfile = {folder}/ca.pem\n\
         ssl_options.certfile = {folder}/server.pem\nssl_options.keyfile = {folder}/server.key\n\
         ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true"
    );
    let Some(server) = RabbitmqServer::start(test, USERS, &lines) else { return };
    let broker = Broker { server, runtime: runtime() };
    broker.declare("hooks");
    broker.bind("hooks", FieldTable::default(), "hooks", "#");
    broker.unroutable();
    broker.refusals();
    broker.too_large();
    broker.dead_nodes();
    broker.full_queue();
    broker.tls(tls_port, files.path());
    broker.the_example_of_the_readme();
    broker.alarm();
}
