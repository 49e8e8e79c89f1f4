//! What several modules of tests use: made-up events, waiting with a deadline, and a target that answers as it is told.

pub(crate) mod daemon;
pub(crate) mod hosts;
#[cfg(feature = "kafka")]
pub(crate) mod mock_kafka;
pub(crate) mod mock_target;
pub(crate) mod nats_cluster;
pub(crate) mod nats_proxy;
pub(crate) mod nats_server;
pub(crate) mod postgres;
pub(crate) mod rabbitmq_server;
pub(crate) mod senders;
pub(crate) mod server;
pub(crate) mod shell;
pub(crate) mod small_disk;
pub(crate) mod strace;
pub(crate) mod tcp_proxy;
pub(crate) mod tls_target;
pub(crate) mod unsynced;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use hooksink::config::{self, Inputs, SinkConfig};
use hooksink::event::{Arrival, Context, Event, EventId, Kind, Record, Subject};
use hooksink::model::Payload;
use hooksink::names::SourceType;
use hooksink::sinks::{Sink, Undelivered};
use uuid::Uuid;

/// How long a test waits for what must happen; never how long it takes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(120);

/// Waits until the condition holds.
#[track_caller]
pub(crate) fn until(what: &'static str, holds: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    let mut holds = holds;
    async move {
        let waited = tokio::time::timeout(DEADLINE, async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        assert!(waited.await.is_ok(), "{caller}: waited in vain: {what}");
    }
}

/// What a `MockTarget` runs on in a test that waits with its own thread.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// Runs this to its end, which must come in time: a client that hangs fails its test, and does not hold up all others.
#[track_caller]
pub(crate) fn finishes<T>(runtime: &tokio::runtime::Runtime, future: impl Future<Output = T>) -> T {
    let in_time = async { tokio::time::timeout(DEADLINE, future).await };
    runtime.block_on(in_time).expect("it takes far too long")
}

/// The made-up event of this number, of this person or of nobody.
pub(crate) fn record(number: u64, person: Option<&str>) -> Record {
    Record {
        id: EventId(Uuid::from_u128(u128::from(number))),
        source: "connect".parse().expect("a name"),
        source_type: SourceType::WebexConnect,
        kind: Kind::ConnectUnrecognized,
        subject: person.and_then(Subject::new),
        occurred_at: None,
        received_at: DateTime::from_timestamp_millis(Utc::now().timestamp_millis()).expect("a time"),
        context: Arc::new(Context::bare(Arc::new(Arrival {
            request_id: format!("request-{number}"),
            client_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            proofs: Vec::new(),
            content_type: Some("application/json".to_owned()),
            content_encoding: None,
            user_agent: None,
            wx_gtrid: None,
        }))),
        raw: Bytes::from(format!("{{ \"number\": {number} }}")),
    }
}

/// The number of a made-up event.
pub(crate) fn number(record: &Record) -> u64 {
    u64::try_from(record.id.0.as_u128()).expect("made by `record`")
}

/// A record with its JSON as sent.
pub(crate) fn decode(record: Arc<Record>) -> Event {
    let text = String::from_utf8(record.raw.to_vec()).expect("made by `record`");
    let fields = serde_json::value::RawValue::from_string(text).expect("made by `record`");
    let payload = Payload::Unrecognized(hooksink::model::Unrecognized { fields });
    Event { record, payload: Arc::new(payload) }
}

/// The made-up event of this number as a sink is handed it.
pub(crate) fn event(number: u64, person: &str) -> Event {
    decode(Arc::new(record(number, Some(person))))
}

/// Two of one person and one of another, larger than what pipes and sockets hold.
pub(crate) fn large_events() -> Vec<Event> {
    let large = |number, person| {
        let raw = format!("{{\"number\":{number},\"text\":\"{}\"}}", "x".repeat(200_000));
        decode(Arc::new(Record { raw: raw.into(), ..record(number, Some(person)) }))
    };
    vec![large(1, "ann"), large(2, "ann"), large(3, "bob")]
}

/// Delivers as the dispatcher would, no more at once than the sink wants and no longer than it may take.
pub(crate) async fn deliver(sink: &dyn Sink, events: &[Event]) -> Result<(), Undelivered> {
    for events in events.chunks(sink.limits().max_events) {
        let call = tokio::time::timeout(sink.limits().timeout, sink.deliver(events));
        call.await.expect("a sink ends its calls itself")?;
    }
    Ok(())
}

/// A sink as the configuration describes it: the lines below `[sinks.it]`.
pub(crate) fn sink_config(lines: &str) -> SinkConfig {
    let text = format!("[sinks.it]\n{lines}\n");
    let inputs = Inputs {
        file: Some(("hooksink.toml".into(), text)),
        environment: BTreeMap::new(),
        flags: Vec::new(),
        read_secret: &|_| Err(std::io::ErrorKind::NotFound.into()),
    };
    let loaded = config::load(&inputs).unwrap_or_else(|errors| panic!("{errors}"));
    loaded.config.sinks.into_values().next().expect("written above")
}

/// The block of README.md that shows a sink of this type.
pub(crate) fn readme_example(sink_type: &str) -> String {
    let readme = include_str!("../../../README.md");
    let blocks = readme.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let line = format!("type = \"{sink_type}\"");
    blocks.into_iter().find(|block| block.contains(&line)).expect("README.md shows each type").to_owned()
}
