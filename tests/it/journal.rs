//! The journal through its traits and real files and servers: what is stored, handed out, kept, and let go. A test that
//! takes its ground from `grounds::each` says what holds of both engines; where they differ, it says how.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::FutureExt as _;
use hooksink::config::{Engine, JournalConfig, SqliteConfig};
use hooksink::event::{Arrival, Context, EventId, Kind, Place, Proof, Record, Scheme, Subject};
use hooksink::filter::{Filter, Pattern};
use hooksink::journal::sqlite::{BackupError, OpenError, SqliteJournal, backup_offline};
use hooksink::journal::{
    Appended, Consumer, ConsumerSpec, Entry, Journal, JournalError, Letters, Outcome, ReplayRequest, StartFrom, Ticket,
};
use hooksink::metrics::Metrics;
use hooksink::names::{SinkName, SourceType};
use tempfile::TempDir;
use uuid::Uuid;

use crate::grounds;
use crate::steady::steady;

pub(crate) fn config(folder: &Path) -> JournalConfig {
    JournalConfig {
        engine: Engine::Sqlite(SqliteConfig {
            path: folder.join("journal.db"),
            disk_reserve: 0,
            wal_limit: 64 << 20,
            segment_events: 1_000_000,
            backup_dir: folder.join("backups"),
        }),
        retention: Duration::from_secs(7 * 24 * 3600),
        dead_letter_retention: Duration::from_secs(30 * 24 * 3600),
        max_size: 1 << 30,
        queue: 1024,
        largest_body: 1 << 20,
    }
}

/// The settings of the embedded journal.
pub(crate) fn file(config: &JournalConfig) -> &SqliteConfig {
    let Engine::Sqlite(file) = &config.engine else { panic!("this is for the embedded journal") };
    file
}

/// The same with other settings of the embedded journal.
pub(crate) fn with_file(config: JournalConfig, change: impl FnOnce(&mut SqliteConfig)) -> JournalConfig {
    let Engine::Sqlite(mut file) = config.engine else { panic!("this is for the embedded journal") };
    change(&mut file);
    JournalConfig { engine: Engine::Sqlite(file), ..config }
}

fn open(config: &JournalConfig) -> SqliteJournal {
    SqliteJournal::open(config, file(config), Arc::new(Metrics::new())).unwrap()
}

/// A record of its own for every number; by three, they concern the same person.
pub(crate) fn record(n: u64) -> Record {
    Record {
        id: EventId(Uuid::from_u128(u128::from(n) << 64 | 0xdead_beef)),
        source: if n.is_multiple_of(2) { "messenger" } else { "connect" }.parse().unwrap(),
        source_type: if n.is_multiple_of(2) { SourceType::Meta } else { SourceType::WebexConnect },
        kind: if n.is_multiple_of(2) { Kind::MetaMessageEcho } else { Kind::ConnectMessage },
        subject: if n.is_multiple_of(5) { None } else { Subject::new(&format!("person-{}", n % 3)) },
        occurred_at: (!n.is_multiple_of(4)).then(|| DateTime::from_timestamp_millis(1_700_000_000_123).unwrap()),
        received_at: DateTime::from_timestamp_millis(Utc::now().timestamp_millis()).unwrap(),
        context: Arc::new(Context {
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
        }),
        raw: Bytes::from(format!("{{\"n\": {n}, \"bytes\": \"\u{0}\u{7f}\"}} \n").into_bytes()),
    }
}

pub(crate) fn sink(name: &str) -> SinkName {
    name.parse().unwrap()
}

pub(crate) fn spec(name: &str) -> ConsumerSpec {
    ConsumerSpec { sink: sink(name), wants: Filter::default(), from: StartFrom::Start, skip_when_full: false }
}

/// The journal with one sink, `crm`, that begins at the start.
async fn open_with_crm(config: &JournalConfig) -> (Arc<dyn Journal>, Box<dyn Consumer>) {
    let journal = grounds::open(config).await;
    journal.configure(vec![spec("crm")]).await.unwrap();
    let consumer = steady(&journal, "crm").await;
    (journal, consumer)
}

/// Stores records in this order, which the distributed journal keeps of each person's alone.
pub(crate) async fn store(journal: &Arc<dyn Journal>, records: impl IntoIterator<Item = Record>) {
    for record in records {
        assert_eq!(journal.append(vec![record]).await.unwrap(), [Appended::Stored]);
    }
}

/// Nothing is there to be read; of the distributed journal: has come by now.
async fn nothing(consumer: &mut Box<dyn Consumer>) {
    assert!(consumer.read(10, usize::MAX).await.unwrap().is_empty());
}

