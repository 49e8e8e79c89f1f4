//! What can only be seen from inside: a disk that fills up, a writer that dies, and how SQLite looks things up.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use rusqlite::Connection;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::config::{Engine, SqliteConfig};
use crate::event::{Arrival, Context, EventId, Kind, Place};
use crate::names::SourceType;

fn open(folder: &Path) -> SqliteJournal {
    open_with(folder, Duration::from_secs(3600))
}

fn open_with(folder: &Path, retention: Duration) -> SqliteJournal {
    let file = SqliteConfig {
        path: folder.join("journal.db"),
        disk_reserve: 0,
        wal_limit: 64 << 20,
        segment_events: 10,
        backup_dir: folder.join("backups"),
    };
    let config = JournalConfig {
        engine: Engine::Sqlite(file.clone()),
        retention,
        dead_letter_retention: Duration::from_secs(3600),
        max_size: 1 << 30,
        queue: 64,
        largest_body: 1 << 20,
    };
    SqliteJournal::open(&config, &file, Arc::new(Metrics::new())).unwrap()
}

fn record(n: u128) -> Record {
    let arrival = Arrival {
        request_id: String::new(),
        client_address: [127, 0, 0, 1].into(),
        proofs: Vec::new(),
        content_type: None,
        content_encoding: None,
        user_agent: None,
        wx_gtrid: None,
    };
    Record {
        id: EventId(Uuid::from_u128(n)),
        source: "messenger".parse().unwrap(),
        source_type: SourceType::Meta,
        kind: Kind::MetaMessage,
        subject: None,
        occurred_at: None,
        received_at: Utc::now(),
        context: Arc::new(Context {
            object: None,
            entry_id: None,
            entry_time: None,
            field: None,
            place: Place::Messaging,
            arrival: Arc::new(arrival),
        }),
        raw: Bytes::from(vec![b'x'; 50_000]),
    }
}

/// Has SQLite say that the disk is full past so many pages.
async fn limit_pages(journal: &SqliteJournal, pages: i64) {
    let limit = move |writer: &mut Writer| {
        writer.conn.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(())).unwrap();
        Ok(())
    };
    journal.shared.ask(limit).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_costs_only_what_did_not_fit_and_writing_goes_on_by_itself() {
    let folder = TempDir::new().unwrap();
    let journal = open(folder.path());
    journal.append((0..4).map(record).collect()).await.unwrap();
    // Below what there is already: not a page more.
    limit_pages(&journal, 1).await;
    // Of one request, all events are stored or none.
    let error = journal.append((4..8).map(record).collect()).await.unwrap_err();
    assert!(matches!(error, JournalError::Full(_)), "{error}");
    let status = journal.status();
    assert_eq!((status.writable, status.events), (false, 4));
    limit_pages(&journal, 100_000).await;
    // Nobody appends meanwhile: the journal finds out on its own.
    let recovered = async {
        while !journal.status().writable {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), recovered).await.expect("it should be writable again");
    assert_eq!(
        journal.append((3..8).map(record).collect()).await.unwrap()[..2],
        [Appended::Duplicate, Appended::Stored]
    );
    assert_eq!((journal.status().events, journal.status().last_seq), (8, 8));
}

#[tokio::test]
async fn a_writer_that_dies_leaves_nobody_waiting() {
    let folder = TempDir::new().unwrap();
    let journal = open(folder.path());
    let died: Result<(), _> = journal.shared.ask(|_| panic!("as if by a defect")).await;
    assert!(matches!(died, Err(JournalError::Closed)));
    assert!(matches!(journal.append(vec![record(1)]).await, Err(JournalError::Closed)));
    let closed = async {
        while journal.status().writable {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), closed).await.expect("the status should tell");
}

#[tokio::test]
async fn reads_and_probes_go_through_keys_whatever_the_journal_holds() {
    let folder = TempDir::new().unwrap();
    let journal = open(folder.path());
    journal.append((0..15).map(record).collect()).await.unwrap();
    journal.append((15..20).map(record).collect()).await.unwrap();
    journal.close().await;
    let conn = Connection::open(folder.path().join("journal.db")).unwrap();
    let plan = |sql: &str| -> String {
        let mut statement = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        // Without values: the plan does not depend on them.
        let steps = statement.raw_query().mapped(|row| row.get::<_, String>(3));
        steps.collect::<rusqlite::Result<Vec<_>>>().unwrap().join("; ")
    };
    for (sql, expected) in [
        (page::next_events(2), "SEARCH events_2 USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        (ids::probe(1), "SEARCH ids_1 USING INTEGER PRIMARY KEY (rowid<?)"),
        (letters::waiting_letters(), "SEARCH dead_letters USING INDEX dead_letters_retrying (sink=?)"),
    ] {
        assert_eq!(plan(&sql), expected, "{sql}");
    }
}

/// What is too old leaves in the transaction of a batch: events, then ids of the segments they were in; and comes back
/// when that transaction fails.
#[tokio::test]
async fn what_is_too_old_leaves_along_with_a_batch() {
    let folder = TempDir::new().unwrap();
    let journal = open_with(folder.path(), Duration::ZERO);
    journal.append((0..15).map(record).collect()).await.unwrap();
    journal.append((15..25).map(record).collect()).await.unwrap();
    let removed = |writer: &mut Writer| {
        // Nobody is owed anything, and events are older than no time at all from the next millisecond on.
        (writer.configured, writer.tidying) = (true, true);
        let now = || Utc::now().timestamp_millis();
        let stored = now();
        while now() == stored {
            std::thread::yield_now();
        }
        let failed = writer.transact(|writer| {
            assert!(writer.tidy_along(1));
            Err::<(), _>(rusqlite::Error::InvalidQuery)
        });
        assert!(failed.is_err());
        let held = (writer.log.oldest, writer.log.last());
        let mut steps = 0;
        while writer.transact(|writer| Ok(writer.tidy_along(1))).unwrap() {
            steps += 1;
        }
        let left = writer.log.oldest;
        // Tables go between batches.
        while writer.tidy() {}
        Ok((held, steps, left, writer.log.oldest))
    };
    let (held, steps, left, oldest) = journal.shared.ask(removed).await.unwrap();
    assert_eq!(held, (1, 25));
    // The events of the first segment, and its ids.
    assert_eq!((steps, left), (2, 16));
    assert_eq!(oldest, 26);
    // A copy of what has left is new.
    assert_eq!(journal.append(vec![record(3)]).await.unwrap(), [Appended::Stored]);
}
