//! The write-ahead log under continuous load with every kind of reader: it stays within a bound.

use std::thread;
use std::time::{Duration, Instant};

use reqwest::Method;
use rusqlite::Connection;

use crate::support::runtime;
use crate::support::senders::{SOURCE, senders, under_load};
use crate::support::server::{TestServer, answer};

const LIMIT: u64 = 1 << 20;

/// The limit bounds it between two batches; readers may hold its restart up for a moment.
const BOUND: u64 = 6 * LIMIT;

#[test]
fn the_log_is_bounded_under_load_with_backups_lists_replays_and_a_sink_that_lags() {
    let seconds = std::env::var("HOOKSINK_WAL_SECONDS").map_or(8, |seconds| seconds.parse().expect("a number"));
    let config = format!(
        r#"
        {SOURCE}
        [journal]
        path = "journal.db"
        wal_limit = "1 MiB"
        max_size = "64 MiB"
        retention = "2s"
        disk_reserve = "1 MiB"
        segment_events = 5000
        backup_dir = "backups"
        [sinks.archive]
        type = "file"
        path = "events.jsonl"
        rotate_size = "8 MiB"
        keep_files = 1
        [sinks.dead]
        type = "http"
        url = "http://127.0.0.1:1/"
        on_full = "skip"
        "#
    );
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let server = TestServer::start_with(folder, &config, &[]);
    let log = server.folder().join("journal.db-wal");
    let size = || std::fs::metadata(&log).map_or(0, |metadata| metadata.len());
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut senders = senders(8);
    let (largest, rounds, events) = under_load(&mut senders, server.public, |load| {
        thread::scope(|scope| {
            let readers = scope.spawn(|| {
                let mut rounds = 0;
                while Instant::now() < end {
                    runtime().block_on(read(&server, rounds));
                    rounds += 1;
                }
                rounds
            });
            let mut largest = 0;
            // At least as much goes through it as would break the bound, however slow the machine is.
            while Instant::now() < end || load.acknowledged() as u64 * 4096 < 2 * BOUND {
                largest = largest.max(size());
                thread::sleep(Duration::from_millis(1));
            }
            (largest, readers.join().unwrap(), load.acknowledged())
        })
    });
    println!(
        "the log was {:.1} MiB at most, with a limit of {} MiB, over {seconds} s, {events} events and {rounds} backups",
        largest as f64 / f64::from(1 << 20),
        LIMIT >> 20
    );
    assert!(largest <= BOUND, "{largest} bytes");
    assert!(largest > LIMIT / 2 && rounds > 0, "{largest} bytes, {rounds} rounds");
    let folder = server.stop();
    let journal = Connection::open(folder.path().join("journal.db")).unwrap();
    let sound: String = journal.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

/// Everything that reads.
async fn read(server: &TestServer, round: usize) {
    for path in ["/api/v1/dead-letters", "/api/v1/dead-letters/1", "/api/v1/sinks", "/api/v1/status", "/metrics"] {
        server.admin_get(path).await;
    }
    let post = |path, body: String| {
        answer(server.admin_request(Method::POST, path).header("content-type", "application/json").body(body))
    };
    let from = chrono::Utc::now() - Duration::from_secs(1);
    let replay =
        post("/api/v1/replays", format!(r#"{{"sink":"archive","from":"{}","to":null,"kinds":[]}}"#, from.to_rfc3339()));
    let replay = replay.await;
    assert!((200..300).contains(&replay.status), "{replay:?}");
    let name = format!("copy-{round}.db");
    let backup = post("/api/v1/journal/backup", format!(r#"{{"file":"{name}"}}"#)).await;
    assert!(backup.status == 200 && backup.body.contains(&name), "{backup:?}");
    std::fs::remove_file(server.folder().join("backups").join(name)).unwrap();
}
