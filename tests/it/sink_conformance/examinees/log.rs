//! A pipe in place of stdout.

use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Write as _};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hooksink::config::SinkKind;
use hooksink::sinks::{LogSink, Sink};

use super::super::{Examinee, Trouble, numbers};
use crate::support::{sink_config, until};

/// A pipe in place of stdout.
pub(crate) struct LogExaminee {
    writer: PipeWriter,
    reader: Option<BufReader<PipeReader>>,
    /// What was read, when all of it is read at once.
    lines: Arc<Mutex<Vec<String>>>,
}

impl LogExaminee {
    pub(crate) async fn new() -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        Self { writer, reader: Some(BufReader::new(reader)), lines: Arc::default() }
    }

    fn set_nonblocking(&self, nonblocking: bool) {
        let flags = if nonblocking { rustix::fs::OFlags::NONBLOCK } else { rustix::fs::OFlags::empty() };
        rustix::fs::fcntl_setfl(&self.writer, flags).unwrap();
    }

    /// Reads all there is and will be, on a thread of its own.
    fn read_on(&mut self) {
        let Some(reader) = self.reader.take() else { return };
        let lines = self.lines.clone();
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
    }
}

#[async_trait]
impl Examinee for LogExaminee {
    fn name(&self) -> &'static str {
        "log"
    }

    fn sink(&self) -> Arc<dyn Sink> {
        let SinkKind::Log(config) = sink_config("type = \"log\"\nreveal = true").kind else { unreachable!() };
        let writer = self.writer.try_clone().unwrap();
        Arc::new(LogSink::new(&"it".parse().unwrap(), &config, [0; 32], writer).unwrap())
    }

    async fn trouble(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Nothing => self.read_on(),
            // Nobody reads, so that a write waits in the middle of an event.
            Trouble::Slow => {}
            // Nobody reads, and a write that would have to wait fails.
            Trouble::Dropped => self.set_nonblocking(true),
            _ => unreachable!("does not apply"),
        }
    }

    async fn reached(&mut self) {
        let mut reader = self.reader.take().unwrap();
        let reading = tokio::task::spawn_blocking(move || {
            reader.fill_buf().unwrap();
            reader
        });
        self.reader = Some(reading.await.unwrap());
    }

    async fn settle_down(&mut self) {
        until("the killed call ends", || self.lines.lock().unwrap().len() == 3).await;
    }

    async fn mend(&mut self) {
        self.set_nonblocking(false);
        self.read_on();
    }

    async fn arrived(&mut self) -> Vec<u64> {
        self.read_on();
        // The pipe keeps the order: when this line has come, all others have.
        self.writer.write_all(b"the end\n").unwrap();
        until("the last line comes", || self.lines.lock().unwrap().last().is_some_and(|line| line == "the end")).await;
        numbers(self.lines.lock().unwrap().clone())
    }
}
