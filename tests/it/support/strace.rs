//! strace, attached to a running server: it sees its system calls, and makes those fail or wait that it is told to.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::process::Signal;

use crate::programs::signal;
use crate::support::server::TestServer;
use crate::trace::CALLS;

/// strace, attached to all threads of a server until it is dropped.
pub(crate) struct Strace {
    process: Child,
    trace: PathBuf,
}

impl Strace {
    /// Sees the calls that matter for what is on disk; `more` are arguments of strace.
    pub(crate) fn attach(strace: &Path, server: &TestServer, more: &[&str]) -> Self {
        let trace = server.folder().join("trace");
        let mut process = Command::new(strace)
            .args(["-f", "-tt", "-y", "-s", "70000", "-e", &format!("trace={CALLS}")])
            .args(more)
            .arg("-o")
            .arg(&trace)
            .args(["-p", &server.id().to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace starts");
        let mut line = String::new();
        let mut stderr = BufReader::new(process.stderr.take().expect("it is piped"));
        stderr.read_line(&mut line).expect("a line");
        assert!(line.contains("attached"), "{line}");
        // What else it says is read and dropped, so that it never waits for us.
        thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        Self { process, trace }
    }

    /// What was seen so far.
    pub(crate) fn seen(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.trace).unwrap_or_default()).into_owned()
    }

    /// Leaves the process alone, and gives what was seen of it.
    pub(crate) fn detach(mut self) -> String {
        self.leave();
        self.seen()
    }

    fn leave(&mut self) {
        signal(&self.process, Signal::INT);
        self.process.wait().expect("it was started");
    }
}

impl Drop for Strace {
    fn drop(&mut self) {
        // Also when a test failed, so that the server can be stopped.
        if matches!(self.process.try_wait(), Ok(None)) {
            self.leave();
        }
    }
}
