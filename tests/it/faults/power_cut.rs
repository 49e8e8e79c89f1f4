//! Power cuts, which SIGKILL cannot show: copies of the files as they would stand after any part of what was not synced
//! was lost. Each opens and holds every event that was acknowledged.
//!
//! What was written and what was synced is read off a trace of the real binary. That the trace tells everything is
//! checked against the files it left.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use hooksink::config::{self, Inputs, JournalConfig};
use hooksink::journal::sqlite::SqliteJournal;
use hooksink::metrics::Metrics;
use rand::seq::IndexedRandom as _;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::journal::file;
use crate::programs::strace_or_skip;
use crate::support::senders::{SOURCE, check, events_in, has_all, owed, senders, stored, under_load};
use crate::support::server::{TestServer, eventually};
use crate::support::unsynced::{self, Disk, File, Fill};
use crate::trace::{self, answered, calls};

const PEOPLE: usize = 8;

const CONFIG: &str = r#"
    [journal]
    path = "journal.db"
    wal_limit = "1 MiB"
    disk_reserve = "1 MiB"
    segment_events = 1000
    [sinks.archive]
    type = "file"
    path = "events.jsonl"
"#;

/// Syncs of either kind that there are to choose from, at least.
const COMMITS: usize = 50;
const CHECKPOINTS: usize = 2;

/// A trace that strace still writes.
struct Growing {
    file: BufReader<fs::File>,
    line: Vec<u8>,
}

impl Growing {
    fn open(path: &Path) -> Self {
        Self { file: BufReader::new(fs::File::open(path).unwrap()), line: Vec::new() }
    }

    /// The next line, if it is written whole.
    fn line(&mut self) -> Option<String> {
        self.file.read_until(b'\n', &mut self.line).unwrap();
        let line = self.line.ends_with(b"\n").then(|| std::mem::take(&mut self.line))?;
        Some(String::from_utf8_lossy(&line).into_owned())
    }
}

/// What the disk held at a moment when a sync began.
struct Moment {
    disk: Disk,
    /// The mids of the events that were answered 200 before.
    acknowledged: BTreeSet<String>,
}

/// A run of the real binary under load, until so many events are stored, and its stop.
struct Run {
    folder: TempDir,
    trace: String,
    owed: Vec<String>,
}

