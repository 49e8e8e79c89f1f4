//! Under strace: each 200 follows a sync that covers its event, and without a sync there is no 200.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::Signal;

use crate::echo::{SECRET, echo_request};
use crate::programs::{signal, strace_or_skip};
use crate::support::server::{TestServer, eventually};
use crate::trace::{CALLS, acknowledged, answers, without_syncs};
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

/// strace, attached to all threads of a process until it is dropped.
struct Strace {
    process: Child,
    trace: PathBuf,
}

impl Strace {
    fn attach(strace: &Path, to: u32, folder: &Path, more: &[&str]) -> Self {
        let trace = folder.join("trace");
        let mut process = Command::new(strace)
            .args(["-f", "-tt", "-y", "-s", "70000", "-e", &format!("trace={CALLS}")])
            .args(more)
            .arg("-o")
            .arg(&trace)
            .args(["-p", &to.to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stderr = BufReader::new(process.stderr.take().unwrap());
        stderr.read_line(&mut line).unwrap();
        assert!(line.contains("attached"), "{line}");
        // What else it says is read and dropped, so that it never waits for us.
        thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        Self { process, trace }
    }

    /// Leaves the process alone, and gives what was seen of it.
    fn detach(mut self) -> String {
        signal(&self.process, Signal::INT);
        self.process.wait().unwrap();
        String::from_utf8_lossy(&fs::read(&self.trace).unwrap()).into_owned()
    }
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
    let strace = Strace::attach(&strace, server.id(), server.folder(), &[]);
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
    let failing = Strace::attach(&strace, server.id(), server.folder(), &["-e", "inject=fsync,fdatasync:error=EIO"]);
    assert_eq!(send(&server, &marks), [503; 12]);
    let trace = failing.detach();
    assert!(trace.contains("(INJECTED)"), "no sync was even tried");
    assert_eq!((acknowledged(&trace, LOG, &marks.concat()), answers(&trace)), (Ok(0), 12));

    // The disk works again, and so does hooksink. What it wrote in vain does not count: the senders' next try is
    // written anew, and synced.
    eventually("hooksink recovers", || (send(&server, &[vec!["after".to_owned()]]) == [200]).then_some(()));
    let working = Strace::attach(&strace, server.id(), server.folder(), &[]);
    assert_eq!(send(&server, &marks), [200; 12]);
    assert_eq!(acknowledged(&working.detach(), LOG, &marks.concat()), Ok(12));
}
