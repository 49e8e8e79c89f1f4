//! How a PostgreSQL of a test's own is made and started.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::programs::skipped;
use crate::support::daemon::Daemon;

/// Where Debian keeps the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// The folder with `initdb` and `postgres` of the newest version.
pub(crate) fn programs(test: &str) -> Option<PathBuf> {
    let versions =
        std::fs::read_dir(VERSIONS).into_iter().flatten().flatten().map(|version| version.path().join("bin"));
    let found =
        versions.filter(|programs| programs.join("postgres").is_file() && programs.join("initdb").is_file()).max();
    if found.is_none() {
        skipped(test, &format!("there is no PostgreSQL in {VERSIONS}"));
    }
    found
}

/// A user without rights: these programs refuse to run as root.
pub(crate) const NOBODY: u32 = 65534;

/// A program that gives up root, if it is run by root.
pub(crate) fn as_nobody(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string(), "--clear-groups", "--"]).arg(program);
    command
}

/// A folder for programs that gave up root.
pub(crate) fn folder_of_nobody() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    if rustix::process::geteuid().is_root() {
        chown(folder.path(), Some(NOBODY), Some(NOBODY)).expect("root may");
    }
    folder
}

/// A folder with an empty database in it.
pub(crate) fn initialised(programs: &Path) -> TempDir {
    let folder = folder_of_nobody();
    let mut initdb = as_nobody(&programs.join("initdb"));
    initdb.current_dir(folder.path()).args(["--pgdata=data", "--username=postgres", "--auth=trust", "--no-sync"]);
    let made = initdb.args(["--encoding=UTF8", "--locale=C"]).stdin(Stdio::null()).output().expect("it starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let rules = "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
    std::fs::write(folder.path().join("data/pg_hba.conf"), rules).expect("a file");
    folder
}

/// Starts a server on this port, with these settings beside the usual ones, as in `postgres -c`.
pub(crate) fn start(programs: &Path, folder: &TempDir, port: u16, settings: &[String]) -> Daemon {
    let mut command = as_nobody(&programs.join("postgres"));
    command.current_dir(folder.path()).args([
        "-D",
        "data",
        "-p",
        &port.to_string(),
        "-c",
        "listen_addresses=127.0.0.1",
    ]);
    command.arg("-c").arg(format!("unix_socket_directories={}", folder.path().display()));
    // In the folder too, with which it goes.
    command.args(["-c", "dynamic_shared_memory_type=mmap"]);
    settings.iter().for_each(|setting| {
        command.args(["-c", setting]);
    });
    let log = std::fs::File::create(folder.path().join("postgres.log")).expect("a file");
    Daemon::start(command.stdout(Stdio::null()).stderr(log))
}

/// Takes away what a server that was killed leaves outside of its folder: the memory by which the next one would know
/// that it still runs.
pub(crate) fn forget(folder: &TempDir) {
    let state = std::fs::read_to_string(folder.path().join("data/postmaster.pid")).unwrap_or_default();
    // Its seventh line: a key and an id.
    if let Some(id) = state.lines().nth(6).and_then(|line| line.split_whitespace().nth(1)) {
        let _ = Command::new("ipcrm").args(["--shmem-id", id]).stderr(Stdio::null()).status();
    }
}
