//! The embedded journal: one SQLite file.
//!
//! ```text
//! append ─► queue ─► writer (one thread): a batch, one transaction, synced ─► answers, news to consumers
//!                      between two batches: settlements, places, commands, what grew too old, a step of a backup
//! consumer ─► the newest events, in memory; older ones through its own connection, a page at a time
//! checkpoint thread ─► copies the write-ahead log into the file; past its limit the writer begins it anew
//! ```
//! The files, in reading order: `schema`, `segments` (the log in tables), `ids` and `id_filter` (what it holds), `page`
//! (reading it), `tail` (its end, in memory), `row`; `queue`, `writer`; `sinks` (their
//! places), `settle`, `consumer`; `letters`, `replay`,
//! `admin`; `retention`, `checkpoint`, `backup`, `housekeeping`; `lock`, `files`, `disk`, `soundness`,
//! `connection`, `error`.

mod admin;
mod backup;
mod checkpoint;
mod connection;
mod consumer;
mod disk;
mod error;
mod files;
mod housekeeping;
mod id_filter;
mod ids;
mod letters;
mod lock;
mod page;
mod queue;
mod replay;
mod retention;
mod row;
mod schema;
mod segments;
mod settle;
mod shared;
mod sinks;
mod soundness;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

pub use self::error::{BackupError, OpenError};

use self::admin::Step;
use self::backup::{Job, Target};
use self::checkpoint::Checkpointer;
use self::consumer::SqliteConsumer;
use self::letters::Shown;
use self::lock::Lock;
use self::queue::{Append, Queue};
use self::row::Prepared;
use self::segments::Log;
use self::shared::{News, Reader, Shared};
use self::sinks::Sinks;
use self::tail::Tail;
use self::writer::Writer;
use super::{
    Appended, Consumer, ConsumerSpec, DeadLetter, Journal, JournalError, JournalStatus, Letters, ReplayProgress,
    ReplayRequest, SinkStatus,
};
use crate::config::{JournalConfig, SqliteConfig};
use crate::event::Record;
use crate::metrics::Metrics;
use crate::names::SinkName;

/// SQLite's page, which nothing here changes.
const PAGE_BYTES: u64 = 4096;
/// A page in the write-ahead log.
const FRAME_BYTES: u64 = PAGE_BYTES + 24;
/// The first SQLite without the defect that a log begun anew could lose writes.
const SQLITE: i32 = 3_051_003;

/// The embedded journal. Dropping it writes what is queued, as `close` does.
pub struct SqliteJournal {
    shared: Arc<Shared>,
    reader: Reader,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl SqliteJournal {
    /// Opens the journal at `journal.path`, or makes a new one: the folder with mode 0700, the file with mode 0600.
    ///
    /// # Errors
    /// When the path cannot be used, another process has the journal, or the file is damaged, not a journal, or of a
    /// later version; the file is left as it is then. The texts name the path.
    pub fn open(config: &JournalConfig, file: &SqliteConfig, metrics: Arc<Metrics>) -> Result<Self, OpenError> {
        let path = &file.path;
        let (conn, lock) = open_file(path, true)?;
        let failed = |error: rusqlite::Error| OpenError::sqlite(path, &error);
        connection::set_up_writer(&conn).map_err(failed)?;
        schema::migrate(&conn, path)?;
        let log = Log::load(&conn).map_err(failed)?;
        let key = schema::meta(&conn, "key").map_err(failed)?.unwrap_or_default();
        let sinks = Sinks::load(&conn).map_err(failed)?;
        let shared = Arc::new(Shared {
            config: config.clone(),
            file: file.clone(),
            metrics,
            queue: Queue::new(config.queue),
            sinks,
            tail: Tail::default(),
            wanted: OnceLock::new(),
            news: watch::Sender::new(News { last_seq: log.last(), others: 0 }),
            key,
            status: Mutex::new(JournalStatus {
                writable: true,
                reason: None,
                disk_above_reserve: true,
                bytes: 0,
                wal_bytes: 0,
                events: log.next - log.oldest,
                last_seq: log.last(),
            }),
        });
        let io = |error: std::io::Error| OpenError::io(path, &error);
        let checkpointer = Checkpointer::start(path).map_err(io)?;
        let mine = Arc::clone(&shared);
        let writer = thread::Builder::new()
            .name("journal-writer".to_owned())
            .spawn(move || Writer::new(conn, mine, log, checkpointer, lock).run())
            .map_err(io)?;
        let reader = Reader::new(path.clone());
        Ok(Self { shared, reader, writer: Mutex::new(Some(writer)) })
    }

    /// Changes dead letters a step at a time, so that batches come between; how many.
    async fn in_steps(
        &self,
        which: Letters,
        step: fn(&mut Writer, &Letters, i64) -> Result<Step, JournalError>,
    ) -> Result<u64, JournalError> {
        let which = Arc::new(which);
        let (mut count, mut after) = (0, i64::MIN);
        loop {
            let which = Arc::clone(&which);
            let Step { changed, last } = self.shared.ask(move |writer| step(writer, &which, after)).await?;
            count += changed;
            match last {
                Some(last) => after = last,
                None => return Ok(count),
            }
        }
    }

    fn join(&self) {
        self.shared.queue.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the journal's writer stopped by a panic");
        }
    }
}

