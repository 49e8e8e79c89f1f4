//! The journal through its traits and real files: what is stored, handed out, kept, and let go.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use hooksink::config::{Engine, JournalConfig};
use hooksink::event::{Arrival, Context, EventId, Kind, Place, Proof, Record, Scheme, Subject};
use hooksink::filter::{Filter, Pattern};
use hooksink::journal::sqlite::SqliteJournal;
use hooksink::journal::{Appended, Consumer, ConsumerSpec, Entry, Journal, Outcome, StartFrom, Ticket};
use hooksink::metrics::Metrics;
use hooksink::names::{SinkName, SourceType};
use tempfile::TempDir;
use uuid::Uuid;

fn config(folder: &Path) -> JournalConfig {
    JournalConfig {
        engine: Engine::Sqlite,
        path: folder.join("journal.db"),
        retention: Duration::from_secs(7 * 24 * 3600),
        dead_letter_retention: Duration::from_secs(30 * 24 * 3600),
        max_size: 1 << 30,
        disk_reserve: 0,
        wal_limit: 64 << 20,
        queue: 1024,
        segment_events: 1_000_000,
        backup_dir: folder.join("backups"),
    }
}

fn open(config: &JournalConfig) -> SqliteJournal {
    SqliteJournal::open(config, Arc::new(Metrics::new())).unwrap()
}

/// A record of its own for every number; by three, they concern the same person.
fn record(n: u64) -> Record {
    Record {
        id: EventId(Uuid::from_u128(u128::from(n) << 64 | 0xdead_beef)),
        source: if n.is_multiple_of(2) { "messenger" } else { "connect" }.parse().unwrap(),
        source_type: if n.is_multiple_of(2) { SourceType::Meta } else { SourceType::WebexConnect },
        kind: if n.is_multiple_of(2) { Kind::MetaMessageEcho } else { Kind::ConnectMessage },
        subject: if n.is_multiple_of(5) { None } else { Subject::new(&format!("person-{}", n % 3)) },
        occurred_at: (!n.is_multiple_of(4)).then(|| DateTime::from_timestamp_millis(1_700_000_000_123).unwrap()),
        received_at: DateTime::from_timestamp_millis(Utc::now().timestamp_millis()).unwrap(),
        context: Context {
            object: Some("page".to_owned()),
            entry_id: Some("1517776481860111".to_owned()),
            entry_time: None,
            field: None,
            place: Place::Standby,
            arrival: Arc::new(Arrival {
                request_id: format!("request-{n}"),
                client_address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
                proofs: vec![Proof { scheme: Scheme::HmacSha256, position: 1 }],
                content_type: Some("application/json".to_owned()),
                content_encoding: None,
                user_agent: Some("ünï\u{0}".to_owned()),
                wx_gtrid: None,
            }),
        },
        raw: Bytes::from(format!("{{\"n\": {n}, \"bytes\": \"\u{0}\u{7f}\"}} \n").into_bytes()),
    }
}

fn sink(name: &str) -> SinkName {
    name.parse().unwrap()
}

fn spec(name: &str) -> ConsumerSpec {
    ConsumerSpec { sink: sink(name), wants: Filter::default(), from: StartFrom::Start, skip_when_full: false }
}

/// The journal with one sink, `crm`, that begins at the start.
async fn open_with_crm(config: &JournalConfig) -> (SqliteJournal, Box<dyn Consumer>) {
    let journal = open(config);
    journal.configure(vec![spec("crm")]).await.unwrap();
    let consumer = journal.consumer(&sink("crm")).await.unwrap();
    (journal, consumer)
}

/// Reads until so many came.
async fn read(consumer: &mut Box<dyn Consumer>, count: usize) -> Vec<Entry> {
    let mut entries = Vec::new();
    let all = async {
        while entries.len() < count {
            consumer.ready().await;
            entries.extend(consumer.read(count - entries.len(), usize::MAX).await.unwrap());
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("the events should come");
    entries
}

fn numbers(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| (entry.record.id.0.as_u128() >> 64) as u64).collect()
}

fn delivered(entries: &[Entry]) -> Vec<(Ticket, Outcome)> {
    entries.iter().map(|entry| (entry.ticket, Outcome::Delivered)).collect()
}

fn same(a: &Record, b: &Record) {
    let text = |record: &Record| serde_json::to_value(&record.context).unwrap();
    assert_eq!((a.id, &a.source, a.source_type, a.kind), (b.id, &b.source, b.source_type, b.kind));
    assert!(a.subject == b.subject, "subjects differ");
    assert_eq!((a.occurred_at, a.received_at), (b.occurred_at, b.received_at));
    assert_eq!(text(a), text(b));
    assert_eq!(a.raw, b.raw);
}

#[tokio::test]
async fn what_was_stored_is_there_after_reopening_field_by_field() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path());
    let records: Vec<Record> = (0..10).map(record).collect();
    let key = {
        let journal = open(&config);
        assert_eq!(journal.append(records.clone()).await.unwrap(), vec![Appended::Stored; 10]);
        journal.close().await;
        journal.key()
    };
    let (journal, mut consumer) = open_with_crm(&config).await;
    assert_eq!(journal.key(), key);
    assert_ne!(key, [0; 32]);
    let entries = read(&mut consumer, 10).await;
    for (entry, record) in entries.iter().zip(&records) {
        same(&entry.record, record);
    }
}

