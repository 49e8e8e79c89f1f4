//! Programs of the system that tests start. Where one is missing, its test says that it was skipped.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// Where a program is; Debian keeps some in folders that are not in every user's path.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    if name == "nats-server" {
        return nats_server();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// Where the environment says, else where `tests/run` puts it. One in the path is not taken: Debian's is too old.
fn nats_server() -> Option<PathBuf> {
    let named = std::env::var_os("NATS_SERVER").map(PathBuf::from);
    let installed = || concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/bin/nats-server").into();
    Some(named.unwrap_or_else(installed)).filter(|program| program.is_file())
}

/// Says that a test did not run, and why, past the capture of the test harness; `tests/run` repeats the line.
pub(crate) fn skipped(test: &str, why: &str) {
    // Where nobody listens there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "\nSKIPPED {test}: {why}");
}

/// A program, or the word that `test` was skipped for want of it.
pub(crate) fn find_or_skip(test: &str, name: &str) -> Option<PathBuf> {
    let found = find(name);
    if found.is_none() {
        skipped(test, &format!("{name} is not installed"));
    }
    found
}

/// strace, where it is installed and allowed to attach to processes.
pub(crate) fn strace_or_skip(test: &str) -> Option<PathBuf> {
    let strace = find_or_skip(test, "strace")?;
    let mut other = Command::new("sleep").arg("60").spawn().expect("sleep is everywhere");
    let attached = Command::new(&strace)
        .args(["-o", "/dev/null", "-e", "trace=none", "-p", &other.id().to_string()])
        .stderr(Stdio::piped())
        .spawn();
    let attached = attached.and_then(|mut strace| {
        // Its first line says that it is attached, or why it is not.
        let mut line = String::new();
        if let Some(stderr) = strace.stderr.take() {
            std::io::BufRead::read_line(&mut std::io::BufReader::new(stderr), &mut line)?;
        }
        strace.kill()?;
        strace.wait()?;
        Ok(line.contains("attached"))
    });
    // It is ours, and only slept.
    let _ = other.kill();
    let _ = other.wait();
    if attached.is_ok_and(|attached| attached) {
        return Some(strace);
    }
    skipped(test, "strace may not attach to processes here");
    None
}

/// Sends a signal to a program that a test started; one that has ended is left in peace.
pub(crate) fn signal(program: &Child, signal: Signal) {
    if let Some(id) = i32::try_from(program.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process(id, signal);
    }
}
