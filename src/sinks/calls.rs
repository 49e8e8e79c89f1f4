//! How much a sink with a server is handed, and for how long: the settings `connect_timeout`, `timeout`, `concurrency`,
//! `batch_events` and `batch_bytes`, which mean the same for every type.

use std::time::Duration;

use super::Limits;
use crate::settings::units::{duration, size};
use crate::settings::values::number;
use crate::settings::{Given, Section};

/// How much longer than its own time-out a call may take, as the dispatcher sees it: the sink ends its calls itself, and
/// then says why.
const GRACE: Duration = Duration::from_secs(5);

/// The longest of the time-outs.
const LONGEST: Duration = Duration::from_secs(3600);

/// Raw bytes a call at most: each call is held in memory as a whole.
const LARGEST: u64 = 1 << 30;

/// The calls of a sink to its server. A type that needs another default says so where it reads its settings, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calls {
    /// `connect_timeout`: until a connection to one server is there, TLS and authentication included. At most an hour,
    /// and not longer than `timeout`.
    pub connect_timeout: Duration,
    /// `timeout`: for a whole call. At most an hour.
    pub timeout: Duration,
    /// `concurrency`: calls at once, from 1 to 1024.
    pub concurrency: usize,
    /// `batch_events`: events a call, from 1 to 100 000.
    pub batch_events: usize,
    /// `batch_bytes`: raw bytes a call, but for a single larger event. At most 1 GiB.
    pub batch_bytes: u64,
}

impl Default for Calls {
    /// All calls at once are half of a window, so that the next ones are read while these are answered.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(10),
            concurrency: 4,
            batch_events: 250,
            batch_bytes: 4 << 20,
        }
    }
}

impl Calls {
    /// Reads the settings, with these in place of those that are missing.
    pub(super) fn read(section: &mut Section<'_>, default: Self) -> Self {
        let calls = Self {
            connect_timeout: section.or("connect_timeout", time, default.connect_timeout),
            timeout: section.or("timeout", time, default.timeout),
            concurrency: section.or("concurrency", number::<_, 1, 1_024>, default.concurrency),
            batch_events: section.or("batch_events", batch_events, default.batch_events),
            batch_bytes: section.or("batch_bytes", batch_bytes, default.batch_bytes),
        };
        if calls.connect_timeout > calls.timeout {
            let message = format!("this must not be shorter than connect_timeout ({:?})", calls.connect_timeout);
            section.error("timeout", message);
        }
        calls
    }

    /// What the dispatcher is told.
    pub(super) fn limits(&self, linger: Duration) -> Limits {
        Limits {
            max_events: self.batch_events,
            max_bytes: usize::try_from(self.batch_bytes).unwrap_or(usize::MAX),
            concurrency: self.concurrency,
            timeout: self.timeout + GRACE,
            linger,
        }
    }
}

/// `batch_events`
pub(super) fn batch_events(given: &Given<'_>) -> Result<usize, String> {
    number::<_, 1, 100_000>(given)
}

fn batch_bytes(given: &Given<'_>) -> Result<u64, String> {
    size(given).and_then(|size| if size <= LARGEST { Ok(size) } else { Err("this must be at most \"1 GiB\"".into()) })
}

fn time(given: &Given<'_>) -> Result<Duration, String> {
    duration(given).and_then(|time| if time <= LONGEST { Ok(time) } else { Err("this must be at most \"1h\"".into()) })
}
