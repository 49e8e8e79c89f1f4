//! Consistent copies of the journal: SQLite's backup, stepped on the writer's own connection between two batches, so
//! that what is stored meanwhile is in the copy as well and never makes it begin anew.

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::thread;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};
use tokio::sync::oneshot;

use super::error::failure;
use super::files;
use super::writer::Writer;
use crate::journal::JournalError;

/// Pages copied between two batches.
const STEP_PAGES: i32 = 256;

/// Told pages copied and pages in all.
pub(super) type Progress = Box<dyn Fn(u64, u64) + Send>;

/// A backup to make.
pub(super) struct Job {
    pub(super) target: Target,
    pub(super) progress: Progress,
    pub(super) reply: oneshot::Sender<Result<PathBuf, JournalError>>,
}

/// Where the copy goes: made under a name of its own, and renamed when it is whole and synced.
#[derive(Debug)]
pub(super) struct Target {
    file: PathBuf,
    partial: PathBuf,
}

impl Target {
    /// A file that does not exist yet, below the folder.
    pub(super) fn below(folder: &Path, file: &Path) -> Result<Self, JournalError> {
        if file.to_string_lossy().contains(char::is_control) {
            // The name goes to logs and terminals.
            return Err(JournalError::Refused("the name of a backup must not have control characters".to_owned()));
        }
        let refused = |reason: &str| JournalError::Refused(format!("cannot back up to {}: {reason}", file.display()));
        let plain = file.components().all(|component| matches!(component, Component::Normal(_)));
        if !plain || file.file_name().is_none() {
            return Err(refused("give a path below journal.backup_dir, without '..'"));
        }
        let path = folder.join(file);
        let unusable = |error: io::Error| refused(&error.to_string());
        files::create_folder(files::folder(&path)).map_err(unusable)?;
        // A link below the folder may lead out of it.
        let inside = fs::canonicalize(files::folder(&path)).map_err(unusable)?;
        if !inside.starts_with(fs::canonicalize(folder).map_err(unusable)?) {
            return Err(refused("it lies outside of journal.backup_dir"));
        }
        if path.symlink_metadata().is_ok() {
            return Err(refused("it exists"));
        }
        let mut partial = path.clone().into_os_string();
        partial.push(".partial");
        Ok(Self { file: path, partial: partial.into() })
    }

    fn create(&self) -> Result<Connection, JournalError> {
        // What a crash left half-made.
        let _ = fs::remove_file(&self.partial);
        let unusable = |error: io::Error| JournalError::Unavailable(error.to_string());
        files::private().write(true).create_new(true).open(&self.partial).map_err(unusable)?;
        let ready = || {
            let conn = Connection::open(&self.partial)?;
            // A crash leaves a partial file, which nobody takes for a backup: it needs no journal, and is synced once.
            conn.pragma_update_and_check(None, "journal_mode", "off", |_| Ok(()))?;
            conn.pragma_update(None, "synchronous", "OFF")?;
            Ok(conn)
        };
        ready().map_err(|error| failure(&error))
    }

    fn finish(&self) -> Result<PathBuf, JournalError> {
        let done = || {
            File::open(&self.partial)?.sync_all()?;
            // A link, unlike a rename, does not replace what was put there meanwhile; some disks have no links.
            match fs::hard_link(&self.partial, &self.file) {
                Ok(()) => fs::remove_file(&self.partial)?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(error),
                Err(_) => fs::rename(&self.partial, &self.file)?,
            }
            files::sync_folder(files::folder(&self.file))
        };
        done().map_err(|error| JournalError::Unavailable(error.to_string()))?;
        Ok(self.file.clone())
    }

    fn give_up(&self) {
        let _ = fs::remove_file(&self.partial);
    }
}

/// Makes the backup, a step a turn of the writer.
pub(super) fn run(writer: &mut Writer, job: Job) {
    writer.backing_up = true;
    let Job { target, progress, reply } = job;
    let copied = copy(&Rc::clone(&writer.conn), &target, &progress, || {
        writer.turn();
        !writer.is_closing()
    });
    writer.backing_up = false;
    match copied {
        Err(error) => {
            target.give_up();
            let _ = reply.send(Err(error));
        }
        // Syncing all of it takes long, and the writer has other things to do.
        Ok(()) => {
            let finish = move || {
                let _ = reply.send(target.finish());
            };
            if let Err(error) = thread::Builder::new().name("journal-backup".to_owned()).spawn(finish) {
                tracing::warn!(%error, "the backup could not be finished");
            }
        }
    }
}

/// Copies everything; `between` is called after each step and says whether to go on.
pub(super) fn copy(
    from: &Connection,
    target: &Target,
    progress: &Progress,
    mut between: impl FnMut() -> bool,
) -> Result<(), JournalError> {
    let mut to = target.create()?;
    let failed = |error: rusqlite::Error| failure(&error);
    let backup = Backup::new(from, &mut to).map_err(failed)?;
    loop {
        let step = backup.step(STEP_PAGES).map_err(failed)?;
        let state = backup.progress();
        let pages = |pages: i32| u64::try_from(pages).unwrap_or(0);
        progress(pages(state.pagecount - state.remaining), pages(state.pagecount));
        if step == StepResult::Done {
            break;
        }
        if !between() {
            return Err(JournalError::Closed);
        }
    }
    drop(backup);
    to.close().map_err(|(_, error)| failed(error))
}

/// Copies a journal that no server has open.
pub(super) fn run_alone(from: &Connection, target: &Target, progress: &Progress) -> Result<PathBuf, JournalError> {
    let copied = copy(from, target, progress, || true).and_then(|()| target.finish());
    if copied.is_err() {
        target.give_up();
    }
    copied
}
