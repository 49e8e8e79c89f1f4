//! The connections: one that writes, one beside it that copies the log, and one a reader.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::error::OpenError;

/// Statements a connection keeps prepared: a few a segment.
const STATEMENTS: usize = 128;
/// How long a connection waits for another one.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

fn open(path: &Path) -> rusqlite::Result<Connection> {
    // Without CREATE: the file is made by us, with its mode; without URI: a path is a path.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    conn.busy_timeout(PATIENCE)?;
    Ok(conn)
}

/// The connection of the writer. What it commits is synced.
pub(super) fn writer(path: &Path) -> Result<Connection, OpenError> {
    let ready = || {
        let conn = open(path)?;
        // Reads the header, so that a file that is no database fails here, before anything is written.
        conn.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok(conn)
    };
    ready().map_err(|error| OpenError::sqlite(path, &error))
}

/// Sets the writing connection up; only for a file that was found to be ours.
pub(super) fn set_up_writer(conn: &Connection) -> rusqlite::Result<()> {
    conn.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    // Enough for what is appended to: nothing is read back through it but what leaves.
    conn.pragma_update(None, "cache_size", -8_192)?;
    conn.pragma_update(None, "temp_store", "MEMORY")
}

/// A connection that copies pages of the log into the file.
pub(super) fn checkpointer(path: &Path) -> rusqlite::Result<Connection> {
    let conn = open(path)?;
    conn.pragma_update(None, "synchronous", "FULL")?;
    conn.pragma_update(None, "wal_autocheckpoint", 0)?;
    Ok(conn)
}

/// A connection that only reads.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let conn = open(path)?;
    conn.pragma_update(None, "query_only", true)?;
    conn.pragma_update(None, "cache_size", -4_096)?;
    Ok(conn)
}
