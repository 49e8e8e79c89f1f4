//! Why the distributed journal cannot be opened, and what a failure of the client library means to a caller. What the
//! library says of a failure holds no event: it is the kind of the failure, or the server's own words.

use std::fmt::Display;

use crate::journal::JournalError;

/// Why the journal cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The servers cannot be reached, or refuse the connection.
    #[error("the journal's NATS servers ({servers}) cannot be used: {reason}")]
    Unreachable {
        /// `journal.servers`
        servers: String,
        /// Why.
        reason: String,
    },
    /// What is connected to cannot keep a journal.
    #[error("NATS server {server}: {reason}")]
    Unfit {
        /// Its name and version.
        server: String,
        /// Why.
        reason: String,
    },
    /// A stream is there, and is not as it has to be.
    #[error("the stream {stream} is there with other settings than a journal needs: {}", differences.join("; "))]
    Differs {
        /// Its name.
        stream: String,
        /// Each setting that differs: what it is, and what it has to be.
        differences: Vec<String>,
    },
    /// A later version of hooksink made the journal.
    #[error(
        "the journal {stream} has version {found}, this hooksink knows {known}; use the hooksink that made it or a later one"
    )]
    Newer {
        /// `journal.stream`
        stream: String,
        /// The version found.
        found: u32,
        /// The newest version known here.
        known: u32,
    },
    /// The streams cannot be made or read.
    #[error("the journal cannot be opened: {0}")]
    Failed(#[from] JournalError),
}

/// A failure to do this.
pub(super) fn unavailable(what: &str, error: impl Display) -> JournalError {
    JournalError::Unavailable(format!("{what}: {error}"))
}

/// What was read cannot be understood.
pub(super) fn unreadable(what: &str) -> JournalError {
    JournalError::Unavailable(format!("{what} cannot be read; another version of hooksink may have written it"))
}
