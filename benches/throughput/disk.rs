//! What the disk asks of every commit: the time of a synced write.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Failure;
use crate::table::percentile;

/// Bytes of the file, which is overwritten, as the journal overwrites its log: growing a file takes longer.
const FILE: usize = 4 * 1024 * 1024;
const BLOCK: usize = 4096;

/// A file that is written and synced, and the times that took.
pub(crate) struct Probe {
    file: File,
    /// Milliseconds.
    times: Vec<f64>,
}

impl Probe {
    pub(crate) fn new(folder: &Path) -> Result<Self, Failure> {
        let mut file = File::create(folder.join("probe"))?;
        file.write_all(&vec![1; FILE])?;
        file.sync_all()?;
        Ok(Self { file, times: Vec::new() })
    }

    /// Writes 4 KiB and syncs (fdatasync), again and again for this long.
    pub(crate) fn run(&mut self, duration: Duration) -> Result<(), Failure> {
        let until = Instant::now() + duration;
        self.file.seek(SeekFrom::Start(0))?;
        while Instant::now() < until {
            let began = Instant::now();
            self.file.write_all(&[2; BLOCK])?;
            self.file.sync_data()?;
            self.times.push(began.elapsed().as_secs_f64() * 1000.0);
            if self.file.stream_position()? >= FILE as u64 {
                self.file.seek(SeekFrom::Start(0))?;
            }
        }
        Ok(())
    }

    /// Median and p99 of all writes so far, in milliseconds.
    pub(crate) fn median_and_p99(&self) -> (f64, f64) {
        (percentile(&self.times, 0.5), percentile(&self.times, 0.99))
    }
}

impl std::fmt::Display for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (median, p99) = self.median_and_p99();
        let writes = self.times.len();
        write!(f, "a synced write of 4 KiB (fdatasync) took {median:.2} ms, p99 {p99:.2} ms, over {writes} writes")
    }
}
