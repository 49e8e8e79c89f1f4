//! `[sinks.*]`: what every sink is told, and the list of types; the settings of a type stand in a file of its own.

mod file;
mod http;
mod log;

use std::time::Duration;

pub use file::FileSinkConfig;
pub use http::{HttpFormat, HttpSinkConfig, TargetUrl};
pub use log::{LogSinkConfig, LogSinkFormat};

use super::Sinks;
use super::reader::{Given, Section};
use super::units::duration;
use super::values::{self, number};
use crate::event::Format;
use crate::filter::Filter;
use crate::journal::StartFrom;
use crate::names::SinkName;

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFull {
    /// Nothing: new requests are refused (503) until there is room.
    #[default]
    Refuse,
    /// Its oldest unsent events are skipped; counted and logged.
    Skip,
}

/// How the dispatcher treats a sink. Keys of `[sinks.NAME]` for every type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

macro_rules! sink_types {
    ($($(#[$doc:meta])* $variant:ident $text:literal $settings:ident,)+) => {
        /// What a sink is.
        #[derive(Debug, Clone)]
        pub enum SinkKind {
            $($(#[$doc])* $variant($settings),)+
        }

        impl SinkKind {
            /// The values of `type` there are.
            pub const TYPES: &[&str] = &[$($text,)+];

            /// The value of `type`.
            pub fn type_name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $text,)+ }
            }

            /// Where it delivers to, in words that hold no secret.
            pub fn target(&self) -> String {
                match self { $(Self::$variant(settings) => settings.target(),)+ }
            }
        }

        /// How the settings of each type are read.
        const READERS: &[(&str, Read)] =
            &[$(($text, |section| $settings::read(section).map(SinkKind::$variant)),)+];
    };
}

/// Reads the settings of one type; `None` where one that must be there is missing or wrong.
type Read = fn(&mut Section<'_>) -> Option<SinkKind>;

// The list of types. What else a type needs is named by the compiler, or by a test that walks this list: `sinks::build`,
// the exam in `tests/it/sink_conformance.rs`, a block in `config/hooksink.toml`, a row in README.md.
sink_types! {
    /// Events to stdout.
    Log "log" LogSinkConfig,
    /// JSON Lines.
    File "file" FileSinkConfig,
    /// POST to a URL.
    Http "http" HttpSinkConfig,
}

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            max_attempts: 10,
            retry_initial: Duration::from_millis(500),
            retry_max: Duration::from_secs(60),
            window: 1_000,
            max_parked: 100_000,
        }
    }
}

/// Reads `[sinks.*]`.
pub(super) fn read(root: &mut Section<'_>) -> Sinks {
    let mut sinks = Sinks::new();
    for (name, section) in root.named("sinks") {
        let name = name.parse::<SinkName>().map_err(|error| section.reader.error(&section.path, error.to_string()));
        // A sink with a bad name is read all the same, so that everything wrong with it is said at once.
        if let (Some(sink), Ok(name)) = (read_one(section), name) {
            sinks.insert(name, sink);
        }
    }
    sinks
}

fn read_one(mut section: Section<'_>) -> Option<SinkConfig> {
    // Without a type it cannot be told which other keys are allowed.
    let read_settings = section.required("type", |given| values::choice(given, READERS))?;
    let wants = Filter {
        sources: section.or("sources", values::patterns, Vec::new()),
        kinds: section.or("kinds", values::patterns, Vec::new()),
    };
    let from = section.or("from", from, StartFrom::default());
    let on_full = section.or("on_full", on_full, OnFull::default());
    let delivery = DeliveryConfig::read(&mut section);
    let kind = read_settings(&mut section);
    section.finish();
    Some(SinkConfig { wants, from, on_full, delivery, kind: kind? })
}

impl DeliveryConfig {
    fn read(section: &mut Section<'_>) -> Self {
        let default = Self::default();
        let config = Self {
            max_attempts: section.or("max_attempts", number::<_, 1, 1_000_000>, default.max_attempts),
            retry_initial: section.or("retry_initial", duration, default.retry_initial),
            retry_max: section.or("retry_max", duration, default.retry_max),
            window: section.or("window", number::<_, 1, 1_000_000>, default.window),
            max_parked: section.or("max_parked", number::<_, 1, 100_000_000>, default.max_parked),
        };
        if config.retry_initial > config.retry_max {
            section.error(
                "retry_max",
                format!("this must not be shorter than retry_initial ({:?})", config.retry_initial),
            );
        }
        config
    }
}

fn from(given: &Given<'_>) -> Result<StartFrom, String> {
    values::choice(given, &[("now", StartFrom::Now), ("start", StartFrom::Start)])
}

fn on_full(given: &Given<'_>) -> Result<OnFull, String> {
    values::choice(given, &[("refuse", OnFull::Refuse), ("skip", OnFull::Skip)])
}

fn format(given: &Given<'_>) -> Result<Format, String> {
    values::choice(given, &[("cloudevents", Format::Cloudevents), ("raw", Format::Raw)])
}