/// The file, held by this process alone, and found to be a journal or empty.
fn open_file(path: &Path, create: bool) -> Result<(Connection, Lock), OpenError> {
    if rusqlite::version_number() < SQLITE {
        return Err(OpenError::OldSqlite(rusqlite::version().to_owned()));
    }
    let io = |error: std::io::Error| OpenError::io(path, &error);
    if create {
        files::create_folder(files::folder(path)).map_err(io)?;
    }
    // SQLite would silently read only what it may not write.
    files::private().read(true).write(true).create(create).truncate(false).open(path).map_err(io)?;
    let lock = Lock::take(path)?;
    soundness::check_files(path)?;
    if create {
        files::sync_folder(files::folder(path)).map_err(io)?;
    }
    let conn = connection::writer(path)?;
    if schema::version(&conn, path)? > 0 {
        soundness::check_tables(&conn, path)?;
    }
    Ok((conn, lock))
}

/// Copies the journal while no server has it open, to a new file below `journal.backup_dir`; the path of the copy.
/// `progress` is told pages copied and pages in all.
///
/// # Errors
/// Those of [`SqliteJournal::open`], and of [`Journal::backup`].
pub fn backup_offline(
    config: &SqliteConfig,
    file: &Path,
    progress: Box<dyn Fn(u64, u64) + Send>,
) -> Result<PathBuf, BackupError> {
    let (conn, _lock) = open_file(&config.path, false)?;
    let target = Target::below(&config.backup_dir, file)?;
    Ok(backup::run_alone(&conn, &target, &progress)?)
}

impl Drop for SqliteJournal {
    fn drop(&mut self) {
        self.join();
    }
}

#[async_trait]
impl Journal for SqliteJournal {
    async fn append(&self, records: Vec<Record>) -> Result<Vec<Appended>, JournalError> {
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let records: Vec<Prepared> = records
            .into_iter()
            .map(|record| Prepared::new(record, &self.shared))
            .collect::<Result<_, _>>()
            .map_err(|_| JournalError::Unavailable("a record's context cannot be written as JSON".to_owned()))?;
        let bytes = records.iter().map(Prepared::bytes).sum();
        let (reply, answer) = oneshot::channel();
        self.shared.queue.append(Append { records, bytes, reply })?;
        answer.await.unwrap_or(Err(JournalError::Closed))
    }

    async fn configure(&self, sinks: Vec<ConsumerSpec>) -> Result<(), JournalError> {
        self.shared.ask(move |writer| writer.configure(sinks)).await
    }

    async fn consumer(&self, sink: &SinkName) -> Result<Box<dyn Consumer>, JournalError> {
        Ok(Box::new(SqliteConsumer::new(Arc::clone(&self.shared), sink.clone())?))
    }

    fn status(&self) -> JournalStatus {
        self.shared.status().clone()
    }

    async fn sinks(&self) -> Result<Vec<SinkStatus>, JournalError> {
        self.shared.ask(|writer| writer.sink_states()).await
    }

    async fn forget_sink(&self, sink: &SinkName) -> Result<(), JournalError> {
        let sink = sink.clone();
        let name = sink.clone();
        self.shared.ask(move |writer| writer.unconfigured(&name)).await?;
        self.drop_dead_letters(Letters::Sink(sink.clone())).await?;
        self.shared.ask(move |writer| writer.forget_sink(&sink)).await
    }

    async fn rename_sink(&self, old: &SinkName, new: &SinkName) -> Result<(), JournalError> {
        let (old, new) = (old.clone(), new.clone());
        self.shared.ask(move |writer| writer.rename_sink(&old, &new)).await
    }

    async fn dead_letters(
        &self,
        sink: Option<&SinkName>,
        after: i64,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, JournalError> {
        let sink = sink.cloned();
        self.reader.read(move |conn| letters::list(conn, sink.as_ref(), after, limit)).await
    }

    async fn dead_letter(&self, id: i64) -> Result<Option<(DeadLetter, Record)>, JournalError> {
        match self.reader.read(move |conn| letters::show(conn, id)).await? {
            Shown::Letter(letter) => Ok(Some(*letter)),
            Shown::Nothing => Ok(None),
            Shown::Unreadable => Err(JournalError::unreadable_letter(id)),
        }
    }

    async fn retry_dead_letters(&self, which: Letters) -> Result<u64, JournalError> {
        self.in_steps(which, Writer::retry_letters).await
    }

    async fn drop_dead_letters(&self, which: Letters) -> Result<u64, JournalError> {
        self.in_steps(which, Writer::drop_letters).await
    }

    async fn start_replay(&self, request: ReplayRequest) -> Result<ReplayProgress, JournalError> {
        self.shared.ask(move |writer| writer.start_replay(request)).await
    }

    async fn replay(&self, id: i64) -> Result<Option<ReplayProgress>, JournalError> {
        self.reader.read(move |conn| replay::progress(conn, id)).await
    }

    async fn backup(&self, file: &Path, progress: Box<dyn Fn(u64, u64) + Send>) -> Result<PathBuf, JournalError> {
        let (folder, file) = (self.shared.file.backup_dir.clone(), file.to_owned());
        let target = tokio::task::spawn_blocking(move || Target::below(&folder, &file))
            .await
            .map_err(|_| JournalError::Unavailable("the backup could not begin".to_owned()))??;
        let (reply, answer) = oneshot::channel();
        let job = Job { target, progress, reply };
        self.shared.queue.command(Box::new(move |writer| writer.begin_backup(job)))?;
        answer.await.unwrap_or(Err(JournalError::Closed))
    }

    fn key(&self) -> [u8; 32] {
        self.shared.key
    }

    async fn close(&self) {
        self.shared.queue.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && !matches!(tokio::task::spawn_blocking(move || writer.join()).await, Ok(Ok(())))
        {
            tracing::error!("the journal's writer stopped by a panic");
        }
    }
}
