//! One process a journal: a lock on a file beside it, which the system releases when the process ends, however it ends.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::OpenError;
use super::files;

/// How long a process that is about to end is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of the journal at this path, which exists, or tells who has it. Blocks for up to a second.
    pub(super) fn take(journal: &Path) -> Result<Self, OpenError> {
        // Beside the file itself, as SQLite's log is: whoever comes through a link finds the same lock.
        let path = lock_path(&journal.canonicalize().map_err(|error| OpenError::io(journal, &error))?);
        let mut file = files::private()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|error| OpenError::io(&path, &error))?;
        let deadline = Instant::now() + PATIENCE;
        let mut taken = file.try_lock();
        while matches!(taken, Err(TryLockError::WouldBlock)) && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
            taken = file.try_lock();
        }
        match taken {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // What stands in the file is only for the message.
                let _ = (&file).take(64).read_to_string(&mut holder);
                let holder = if holder.is_empty() { "its process is unknown".to_owned() } else { holder };
                return Err(OpenError::Held { path: journal.to_owned(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(OpenError::io(&path, &error)),
        }
        let note = format!("process {}", std::process::id());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(note.as_bytes()))
            .map_err(|error| OpenError::io(&path, &error))?;
        Ok(Self { _file: file })
    }
}

fn lock_path(journal: &Path) -> PathBuf {
    let mut path = journal.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}
