//! Far more senders than there are places: each is answered at once, with 200 or 503, and what is answered 200 is kept.

use std::time::{Duration, Instant};

use crate::support::senders::{SOURCE, check, check_journal, events_in, has_all, owed, senders, under_load};
use crate::support::server::{TestServer, eventually};

/// `max_in_flight`; ten times as many send.
const PLACES: usize = 8;

/// The most memory in MiB that it may ever have had.
const MEMORY: u64 = 80;

#[test]
fn ten_times_as_many_senders_as_places_are_all_answered() {
    let seconds = std::env::var("HOOKSINK_OVERLOAD_SECONDS").map_or(3, |seconds| seconds.parse().expect("a number"));
    let config = format!(
        r#"
        [server]
        max_in_flight = {PLACES}
        [journal]
        path = "journal.db"
        {SOURCE}
        [sinks.archive]
        type = "file"
        path = "events.jsonl"
        "#
    );
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let server = TestServer::start_with(folder, &config, &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut senders = senders(10 * PLACES);
    let began = Instant::now();
    under_load(&mut senders, server.public, |load| {
        eventually("some get through and some do not", || {
            (load.acknowledged() > 200 && load.refused() > 200).then_some(())
        });
        // Not to wait for anything: it is the load that lasts so long.
        std::thread::sleep(Duration::from_secs(seconds).saturating_sub(began.elapsed()));
        assert_eq!(load.unanswered(), 0, "connections ended without an answer");
        println!(
            "{} s: {} answered 200, {} answered 503; of the 200s half took {:?}, 99 % {:?}, 99.9 % {:?}; {} MiB at most",
            began.elapsed().as_secs(),
            load.acknowledged(),
            load.refused(),
            load.took(500),
            load.took(990),
            load.took(999),
            server.resident().1,
        );
    });
    let (_, most) = server.resident();
    assert!(most <= MEMORY, "{most} MiB");

    // It recovers at once: the next one, alone, is taken.
    under_load(&mut senders[..1], server.public, |load| {
        eventually("the next one is answered", || (load.acknowledged() + load.refused() > 0).then_some(()));
        assert_eq!((load.refused(), load.unanswered()), (0, 0));
    });

    let owed = owed(&senders);
    let archive = server.folder().join("events.jsonl");
    eventually("every acknowledged event is in the file", || has_all(&events_in(&archive), &owed).then_some(()));
    check("file", &events_in(&archive), &owed);
    // Who is answered "busy" has nothing stored; who is answered that storing takes too long may have.
    let late = "hooksink_requests_total{source=\"messenger\",outcome=\"ack_timeout\"}";
    let late = runtime.block_on(server.metric(late));
    let folder = server.stop();
    check_journal(&folder.path().join("journal.db"), &owed, usize::try_from(late).unwrap());
}
