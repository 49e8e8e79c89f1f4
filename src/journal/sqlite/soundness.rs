//! What is found out about a journal before anything is written: damage that SQLite would take for an empty log or find
//! too late. The events themselves are not read through, which would take too long; damage there is found when they
//! are read.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::error::OpenError;

/// Bytes of the write-ahead log before its first frame.
const HEADER: usize = 32;
/// The tables that tell who is owed what.
const TABLES: [&str; 6] = ["meta", "segments", "sinks", "parked", "replays", "gaps"];

/// Looks at the files before SQLite does.
///
/// # Errors
/// The end of the file is missing. Or there is a write-ahead log that SQLite would drop: beside a file that is empty, or
/// without a sound beginning. A power cut leaves neither, since both beginnings are synced before the first event is
/// written.
pub(super) fn check_files(path: &Path) -> Result<(), OpenError> {
    let bytes = path.metadata().map_err(|error| OpenError::io(path, &error))?.len();
    let log = beside(path, "-wal");
    let Some(header) = header(&log).map_err(|error| OpenError::io(&log, &error))? else {
        // What is half written has a log, or a rollback journal while a new file is made.
        if bytes % super::PAGE_BYTES != 0 && !beside(path, "-journal").exists() {
            return Err(OpenError::Damaged { path: path.to_owned(), reason: "its end is missing".to_owned() });
        }
        return Ok(());
    };
    if bytes == 0 {
        let reason = format!("it is empty or was gone, but its write-ahead log {} is not", log.display());
        return Err(OpenError::Damaged { path: path.to_owned(), reason });
    }
    if !is_sound(&header) {
        let reason = "it does not begin as a write-ahead log does".to_owned();
        return Err(OpenError::Damaged { path: log, reason });
    }
    Ok(())
}

/// Reads the small tables through, before anything is written. For a file that was found to be a journal.
///
/// # Errors
/// One of them is damaged.
pub(super) fn check_tables(conn: &Connection, path: &Path) -> Result<(), OpenError> {
    for table in TABLES {
        let check = format!("PRAGMA quick_check({table})");
        let found: String =
            conn.query_row(&check, [], |row| row.get(0)).map_err(|error| OpenError::sqlite(path, &error))?;
        if found != "ok" {
            let reason = format!("table {table} is damaged");
            return Err(OpenError::Damaged { path: path.to_owned(), reason });
        }
    }
    Ok(())
}

/// A file that SQLite keeps beside the journal.
fn beside(path: &Path, end: &str) -> PathBuf {
    // SQLite follows a link first.
    let file = if path.is_symlink() { path.canonicalize().ok() } else { None };
    let mut beside = file.unwrap_or_else(|| path.to_owned()).into_os_string();
    beside.push(end);
    beside.into()
}

/// The beginning of the log; none if there is no log with anything behind it.
fn header(log: &Path) -> io::Result<Option<[u8; HEADER]>> {
    let mut file = match File::open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() <= HEADER as u64 {
        return Ok(None);
    }
    let mut header = [0; HEADER];
    file.read_exact(&mut header)?;
    Ok(Some(header))
}

/// Whether magic number, version and checksum are those of the format (sqlite.org/fileformat2.html, 4.1).
fn is_sound(header: &[u8; HEADER]) -> bool {
    let word = |at: usize| [header[at], header[at + 1], header[at + 2], header[at + 3]];
    let magic = u32::from_be_bytes(word(0));
    // Its last bit says in which order checksums read bytes.
    let read = if magic & 1 == 1 { u32::from_be_bytes } else { u32::from_le_bytes };
    let (mut first, mut second) = (0_u32, 0_u32);
    for at in (0..24).step_by(8) {
        first = first.wrapping_add(read(word(at))).wrapping_add(second);
        second = second.wrapping_add(read(word(at + 4))).wrapping_add(first);
    }
    magic & !1 == 0x377f_0682
        && u32::from_be_bytes(word(4)) == 3_007_000
        && u32::from_be_bytes(word(24)) == first
        && u32::from_be_bytes(word(28)) == second
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_a_real_log_is_sound_and_with_any_bit_turned_it_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE t (n INTEGER); INSERT INTO t VALUES (1);").unwrap();
        let header = header(&beside(&path, "-wal")).unwrap().unwrap();
        assert!(is_sound(&header));
        for bit in 0..HEADER * 8 {
            let mut turned = header;
            turned[bit / 8] ^= 1 << (bit % 8);
            assert!(!is_sound(&turned), "bit {bit}");
        }
    }
}
