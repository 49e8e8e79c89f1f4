//! The writing of diagnostics. A line goes into memory, and a thread writes what has gathered: a request costs no call to
//! the kernel for its line, and a stderr that nobody reads holds up no request. What cannot be written is counted.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

/// How long lines gather after a write. Those of so long can be lost when the process is killed.
const GATHER: Duration = Duration::from_millis(10);
/// How long the end of the program waits for its last lines.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes that may wait.
const MOST: usize = 1024 * 1024;

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    /// Lines for which there was no room.
    lost: u64,
    /// Whether lines were taken that are not written yet.
    writing: bool,
    /// Whether someone waits for everything to be written.
    hurry: bool,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing below panics half-way.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where lines are written to.
#[derive(Clone)]
pub(super) struct LogLines(Arc<Shared>);

impl LogLines {
    /// Starts the thread that writes to `out`.
    pub(super) fn to(out: impl Write + Send + 'static) -> io::Result<Self> {
        let lines = Self(Arc::default());
        let shared = Arc::clone(&lines.0);
        thread::Builder::new().name("log".to_owned()).spawn(move || write(&shared, out))?;
        Ok(lines)
    }

    /// Waits until everything is written, but not for ever on a stderr that nobody reads.
    pub(super) fn flush_all(&self) {
        let mut waiting = self.0.waiting();
        waiting.hurry = true;
        self.0.changed.notify_all();
        let unwritten = |waiting: &mut Waiting| waiting.writing || !waiting.lines.is_empty();
        let _written = self.0.changed.wait_timeout_while(waiting, PATIENCE, unwritten);
    }
}

fn write(shared: &Shared, mut out: impl Write) -> ! {
    loop {
        let empty = |waiting: &mut Waiting| waiting.lines.is_empty();
        let mut waiting = shared.changed.wait_while(shared.waiting(), empty).unwrap_or_else(PoisonError::into_inner);
        let (lines, lost) = (std::mem::take(&mut waiting.lines), std::mem::take(&mut waiting.lost));
        waiting.writing = true;
        drop(waiting);
        // A stderr that is gone is nothing that could be told of.
        let _ = out.write_all(&lines);
        if lost > 0 {
            tracing::warn!(lines = lost, "diagnostics were lost: stderr was not read");
        }
        let mut waiting = shared.waiting();
        waiting.writing = false;
        shared.changed.notify_all();
        let _gathered = shared.changed.wait_timeout_while(waiting, GATHER, |waiting| !waiting.hurry);
    }
}

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for LogLines {
    /// Takes a line whole, or counts it as lost.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.0.waiting();
        if waiting.lines.len() + line.len() > MOST {
            waiting.lost += 1;
            return Ok(line.len());
        }
        let first = waiting.lines.is_empty();
        waiting.lines.extend_from_slice(line);
        drop(waiting);
        if first {
            self.0.changed.notify_all();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// Takes what is written once it is asked for it.
    struct Slow {
        written: SyncSender<Vec<u8>>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.written.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn slow() -> (LogLines, Receiver<Vec<u8>>) {
        let (written, receive) = sync_channel(0);
        (LogLines::to(Slow { written }).unwrap(), receive)
    }

    #[test]
    fn lines_are_written_in_their_order_and_all_of_them_before_the_end() {
        let (mut lines, written) = slow();
        let reader = thread::spawn(move || written.iter().flatten().take(3000).collect::<Vec<u8>>());
        for n in 0..1000 {
            lines.write_all(format!("{:02}\n", n % 100).as_bytes()).unwrap();
        }
        lines.flush_all();
        let expected: String = (0..1000).map(|n| format!("{:02}\n", n % 100)).collect();
        assert_eq!(reader.join().unwrap(), expected.into_bytes());
    }

    #[test]
    fn who_logs_never_waits_for_a_reader_and_what_finds_no_room_is_lost_whole() {
        let (mut lines, written) = slow();
        let line = [b'x'; 1024];
        // Twice as much as finds room, besides what the thread has taken.
        for _ in 0..2 * MOST / line.len() {
            lines.write_all(&line).unwrap();
        }
        assert!(lines.0.waiting().lost > 0);
        assert!(lines.0.waiting().lines.len() <= MOST);
        assert_eq!(written.recv().unwrap().len() % line.len(), 0);
    }
}
