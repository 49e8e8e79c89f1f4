use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::event::Format;
use crate::filter::Filter;
use crate::journal::StartFrom;
use crate::secret::Secrets;

/// `[sinks.NAME]`
#[derive(Debug, Clone)]
pub struct SinkConfig {
    /// `sources` and `kinds`: what it wants.
    pub wants: Filter,
    /// Where it begins when the journal does not know it yet.
    pub from: StartFrom,
    /// What happens at the journal's size limit.
    pub on_full: OnFull,
    /// How the dispatcher treats it.
    pub delivery: DeliveryConfig,
    /// What it is.
    pub kind: SinkKind,
}

/// What happens to a sink's unsent events at the journal's size limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// Nothing: new requests are refused (503) until there is room.
    #[default]
    Refuse,
    /// Its oldest unsent events are skipped; counted and logged.
    Skip,
}

/// How the dispatcher treats a sink. Keys of `[sinks.NAME]` for every type.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryConfig {
    /// `max_attempts`: failures of an event, while others pass, after which it is a dead letter.
    pub max_attempts: u32,
    /// `retry_initial`: the first wait.
    pub retry_initial: Duration,
    /// `retry_max`: the longest wait.
    pub retry_max: Duration,
    /// `window`: events read ahead of the cursor.
    pub window: usize,
    /// `max_parked`: events in rows of their own, beyond which nothing further is read.
    pub max_parked: usize,
}

/// What a sink is.
#[derive(Debug, Clone)]
pub enum SinkKind {
    /// `type = "log"`
    Log(LogSinkConfig),
    /// `type = "file"`
    File(FileSinkConfig),
    /// `type = "http"`
    Http(HttpSinkConfig),
}

/// `type = "log"`: events to stdout.
#[derive(Debug, Clone)]
pub struct LogSinkConfig {
    /// `format`: JSON lines or a readable line.
    pub format: LogSinkFormat,
    /// `reveal`: whether personal data is shown as it is.
    pub reveal: bool,
}

/// The form of the `log` sink's lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogSinkFormat {
    /// A CloudEvent a line.
    #[default]
    Json,
    /// A line for people.
    Text,
}

/// `type = "file"`: JSON Lines.
#[derive(Debug, Clone)]
pub struct FileSinkConfig {
    /// `path`: the file; its folder is created.
    pub path: PathBuf,
    /// `format`: CloudEvents or raw.
    pub format: Format,
    /// `include_raw`: the raw JSON under `data.raw`.
    pub include_raw: bool,
    /// `rotate_size`: bytes after which a new file begins.
    pub rotate_size: Option<u64>,
    /// `rotate_age`: time after which a new file begins.
    pub rotate_age: Option<Duration>,
    /// `keep_files`: rotated files kept; all, if not given.
    pub keep_files: Option<usize>,
    /// `batch_events`: events a sync.
    pub batch_events: usize,
}

/// `type = "http"`: POST to a URL.
#[derive(Debug, Clone)]
pub struct HttpSinkConfig {
    /// `url`
    pub url: String,
    /// `format`
    pub format: HttpFormat,
    /// `include_raw`: the raw JSON under `data.raw`.
    pub include_raw: bool,
    /// `signing_secret`: Standard Webhooks secrets; all sign.
    pub signing_secret: Secrets,
    /// `headers`: sent with each request; values may be secret.
    pub headers: Vec<(http::HeaderName, Secrets)>,
    /// `basic`: `user:password`.
    pub basic: Secrets,
    /// `bearer`: a token.
    pub bearer: Secrets,
    /// `gzip`: whether bodies are compressed.
    pub gzip: bool,
    /// `connect_timeout`
    pub connect_timeout: Duration,
    /// `timeout`: for a whole request.
    pub timeout: Duration,
    /// `concurrency`: requests at once.
    pub concurrency: usize,
    /// `batch_events`: events a request with `format = "cloudevents_batch"`.
    pub batch_events: usize,
    /// `batch_bytes`: raw bytes a request.
    pub batch_bytes: u64,
    /// `permanent_statuses`: statuses that mean the target will never have the event.
    pub permanent_statuses: Vec<u16>,
}

/// What a request of the `http` sink carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpFormat {
    /// One CloudEvent, structured (`application/cloudevents+json`).
    #[default]
    Cloudevents,
    /// Several (`application/cloudevents-batch+json`).
    CloudeventsBatch,
    /// One event's raw JSON.
    Raw,
}
