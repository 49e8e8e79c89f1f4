//! The bound of the write-ahead log. A thread beside the writer copies its pages into the file without holding anyone
//! up; when it does not catch up and the log grows past its limit, the writer finishes it between two batches and
//! begins it anew. The file is kept: overwriting it is faster than growing one.

use std::path::Path;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::FRAME_BYTES;
use super::connection;
use super::writer::Writer;

/// Bytes of new log after which the pages are copied.
const STEP: u64 = 4 * 1024 * 1024;
/// How long the writer waits for readers when it begins the log anew. Readers hold on for one page of results only.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long it waits before it tries that again.
const PAUSE: Duration = Duration::from_millis(250);

/// The copying thread, and what the writer remembers of it.
pub(super) struct Checkpointer {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Held by whoever copies: two at once would get in each other's way.
    copying: Arc<Mutex<()>>,
    /// Bytes of the log when the thread was last woken.
    woken_at: u64,
    /// When the log may be begun anew again.
    not_before: Option<Instant>,
}

impl Checkpointer {
    /// Starts the thread.
    pub(super) fn start(path: &Path) -> std::io::Result<Self> {
        let (wake, woken) = sync_channel::<()>(1);
        let copying = Arc::new(Mutex::new(()));
        let (path, copying_there) = (path.to_owned(), Arc::clone(&copying));
        let thread = thread::Builder::new().name("journal-checkpoint".to_owned()).spawn(move || {
            let mut conn: Option<Connection> = None;
            while woken.recv().is_ok() {
                let _copying = copying_there.lock().unwrap_or_else(PoisonError::into_inner);
                let copied = match conn.take().map_or_else(|| connection::checkpointer(&path), Ok) {
                    Ok(open) => checkpoint(&open, "PASSIVE").map(|_| conn = Some(open)),
                    Err(error) => Err(error),
                };
                if let Err(error) = copied {
                    tracing::warn!(%error, "the journal's log could not be copied into its file");
                }
            }
        })?;
        Ok(Self { wake: Some(wake), thread: Some(thread), copying, woken_at: 0, not_before: None })
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // It has nothing to tell.
            let _ = thread.join();
        }
    }
}

/// Whether someone was in the way, and the pages in the log.
fn checkpoint(conn: &Connection, mode: &str) -> rusqlite::Result<(bool, u64)> {
    conn.prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?
        .query_row([], |row| Ok((row.get(0)?, u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0))))
}

impl Writer {
    /// Keeps the log from growing without end.
    pub(super) fn bound_wal(&mut self) {
        let Ok((_, pages)) = checkpoint(&self.conn, "NOOP") else { return };
        let bytes = pages * FRAME_BYTES;
        self.shared.status().wal_bytes = bytes;
        let checkpointer = &mut self.checkpointer;
        if bytes < checkpointer.woken_at {
            checkpointer.woken_at = 0;
        }
        if bytes > self.shared.file.wal_limit && checkpointer.not_before.is_none_or(|time| Instant::now() >= time) {
            self.restart_wal();
        } else if bytes >= checkpointer.woken_at + STEP.min(self.shared.file.wal_limit / 4) {
            let woken = checkpointer.wake.as_ref().map(|wake| wake.try_send(()));
            if matches!(woken, Some(Ok(()) | Err(TrySendError::Full(())))) {
                checkpointer.woken_at = bytes;
            }
        }
    }

    fn restart_wal(&mut self) {
        let copying = Arc::clone(&self.checkpointer.copying);
        let _copying = copying.lock().unwrap_or_else(PoisonError::into_inner);
        let restart = || {
            self.conn.busy_timeout(PATIENCE)?;
            let done = checkpoint(&self.conn, "RESTART");
            self.conn.busy_timeout(connection::PATIENCE)?;
            done
        };
        match restart() {
            Ok((false, _)) => {
                self.checkpointer.woken_at = 0;
                self.checkpointer.not_before = None;
            }
            Ok((true, _)) => self.checkpointer.not_before = Some(Instant::now() + PAUSE),
            Err(error) => {
                self.checkpointer.not_before = Some(Instant::now() + PAUSE);
                tracing::warn!(%error, "the journal's log could not be begun anew");
            }
        }
    }
}
