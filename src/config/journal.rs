use std::path::PathBuf;
use std::time::Duration;

use crate::settings::Section;
use crate::settings::units::{duration, size};
use crate::settings::values::{self, number, path};

/// `[journal]`: what both engines have in common, and the engine.
#[derive(Debug, Clone)]
pub struct JournalConfig {
    /// What keeps the events, with its own settings.
    pub engine: Engine,
    /// How long events are kept that no sink is owed any more.
    pub retention: Duration,
    /// How long dead letters are kept.
    pub dead_letter_retention: Duration,
    /// Bytes in use, dead letters included, at which the oldest events go that no sink is owed, then `on_full` acts.
    pub max_size: u64,
    /// Requests waiting to be written; further ones are answered 503.
    pub queue: usize,
}

/// What keeps the events.
#[derive(Debug, Clone)]
pub enum Engine {
    /// The embedded journal.
    Sqlite(SqliteConfig),
}

/// `engine = "sqlite"`
#[derive(Debug, Clone)]
pub struct SqliteConfig {
    /// The file; its folder is created.
    pub path: PathBuf,
    /// Free bytes of the disk below which nothing is accepted.
    pub disk_reserve: u64,
    /// Bytes of the write-ahead log past which it is finished and started anew.
    pub wal_limit: u64,
    /// Events a segment: each has an index of its own, so that cost does not depend on history.
    pub segment_events: u64,
    /// Where `journal backup` may write.
    pub backup_dir: PathBuf,
}

/// The engines by name.
#[derive(Clone, Copy)]
enum Kind {
    Sqlite,
}

impl JournalConfig {
    pub(super) fn read(mut section: Section<'_>) -> Option<Self> {
        let kind = section.required("engine", |given| values::choice(given, &[("sqlite", Kind::Sqlite)]));
        let retention = section.required("retention", duration);
        let dead_letter_retention = section.required("dead_letter_retention", duration);
        let max_size = section.required("max_size", size);
        let queue = section.required("queue", number::<_, 1, 1_000_000>);
        if max_size.is_some_and(|max_size| max_size < 16 << 20) {
            section.error("max_size", "this must be at least \"16 MiB\"");
        }
        let engine = match kind {
            Some(Kind::Sqlite) | None => SqliteConfig::read(&mut section).map(Engine::Sqlite),
        };
        section.finish();
        kind?;
        Some(Self {
            engine: engine?,
            retention: retention?,
            dead_letter_retention: dead_letter_retention?,
            max_size: max_size?,
            queue: queue?,
        })
    }
}

impl SqliteConfig {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let file = section.required("path", path);
        let disk_reserve = section.required("disk_reserve", size);
        let wal_limit = section.required("wal_limit", size);
        let segment_events = section.required("segment_events", number::<_, 1_000, 1_000_000_000>);
        let backup_dir = section.required("backup_dir", path);
        if wal_limit.is_some_and(|wal_limit| wal_limit < 1 << 20) {
            section.error("wal_limit", "this must be at least \"1 MiB\"");
        }
        Some(Self {
            path: file?,
            disk_reserve: disk_reserve?,
            wal_limit: wal_limit?,
            segment_events: segment_events?,
            backup_dir: backup_dir?,
        })
    }
}