impl Run {
    fn new(strace: &Path, events: usize) -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let traced = format!("trace={},{}", trace::CALLS, unsynced::CALLS);
        // As its grandchild: the server stays the child that is told to stop.
        let by = [strace.to_str().unwrap(), "-D", "-f", "-y", "-s", "4000000", "-e", &traced, "-o", "trace"];
        let server = TestServer::start_under(&by, folder, &format!("{SOURCE}{CONFIG}"), &[]);
        let id = server.id().to_string();
        let mut senders = senders(PEOPLE);
        under_load(&mut senders, server.public, |load| {
            eventually("progress", || (load.acknowledged() >= events).then_some(()));
            // How many commits and checkpoints that takes is a matter of the machine.
            let (mut trace, mut commits, mut checkpoints) = (Growing::open(&server.folder().join("trace")), 0, 0);
            eventually("enough commits and checkpoints", || {
                while let Some(line) = trace.line() {
                    let is_sync = line.contains("sync(");
                    commits += usize::from(is_sync && line.contains("/journal.db-wal>"));
                    checkpoints += usize::from(is_sync && line.contains("/journal.db>"));
                    // Some of them are of a file that is being made.
                    if commits > 2 * COMMITS && checkpoints > CHECKPOINTS + 3 {
                        return Some(());
                    }
                }
                None
            });
        });
        let (owed, archive) = (owed(&senders), server.folder().join("events.jsonl"));
        eventually("the sink has everything", || has_all(&events_in(&archive), &owed).then_some(()));
        let folder = server.stop();
        let trace = eventually("strace has written everything", || {
            let trace = String::from_utf8_lossy(&fs::read(folder.path().join("trace")).unwrap()).into_owned();
            let mut exits = trace.lines().filter(|line| line.contains("+++ exited with 0 +++"));
            exits.any(|line| line.split(' ').next() == Some(&id)).then_some(trace)
        });
        Self { folder, trace, owed }
    }

    /// Moments when a sync of the journal began: so many at random with events in its log that are not synced, and as
    /// many with pages of its file that are not, as in the middle of a checkpoint.
    fn moments(&self, count: usize) -> Vec<Moment> {
        let path = self.folder.path().canonicalize().unwrap();
        let calls = calls(&self.trace);
        // As strace writes them.
        let marks: Vec<_> = self.owed.iter().map(|mid| format!(r#"\"mid\":\"{mid}\""#)).collect();
        let answered = answered(&calls, &marks);
        assert_eq!(answered.len(), self.owed.len(), "an answer is not in the trace");
        let is_pending = |disk: &Disk, name: &str| disk.files.get(name).is_some_and(File::is_pending);
        let (mut commits, mut checkpoints) = (Vec::new(), Vec::new());
        let end = Disk::follow(&path, &calls, |disk, line, _| {
            // The file is made without a log.
            if is_pending(disk, "journal.db") && disk.files.contains_key("journal.db-wal") {
                checkpoints.push(line);
            } else if is_pending(disk, "journal.db-wal") || is_pending(disk, "journal.db") {
                commits.push(line);
            }
        });
        for name in ["journal.db", "events.jsonl"] {
            assert!(
                end.files[name].seen() == fs::read(path.join(name)).unwrap(),
                "the trace does not tell all of {name}"
            );
        }
        assert!(!end.files.contains_key("journal.db-wal") && !path.join("journal.db-wal").exists());
        println!("{} syncs of commits, {} of checkpoints", commits.len(), checkpoints.len());
        assert!(commits.len() > COMMITS && checkpoints.len() >= CHECKPOINTS);

        let mut chosen: BTreeSet<usize> = commits.sample(&mut rand::rng(), count).copied().collect();
        chosen.extend(checkpoints.sample(&mut rand::rng(), count));
        let mut moments = Vec::new();
        Disk::follow(&path, &calls, |disk, line, _| {
            if chosen.contains(&line) {
                let before = answered.iter().filter(|(began, _)| *began < line);
                let mids = before.map(|(_, mark)| mark.rsplit('"').nth(1).unwrap().trim_end_matches('\\').to_owned());
                moments.push(Moment { disk: disk.clone(), acknowledged: mids.collect() });
            }
        });
        moments
    }
}

fn garbage(sector: &mut [u8]) {
    rand::fill(sector);
}

fn zeros(_: &mut [u8]) {}

/// Any part of these.
fn some(sectors: &[usize]) -> Vec<usize> {
    sectors.iter().copied().filter(|_| rand::random()).collect()
}

type Files = Vec<(String, Vec<u8>)>;

impl Moment {
    /// The files as a power cut may leave them, one after the other.
    fn cuts(&self, mut left: impl FnMut(&str, Files)) {
        let empty = File::default();
        let file = self.disk.files.get("journal.db").unwrap_or(&empty);
        let log = self.disk.files.get("journal.db-wal").unwrap_or(&empty);
        let (of_file, of_log) = (file.pending_sectors(), log.pending_sectors());
        let mut number = 0;
        let mut cut = |what: &str, spared_of_log: &[usize], fill: Option<Fill>| {
            // What is left of the file in the middle of a checkpoint: nothing, all, or any part of it.
            number += 1;
            let spared_of_file = [Vec::new(), of_file.clone(), some(&of_file), some(&of_file)][number % 4].clone();
            let mut files: Files = vec![("journal.db".to_owned(), file.cut(&spared_of_file, None))];
            if self.disk.files.contains_key("journal.db-wal") {
                files.push(("journal.db-wal".to_owned(), log.cut(spared_of_log, fill)));
                // Nobody syncs it: it may hold anything.
                let mut index = vec![0; 32 * 1024];
                garbage(&mut index);
                files.push(("journal.db-shm".to_owned(), index));
            }
            let others =
                self.disk.files.iter().filter(|(name, _)| !matches!(&***name, "journal.db" | "journal.db-wal"));
            for (name, other) in others {
                let spared = other.pending_sectors();
                files.push((name.clone(), other.cut(&spared[..rand::random_range(0..=spared.len())], None)));
            }
            left(&format!("{what}, of the file {spared_of_file:?}"), files);
        };
        for length in 0..=of_log.len() {
            let spared = &of_log[..length];
            cut(&format!("the log ends after {spared:?} of {of_log:?}"), spared, None);
            cut(&format!("the log has zeros after {spared:?} of {of_log:?}"), spared, Some(zeros));
            cut(&format!("the log has garbage after {spared:?} of {of_log:?}"), spared, Some(garbage));
        }
        for fill in [zeros as Fill, garbage].repeat(8) {
            let spared = some(&of_log);
            cut(&format!("the log has {spared:?} of {of_log:?}"), &spared, Some(fill));
        }
    }
}

/// Opens what a power cut left, as the server does, and compares.
fn keeps(folder: &Path, config: &JournalConfig, files: &Files, acknowledged: &BTreeSet<String>) -> Result<(), String> {
    for old in fs::read_dir(folder).unwrap() {
        fs::remove_file(old.unwrap().path()).unwrap();
    }
    for (name, bytes) in files.iter().filter(|(name, _)| name.starts_with("journal.db")) {
        fs::write(folder.join(name), bytes).unwrap();
    }
    let opened =
        SqliteJournal::open(config, file(config), Arc::new(Metrics::new())).map_err(|error| error.to_string())?;
    drop(opened);
    let journal = Connection::open(&file(config).path).unwrap();
    let sound: String = journal.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    if sound != "ok" {
        return Err(sound);
    }
    let mids: Vec<_> = stored(&journal).into_iter().map(|(_, mid)| mid).collect();
    let distinct: BTreeSet<_> = mids.iter().cloned().collect();
    let lost: Vec<_> = acknowledged.difference(&distinct).collect();
    match (mids.len() - distinct.len(), lost.is_empty()) {
        (0, true) => Ok(()),
        (0, false) => Err(format!("lost {lost:?}")),
        (doubled, _) => Err(format!("{doubled} events stand there twice")),
    }
}

/// In memory where there is such a folder: here nothing is lost that was not synced, and syncs cost nothing.
fn scratch() -> TempDir {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

fn journal_config(folder: &Path) -> JournalConfig {
    let text = format!("[journal]\npath = {:?}\n", folder.join("journal.db"));
    let inputs = Inputs {
        file: Some(("hooksink.toml".into(), text)),
        environment: std::collections::BTreeMap::new(),
        flags: Vec::new(),
        read_secret: &|_| Err(std::io::ErrorKind::NotFound.into()),
    };
    config::load(&inputs).unwrap_or_else(|errors| panic!("{errors}")).config.journal
}

#[test]
fn whatever_was_not_synced_is_lost_every_acknowledged_event_is_kept() {
    let name = "faults::power_cut::whatever_was_not_synced_is_lost_every_acknowledged_event_is_kept";
    let Some(strace) = strace_or_skip(name) else { return };
    let count = std::env::var("HOOKSINK_POWER_CUTS").map_or(5, |count| count.parse().expect("a number"));
    let run = Run::new(&strace, 400.max(count * 10));
    let moments = run.moments(count);
    assert!(moments.iter().filter(|moment| !moment.acknowledged.is_empty()).count() > count);
    // The comparison sees what it is there to see.
    let (early, late) = (moments.first().unwrap(), moments.last().unwrap());
    early.cuts(|_, files| {
        let folder = scratch();
        let kept = keeps(folder.path(), &journal_config(folder.path()), &files, &late.acknowledged);
        assert!(kept.is_err_and(|error| error.starts_with("lost")));
    });
    let (next, cuts) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let folder = scratch();
                let config = journal_config(folder.path());
                while let Some(moment) = moments.get(next.fetch_add(1, Ordering::SeqCst)) {
                    moment.cuts(|what, files| {
                        cuts.fetch_add(1, Ordering::SeqCst);
                        if let Err(error) = keeps(folder.path(), &config, &files, &moment.acknowledged) {
                            panic!("{error}; {} events were acknowledged; {what}", moment.acknowledged.len());
                        }
                    });
                }
            });
        }
    });
    println!("{} copies of {} moments, none without an acknowledged event", cuts.into_inner(), moments.len());

    // With the sink's file, through the real binary: the sink is handed what it lost.
    let mut left: Vec<(Files, &BTreeSet<String>)> = Vec::new();
    for moment in moments.iter().filter(|moment| moment.acknowledged.len() > 50) {
        let mut all = Vec::new();
        moment.cuts(|_, files| all.push(files));
        left.push((all.swap_remove(rand::random_range(0..all.len())), &moment.acknowledged));
    }
    for (files, acknowledged) in left.into_iter().take(8) {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files.iter().filter(|(name, _)| name != "trace") {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        let owed: Vec<_> = acknowledged.iter().cloned().collect();
        let server = TestServer::start_with(folder, &format!("{SOURCE}{CONFIG}"), &[]);
        let archive = server.folder().join("events.jsonl");
        eventually("the sink has everything", || has_all(&events_in(&archive), &owed).then_some(()));
        check("file", &events_in(&archive), &owed);
    }
}
