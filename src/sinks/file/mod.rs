//! `type = "file"`: events as JSON Lines, synced before the journal's cursor moves.

mod settings;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use tracing::{info, warn};

pub use self::settings::FileSinkConfig;
use super::encoding::Encoding;
use super::worker::Worker;
use super::{BoxError, Checked, Limits, Sink, Undelivered};
use crate::event::Event;
use crate::names::SinkName;

/// Raw bytes a write.
const MAX_BYTES: usize = 8 * 1024 * 1024;

/// Each write is synced, and a disk that syncs for this sink does not for the journal.
const LINGER: Duration = Duration::from_millis(10);

/// Longer than a disk takes that is busy, not dead.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Writes events to a file, one a line. One process and sink at a time: the file is locked.
pub struct FileSink {
    worker: Worker<Appender>,
    encoding: Encoding,
    batch_events: usize,
}

impl FileSink {
    /// A sink of this configuration. The file is opened when the first event comes, so that a disk that is not there
    /// yet delays only this sink.
    pub fn new(name: &SinkName, config: &FileSinkConfig) -> io::Result<Self> {
        let appender = Appender {
            name: name.clone(),
            path: config.path.clone(),
            rotate_size: config.rotate_size,
            rotate_age: config.rotate_age,
            keep_files: config.keep_files,
            current: None,
        };
        Ok(Self {
            worker: Worker::start(format!("sink-{name}"), appender)?,
            encoding: config.encoding,
            batch_events: config.batch_events,
        })
    }
}

#[async_trait]
impl Sink for FileSink {
    async fn deliver(&self, events: &[Event]) -> Result<(), Undelivered> {
        let mut lines = Vec::new();
        for event in events {
            self.encoding.encode_to(event, &mut lines);
            lines.push(b'\n');
        }
        let written = self.worker.run(move |appender| appender.append(&lines, SystemTime::now())).await;
        let cause: BoxError = match written {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => format!("the file cannot be written: {error}").into(),
            Err(error) => error.into(),
        };
        // All lines are one write: a failure is taken back whole, and is no event's fault.
        Err(Undelivered::unknown(0, cause))
    }

    async fn check(&self) -> Result<Checked, BoxError> {
        let found = self.worker.run(|appender| may_write(&appender.path)).await?;
        found.map(|found| Checked { found, warnings: Vec::new(), max_event_bytes: None })
    }

    fn limits(&self) -> Limits {
        Limits { max_events: self.batch_events, max_bytes: MAX_BYTES, concurrency: 1, timeout: TIMEOUT, linger: LINGER }
    }

    /// Opens the path anew with the next event.
    async fn reopen(&self) -> Result<(), BoxError> {
        Ok(self.worker.run(Appender::close).await?)
    }

    async fn close(&self) -> Result<(), BoxError> {
        Ok(self.worker.run(Appender::close).await?)
    }
}

/// Appends to the file; lives on the sink's thread.
struct Appender {
    name: SinkName,
    path: PathBuf,
    rotate_size: Option<u64>,
    rotate_age: Option<Duration>,
    keep_files: Option<usize>,
    current: Option<Current>,
}

/// The open file.
struct Current {
    file: File,
    /// Bytes of it that are whole lines and synced. What lies beyond is left of a failed write.
    good: u64,
    /// When the file was made.
    since: SystemTime,
}

impl Appender {
    fn close(&mut self) {
        self.current = None;
    }

    /// Appends whole lines; `Ok` when they are synced. After a failure nothing of them stays.
    fn append(&mut self, lines: &[u8], now: SystemTime) -> io::Result<()> {
        let mut current = self.writable()?;
        if self.rotation_due(&current, lines.len() as u64, now) {
            // Closed before the rename, so that the lock on the old file ends whatever comes of it.
            drop(current);
            self.rotate(now)?;
            current = self.writable()?;
        }
        let written = current.file.write_all(lines).and_then(|()| current.file.sync_data());
        match written {
            Ok(()) => {
                current.good += lines.len() as u64;
                self.current = Some(current);
                Ok(())
            }
            Err(error) => {
                // If this fails too, opening the file again or the next check of its length does it.
                let _ = current.file.set_len(current.good);
                self.current = Some(current);
                Err(error)
            }
        }
    }

    /// The file, open, ending with a whole line. It is opened anew if the path does not name it any more: it was moved
    /// or removed.
    fn writable(&mut self) -> io::Result<Current> {
        let Some(mut current) = self.current.take() else { return self.open() };
        let metadata = current.file.metadata()?;
        let named = fs::metadata(&self.path);
        if !named.is_ok_and(|named| named.dev() == metadata.dev() && named.ino() == metadata.ino()) {
            drop(current);
            return self.open();
        }
        if metadata.len() > current.good {
            current.file.set_len(current.good)?;
        } else if metadata.len() < current.good {
            // Someone emptied it in place.
            current.good = cut_torn_line(&mut current.file, metadata.len())?;
        }
        Ok(current)
    }

