//! Disks that are full when a test says so: a small file system of its own where that may be mounted, and everywhere a
//! limit of how long a file may become.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tempfile::TempDir;

use crate::programs::skipped;

/// A file system in memory, unmounted when dropped.
pub(crate) struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// A disk of so many bytes, or the word that `test` was skipped since none may be mounted here.
    pub(crate) fn mount_or_skip(test: &str, bytes: u64) -> Option<Self> {
        let disk = Self { folder: tempfile::tempdir().expect("a folder") };
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0700"), "tmpfs"])
            .arg(disk.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(disk);
        }
        skipped(test, "file systems may not be mounted here, which takes root");
        None
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Takes all the space that is left.
    pub(crate) fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("a file");
        let block = [0; 4096];
        let full = loop {
            if let Err(error) = ballast.write_all(&block) {
                break error;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::StorageFull, "{full}");
    }

    /// Gives it back.
    pub(crate) fn empty(&self) {
        fs::remove_file(self.ballast()).expect("it was filled");
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Makes it a disk that can only be read, or one that can be written again.
    pub(crate) fn remount(&self, options: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(self.path()).status();
        assert!(done.expect("it was found before").success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that a failed test left behind may still have files open there.
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

/// Lets no file of this process grow beyond so many bytes, or any file again.
pub(crate) fn limit_files(process: u32, bytes: Option<u64>) {
    let process = i32::try_from(process).ok().and_then(Pid::from_raw);
    let hard = prlimit(process, Resource::Fsize, Rlimit { current: bytes, maximum: None });
    hard.expect("one may lower the limits of one's own processes, and raise them up to where they were");
}
