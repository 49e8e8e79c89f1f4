//! The tables, and how a journal of an earlier version comes to them.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::error::OpenError;

/// Tells `file(1)` and us that a database is a journal of hooksink: "hksk".
const APPLICATION_ID: i64 = 0x686b_736b;

/// The step to version n stands at n - 1. A step that was released never changes.
const MIGRATIONS: &[&str] = &[
    // 1: times are milliseconds since 1970 in UTC; `seq` is the position in the log, never used twice.
    // The events themselves stand in tables events_1, events_2, … (see segments.rs).
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
     CREATE TABLE segments (n INTEGER PRIMARY KEY, first_seq INTEGER NOT NULL);
     CREATE TABLE sinks (
         name TEXT PRIMARY KEY,
         cursor INTEGER NOT NULL,
         delivered INTEGER NOT NULL DEFAULT 0,
         skipped INTEGER NOT NULL DEFAULT 0
     ) WITHOUT ROWID;
     -- An event that its sink's cursor, or that of a replay (0 is the log), has passed and that is still owed.
     CREATE TABLE parked (
         sink TEXT NOT NULL,
         replay INTEGER NOT NULL,
         seq INTEGER NOT NULL,
         id BLOB NOT NULL,
         source TEXT NOT NULL,
         subject TEXT,
         PRIMARY KEY (sink, replay, seq)
     ) WITHOUT ROWID;
     CREATE TABLE dead_letters (
         letter INTEGER PRIMARY KEY AUTOINCREMENT,
         sink TEXT NOT NULL,
         died_at INTEGER NOT NULL,
         attempts INTEGER NOT NULL,
         reason TEXT NOT NULL,
         retrying INTEGER NOT NULL DEFAULT 0,
         id BLOB NOT NULL,
         source TEXT NOT NULL,
         source_type TEXT NOT NULL,
         kind TEXT NOT NULL,
         subject TEXT,
         occurred_at INTEGER,
         received_at INTEGER NOT NULL,
         context TEXT NOT NULL,
         raw BLOB NOT NULL,
         UNIQUE (sink, id)
     );
     CREATE INDEX dead_letters_by_age ON dead_letters (died_at);
     CREATE INDEX dead_letters_retrying ON dead_letters (sink, letter) WHERE retrying;
     -- `cursor` is the position it is done with, `last_seq` the last one to look at.
     CREATE TABLE replays (
         id INTEGER PRIMARY KEY AUTOINCREMENT,
         sink TEXT NOT NULL,
         received_from INTEGER NOT NULL,
         received_to INTEGER NOT NULL,
         kinds TEXT NOT NULL,
         first_seq INTEGER NOT NULL,
         last_seq INTEGER NOT NULL,
         cursor INTEGER NOT NULL,
         delivered INTEGER NOT NULL DEFAULT 0,
         finished INTEGER NOT NULL DEFAULT 0
     );
     -- What a sink with on_full = \"skip\" lost at the size limit.
     CREATE TABLE gaps (
         id INTEGER PRIMARY KEY AUTOINCREMENT,
         sink TEXT NOT NULL,
         first_seq INTEGER NOT NULL,
         last_seq INTEGER NOT NULL,
         events INTEGER NOT NULL,
         at INTEGER NOT NULL
     );
     INSERT INTO meta VALUES ('key', randomblob(32));",
    // 2: the ids of a full segment stand in a table ids_1, ids_2, … of their own (see ids.rs), when its filter is here.
    "ALTER TABLE segments ADD COLUMN filter BLOB;",
];

/// Brings the journal to the newest version.
pub(super) fn migrate(conn: &Connection, path: &Path) -> Result<(), OpenError> {
    apply(conn, path, MIGRATIONS)
}

fn apply(conn: &Connection, path: &Path, migrations: &[&str]) -> Result<(), OpenError> {
    let found = check(conn, path, migrations)?;
    for (version, step) in (1_i64..).zip(migrations).skip_while(|(version, _)| *version <= found) {
        if let Err(error) = take_step(conn, version, step) {
            return Err(OpenError::sqlite(path, &error));
        }
    }
    Ok(())
}