    fn open(&self) -> io::Result<Current> {
        let folder = folder(&self.path);
        if !folder.exists() {
            fs::create_dir_all(folder)?;
            sync_folder(folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
        }
        // Opening a pipe would wait for its reader, and neither pipes nor devices can be cut or rotated.
        if fs::metadata(&self.path).is_ok_and(|metadata| !metadata.is_file()) {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("another process or sink is writing to it"));
            }
            // Some network file systems have no locks.
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let metadata = file.metadata()?;
        let good = cut_torn_line(&mut file, metadata.len())?;
        if good < metadata.len() {
            info!(sink = %self.name, bytes = metadata.len() - good, "cut off a last line without its end");
        }
        if good == 0 {
            file.sync_all()?;
            sync_folder(folder)?;
        }
        let since = metadata.created().or_else(|_| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        Ok(Current { file, good, since })
    }

    fn rotation_due(&self, current: &Current, more: u64, now: SystemTime) -> bool {
        let too_large = self.rotate_size.is_some_and(|limit| current.good + more > limit);
        let too_old =
            self.rotate_age.is_some_and(|limit| now.duration_since(current.since).is_ok_and(|age| age >= limit));
        current.good > 0 && (too_large || too_old)
    }

    /// Gives the file its rotated name: the time and a number, so that names sort in the order they were given, even
    /// within a second and after the clock was set back.
    fn rotate(&self, now: SystemTime) -> io::Result<()> {
        let moment = DateTime::<Utc>::from(now).format("%Y%m%dT%H%M%SZ").to_string();
        let last = self.rotated()?.pop();
        let mark = match last.as_deref().and_then(|mark| mark.split_once('-')) {
            Some((before, number)) if before >= &*moment => {
                let number: u32 = number.parse().map_err(io::Error::other)?;
                format!("{before}-{:06}", number + 1)
            }
            _ => format!("{moment}-000000"),
        };
        let rotated = self.rotated_path(&mark);
        // A rename would replace it.
        if fs::symlink_metadata(&rotated).is_ok() {
            return Err(io::Error::other("the name of the next rotated file is taken"));
        }
        fs::rename(&self.path, rotated)?;
        sync_folder(folder(&self.path))?;
        if let Err(error) = self.prune() {
            warn!(sink = %self.name, %error, "old rotated files could not be removed");
        }
        Ok(())
    }

    /// Removes the oldest rotated files beyond `keep_files`.
    fn prune(&self) -> io::Result<()> {
        let Some(keep) = self.keep_files else { return Ok(()) };
        let mut marks = self.rotated()?;
        marks.truncate(marks.len().saturating_sub(keep));
        marks.iter().try_for_each(|mark| fs::remove_file(self.rotated_path(mark)))
    }

    fn rotated_path(&self, mark: &str) -> PathBuf {
        let (before, after) = name_parts(&self.path);
        folder(&self.path).join(format!("{before}.{mark}{after}"))
    }

    /// The marks of the rotated files there are, oldest first.
    fn rotated(&self) -> io::Result<Vec<String>> {
        let (before, after) = name_parts(&self.path);
        let mut marks = Vec::new();
        for entry in fs::read_dir(folder(&self.path))? {
            let name = entry?.file_name();
            let rest = name.to_str().and_then(|name| name.strip_prefix(&*before)?.strip_suffix(&*after));
            let mark = rest.and_then(|rest| rest.strip_prefix('.')).filter(|mark| is_rotation_mark(mark));
            marks.extend(mark.map(str::to_owned));
        }
        marks.sort();
        Ok(marks)
    }
}

/// Whether this is `20260102T030405Z-000000`.
fn is_rotation_mark(text: &str) -> bool {
    let shape = b"00000000T000000Z-000000";
    text.len() == shape.len()
        && text.bytes().zip(shape).all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            other => byte == *other,
        })
}

/// `events.jsonl` as `events` and `.jsonl`.
fn name_parts(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let after = text(path.extension());
    (text(path.file_stem()), if after.is_empty() { after } else { format!(".{after}") })
}

/// Whether the file may be written, or made, without doing either.
fn may_write(path: &Path) -> Result<String, BoxError> {
    use rustix::fs::{Access, access};
    if path.exists() {
        if path.is_dir() {
            return Err(format!("{} is a folder", path.display()).into());
        }
        access(path, Access::WRITE_OK).map_err(|error| format!("{}: {error}", path.display()))?;
        return Ok(format!("{} may be written", path.display()));
    }
    // Folders are made with the first event.
    let mut above = folder(path);
    while !above.exists() {
        above = folder(above);
    }
    if !above.is_dir() {
        return Err(format!("{} is no folder", above.display()).into());
    }
    access(above, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| format!("{}: {error}", above.display()))?;
    Ok(format!("{} may be made", path.display()))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes new names in a folder durable.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Cuts the file after its last newline; the new length. What is cut was never reported as delivered.
fn cut_torn_line(file: &mut File, len: u64) -> io::Result<u64> {
    let mut block = vec![0; 64 * 1024];
    let mut end = len;
    let mut good = 0;
    while end > 0 {
        let start = end.saturating_sub(block.len() as u64);
        // The difference is at most the length of the block.
        let part = &mut block[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(newline) = part.iter().rposition(|byte| *byte == b'\n') {
            good = start + newline as u64 + 1;
            break;
        }
        end = start;
    }
    if good < len {
        file.set_len(good)?;
        file.sync_data()?;
    }
    Ok(good)
}
