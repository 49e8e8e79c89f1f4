//! `[sinks.*]`: what every sink is told. What a type is told besides stands with the type, in `sinks`.

use std::time::Duration;

use super::Sinks;
use crate::expression::{Condition, Mapping};
use crate::filter::Filter;
use crate::journal::StartFrom;
use crate::names::SinkName;
use crate::settings::units::duration;
use crate::settings::values::{self, number};
use crate::settings::{Given, Section};
use crate::sinks::{READERS, SinkKind};

/// `[sinks.NAME]`
#[derive(Debug, Clone)]
pub struct SinkConfig {
    /// `sources` and `kinds`: what it wants.
    pub wants: Filter,
    /// `where` and `map`: which of these it wants, and what it is sent of them.
    pub expressions: Expressions,
    /// Where it begins when the journal does not know it yet.
    pub from: StartFrom,
    /// What happens at the journal's size limit.
    pub on_full: OnFull,
    /// How the dispatcher treats it.
    pub delivery: DeliveryConfig,
    /// What it is.
    pub kind: SinkKind,
}

/// What a sink's expressions make of events.
#[derive(Debug, Clone, Default)]
pub struct Expressions {
    /// `where`: an event for which it does not hold is passed over.
    pub condition: Option<Condition>,
    /// `map`: what it makes takes the place of `data`.
    pub mapping: Option<Mapping>,
}

impl Expressions {
    /// Whether there is neither.
    pub fn is_empty(&self) -> bool {
        self.condition.is_none() && self.mapping.is_none()
    }
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
    /// `max_attempts`: failures of an event, while others pass, after which it is a dead letter. 1 is as 2: that the
    /// failure was the event's own shows only when others have passed and it fails again.
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

impl Default for DeliveryConfig {
    fn default() -> Self {
        Self {
            max_attempts: 10,
            retry_initial: Duration::from_millis(500),
            retry_max: Duration::from_secs(60),
            window: 2_000,
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
    let expressions = Expressions {
        condition: section.optional("where", |given| Condition::compile(&values::text(given)?)),
        mapping: section.optional("map", |given| Mapping::compile(&values::text(given)?)),
    };
    if expressions.mapping.is_some() && section.has("include_raw") {
        section.error("include_raw", "this has no meaning with map, which makes all that is sent");
    }
    let from = section.or("from", from, StartFrom::default());
    let on_full = section.or("on_full", on_full, OnFull::default());
    let delivery = DeliveryConfig::read(&mut section);
    let kind = read_settings(&mut section);
    section.finish();
    Some(SinkConfig { wants, expressions, from, on_full, delivery, kind: kind? })
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