fn take_step(conn: &Connection, version: i64, step: &str) -> rusqlite::Result<()> {
    let transaction = conn.unchecked_transaction()?;
    transaction.execute_batch(step)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", version)?;
    transaction.commit()
}

/// The version of the file, 0 for an empty one; fails for what this program does not know.
pub(super) fn version(conn: &Connection, path: &Path) -> Result<i64, OpenError> {
    check(conn, path, MIGRATIONS)
}

fn check(conn: &Connection, path: &Path, migrations: &[&str]) -> Result<i64, OpenError> {
    let number = |pragma: &str| conn.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let read = || {
        let empty = conn.query_row("SELECT 1 FROM sqlite_schema", [], |_| Ok(())).optional()?.is_none();
        rusqlite::Result::Ok((empty, number("application_id")?, number("user_version")?))
    };
    let (empty, application, found) = read().map_err(|error| OpenError::sqlite(path, &error))?;
    if empty && application == 0 && found == 0 {
        return Ok(0);
    }
    if application != APPLICATION_ID {
        let reason = "it is a database of another program".to_owned();
        return Err(OpenError::Damaged { path: path.to_owned(), reason });
    }
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(OpenError::Newer { path: path.to_owned(), found, known });
    }
    Ok(found)
}

/// A value of the table `meta`.
pub(super) fn meta<T: rusqlite::types::FromSql>(conn: &Connection, key: &str) -> rusqlite::Result<Option<T>> {
    conn.query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get(0)).optional()
}

/// Sets a value of the table `meta`.
pub(super) fn set_meta(conn: &Connection, key: &str, value: impl rusqlite::ToSql) -> rusqlite::Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?1, ?2)")?.execute(params![key, value]).map(|_| ())
}

/// Removes a value of the table `meta`.
pub(super) fn unset_meta(conn: &Connection, key: &str) -> rusqlite::Result<()> {
    conn.prepare_cached("DELETE FROM meta WHERE key = ?1")?.execute([key]).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply_to(conn: &Connection, migrations: &[&str]) -> Result<(), OpenError> {
        apply(conn, Path::new("test.db"), migrations)
    }

    #[test]
    fn steps_are_taken_once_and_in_order() {
        let conn = Connection::open_in_memory().unwrap();
        let first = "CREATE TABLE steps (n INTEGER); INSERT INTO steps VALUES (1);";
        let second = "INSERT INTO steps SELECT max(n) + 1 FROM steps;";
        apply_to(&conn, &[first]).unwrap();
        apply_to(&conn, &[first, second]).unwrap();
        apply_to(&conn, &[first, second]).unwrap();
        let steps: String = conn.query_row("SELECT group_concat(n) FROM steps", [], |row| row.get(0)).unwrap();
        assert_eq!(steps, "1,2");
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it() {
        let conn = Connection::open_in_memory().unwrap();
        let broken = "CREATE TABLE half (n INTEGER); INSERT INTO nowhere VALUES (1);";
        assert!(apply_to(&conn, &["CREATE TABLE whole (n INTEGER);", broken]).is_err());
        assert_eq!(check(&conn, Path::new("test.db"), &["", ""]).unwrap(), 1);
        let tables: String =
            conn.query_row("SELECT group_concat(name) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
        assert_eq!(tables, "whole");
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        let conn = Connection::open_in_memory().unwrap();
        apply_to(&conn, &["CREATE TABLE a (n INTEGER);", "", ""]).unwrap();
        let error = apply_to(&conn, &[""]).unwrap_err().to_string();
        assert!(error.contains("test.db has schema version 3, this hooksink knows versions up to 1"), "{error}");
    }

    #[test]
    fn a_database_of_another_program_is_refused() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch("CREATE TABLE theirs (n INTEGER)").unwrap();
        let error = apply_to(&conn, MIGRATIONS).unwrap_err().to_string();
        assert!(error.contains("another program"), "{error}");
    }
}
