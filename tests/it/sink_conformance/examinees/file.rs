//! A file in a folder of its own.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use hooksink::event::Event;
use hooksink::sinks::Sink;
use tempfile::TempDir;

use super::super::{Examinee, Trouble, deliver, numbers};
use crate::support::sink_config;

pub(crate) struct FileExaminee {
    folder: TempDir,
}

impl FileExaminee {
    pub(crate) async fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("below/events.jsonl")
    }
}

#[async_trait]
impl Examinee for FileExaminee {
    fn name(&self) -> &'static str {
        "file"
    }

    fn sink(&self) -> Arc<dyn Sink> {
        let config = sink_config(&format!("type = \"file\"\npath = {:?}", self.path()));
        config.kind.build(&"it".parse().unwrap(), [0; 32]).unwrap()
    }

    async fn trouble(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Nothing => {}
            // What stands there is a folder, which nobody can write lines to.
            Trouble::Dropped => std::fs::create_dir_all(self.path()).unwrap(),
            _ => unreachable!("does not apply"),
        }
    }

    async fn reached(&mut self) {
        unreachable!("does not apply");
    }

    async fn mend(&mut self) {
        std::fs::remove_dir(self.path()).unwrap();
    }

    async fn arrived(&mut self) -> Vec<u64> {
        let text = std::fs::read_to_string(self.path()).unwrap();
        assert!(text.ends_with('\n'));
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let count = lines.len();
        let numbers = numbers(lines);
        assert_eq!(numbers.len(), count, "no line of a file is torn");
        numbers
    }

    /// What the file system keeps of such a process: a line without its end.
    async fn killed_half_way(&mut self, events: &[Event]) {
        let sink = self.sink();
        deliver(&*sink, &events[..1]).await.unwrap();
        sink.close().await.unwrap();
        let line = events[1].to_json(hooksink::event::Format::Cloudevents, false);
        let mut file = std::fs::OpenOptions::new().append(true).open(self.path()).unwrap();
        file.write_all(&line[..line.len() / 2]).unwrap();
    }
}
