//! What is special to the `kafka` sink, and its target in trouble while the real binary delivers to it. The target is
//! librdkafka's mock cluster: no package holds a real broker, so none is killed here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hooksink::event::{Arrival, Context, Event, Kind, Record};
use hooksink::model::Payload;
use hooksink::names::SourceType;
use hooksink::sinks::{Blame, Sink, SinkError, Undelivered};
use rdkafka::types::RDKafkaApiKey::{self, Produce};
use rdkafka::types::RDKafkaRespErr::{self, *};
use serde_json::{Value, json};

use crate::echo::{SECRET, echo};
use crate::programs::skipped;
use crate::support::mock_kafka::{Message, MockKafka};
use crate::support::senders::{SOURCE, check, has_all, owed, senders, under_load};
use crate::support::server::{TestServer, eventually};
use crate::support::tls_target::{Authority, TlsTarget};
use crate::support::{decode, event, record, runtime, sink_config};

/// Where a call is to fail for want of time.
const SOON: &str = "connect_timeout = \"2s\"\ntimeout = \"4s\"\n";

/// Far longer than anything here takes.
const LONG: &str = "timeout = \"60s\"\n";

fn settings(cluster: &MockKafka, lines: &str) -> String {
    let brokers = cluster.brokers();
    format!("type = \"kafka\"\nbrokers = {brokers}\nextra = {{ \"reconnect.backoff.max.ms\" = 200 }}\n{lines}")
}

fn build(settings: &str) -> Arc<dyn Sink> {
    sink_config(settings).kind.build(&"it".parse().unwrap(), [7; 32]).unwrap()
}

fn sink(cluster: &MockKafka, lines: &str) -> Arc<dyn Sink> {
    build(&settings(cluster, &format!("{LONG}{lines}")))
}

/// The next requests of this kind are answered so; nothing is wrong with the later ones.
fn answers(cluster: &MockKafka, api: RDKafkaApiKey, errors: &'static [RDKafkaRespErr]) {
    cluster.order(move |cluster| cluster.request_errors(api, errors));
}

fn number(message: &Message) -> u64 {
    message.event()["data"]["fields"]["number"].as_u64().expect("made by `record`")
}

/// The numbers of what a person was sent, in order.
fn of_person(cluster: &MockKafka, topic: &str, person: &str) -> Vec<u64> {
    cluster.messages(topic).iter().filter(|message| message.key == person).map(number).collect()
}

