use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::units::{duration, size};

/// `[journal]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalConfig {
    /// What keeps the events.
    pub engine: Engine,
    /// The file of the embedded journal; its folder is created.
    pub path: PathBuf,
    /// How long events are kept that no sink is owed any more.
    #[serde(with = "duration")]
    pub retention: Duration,
    /// How long dead letters are kept.
    #[serde(with = "duration")]
    pub dead_letter_retention: Duration,
    /// Bytes in use, dead letters included, at which the oldest events go that no sink is owed, then `on_full` acts.
    #[serde(with = "size")]
    pub max_size: u64,
    /// Free bytes of the disk below which nothing is accepted.
    #[serde(with = "size")]
    pub disk_reserve: u64,
    /// Bytes of the write-ahead log past which it is finished and started anew.
    #[serde(with = "size")]
    pub wal_limit: u64,
    /// Requests waiting to be written; further ones are answered 503.
    pub queue: usize,
    /// Events a segment: each has an index of its own, so that cost does not depend on history.
    pub segment_events: u64,
    /// Where `journal backup` may write.
    pub backup_dir: PathBuf,
}

/// What keeps the events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// The embedded journal.
    Sqlite,
}
