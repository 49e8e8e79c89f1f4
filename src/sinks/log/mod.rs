//! `type = "log"`: events to stdout, for people and log collectors. Personal data does not show unless `reveal` says so.

mod settings;
mod veil;

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;

use async_trait::async_trait;
use serde_json::{Map, Value};

pub use self::settings::{LogSinkConfig, LogSinkFormat};
use self::veil::Veil;
use super::worker::Worker;
use super::{BoxError, Checked, Limits, Sink, Undelivered};
use crate::event::cloud_event::members;
use crate::event::{Event, Format};
use crate::model::Payload;
use crate::names::SinkName;

/// Characters of a value in a line for people.
const MAX_VALUE: usize = 120;

/// Writes a line per event.
pub struct LogSink {
    worker: Worker<Lines>,
    format: LogSinkFormat,
    /// None shows everything.
    veil: Option<Veil>,
}

impl LogSink {
    /// Writes to stdout. `key` keys the hashes that stand for personal data.
    pub fn stdout(name: &SinkName, config: &LogSinkConfig, key: [u8; 32]) -> io::Result<Self> {
        // A descriptor of our own, without the buffer of `std::io::Stdout`: what was written is known when a write
        // fails.
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Self::new(name, config, key, stdout)
    }

    /// Writes to `out`.
    pub fn new(
        name: &SinkName,
        config: &LogSinkConfig,
        key: [u8; 32],
        out: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        let lines = Lines { out: Box::new(out), torn: false };
        Ok(Self {
            worker: Worker::start(format!("sink-{name}"), lines)?,
            format: config.format,
            veil: (!config.reveal).then(|| Veil::new(key)),
        })
    }

    fn line(&self, event: &Event) -> Vec<u8> {
        let whole = event.to_json(Format::Cloudevents, false);
        let json = self.format == LogSinkFormat::Json;
        if json && self.veil.is_none() {
            return whole;
        }
        // Our own JSON of a moment ago; were it not an object, nothing would be shown. What was sent stands in it, however
        // deep and however much.
        let mut shown = members(&whole).unwrap_or_default();
        if let Some(veil) = &self.veil {
            // What somebody's own expression made has names of its own, which may be anything.
            match &*event.payload {
                Payload::Mapped(_) => veil.cover_whole(&mut shown),
                _ => veil.cover(&mut shown),
            }
        }
        if json { serde_json::to_vec(&shown).unwrap_or_default() } else { readable(&shown).into_bytes() }
    }
}

#[async_trait]
impl Sink for LogSink {
    async fn deliver(&self, events: &[Event]) -> Result<(), Undelivered> {
        let lines: Vec<Vec<u8>> = events.iter().map(|event| self.line(event)).collect();
        let (delivered, cause): (usize, BoxError) = match self.worker.run(move |out| out.write(&lines)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err((written, error))) => (written, format!("the output cannot be written: {error}").into()),
            Err(error) => (0, error.into()),
        };
        Err(Undelivered::unknown(delivered, cause))
    }

    async fn check(&self) -> Result<Checked, BoxError> {
        Ok(Checked { found: "stdout".to_owned(), warnings: Vec::new(), max_event_bytes: None })
    }

    fn limits(&self) -> Limits {
        Limits { max_bytes: 1024 * 1024, ..Limits::default() }
    }
}

/// Where lines go; lives on the sink's thread.
struct Lines {
    out: Box<dyn Write + Send>,
    /// Whether the last write ended in the middle of a line.
    torn: bool,
}

impl Lines {
    /// Writes lines; on failure how many are whole.
    fn write(&mut self, lines: &[Vec<u8>]) -> Result<(), (usize, io::Error)> {
        if self.torn {
            self.out.write_all(b"\n").map_err(|error| (0, error))?;
            self.torn = false;
        }
        let text: Vec<u8> = lines.iter().flat_map(|line| line.iter().copied().chain([b'\n'])).collect();
        let mut written = 0;
        let result = loop {
            match self.out.write(&text[written..]) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
            if written == text.len() {
                break self.out.flush();
            }
        };
        result.map_err(|error| {
            self.torn = written > 0 && text[written - 1] != b'\n';
            (text[..written].iter().filter(|byte| **byte == b'\n').count(), error)
        })
    }
}

/// `time source kind name=value …`, with the scalars of `data` that are not empty.
fn readable(event: &Map<String, Value>) -> String {
    let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or("-");
    let source = text("source");
    let source = source.rsplit('/').next().unwrap_or(source);
    let mut line = format!("{} {} {}", text("time"), source, text("type"));
    if let Some(subject) = event.get("subject").and_then(Value::as_str) {
        push(&mut line, "subject", subject);
    }
    if let Some(Value::Object(data)) = event.get("data") {
        for (name, value) in data {
            match value {
                Value::String(value) if !value.is_empty() => push(&mut line, name, value),
                Value::Number(value) => push(&mut line, name, &value.to_string()),
                Value::Bool(true) => push(&mut line, name, "true"),
                Value::Array(values) if !values.is_empty() => push(&mut line, name, &list(values)),
                Value::Object(fields) if !fields.is_empty() => push(&mut line, name, &format!("{{{}}}", fields.len())),
                _ => {}
            }
        }
    }
    push(&mut line, "id", text("id"));
    line
}

/// The types of attachments and the like, else only how many.
fn list(values: &[Value]) -> String {
    let types: Option<Vec<&str>> = values.iter().map(|value| value.get("type")?.as_str()).collect();
    types.map_or_else(|| format!("[{}]", values.len()), |types| format!("[{}]", types.join(",")))
}

/// Values are quoted where they hold more than plain characters: a line stays a line, and no text can pass for a field.
fn push(line: &mut String, name: &str, value: &str) {
    let short: String = value.chars().take(MAX_VALUE).collect();
    let more = if short.len() < value.len() { "…" } else { "" };
    line.push(' ');
    line.push_str(name);
    line.push('=');
    let plain = |c: char| c.is_ascii_graphic() && c != '"' && c != '=';
    if short.chars().all(plain) {
        line.push_str(&short);
        line.push_str(more);
    } else {
        line.push_str(&format!("{:?}", format!("{short}{more}")));
    }
}