#[track_caller]
fn transient(result: Result<(), Undelivered>) -> String {
    let failure = result.unwrap_err();
    assert_eq!(failure.blame, Blame::Unknown);
    match failure.cause {
        SinkError::Transient { source, .. } => source.to_string(),
        SinkError::Permanent { source } => panic!("permanent: {source}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_follow_the_cloudevents_binding() {
    let cluster = MockKafka::start(1);
    let event = decode(Arc::new(Record { kind: Kind::ConnectEvent, ..record(1, Some("Jörg")) }));
    let nobodys = decode(Arc::new(record(2, None)));
    let structured: Value = serde_json::from_slice(&event.to_json(Default::default(), false)).unwrap();
    for (format, include_raw) in [("cloudevents", true), ("cloudevents_binary", true), ("raw", false)] {
        let lines = format!("topic = \"{format}.{{sourcetype}}.{{source}}.{{kind}}\"\nformat = \"{format}\"\n");
        let lines = if include_raw { lines + "include_raw = true" } else { lines };
        sink(&cluster, &lines).deliver(&[event.clone(), nobodys.clone()]).await.unwrap();
        let topic = |kind: &str| format!("{format}.webex-connect.connect.{kind}");
        let messages = cluster.messages(&topic("webex_connect.event"));
        let [message] = &messages[..] else { panic!("{messages:?}") };
        assert_eq!(message.key, "Jörg");
        let others = cluster.messages(&topic("webex_connect.unrecognized"));
        assert_eq!(others[0].key, nobodys.record.id.to_string(), "an event that is nobody's has its id as the key");
        let value: Value = serde_json::from_slice(&message.value).unwrap();
        let mut headers: BTreeMap<&str, &str> = message.headers.iter().map(|(k, v)| (&**k, &**v)).collect();
        let content_type = headers.remove("content-type").unwrap();
        if format == "cloudevents" {
            assert_eq!((content_type, headers.len()), ("application/cloudevents+json; charset=UTF-8", 0));
            assert_eq!((&value["id"], &value["data"]["raw"]), (&structured["id"], &json!({"number": 1})));
            continue;
        }
        // What stands beside the data in structured mode stands in headers.
        let mut attributes = structured.as_object().unwrap().clone();
        let data = attributes.remove("data").unwrap();
        assert_eq!(attributes.remove("datacontenttype").unwrap(), content_type);
        assert_eq!(attributes["subject"], "Jörg");
        let expected: BTreeMap<String, &str> =
            attributes.iter().map(|(name, value)| (format!("ce_{name}"), value.as_str().unwrap())).collect();
        assert_eq!(headers, expected.iter().map(|(name, value)| (&**name, *value)).collect());
        if format == "raw" {
            assert_eq!(message.value, br#"{"number":1}"#);
        } else {
            assert_eq!((&value["fields"], &value["raw"]), (&data["fields"], &json!({"number": 1})));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_is_no_json_is_the_value_as_it_came() {
    let cluster = MockKafka::start(1);
    let mut record = record(1, Some("ann"));
    let arrival = Arrival { content_type: Some("text/plain".to_owned()), ..(*record.context.arrival).clone() };
    record.context = Arc::new(Context::bare(Arc::new(arrival)));
    let event = Event { record: Arc::new(record), payload: Arc::new(Payload::Opaque) };
    sink(&cluster, "topic = \"t\"\nformat = \"cloudevents_binary\"")
        .deliver(std::slice::from_ref(&event))
        .await
        .unwrap();
    let message = cluster.messages("t").remove(0);
    assert_eq!(message.value, event.record.raw);
    assert_eq!(message.headers["content-type"], "text/plain");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_in_the_middle_overtakes_nobody() {
    let cluster = MockKafka::start(1);
    cluster.create("t", 1);
    let sink = sink(&cluster, "topic = \"t\"");
    let events: Vec<_> = (1..=5).map(|number| event(number, "ann")).collect();
    // The second message fails for good, as librdkafka sees it. It would have sent those behind it.
    answers(&cluster, Produce, &[RD_KAFKA_RESP_ERR_NO_ERROR, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED]);
    let failure = sink.deliver(&events).await.unwrap_err();
    assert_eq!((failure.delivered, failure.blame), (1, Blame::Unknown));
    assert_eq!(of_person(&cluster, "t", "ann"), [1]);
    // The producer would not try that topic again for minutes.
    sink.deliver(&events[1..]).await.unwrap();
    assert_eq!(of_person(&cluster, "t", "ann"), [1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_waited_for() {
    let cluster = MockKafka::start(1);
    cluster.create("t", 1);
    // librdkafka is given room for twice what calls may hold; this call holds more than the dispatcher would hand over.
    let sink = sink(&cluster, "topic = \"t\"\nconcurrency = 1\nbatch_events = 1");
    let mut events: Vec<_> = (1..=30).map(|number| event(number, &format!("person-{number}"))).collect();
    events.extend((31..=40).map(|number| event(number, "person-1")));
    sink.deliver(&events).await.unwrap();
    let sent = cluster.messages("t");
    assert_eq!(sent.iter().map(number).collect::<BTreeSet<_>>(), (1..=40).collect());
    assert_eq!(sent.len(), 40);
    assert_eq!(of_person(&cluster, "t", "person-1"), [1].into_iter().chain(31..=40).collect::<Vec<_>>());
}

/// Delivers as the dispatcher would, again until it works.
async fn eventually_delivers(sink: &dyn Sink, mut events: &[Event]) {
    for _ in 0..30 {
        let Err(failure) = sink.deliver(events).await else { return };
        assert!(matches!(failure.cause, SinkError::Transient { .. }), "{failure}");
        events = &events[failure.delivered..];
    }
    panic!("it does not deliver again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_times_out_is_before_the_next_one_when_it_comes() {
    let cluster = MockKafka::start(1);
    cluster.create("t", 1);
    let sink = build(&settings(&cluster, &format!("{SOON}topic = \"t\"")));
    eventually_delivers(&*sink, &[event(1, "ann")]).await;
    // The brokers take it, and say so too late.
    cluster.order(|cluster| cluster.broker_round_trip_time(-1, Duration::from_secs(3))).unwrap();
    let cause = transient(sink.deliver(&[event(2, "ann"), event(3, "ann")]).await);
    assert!(cause.contains("timed out"), "{cause}");
    cluster.order(|cluster| cluster.broker_round_trip_time(-1, Duration::ZERO)).unwrap();
    eventually_delivers(&*sink, &[event(2, "ann"), event(3, "ann")]).await;
    let mut numbers = of_person(&cluster, "t", "ann");
    numbers.dedup();
    assert_eq!(numbers, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fatal_error_ends_the_producer_and_not_the_sink() {
    let cluster = MockKafka::start(1);
    cluster.create("t", 1);
    let sink = sink(&cluster, "topic = \"t\"");
    sink.deliver(&[event(1, "ann")]).await.unwrap();
    answers(&cluster, Produce, &[RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]);
    let cause = transient(sink.deliver(&[event(2, "ann")]).await);
    assert!(cause.contains("out of order sequence number"), "{cause}");
    sink.deliver(&[event(2, "ann"), event(3, "ann")]).await.unwrap();
    assert_eq!(of_person(&cluster, "t", "ann"), [1, 2, 3]);
    // A login without the right to write idempotently, until somebody grants it.
    let refused = &[RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED; 3];
    answers(&cluster, RDKafkaApiKey::InitProducerId, refused);
    sink.reopen().await.unwrap();
    let cause = transient(sink.deliver(&[event(4, "ann")]).await);
    assert!(cause.contains("authorization failed"), "{cause}");
    eventually_delivers(&*sink, &[event(4, "ann")]).await;
    assert_eq!(of_person(&cluster, "t", "ann"), [1, 2, 3, 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_an_event_that_is_too_large_or_invalid_alone_is_refused() {
    let cluster = MockKafka::start(1);
    cluster.create("t", 1);
    let sink = sink(&cluster, "topic = \"t\"\nmax_message_bytes = \"10 kB\"");
    let several = [event(1, "ann"), event(2, "bob"), event(3, "cyd")];
    sink.deliver(&several).await.unwrap();
    // What the broker says is of all that is sent to a partition at once.
    const TOO_LARGE: &[RDKafkaRespErr] = &[RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE; 2];
    const INVALID: &[RDKafkaRespErr] = &[RD_KAFKA_RESP_ERR_INVALID_RECORD; 2];
    for (refusals, said) in [(TOO_LARGE, "max.message.bytes"), (INVALID, "found the record invalid")] {
        answers(&cluster, Produce, &refusals[..1]);
        assert!(transient(sink.deliver(&several).await).contains(said));
        answers(&cluster, Produce, &refusals[..1]);
        sink.deliver(&several[..1]).await.expect("it was sent together with others, and once more alone");
        answers(&cluster, Produce, refusals);
        let failure = sink.deliver(&several[..1]).await.unwrap_err();
        assert!(matches!(failure.cause, SinkError::Permanent { .. }) && failure.blame == Blame::Event, "{failure}");
        assert!(failure.to_string().contains(said), "{failure}");
    }

    let raw = format!("{{\"number\":5,\"text\":\"{}\"}}", "x".repeat(10_000));
    let large = decode(Arc::new(Record { raw: raw.into(), ..record(5, Some("bob")) }));
    let failure = sink.deliver(&[event(4, "ann"), large]).await.unwrap_err();
    assert_eq!((failure.delivered, failure.blame), (1, Blame::Event));
    assert_eq!(failure.to_string(), "1 delivered, then: the message is larger than max_message_bytes (10000 bytes)");
    assert_eq!(sink.check().await.unwrap().max_event_bytes, Some(10_000 - 512));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_finds_cluster_and_topic_and_leaves_nothing() {
    let cluster = MockKafka::start(3);
    cluster.create("there", 6);
    let found = async |topic: &str| sink(&cluster, &format!("topic = \"{topic}\"")).check().await.unwrap().found;
    assert_eq!(found("there").await, "3 brokers, topic there with 6 partitions");
    assert_eq!(found("hooks.{kind}").await, "3 brokers; topics named hooks.{kind} are known with their first event");
    cluster.order(|cluster| cluster.broker_down(-1)).unwrap();
    let error = build(&settings(&cluster, &format!("{SOON}topic = \"there\""))).check().await.unwrap_err().to_string();
    assert!(error.contains("Broker transport failure") || error.contains("All broker"), "{error}");
    cluster.order(|cluster| cluster.broker_up(-1)).unwrap();
    assert!(cluster.messages("there").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_fails_is_told_without_the_password() {
    let cluster = MockKafka::start(1);
    cluster.create("t", 1);
    let login = "topic = \"t\"\nsasl = \"scram-sha-256\"\nusername = \"marker-user\"\npassword = \"marker-password\"";
    let sink = build(&settings(&cluster, &format!("{SOON}{login}")));
    // The mock knows no logins.
    for text in [transient(sink.deliver(&[event(1, "ann")]).await), sink.check().await.unwrap_err().to_string()] {
        assert!(text.to_lowercase().contains("authentication"), "{text}");
        assert!(!text.contains("marker"), "{text}");
    }
}

#[test]
fn what_librdkafka_says_is_for_debugging_and_holds_no_password() {
    let cluster = MockKafka::start(1);
    cluster.order(|cluster| cluster.broker_down(-1)).unwrap();
    let login = "topic = \"t\"\nsasl = \"plain\"\nusername = \"marker-user\"\npassword = \"marker-password\"";
    let sink = block("it", &settings(&cluster, &format!("{SOON}{login}")));
    let servers = ["info", "debug"].map(|level| {
        let server = TestServer::start(&format!("{SOURCE}{sink}\n[log]\nlevel = \"{level}\"\n"));
        let posted = runtime().block_on(server.post(SourceType::Meta, "messenger", SECRET, echo("m-1", "ann")));
        assert_eq!(posted.status, 200);
        (level, server)
    });
    for (level, server) in servers {
        eventually("it is found to be down", || server.stderr().contains("the sink is down").then_some(()));
        let log = server.stderr();
        assert!(log.contains("Message timed out"), "{log}");
        assert_eq!(log.contains("librdkafka: "), level == "debug", "{log}");
        assert!(!log.contains("marker-password"), "{log}");
        assert!(level == "debug" || !log.contains("marker"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_trusts_whom_it_is_told_to() {
    let cluster = MockKafka::start(1);
    let authority = Authority::new("the authority of this test");
    let folder = tempfile::tempdir().unwrap();
    let check = async |address: String, trusted: &Authority, time: &str| {
        let file = folder.path().join("ca.pem");
        std::fs::write(&file, trusted.pem()).unwrap();
        let lines = format!("brokers = [\"{address}\"]\ntopic = \"hooks.{{kind}}\"\ntls = true\nca_file = {file:?}");
        build(&format!("type = \"kafka\"\n{time}{lines}")).check().await
    };
    let behind = cluster.addresses()[0].parse().unwrap();
    let target = TlsTarget::start(authority.certify("localhost", false), behind).await;
    let address = format!("localhost:{}", target.address.port());
    let found = check(address.clone(), &authority, LONG).await.unwrap().found;
    assert!(found.starts_with("1 broker"), "{found}");
    for (address, trusted, certificate) in [
        (&address, Authority::new("another"), authority.certify("localhost", false)),
        (&address, Authority::new("the authority of this test"), authority.certify("localhost", true)),
        (&format!("127.0.0.1:{}", target.address.port()), authority, Authority::new("x").certify("localhost", false)),
    ] {
        target.renew(certificate);
        let error = check(address.clone(), &trusted, SOON).await.unwrap_err().to_string();
        assert!(error.contains("SSL"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_compression_is_built_in() {
    let cluster = MockKafka::start(1);
    for compression in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let sink = sink(&cluster, &format!("topic = \"{compression}\"\ncompression = \"{compression}\""));
        let events: Vec<_> = (0..50).map(|number| event(number, &format!("person-{}", number % 7))).collect();
        sink.deliver(&events).await.unwrap();
        assert_eq!(cluster.messages(compression).len(), 50, "{compression}");
    }
}

fn block(name: &str, settings: &str) -> String {
    format!("\n[sinks.{name}]\n{settings}\nretry_initial = \"10ms\"\nretry_max = \"200ms\"\n")
}

const PEOPLE: usize = 6;

/// Requests that are acknowledged in each state of the cluster.
const STEP: usize = 150;

#[test]
fn a_cluster_in_trouble_loses_nothing_and_keeps_the_order() {
    skipped(
        "the sink kafka before a broker that is killed",
        "no package holds a broker; librdkafka's mock cluster is used",
    );
    let cluster = MockKafka::start(3);
    let topics = ["left", "right"];
    topics.iter().for_each(|topic| cluster.create(topic, 4));
    let right = "topic = \"right\"\nformat = \"cloudevents_binary\"\nbatch_events = 20";
    let sinks = [
        block("left", &settings(&cluster, &format!("{SOON}topic = \"left\""))),
        block("right", &settings(&cluster, &format!("{SOON}{right}"))),
    ];
    let everyone = -1;
    let down = |broker| cluster.order(move |cluster| cluster.broker_down(broker)).expect("it goes");
    let up = |broker| cluster.order(move |cluster| cluster.broker_up(broker)).expect("it comes back");
    let leaders = |leader: fn(i32) -> Option<i32>| {
        let lead = move |topic, partition| move |cluster: &_| lead(cluster, topic, partition, leader(partition));
        topics.iter().for_each(|topic| (0..4).for_each(|partition| cluster.order(lead(*topic, partition))));
    };
    let round_trip = |time| cluster.order(move |cluster| cluster.broker_round_trip_time(-1, time)).expect("it waits");

    down(everyone);
    let server = TestServer::start(&format!("{SOURCE}{}", sinks.concat()));
    let delivered =
        |sink: &str| runtime().block_on(server.metric(&format!("hooksink_sink_delivered_total{{sink=\"{sink}\"}}")));
    let mut senders = senders(PEOPLE);
    under_load(&mut senders, server.public, |load| {
        let more = |what: &str| {
            let enough = load.acknowledged() + STEP;
            eventually(what, || (load.acknowledged() >= enough).then_some(()));
        };
        let arrives = |what: &str| {
            let before = topics.map(delivered);
            eventually(what, || topics.iter().zip(before).all(|(sink, before)| delivered(sink) > before).then_some(()));
        };
        more("requests are answered while no broker is there");
        up(everyone);
        arrives("events get through when the brokers are there");
        for broker in 1..=3 {
            down(broker);
            more("requests are answered while a broker is down");
            up(broker);
            arrives("events get through when it is back");
        }
        leaders(|_| None);
        more("requests are answered during elections");
        leaders(|partition| Some(1 + partition % 3));
        arrives("events get through with new leaders");
        // Refused, retried by librdkafka, cut off, and one that ends the producer for good.
        answers(&cluster, Produce, &[RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED; 3]);
        answers(&cluster, Produce, &[RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 3]);
        answers(&cluster, Produce, &[RD_KAFKA_RESP_ERR__TRANSPORT; 3]);
        answers(&cluster, Produce, &[RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER; 2]);
        arrives("events get through after errors");
        round_trip(Duration::from_millis(100));
        more("requests are answered while the brokers are slow");
        arrives("slow is no failure");
        round_trip(Duration::from_secs(3));
        more("requests are answered while the brokers are slower than may be");
        round_trip(Duration::ZERO);
    });
    let owed = owed(&senders);
    for topic in topics {
        eventually("all that is owed arrives", || (delivered(topic) >= owed.len() as u64).then_some(()));
        let events = cluster.events(topic);
        assert!(has_all(&events, &owed));
        check(topic, &events, &owed);
        let partitions: BTreeSet<_> = cluster.messages(topic).iter().map(|message| message.partition).collect();
        assert!(partitions.len() > 1, "{partitions:?}");
    }
    runtime().block_on(server.no_dead_letters());
    println!("kafka: {} events through {} sinks", owed.len(), topics.len());
}

fn lead(
    cluster: &rdkafka::mocking::MockCluster<'static, rdkafka::producer::DefaultProducerContext>,
    topic: &str,
    partition: i32,
    leader: Option<i32>,
) {
    cluster.partition_leader(topic, partition, leader).expect("there is such a partition");
}
