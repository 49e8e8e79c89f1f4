//! Journals that cannot be read or written: hooksink says so, ends with 69 and changes nothing.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use rustix::process::getuid;
use tempfile::TempDir;

use crate::programs::{find, skipped};
use crate::support::senders::SOURCE;
use crate::support::server::TestServer;
use crate::support::small_disk::SmallDisk;

/// The journal of a server that has ended, in this folder.
fn make_journal(folder: &Path) -> Vec<u8> {
    let config = format!("{SOURCE}\n[journal]\npath = \"{}\"\ndisk_reserve = \"1 MiB\"\n", path(folder));
    TestServer::start(&config).stop();
    fs::read(path(folder)).unwrap()
}

fn path(folder: &Path) -> String {
    folder.join("journal.db").display().to_string()
}

/// Runs the server on the journal in this folder, by way of another program: what it says when it ends with 69.
#[track_caller]
fn refused(by: &[&str], folder: &Path) -> String {
    let elsewhere = TempDir::new().unwrap();
    let mut command = Command::new("timeout");
    command.arg("60").args(by).arg(env!("CARGO_BIN_EXE_hooksink")).arg("serve");
    command.args(["--set", "server.listen=127.0.0.1:0", "--set", "admin.listen=127.0.0.1:0", "--set"]);
    let output = command.arg(format!("journal.path={}", path(folder))).current_dir(elsewhere.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{said}");
    said
}

/// How the binary is started as a user whom permissions concern, who is not root; none where that is not possible.
fn ordinary_user(test: &str) -> Option<&'static [&'static str]> {
    const NOBODY: &[&str] = &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    if !getuid().is_root() {
        return Some(&[]);
    }
    let runs = find("setpriv").is_some()
        && Command::new(NOBODY[0])
            .args(&NOBODY[1..])
            .args([env!("CARGO_BIN_EXE_hooksink"), "--version"])
            .output()
            .is_ok_and(|output| output.status.success());
    if !runs {
        skipped(test, "root cannot become an ordinary user here");
    }
    runs.then_some(NOBODY)
}

fn permit(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_disk_that_can_only_be_read_is_said() {
    let Some(disk) =
        SmallDisk::mount_or_skip("faults::unusable_journal::a_disk_that_can_only_be_read_is_said", 8 << 20)
    else {
        return;
    };
    disk.remount("ro");
    let said = refused(&[], disk.path());
    assert!(said.contains(&path(disk.path())) && said.contains("Read-only file system"), "{said}");
    disk.remount("rw");
    let before = make_journal(disk.path());
    disk.remount("ro");
    let said = refused(&[], disk.path());
    assert!(said.contains(&path(disk.path())) && said.contains("Read-only file system"), "{said}");
    assert!(fs::read(path(disk.path())).unwrap() == before, "it was changed");
}

#[test]
fn a_folder_that_may_not_be_written_is_said() {
    let Some(by) = ordinary_user("faults::unusable_journal::a_folder_that_may_not_be_written_is_said") else { return };
    let folder = TempDir::new().unwrap();
    permit(folder.path(), 0o555);
    let said = refused(by, folder.path());
    assert!(said.contains(&path(folder.path())) && said.contains("Permission denied"), "{said}");
    permit(folder.path(), 0o755);
    let before = make_journal(folder.path());
    // The file itself may be written, but not its log and its lock.
    permit(&folder.path().join("journal.db"), 0o666);
    fs::remove_file(folder.path().join("journal.db.lock")).unwrap();
    permit(folder.path(), 0o555);
    let said = refused(by, folder.path());
    assert!(said.contains(&path(folder.path())) && said.contains("Permission denied"), "{said}");
    permit(folder.path(), 0o755);
    assert!(fs::read(path(folder.path())).unwrap() == before, "it was changed");
}

#[test]
fn a_file_that_may_not_be_read_or_written_is_said() {
    let Some(by) = ordinary_user("faults::unusable_journal::a_file_that_may_not_be_read_or_written_is_said") else {
        return;
    };
    let folder = TempDir::new().unwrap();
    let before = make_journal(folder.path());
    let file = folder.path().join("journal.db");
    permit(folder.path(), 0o777);
    for mode in [0o000, 0o444, 0o222] {
        permit(&file, mode);
        let said = refused(by, folder.path());
        assert!(said.contains(&path(folder.path())) && said.contains("Permission denied"), "{mode:o}: {said}");
    }
    permit(&file, 0o600);
    assert!(fs::read(&file).unwrap() == before, "it was changed");
}