#[tokio::test]
async fn copies_are_stored_once_also_when_they_come_at_the_same_moment() {
    let folder = TempDir::new().unwrap();
    let (journal, mut consumer) = open_with_crm(&config(folder.path())).await;
    let journal = Arc::new(journal);
    let mut copies = tokio::task::JoinSet::new();
    for n in (0..50).flat_map(|n| [n; 4]) {
        let journal = Arc::clone(&journal);
        copies.spawn(async move { journal.append(vec![record(n), record(n)]).await.unwrap() });
    }
    let answers: Vec<Appended> = copies.join_all().await.concat();
    assert_eq!(answers.iter().filter(|answer| **answer == Appended::Stored).count(), 50);
    let mut found = numbers(&read(&mut consumer, 50).await);
    found.sort_unstable();
    assert_eq!(found, (0..50).collect::<Vec<_>>());
    assert!(consumer.read(10, usize::MAX).await.unwrap().is_empty());
}

#[tokio::test]
async fn copies_are_found_in_older_segments() {
    let folder = TempDir::new().unwrap();
    let config = JournalConfig { segment_events: 3, ..config(folder.path()) };
    let (journal, mut consumer) = open_with_crm(&config).await;
    for n in 0..10 {
        assert_eq!(journal.append(vec![record(n)]).await.unwrap(), [Appended::Stored]);
    }
    for n in 0..10 {
        assert_eq!(journal.append(vec![record(n)]).await.unwrap(), [Appended::Duplicate]);
    }
    assert_eq!(numbers(&read(&mut consumer, 10).await), (0..10).collect::<Vec<_>>());
    assert_eq!(journal.status().events, 10);
}

#[tokio::test]
async fn the_place_of_a_sink_survives_and_stops_before_what_has_no_outcome() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path());
    {
        let (journal, mut consumer) = open_with_crm(&config).await;
        journal.append((0..10).map(record).collect()).await.unwrap();
        let entries = read(&mut consumer, 10).await;
        let mut outcomes = delivered(&entries);
        outcomes.remove(6);
        consumer.settle(outcomes).await.unwrap();
        consumer.flush().await.unwrap();
        assert_eq!(journal.sinks().await.unwrap()[0].cursor, 6);
        journal.close().await;
    }
    let (_journal, mut consumer) = open_with_crm(&config).await;
    assert_eq!(numbers(&read(&mut consumer, 4).await), [6, 7, 8, 9]);
}

#[tokio::test]
async fn a_sink_gets_what_it_wants_and_passes_over_the_rest() {
    let folder = TempDir::new().unwrap();
    let journal = open(&config(folder.path()));
    let wants = Filter { sources: vec![Pattern::new("mess*")], kinds: vec![Pattern::new("meta.*")] };
    journal.configure(vec![ConsumerSpec { wants, ..spec("crm") }]).await.unwrap();
    let mut consumer = journal.consumer(&sink("crm")).await.unwrap();
    journal.append((0..20).map(record).collect()).await.unwrap();
    let entries = read(&mut consumer, 10).await;
    assert_eq!(numbers(&entries), (0..20).step_by(2).collect::<Vec<_>>());
    consumer.settle(delivered(&entries)).await.unwrap();
    assert!(consumer.read(10, usize::MAX).await.unwrap().is_empty());
    assert_eq!(journal.sinks().await.unwrap()[0].lag_events, 0);
}

#[tokio::test]
async fn a_page_keeps_to_its_limits_but_for_the_first_event() {
    let folder = TempDir::new().unwrap();
    let (journal, mut consumer) = open_with_crm(&config(folder.path())).await;
    journal.append((0..10).map(record).collect()).await.unwrap();
    let one = record(0).raw.len();
    assert_eq!(consumer.read(3, usize::MAX).await.unwrap().len(), 3);
    assert_eq!(consumer.read(10, 1).await.unwrap().len(), 1);
    assert_eq!(consumer.read(10, 2 * one).await.unwrap().len(), 2);
    assert_eq!(consumer.read(10, usize::MAX).await.unwrap().len(), 4);
}

#[tokio::test]
async fn what_is_parked_stays_owed_and_is_told_after_reopening() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path());
    {
        let (journal, mut consumer) = open_with_crm(&config).await;
        journal.append((0..10).map(record).collect()).await.unwrap();
        let entries = read(&mut consumer, 10).await;
        let mut outcomes = delivered(&entries);
        outcomes[3].1 = Outcome::Parked;
        outcomes[5].1 = Outcome::Parked;
        outcomes.remove(1);
        consumer.settle(outcomes).await.unwrap();
        journal.close().await;
    }
    let (journal, mut consumer) = open_with_crm(&config).await;
    let parked = consumer.parked().await.unwrap();
    let lanes: Vec<_> = parked.iter().map(|parked| parked.lane.clone()).collect();
    assert_eq!(lanes, [record(3).lane(), record(5).lane()]);
    let first = consumer.load(parked[0].ticket).await.unwrap().unwrap();
    assert_eq!(numbers(std::slice::from_ref(&first)), [3]);
    // The cursor could not pass event 1: what follows comes again, but for what is parked.
    assert_eq!(numbers(&read(&mut consumer, 7).await), [1, 2, 4, 6, 7, 8, 9]);
    consumer.settle(vec![(first.ticket, Outcome::Delivered)]).await.unwrap();
    assert_eq!(journal.sinks().await.unwrap()[0].parked, 1);
}
