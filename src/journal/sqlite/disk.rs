//! Free space of the disk that the journal lies on.

use std::io;
use std::path::Path;

/// Bytes that an ordinary user may still write to the disk of this folder.
pub(super) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(folder)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
