//! Under strace: each 200 follows a sync that covers its event, and without a sync there is no 200.

use std::net::Ipv4Addr;
use std::thread;

use crate::echo::{SECRET, echo_request};
use crate::programs::strace_or_skip;
use crate::support::server::{TestServer, eventually};
use crate::support::strace::Strace;
use crate::trace::{acknowledged, answers, without_syncs};
use crate::wire::Wire;

/// The write-ahead log of the journal.
const LOG: &str = "/journal.db-wal";

/// A server, with nothing written to its journal yet that a trace could mistake for an event.
fn server() -> TestServer {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let config = format!(
        r#"
        [journal]
        path = "journal.db"
        [sources.messenger]
        type = "meta"
        verify_token = "token"
        app_secrets = ["{SECRET}"]
        [sinks.archive]
        type = "file"
        path = "events.jsonl"
        "#
    );
    TestServer::start_with(folder, &config, &[])
}

fn marks(connections: usize, each: usize) -> Vec<Vec<String>> {
    // Of one length and with an end, so that none is the beginning of another.
    (0..connections).map(|of| (0..each).map(|number| format!("mark-{of:02}-{number:03}-end")).collect()).collect()
}

/// Sends events over several connections at once, and says which statuses came back.
fn send(server: &TestServer, marks: &[Vec<String>]) -> Vec<u16> {
    let one = |marks: &[String]| {
        let mut wire = Wire::connect(Ipv4Addr::LOCALHOST, server.public, None).unwrap();
        let mut statuses = Vec::new();
        for mark in marks {
            wire.send(&echo_request("messenger", mark, "254")).unwrap();
            statuses.push(wire.answer(false).unwrap().expect("an answer").status);
        }
        statuses
    };
    thread::scope(|scope| {
        let threads: Vec<_> = marks.iter().map(|marks| scope.spawn(|| one(marks))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn each_200_follows_a_sync_that_covers_its_event() {
    let Some(strace) = strace_or_skip("durability_strace::each_200_follows_a_sync_that_covers_its_event") else {
        return;
    };
    let server = server();
    let marks = marks(8, 10);
    let strace = Strace::attach(&strace, &server, &[]);
    assert_eq!(send(&server, &marks), [200; 80]);
    let trace = strace.detach();
    let marks = marks.concat();

    assert_eq!(acknowledged(&trace, LOG, &marks), Ok(80));
    // The check sees what it is there to see.
    let error = acknowledged(&without_syncs(&trace), LOG, &marks).unwrap_err();
    assert!(error.contains("before a sync that covers it"), "{error}");
}

#[test]
fn without_a_sync_there_is_no_200() {
    let Some(strace) = strace_or_skip("durability_strace::without_a_sync_there_is_no_200") else { return };
    let server = server();
    let marks = marks(4, 3);
    // One that gets through before, so that what follows is due to the failing disk alone.
    assert_eq!(send(&server, &[vec!["before".to_owned()]]), [200]);
    let failing = Strace::attach(&strace, &server, &["-e", "inject=fsync,fdatasync:error=EIO"]);
    assert_eq!(send(&server, &marks), [503; 12]);
    let trace = failing.detach();
    assert!(trace.contains("(INJECTED)"), "no sync was even tried");
    assert_eq!((acknowledged(&trace, LOG, &marks.concat()), answers(&trace)), (Ok(0), 12));

    // The disk works again, and so does hooksink. What it wrote in vain does not count: the senders' next try is
    // written anew, and synced.
    eventually("hooksink recovers", || (send(&server, &[vec!["after".to_owned()]]) == [200]).then_some(()));
    let working = Strace::attach(&strace, &server, &[]);
    assert_eq!(send(&server, &marks), [200; 12]);
    assert_eq!(acknowledged(&working.detach(), LOG, &marks.concat()), Ok(12));
}
