//! What the handle, the writer and the consumers share.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use super::connection;
use super::error::failure;
use super::queue::{Command, Queue};
use super::sinks::Sinks;
use super::tail::Tail;
use super::writer::Writer;
use crate::config::{JournalConfig, SqliteConfig};
use crate::event::Record;
use crate::filter::Filter;
use crate::journal::{JournalError, JournalStatus};
use crate::metrics::Metrics;

/// What consumers wait for a change of.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct News {
    /// The position of the newest event that is committed.
    pub(super) last_seq: u64,
    /// Grows when a place got something to hand out beside the log.
    pub(super) others: u64,
}

/// Shared by all.
pub(super) struct Shared {
    pub(super) config: JournalConfig,
    pub(super) file: SqliteConfig,
    pub(super) metrics: Arc<Metrics>,
    pub(super) queue: Queue,
    pub(super) sinks: Sinks,
    pub(super) tail: Tail,
    /// What the configured sinks want, once they are known.
    pub(super) wanted: OnceLock<Vec<Filter>>,
    pub(super) news: watch::Sender<News>,
    pub(super) key: [u8; 32],
    pub(super) status: Mutex<JournalStatus>,
}

impl Shared {
    /// Whether a configured sink wants this record.
    pub(super) fn wants(&self, record: &Record) -> bool {
        self.wanted.get().is_some_and(|filters| filters.iter().any(|filter| filter.matches(record)))
    }

    /// The state, from memory.
    pub(super) fn status(&self) -> MutexGuard<'_, JournalStatus> {
        // It is only ever overwritten by values.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the writer do this between two batches, and waits for it.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        what: impl FnOnce(&mut Writer) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (reply, answer) = oneshot::channel();
        let command: Command = Box::new(move |writer| {
            // Who asked may be gone.
            let _ = reply.send(what(writer));
        });
        self.queue.command(command)?;
        answer.await.unwrap_or(Err(JournalError::Closed))
    }
}

/// A connection that only reads, used by one caller at a time, off the runtime's own threads.
#[derive(Clone)]
pub(super) struct Reader {
    conn: Arc<Mutex<Option<Connection>>>,
    path: PathBuf,
}

impl Reader {
    /// A reader of the journal at this path; it connects when it is first used.
    pub(super) fn new(path: PathBuf) -> Self {
        Self { conn: Arc::default(), path }
    }

    /// Reads. A reader that failed connects anew the next time.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, JournalError> {
        let Self { conn, path } = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let mut conn = conn.lock().unwrap_or_else(PoisonError::into_inner);
            let open = match conn.take() {
                Some(open) => open,
                None => connection::reader(&path)?,
            };
            let found = read(&open)?;
            *conn = Some(open);
            Ok(found)
        });
        match task.await {
            Ok(found) => found.map_err(|error: rusqlite::Error| failure(&error)),
            Err(_) => Err(JournalError::Unavailable("reading stopped half-way".to_owned())),
        }
    }
}
