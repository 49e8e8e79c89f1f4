use std::path::PathBuf;
use std::time::Duration;

use crate::settings::Section;
use crate::settings::units::{duration, size};
use crate::settings::values::{self, number, path};

/// `[journal]`
#[derive(Debug, Clone)]
pub struct JournalConfig {
    /// What keeps the events.
    pub engine: Engine,
    /// The file of the embedded journal; its folder is created.
    pub path: PathBuf,
    /// How long events are kept that no sink is owed any more.
    pub retention: Duration,
    /// How long dead letters are kept.
    pub dead_letter_retention: Duration,
    /// Bytes in use, dead letters included, at which the oldest events go that no sink is owed, then `on_full` acts.
    pub max_size: u64,
    /// Free bytes of the disk below which nothing is accepted.
    pub disk_reserve: u64,
    /// Bytes of the write-ahead log past which it is finished and started anew.
    pub wal_limit: u64,
    /// Requests waiting to be written; further ones are answered 503.
    pub queue: usize,
    /// Events a segment: each has an index of its own, so that cost does not depend on history.
    pub segment_events: u64,
    /// Where `journal backup` may write.
    pub backup_dir: PathBuf,
}

/// What keeps the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// The embedded journal.
    Sqlite,
}

impl JournalConfig {
    pub(super) fn read(mut section: Section<'_>) -> Option<Self> {
        let engine = section.required("engine", |given| values::choice(given, &[("sqlite", Engine::Sqlite)]));
        let file = section.required("path", path);
        let retention = section.required("retention", duration);
        let dead_letter_retention = section.required("dead_letter_retention", duration);
        let max_size = section.required("max_size", size);
        let disk_reserve = section.required("disk_reserve", size);
        let wal_limit = section.required("wal_limit", size);
        let queue = section.required("queue", number::<_, 1, 1_000_000>);
        let segment_events = section.required("segment_events", number::<_, 1_000, 1_000_000_000>);
        let backup_dir = section.required("backup_dir", path);
        let least = |limit: Option<u64>, least: u64| limit.is_some_and(|limit| limit < least);
        if least(max_size, 16 << 20) {
            section.error("max_size", "this must be at least \"16 MiB\"");
        }
        if least(wal_limit, 1 << 20) {
            section.error("wal_limit", "this must be at least \"1 MiB\"");
        }
        section.finish();
        Some(Self {
            engine: engine?,
            path: file?,
            retention: retention?,
            dead_letter_retention: dead_letter_retention?,
            max_size: max_size?,
            disk_reserve: disk_reserve?,
            wal_limit: wal_limit?,
            queue: queue?,
            segment_events: segment_events?,
            backup_dir: backup_dir?,
        })
    }
}