/// Reads until so many came.
pub(crate) async fn read(consumer: &mut Box<dyn Consumer>, count: usize) -> Vec<Entry> {
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

pub(crate) fn numbers(entries: &[Entry]) -> Vec<u64> {
    entries.iter().map(|entry| (entry.record.id.0.as_u128() >> 64) as u64).collect()
}

pub(crate) fn delivered(entries: &[Entry]) -> Vec<(Ticket, Outcome)> {
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
    for ground in grounds::each("journal::what_was_stored_is_there_after_reopening_field_by_field") {
        let config = ground.config();
        let records: Vec<Record> = (0..10).map(record).collect();
        let key = {
            let journal = grounds::open(&config).await;
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
}

#[tokio::test]
async fn copies_are_stored_once_also_when_they_come_at_the_same_moment() {
    for ground in grounds::each("journal::copies_are_stored_once_also_when_they_come_at_the_same_moment") {
        let (journal, mut consumer) = open_with_crm(&ground.config()).await;
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
        nothing(&mut consumer).await;
    }
}

#[tokio::test]
async fn copies_are_found_in_older_segments() {
    let folder = TempDir::new().unwrap();
    let config = with_file(config(folder.path()), |file| file.segment_events = 3);
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

/// In the newest segment, in one that has just become full, in older ones, and after a start in each state.
#[tokio::test]
async fn copies_are_found_wherever_their_ids_stand() {
    let folder = TempDir::new().unwrap();
    let config = with_file(config(folder.path()), |file| file.segment_events = 160);
    for start in 0..5 {
        let journal = open(&config);
        for n in 0..start * 100 {
            assert_eq!(journal.append(vec![record(n)]).await.unwrap(), [Appended::Duplicate], "{n} of {start}");
        }
        for n in start * 100..(start + 1) * 100 {
            assert_eq!(journal.append(vec![record(n)]).await.unwrap(), [Appended::Stored], "{n} of {start}");
        }
        journal.close().await;
    }
    let conn = rusqlite::Connection::open(&file(&config).path).unwrap();
    let number = |sql: &str| -> u64 { conn.query_row(sql, [], |row| row.get(0)).unwrap() };
    assert_eq!([1, 2, 3, 4].map(|n| number(&format!("SELECT count(*) FROM events_{n}"))), [160, 160, 160, 20]);
    // All of full segments have moved, and of the newest none.
    assert_eq!(
        [1, 2, 4].map(|n| number(&format!("SELECT coalesce(sum(length(ids)), 0) / 24 FROM ids_{n}"))),
        [160, 160, 0]
    );
    assert_eq!(number("SELECT count(*) FROM segments WHERE filter IS NOT NULL AND n < 3"), 2);
}

/// Each part of a distributed log has a place of its own, so that less comes again; here it has one part.
#[tokio::test]
async fn the_place_of_a_sink_survives_and_stops_before_what_has_no_outcome() {
    for ground in grounds::each("journal::the_place_of_a_sink_survives_and_stops_before_what_has_no_outcome") {
        let config = grounds::in_one_part(ground.config());
        {
            let (journal, mut consumer) = open_with_crm(&config).await;
            store(&journal, (0..10).map(record)).await;
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
}

#[tokio::test]
async fn a_sink_gets_what_it_wants_and_passes_over_the_rest() {
    for ground in grounds::each("journal::a_sink_gets_what_it_wants_and_passes_over_the_rest") {
        let journal = grounds::open(&ground.config()).await;
        let wants = Filter { sources: vec![Pattern::new("mess*")], kinds: vec![Pattern::new("meta.*")] };
        journal.configure(vec![ConsumerSpec { wants, ..spec("crm") }]).await.unwrap();
        let mut consumer = steady(&journal, "crm").await;
        store(&journal, (0..20).map(record)).await;
        let entries = read(&mut consumer, 10).await;
        assert_eq!(numbers(&entries), (0..20).step_by(2).collect::<Vec<_>>());
        consumer.settle(delivered(&entries)).await.unwrap();
        nothing(&mut consumer).await;
        assert_eq!(journal.sinks().await.unwrap()[0].lag_events, 0);
    }
}

#[tokio::test]
async fn a_page_keeps_to_its_limits_but_for_the_first_event() {
    for ground in grounds::each("journal::a_page_keeps_to_its_limits_but_for_the_first_event") {
        let (journal, mut consumer) = open_with_crm(&ground.config()).await;
        store(&journal, (0..10).map(record)).await;
        let one = record(0).raw.len();
        let mut left = 10;
        for (events, bytes, most) in [(3, usize::MAX, 3), (10, 1, 1), (10, 2 * one, 2), (10, usize::MAX, 4)] {
            let page = async {
                consumer.ready().await;
                consumer.read(events, bytes).await.unwrap().len()
            };
            let page = tokio::time::timeout(Duration::from_secs(60), page).await.expect("there is more");
            // What is read from servers comes by and by: a page may have less, and never more.
            let few = ground.is_distributed() && (1..most).contains(&page);
            assert!(few || page == most, "{page} instead of {most}");
            left -= page;
        }
        assert_eq!(read(&mut consumer, left).await.len(), left);
    }
}

/// Each part of a distributed log has a place of its own, so that less comes again; here it has one part.
#[tokio::test]
async fn what_is_parked_stays_owed_and_is_told_after_reopening() {
    for ground in grounds::each("journal::what_is_parked_stays_owed_and_is_told_after_reopening") {
        let config = grounds::in_one_part(ground.config());
        {
            let (journal, mut consumer) = open_with_crm(&config).await;
            store(&journal, (0..10).map(record)).await;
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
}

/// The journal with ten events of which the sink gave up on two.
async fn open_with_two_letters(config: &JournalConfig) -> (Arc<dyn Journal>, Box<dyn Consumer>) {
    let (journal, mut consumer) = open_with_crm(config).await;
    store(&journal, (0..10).map(record)).await;
    let entries = read(&mut consumer, 10).await;
    let mut outcomes = delivered(&entries);
    for at in [2, 4] {
        outcomes[at].1 = Outcome::Dead { reason: "422".to_owned(), attempts: 5 };
    }
    consumer.settle(outcomes).await.unwrap();
    (journal, consumer)
}

#[tokio::test]
async fn dead_letters_are_listed_and_keep_their_event() {
    for ground in grounds::each("journal::dead_letters_are_listed_and_keep_their_event") {
        let config = ground.config();
        let (journal, _consumer) = open_with_two_letters(&config).await;
        let letters = journal.dead_letters(Some(&sink("crm")), 0, 10).await.unwrap();
        assert_eq!(letters.iter().map(|letter| letter.event_id).collect::<Vec<_>>(), [record(2).id, record(4).id]);
        assert_eq!((letters[0].attempts, letters[0].reason.as_str(), letters[0].retrying), (5, "422", false));
        assert_eq!(letters[0].bytes, record(2).raw.len() as u64);
        assert_eq!(journal.dead_letters(None, letters[0].id, 10).await.unwrap().len(), 1);
        assert!(journal.dead_letters(Some(&sink("other")), 0, 10).await.unwrap().is_empty());
        let (_, event) = journal.dead_letter(letters[1].id).await.unwrap().unwrap();
        same(&event, &Record { received_at: event.received_at, ..record(4) });
        let status = &journal.sinks().await.unwrap()[0];
        assert_eq!((status.dead_letters, status.lag_events, status.oldest_unsent), (2, 0, None));
    }
}

#[tokio::test]
async fn a_dead_letter_is_tried_again_until_it_is_delivered() {
    for ground in grounds::each("journal::a_dead_letter_is_tried_again_until_it_is_delivered") {
        let config = ground.config();
        let (journal, mut consumer) = open_with_two_letters(&config).await;
        let letters = journal.dead_letters(None, 0, 10).await.unwrap();
        let ids: Vec<i64> = letters.iter().map(|letter| letter.id).collect();
        nothing(&mut consumer).await;
        assert_eq!(journal.retry_dead_letters(Letters::Ids(ids.clone())).await.unwrap(), 2);
        let entries = read(&mut consumer, 2).await;
        assert_eq!(numbers(&entries), [2, 4]);
        assert_eq!(entries[0].ticket, Ticket::Letter(ids[0]));
        let again = Outcome::Dead { reason: "still".to_owned(), attempts: 3 };
        consumer.settle(vec![(entries[0].ticket, Outcome::Delivered), (entries[1].ticket, again)]).await.unwrap();
        let left = journal.dead_letters(None, 0, 10).await.unwrap();
        assert_eq!(left.iter().map(|letter| letter.id).collect::<Vec<_>>(), [ids[1]]);
        assert_eq!((left[0].reason.as_str(), left[0].retrying), ("still", false));
        // One that is asked for and not settled is handed out by the next process.
        assert_eq!(journal.retry_dead_letters(Letters::Sink(sink("crm"))).await.unwrap(), 1);
        journal.close().await;
        drop((journal, consumer));
        let (_journal, mut consumer) = open_with_crm(&config).await;
        assert_eq!(numbers(&read(&mut consumer, 1).await), [4]);
    }
}

#[tokio::test]
async fn a_sink_that_may_not_be_forgotten_keeps_what_it_has() {
    for ground in grounds::each("journal::a_sink_that_may_not_be_forgotten_keeps_what_it_has") {
        let (journal, _consumer) = open_with_two_letters(&ground.config()).await;
        assert!(matches!(journal.forget_sink(&sink("crm")).await, Err(JournalError::Refused(_))));
        assert_eq!(journal.dead_letters(None, 0, 10).await.unwrap().len(), 2);
        assert_eq!(journal.sinks().await.unwrap()[0].dead_letters, 2);
    }
}

#[tokio::test]
async fn dropped_letters_are_gone() {
    for ground in grounds::each("journal::dropped_letters_are_gone") {
        let (journal, _consumer) = open_with_two_letters(&ground.config()).await;
        assert_eq!(journal.drop_dead_letters(Letters::Sink(sink("other"))).await.unwrap(), 0);
        assert_eq!(journal.drop_dead_letters(Letters::Sink(sink("crm"))).await.unwrap(), 2);
        assert!(journal.dead_letters(None, 0, 10).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_replay_hands_out_what_is_stored_once_more() {
    for ground in grounds::each("journal::a_replay_hands_out_what_is_stored_once_more") {
        let config = ground.config();
        let (journal, mut consumer) = open_with_crm(&config).await;
        let begin = Utc::now() - chrono::TimeDelta::hours(1);
        let early = Record { received_at: begin - chrono::TimeDelta::hours(1), ..record(100) };
        journal.append(vec![early]).await.unwrap();
        store(&journal, (0..10).map(record)).await;
        let entries = read(&mut consumer, 11).await;
        consumer.settle(delivered(&entries)).await.unwrap();
        let request = ReplayRequest { sink: sink("crm"), from: begin, to: None, kinds: vec![Pattern::new("meta.*")] };
        let progress = journal.start_replay(request.clone()).await.unwrap();
        assert_eq!((progress.done, progress.total, progress.finished), (0, 11, false));
        let entries = read(&mut consumer, 5).await;
        assert_eq!(numbers(&entries), [0, 2, 4, 6, 8]);
        // The first is delivered, the second parked; a new process knows of both.
        consumer
            .settle(vec![(entries[0].ticket, Outcome::Delivered), (entries[1].ticket, Outcome::Parked)])
            .await
            .unwrap();
        journal.close().await;
        drop((journal, consumer));
        let (journal, mut consumer) = open_with_crm(&config).await;
        let parked = consumer.parked().await.unwrap();
        assert_eq!(parked.len(), 1);
        let rest = read(&mut consumer, 3).await;
        assert_eq!(numbers(&rest), [4, 6, 8]);
        let mut outcomes = delivered(&rest);
        outcomes.push((parked[0].ticket, Outcome::Delivered));
        consumer.settle(outcomes).await.unwrap();
        let progress = until_some("the replay should end", async || {
            nothing(&mut consumer).await;
            consumer.flush().await.unwrap();
            journal.replay(progress.id).await.unwrap().filter(|progress| progress.finished)
        })
        .await;
        assert_eq!((progress.done, progress.delivered, progress.finished), (11, 5, true));
        let refused = journal.start_replay(ReplayRequest { sink: sink("nobody"), ..request }).await;
        assert!(matches!(refused, Err(JournalError::Refused(_))));
    }
}

#[tokio::test]
async fn what_a_sink_is_not_to_have_counts_as_delivered_nowhere() {
    for ground in grounds::each("journal::what_a_sink_is_not_to_have_counts_as_delivered_nowhere") {
        let config = ground.config();
        let (journal, _crm) = open_with_crm(&config).await;
        store(&journal, (0..3).map(record)).await;
        journal.close().await;
        let journal = grounds::open(&config).await;
        journal.configure(vec![spec("new")]).await.unwrap();
        let mut new = steady(&journal, "new").await;
        let entries = read(&mut new, 3).await;
        // One of them is parked first.
        new.settle(vec![(entries[1].ticket, Outcome::Parked)]).await.unwrap();
        new.settle(entries.iter().map(|entry| (entry.ticket, Outcome::LetGo)).collect()).await.unwrap();
        new.flush().await.unwrap();
        let states = journal.sinks().await.unwrap();
        let state = states.iter().find(|state| state.sink == sink("new")).unwrap();
        assert_eq!((state.cursor, state.parked, state.lag_events), (3, 0, 0));
        // So that it takes the place of another.
        journal.rename_sink(&sink("crm"), &sink("new")).await.unwrap();
        journal.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_left_is_owed_until_it_is_forgotten_or_renamed() {
    for ground in grounds::each("journal::a_sink_that_left_is_owed_until_it_is_forgotten_or_renamed") {
        let config = ground.config();
        {
            let (journal, mut consumer) = open_with_crm(&config).await;
            store(&journal, (0..10).map(record)).await;
            let entries = read(&mut consumer, 4).await;
            let mut outcomes = delivered(&entries);
            outcomes[1].1 = Outcome::Parked;
            consumer.settle(outcomes).await.unwrap();
            assert!(matches!(journal.forget_sink(&sink("crm")).await, Err(JournalError::Refused(_))));
            journal.close().await;
        }
        let journal = grounds::open(&config).await;
        journal.configure(vec![ConsumerSpec { from: StartFrom::Now, ..spec("new") }, spec("busy")]).await.unwrap();
        let mut busy = steady(&journal, "busy").await;
        let entries = read(&mut busy, 1).await;
        busy.settle(delivered(&entries)).await.unwrap();
        let states = journal.sinks().await.unwrap();
        let crm = states.iter().find(|state| state.sink == sink("crm")).unwrap();
        assert_eq!((crm.configured, crm.cursor, crm.lag_events), (false, 4, 7));
        // One that has been delivered something keeps its own place.
        assert!(matches!(journal.rename_sink(&sink("crm"), &sink("busy")).await, Err(JournalError::Refused(_))));
        // One that runs and has not goes on from the place it is given, with what was parked there.
        let mut new = journal.consumer(&sink("new")).await.unwrap();
        assert!(new.parked().await.unwrap().is_empty());
        assert!(new.read(10, usize::MAX).await.unwrap().is_empty());
        journal.rename_sink(&sink("crm"), &sink("new")).await.unwrap();
        let mut entries = Vec::new();
        if ground.is_distributed() {
            // Its dispatcher is told to ask for another consumer, since other replicas may have that sink as well.
            new.moved().cancelled().await;
            new = steady(&journal, "new").await;
            for parked in new.parked().await.unwrap() {
                entries.extend(new.load(parked.ticket).await.unwrap());
            }
        }
        let rest = 7 - entries.len();
        entries.extend(read(&mut new, rest).await);
        assert_eq!(numbers(&entries), [1, 4, 5, 6, 7, 8, 9]);
        new.settle(delivered(&entries)).await.unwrap();
        new.flush().await.unwrap();
        let states = journal.sinks().await.unwrap();
        let names: Vec<&str> = states.iter().map(|state| state.sink.as_str()).collect();
        assert_eq!(names, ["busy", "new"]);
        assert_eq!((states[1].cursor, states[1].parked, states[1].lag_events), (10, 0, 0));
        journal.close().await;
        drop((journal, busy, new));

        let (journal, _consumer) = open_with_crm(&config).await;
        journal.forget_sink(&sink("new")).await.unwrap();
        journal.forget_sink(&sink("busy")).await.unwrap();
        assert_eq!(journal.sinks().await.unwrap().len(), 1);
        assert!(matches!(journal.forget_sink(&sink("new")).await, Err(JournalError::Refused(_))));
    }
}

/// Waits until there is something.
async fn until_some<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let mut result = None;
    until(what, async || {
        result = found().await;
        result.is_some()
    })
    .await;
    result.expect("it was waited for")
}

/// Waits until the condition holds.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn old_events_leave_when_no_sink_is_owed_them_and_positions_are_not_used_again() {
    for ground in grounds::each("journal::old_events_leave_when_no_sink_is_owed_them_and_positions_are_not_used_again")
    {
        let config = JournalConfig { retention: Duration::from_millis(1), ..ground.config() };
        let config = if ground.is_distributed() { config } else { with_file(config, |file| file.segment_events = 4) };
        let last = {
            let (journal, mut consumer) = open_with_crm(&config).await;
            for n in 0..20 {
                journal.append(vec![record(n)]).await.unwrap();
            }
            let entries = read(&mut consumer, 20).await;
            // Event 7 is parked: what is older may go, it and what is newer must stay.
            let mut outcomes = delivered(&entries);
            outcomes[7].1 = Outcome::Parked;
            consumer.settle(outcomes).await.unwrap();
            until("seven events should go", async || journal.status().events == 13).await;
            assert!(consumer.load(entries[7].ticket).await.unwrap().is_some());
            consumer.settle(vec![(entries[7].ticket, Outcome::Delivered)]).await.unwrap();
            until("all events should go", async || journal.status().events == 0).await;
            journal.close().await;
            journal.status().last_seq
        };
        assert_eq!(last, 20);
        let (journal, mut consumer) = open_with_crm(&config).await;
        // What has left is no duplicate any more; but the servers know ids for as long as `duplicate_window`.
        let again = if ground.is_distributed() { Appended::Duplicate } else { Appended::Stored };
        assert_eq!(journal.append(vec![record(3)]).await.unwrap(), [again]);
        if again == Appended::Duplicate {
            store(&journal, [record(21)]).await;
        }
        assert_eq!(read(&mut consumer, 1).await[0].ticket, Ticket::Log(last + 1));
    }
}

#[tokio::test]
async fn old_dead_letters_leave() {
    for ground in grounds::each("journal::old_dead_letters_leave") {
        let config = JournalConfig { dead_letter_retention: Duration::from_millis(1), ..ground.config() };
        let (journal, _consumer) = open_with_two_letters(&config).await;
        until("the letters should go", async || journal.dead_letters(None, 0, 10).await.unwrap().is_empty()).await;
        until("the events should stay", async || journal.status().events == 10).await;
    }
}

fn large(n: u64) -> Record {
    Record { raw: Bytes::from(vec![b'x'; 100_000]), ..record(n) }
}

/// One of less than what there is room for in a journal that is writable.
fn ordinary(n: u64) -> Record {
    Record { raw: Bytes::from(vec![b'o'; 60_000]), ..record(n) }
}

/// Balancers ask whether the journal is writable, and would send nobody here any more.
#[tokio::test]
async fn a_request_that_is_too_large_for_the_room_that_is_left_keeps_out_no_other() {
    let test = "journal::a_request_that_is_too_large_for_the_room_that_is_left_keeps_out_no_other";
    for ground in grounds::each(test) {
        let config = JournalConfig { max_size: 8 << 20, ..ground.config() };
        let (journal, mut consumer) = open_with_crm(&config).await;
        for n in 0..30 {
            journal.append(vec![large(n)]).await.unwrap();
        }
        let giant = |n| Record { raw: Bytes::from(vec![b'x'; 6 << 20]), ..record(n) };
        for round in 0..5 {
            // Side by side, too: those who come at the same moment are stored together.
            let (before, too_large, after) = tokio::join!(
                journal.append(vec![ordinary(100 + 2 * round)]),
                journal.append(vec![giant(200 + round)]),
                journal.append(vec![ordinary(101 + 2 * round)]),
            );
            assert!(matches!(too_large, Err(JournalError::Full(_))), "{too_large:?}");
            assert_eq!((before.unwrap(), after.unwrap()), (vec![Appended::Stored], vec![Appended::Stored]));
            assert!(journal.status().writable);
        }
        // When the sink has everything, there is room for it.
        let entries = read(&mut consumer, 40).await;
        consumer.settle(delivered(&entries)).await.unwrap();
        consumer.flush().await.unwrap();
        until("it is taken", async || journal.append(vec![giant(300)]).await.is_ok()).await;
    }
}

/// Nobody was refused anything yet.
#[tokio::test]
async fn a_journal_without_room_for_an_ordinary_request_says_so_before_it_refuses_one() {
    let test = "journal::a_journal_without_room_for_an_ordinary_request_says_so_before_it_refuses_one";
    for ground in grounds::each(test) {
        let config = JournalConfig { max_size: 2 << 20, ..ground.config() };
        let (journal, mut consumer) = open_with_crm(&config).await;
        let mut stored = 0;
        while journal.status().bytes + 65_536 <= config.max_size {
            let left = config.max_size - journal.status().bytes - 20_000;
            let raw = Bytes::from(vec![b'x'; left.min(100_000) as usize]);
            journal.append(vec![Record { raw, ..record(stored) }]).await.unwrap();
            stored += 1;
        }
        until("it says so", async || !journal.status().writable).await;
        assert!(journal.status().reason.is_some_and(|reason| reason.contains("journal.max_size")));
        // What fits is stored all the same, and does not change that.
        assert_eq!(journal.append(vec![record(1000)]).await.unwrap(), [Appended::Stored]);
        assert!(!journal.status().writable);
        let entries = read(&mut consumer, stored as usize + 1).await;
        consumer.settle(delivered(&entries)).await.unwrap();
        until("there is room again", async || journal.status().writable).await;
    }
}

#[tokio::test]
async fn a_full_journal_refuses_until_the_sink_has_what_it_is_owed() {
    for ground in grounds::each("journal::a_full_journal_refuses_until_the_sink_has_what_it_is_owed") {
        let config = JournalConfig { max_size: 4 << 20, ..ground.config() };
        let (journal, mut consumer) = open_with_crm(&config).await;
        let mut stored = 0;
        let refused = loop {
            match journal.append(vec![large(stored)]).await {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
            assert!(stored < 100, "nothing is refused");
        };
        assert!(matches!(refused, JournalError::Full(_)), "{refused}");
        // What is smaller may fit still.
        let mut small = 1000;
        while journal.append(vec![ordinary(small)]).await.is_ok() {
            small += 1;
        }
        let status = journal.status();
        assert!(!status.writable && status.bytes <= 4 << 20, "{status:?}");
        let entries = read(&mut consumer, (stored + small - 1000) as usize).await;
        consumer.settle(delivered(&entries)).await.unwrap();
        // Nobody appends meanwhile: the journal finds out on its own that there is room.
        until("it should be writable again", async || journal.status().writable).await;
        for n in stored..200 {
            journal.append(vec![large(n)]).await.unwrap();
            let entries = read(&mut consumer, 1).await;
            assert_eq!(numbers(&entries), [n]);
            consumer.settle(delivered(&entries)).await.unwrap();
        }
        assert!(journal.status().bytes <= 4 << 20);
    }
}

#[tokio::test]
async fn a_sink_that_may_be_skipped_loses_its_oldest_events_and_no_other_does() {
    for ground in grounds::each("journal::a_sink_that_may_be_skipped_loses_its_oldest_events_and_no_other_does") {
        let config = JournalConfig { max_size: 4 << 20, ..ground.config() };
        let metrics = Arc::new(Metrics::new());
        let journal = hooksink::journal::open(&config, Arc::clone(&metrics)).await.unwrap();
        journal.configure(vec![ConsumerSpec { skip_when_full: true, ..spec("lossy") }]).await.unwrap();
        let mut lossy = steady(&journal, "lossy").await;
        for n in 0..100 {
            journal.append(vec![large(n)]).await.unwrap();
        }
        let state = journal.sinks().await.unwrap().remove(0);
        assert!(state.skipped > 0 && state.cursor == state.skipped, "{state:?}");
        let entries = read(&mut lossy, 100 - state.skipped as usize).await;
        assert_eq!(numbers(&entries), (state.skipped..100).collect::<Vec<_>>());
        assert!(metrics.encode().contains(&format!("sink_skipped_total{{sink=\"lossy\"}} {}", state.skipped)));
        journal.close().await;
        drop((journal, lossy));

        // The other sink may not lose anything, so nothing goes on its account either.
        let journal = grounds::open(&config).await;
        journal.configure(vec![ConsumerSpec { skip_when_full: true, ..spec("lossy") }, spec("crm")]).await.unwrap();
        assert_eq!(
            journal.sinks().await.unwrap().iter().find(|s| s.sink == sink("lossy")).unwrap().skipped,
            state.skipped
        );
        let refused = async {
            for n in 100..200 {
                journal.append(vec![large(n)]).await?;
            }
            Ok::<(), JournalError>(())
        };
        assert!(matches!(refused.await, Err(JournalError::Full(_))));
        assert_eq!(journal.sinks().await.unwrap().iter().find(|s| s.sink == sink("crm")).unwrap().skipped, 0);
    }
}

#[tokio::test]
async fn the_disk_reserve_is_respected() {
    let folder = TempDir::new().unwrap();
    let config = with_file(config(folder.path()), |file| file.disk_reserve = u64::MAX);
    let journal = open(&config);
    assert!(matches!(journal.append(vec![record(0)]).await, Err(JournalError::Full(_))));
    until("the status should tell", async || !journal.status().writable).await;
    assert!(!journal.status().disk_above_reserve);
}

#[tokio::test]
async fn a_second_process_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path());
    let journal = open(&config);
    let error =
        SqliteJournal::open(&config, file(&config), Arc::new(Metrics::new())).map(|_| ()).unwrap_err().to_string();
    let expected =
        format!("another hooksink (process {}) holds the journal {}", std::process::id(), file(&config).path.display());
    assert!(error.starts_with(&expected), "{error}");
    journal.close().await;
    assert!(SqliteJournal::open(&config, file(&config), Arc::new(Metrics::new())).is_ok());
}

#[tokio::test]
async fn what_is_no_journal_is_refused_and_left_as_it_is() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path());
    let refused = || SqliteJournal::open(&config, file(&config), Arc::new(Metrics::new())).map(|_| ()).unwrap_err();
    let path = file(&config).path.display().to_string();

    let garbage = b"these are not the bytes of a database ".repeat(1000);
    std::fs::write(&file(&config).path, &garbage).unwrap();
    let error = refused();
    assert!(matches!(error, OpenError::Damaged { .. }) && error.to_string().contains(&path), "{error}");
    assert_eq!(std::fs::read(&file(&config).path).unwrap(), garbage);

    std::fs::remove_file(&file(&config).path).unwrap();
    open(&config).close().await;
    let conn = rusqlite::Connection::open(&file(&config).path).unwrap();
    conn.pragma_update(None, "user_version", 77).unwrap();
    drop(conn);
    let before = std::fs::read(&file(&config).path).unwrap();
    let error = refused();
    assert!(matches!(error, OpenError::Newer { found: 77, .. }) && error.to_string().contains(&path), "{error}");
    assert_eq!(std::fs::read(&file(&config).path).unwrap(), before);

    std::fs::remove_file(&file(&config).path).unwrap();
    std::fs::create_dir(&file(&config).path).unwrap();
    let error = refused();
    assert!(matches!(error, OpenError::Unusable { .. }) && error.to_string().contains(&path), "{error}");
}

#[tokio::test]
async fn folder_and_files_are_made_for_the_user_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = TempDir::new().unwrap();
    let config = config(&folder.path().join("deep/down"));
    let journal = open(&config);
    journal.append(vec![record(0)]).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.path().join("deep/down")), 0o700);
    for file in std::fs::read_dir(folder.path().join("deep/down")).unwrap() {
        let file = file.unwrap().path();
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

/// The numbers of the events in a copy, and that it is sound.
async fn events_of(copy: &Path, scratch: &Path) -> Vec<u64> {
    let conn = rusqlite::Connection::open(copy).unwrap();
    let sound: String = conn.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
    drop(conn);
    let config = with_file(config(scratch), |file| file.path = copy.to_owned());
    let journal = open(&config);
    journal.configure(vec![spec("reader")]).await.unwrap();
    let mut consumer = journal.consumer(&sink("reader")).await.unwrap();
    numbers(&read(&mut consumer, usize::try_from(journal.status().events).unwrap()).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_while_events_come_has_all_that_were_stored_before_it() {
    let folder = TempDir::new().unwrap();
    let config = with_file(config(folder.path()), |file| file.segment_events = 300);
    let journal = Arc::new(open(&config));
    for from in (0..1000).step_by(100) {
        let batch = (from..from + 100).map(|n| Record { raw: Bytes::from(vec![b'y'; 10_000]), ..record(n) }).collect();
        journal.append(batch).await.unwrap();
    }
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let (steps, mut stepped) = tokio::sync::mpsc::unbounded_channel();
    let background = {
        let journal = Arc::clone(&journal);
        tokio::spawn(async move {
            let mut n = 1000;
            while !*stopped.borrow_and_update() {
                journal.append(vec![record(n)]).await.unwrap();
                n += 1;
            }
            n
        })
    };
    let progress = move |done, all| steps.send((done, all)).unwrap();
    let copy = journal.backup(Path::new("today/copy.db"), Box::new(progress)).await.unwrap();
    stop.send(true).unwrap();
    let stored = background.await.unwrap();
    assert_eq!(copy, file(&config).backup_dir.join("today/copy.db"));
    let (mut count, mut last) = (0, (0, 0));
    while let Ok(step) = stepped.try_recv() {
        (count, last) = (count + 1, step);
    }
    assert!(count > 5 && last.0 == last.1, "{count} steps, the last {last:?}");
    let events = events_of(&copy, folder.path()).await;
    assert!(events.len() > 1000 && (events.len() as u64) < stored + 1, "{}", events.len());
    assert_eq!(events, (0..events.len() as u64).collect::<Vec<_>>());
    assert!(!file(&config).backup_dir.join("today/copy.db.partial").exists());
}

#[tokio::test]
async fn a_backup_goes_below_its_folder_and_replaces_nothing() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path());
    let journal = open(&config);
    std::fs::create_dir(&file(&config).backup_dir).unwrap();
    std::fs::write(file(&config).backup_dir.join("there.db"), "mine").unwrap();
    std::os::unix::fs::symlink(folder.path(), file(&config).backup_dir.join("out")).unwrap();
    let absolute = folder.path().join("x.db");
    for file in
        ["", "a\nb.db", "../\u{1b}[2J", "../x.db", "a/../../x.db", "there.db", "out/x.db", absolute.to_str().unwrap()]
    {
        let refused = journal.backup(Path::new(file), Box::new(|_, _| {})).await;
        assert!(matches!(&refused, Err(JournalError::Refused(_))), "{file}");
        // The text goes to logs and terminals.
        assert!(!refused.unwrap_err().to_string().contains(char::is_control), "{file:?}");
    }
    assert_eq!(std::fs::read(file(&config).backup_dir.join("there.db")).unwrap(), b"mine");
}

#[tokio::test]
async fn a_backup_without_a_server_opens_the_journal_itself() {
    let folder = TempDir::new().unwrap();
    let config = config(folder.path());
    let alone = |to: &str| backup_offline(file(&config), Path::new(to), Box::new(|_, _| {}));
    assert!(matches!(alone("a.db"), Err(BackupError::Open(OpenError::Unusable { .. }))));
    let journal = open(&config);
    journal.append((0..50).map(record).collect()).await.unwrap();
    assert!(matches!(alone("a.db"), Err(BackupError::Open(OpenError::Held { .. }))));
    journal.close().await;
    drop(journal);
    let copy = alone("a.db").unwrap();
    assert_eq!(events_of(&copy, folder.path()).await, (0..50).collect::<Vec<_>>());
    assert!(matches!(alone("a.db"), Err(BackupError::Copy(JournalError::Refused(_)))));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_stays_within_its_bound_under_load_with_readers() {
    const LIMIT: u64 = 1 << 20;
    let folder = TempDir::new().unwrap();
    let config = with_file(config(folder.path()), |file| file.wal_limit = LIMIT);
    let journal = Arc::new(open(&config));
    journal.configure(vec![spec("a"), spec("b")]).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for name in ["a", "b"] {
        let mut consumer = journal.consumer(&sink(name)).await.unwrap();
        tasks.spawn(async move {
            let mut count = 0;
            while count < 1200 {
                let entries = read(&mut consumer, 1).await;
                count += entries.len();
                consumer.settle(delivered(&entries)).await.unwrap();
            }
        });
    }
    for from in 0..4 {
        let journal = Arc::clone(&journal);
        tasks.spawn(async move {
            for n in from * 300..(from + 1) * 300 {
                journal.append(vec![Record { raw: Bytes::from(vec![b'z'; 20_000]), ..record(n) }]).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let wal = std::fs::metadata(folder.path().join("journal.db-wal")).unwrap().len();
    // 24 MB went through it; without the bound it would hold them all.
    assert!(wal < 6 * LIMIT, "{wal} bytes");
}

#[tokio::test]
async fn more_than_the_queue_holds_is_refused_as_busy() {
    for ground in grounds::each("journal::more_than_the_queue_holds_is_refused_as_busy") {
        let config = JournalConfig { queue: 2, ..ground.config() };
        let journal = grounds::open(&config).await;
        let appends = (0..200).map(|n| journal.append(vec![large(n)]));
        let answers = futures_util::future::join_all(appends).await;
        assert!(answers.iter().any(Result::is_ok));
        assert!(answers.iter().any(|answer| matches!(answer, Err(JournalError::Busy))));
        let stored = answers.iter().filter(|answer| answer.is_ok()).count() as u64;
        // With JetStream, what the servers count and what was stored meanwhile are put together once a second.
        until("the status should tell", async || journal.status().events == stored).await;
    }
}

#[tokio::test]
async fn an_append_goes_on_when_nobody_waits_for_it() {
    for ground in grounds::each("journal::an_append_goes_on_when_nobody_waits_for_it") {
        let (journal, mut consumer) = open_with_crm(&ground.config()).await;
        for n in 0..50 {
            let mut append = std::pin::pin!(journal.append(vec![record(n)]));
            // Polled once, as the handler does before its client goes away, and dropped.
            let _ = append.as_mut().now_or_never();
        }
        assert_eq!(numbers(&read(&mut consumer, 50).await), (0..50).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_closed_journal_stores_nothing() {
    for ground in grounds::each("journal::a_closed_journal_stores_nothing") {
        let journal = grounds::open(&ground.config()).await;
        journal.close().await;
        assert!(matches!(journal.append(vec![record(0)]).await, Err(JournalError::Closed)));
        assert!(!journal.status().writable);
    }
}

#[tokio::test]
async fn a_later_consumer_takes_the_place_of_an_earlier_one() {
    for ground in grounds::each("journal::a_later_consumer_takes_the_place_of_an_earlier_one") {
        let journal = grounds::open(&ground.config()).await;
        journal.configure(vec![spec("crm")]).await.unwrap();
        let mut earlier = journal.consumer(&sink("crm")).await.unwrap();
        store(&journal, (0..3).map(record)).await;
        let entries = read(&mut earlier, 3).await;
        let mut later = journal.consumer(&sink("crm")).await.unwrap();
        if ground.is_distributed() {
            // The earlier one may be another replica's: what it settles is refused when it is written.
            earlier.settle(delivered(&entries)).await.unwrap();
            earlier.flush().await.unwrap();
            assert!(earlier.moved().is_cancelled());
        } else {
            assert!(matches!(earlier.settle(delivered(&entries)).await, Err(JournalError::Refused(_))));
        }
        assert_eq!(numbers(&read(&mut later, 3).await), [0, 1, 2]);
        assert!(journal.consumer(&sink("nobody")).await.is_err());
    }
}
