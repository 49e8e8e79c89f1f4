//! Why the journal cannot be opened, and what a failure of SQLite means to a caller.

use std::io;
use std::path::PathBuf;

use rusqlite::ErrorCode;

use crate::journal::JournalError;

/// Why the journal cannot be opened. Nothing was written to the file.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The path cannot be used: permissions, a folder in the place of the file, a read-only disk.
    #[error("the journal {} cannot be used: {reason}", path.display())]
    Unusable {
        /// `journal.path`
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// Another process has the journal.
    #[error("another hooksink ({holder}) holds the journal {}; stop it, or give this one a journal.path of its own", path.display())]
    Held {
        /// `journal.path`
        path: PathBuf,
        /// What the other process says of itself.
        holder: String,
    },
    /// The file is not a journal of hooksink, or it is damaged.
    #[error("{} is not a sound journal of hooksink: {reason}; it was left as it is", path.display())]
    Damaged {
        /// `journal.path`
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A later version of hooksink wrote the file.
    #[error(
        "the journal {} has schema version {found}, this hooksink knows versions up to {known}; use the hooksink that \
         wrote it or a later one",
        path.display()
    )]
    Newer {
        /// `journal.path`
        path: PathBuf,
        /// The version of the file.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// The SQLite that was built in has a known defect.
    #[error("SQLite {0} was built in; 3.51.3 or newer is needed, as older ones can lose writes when the log restarts")]
    OldSqlite(String),
}

/// Why a journal that no server has open was not copied.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The journal cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The copy cannot be made.
    #[error(transparent)]
    Copy(#[from] JournalError),
}

impl OpenError {
    /// A failure of the file system at this path.
    pub(super) fn io(path: impl Into<PathBuf>, error: &io::Error) -> Self {
        Self::Unusable { path: path.into(), reason: error.to_string() }
    }

    /// A failure of SQLite at this path.
    pub(super) fn sqlite(path: impl Into<PathBuf>, error: &rusqlite::Error) -> Self {
        let path = path.into();
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
                Self::Damaged { path, reason: error.to_string() }
            }
            _ => Self::Unusable { path, reason: error.to_string() },
        }
    }
}

/// What a failure of SQLite means to who asked. The texts of SQLite name no path and no value.
pub(super) fn failure(error: &rusqlite::Error) -> JournalError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => JournalError::Full("the disk has no space left".to_owned()),
        _ => JournalError::Unavailable(error.to_string()),
    }
}
