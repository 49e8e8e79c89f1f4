//! Sinks: where events go. One folder a sink; all sit an exam.
//!
//! A new type of sink is:
//! 1. A folder here with what it is told (`settings.rs`: `XSinkConfig` with `read`, `target`, `exposed`, `build`) and what
//!    it does (`mod.rs`: what is special about it, and its [`Sink`]). Where there is enough of them to say, `connection.rs`
//!    makes connections, `failure.rs` says what failures and refusals mean, and `check.rs` what `check --connect` finds.
//!    (That of `kafka`, which not every binary has, stands in `sink.rs`, and what connects in `producer.rs`.)
//! 2. A line in the list of types in `registry.rs`. Begin with it: the compiler asks for the folder, and tests for the
//!    rest.
//! 3. A line of the exam with what the sink delivers to: `servers!` in `tests/it/targets/mod.rs` where that is a server,
//!    else `exam!` in `tests/it/sink_conformance/mod.rs`, with what it delivers to beside it (`every_type_sits_the_exam`).
//! 4. A block in `config/hooksink.toml` (`config::tests::every_setting_is_documented`).
//! 5. A row and an example in README.md (`map::every_type_of_sink_is_documented`, `::every_type_of_sink_has_an_example_in_the_readme_that_loads`).
//!
//! A program that its tests start is a row in `tests/run`. What several sinks need stands in `calls` (how much a server
//! is handed at once), `encoding` (the form of an event), `failure` (words for it), `template` (names made of an event),
//! `turns` and `rounds` (many events at once, one person's one after the other), `shared` (one connection for all calls)
//! and `worker` (a thread that may block); in [`remote`](crate::remote) stand addresses of servers and TLS.
//!
//! A sink of your own implements [`Sink`] and is passed to the application by name:
//! ```
//! use std::sync::Mutex;
//!
//! use async_trait::async_trait;
//! use hooksink::event::{Event, Format};
//! use hooksink::sinks::{Sink, Undelivered};
//!
//! /// Keeps CloudEvents in memory, as long as there is room.
//! struct Shelf {
//!     events: Mutex<Vec<Vec<u8>>>,
//!     room: usize,
//! }
//!
//! #[async_trait]
//! impl Sink for Shelf {
//!     async fn deliver(&self, events: &[Event]) -> Result<(), Undelivered> {
//!         let mut shelf = self.events.lock().unwrap();
//!         for (delivered, event) in events.iter().enumerate() {
//!             if shelf.len() == self.room {
//!                 // The first `delivered` got through. Whose fault it is that the others did not cannot be told, and
//!                 // it may work later.
//!                 return Err(Undelivered::unknown(delivered, "the shelf is full"));
//!             }
//!             shelf.push(event.to_json(Format::Cloudevents, false));
//!         }
//!         Ok(())
//!     }
//! }
//! # let _: std::sync::Arc<dyn Sink> = std::sync::Arc::new(Shelf { events: Mutex::default(), room: 2 });
//! ```

mod calls;
mod check;
mod encoding;
mod failure;
mod file;
pub mod http;
mod kafka;
mod log;
mod nats;
pub mod postgres;
mod rabbitmq;
pub mod redis;
mod registry;
mod rounds;
mod shared;
mod template;
mod turns;
mod worker;

use std::time::Duration;

use async_trait::async_trait;

pub use self::calls::Calls;
pub use self::check::Checked;
pub use self::encoding::Encoding;
pub use self::file::{FileSink, FileSinkConfig};
pub use self::http::{HttpFormat, HttpSink, HttpSinkConfig, TargetUrl};
#[cfg(feature = "kafka")]
pub use self::kafka::KafkaSink;
pub use self::kafka::{KafkaCompression, KafkaFormat, KafkaLogin, KafkaSinkConfig, SaslMechanism};
pub use self::log::{LogSink, LogSinkConfig, LogSinkFormat};
pub use self::nats::{NatsSink, NatsSinkConfig};
pub use self::postgres::{PostgresSink, PostgresSinkConfig};
pub use self::rabbitmq::{AmqpAddress, RabbitmqSink, RabbitmqSinkConfig};
pub use self::redis::{RedisSink, RedisSinkConfig};
pub(crate) use self::registry::READERS;
pub use self::registry::SinkKind;
pub use self::template::Template;
use crate::event::Event;
pub use crate::remote::tls::TlsFiles;

/// An error of any kind.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A target of events.
///
/// The dispatcher calls [`deliver`](Sink::deliver) with events of several people, each person's in the order they were
/// stored, never in two calls at once for one person. It decides about waiting, trying again and giving up.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Delivers events; `Ok` means that the target has all of them, durably as far as it can. It may be called again
    /// with the same events, after a failure or a crash; each keeps its id.
    ///
    /// The future may be dropped when it takes longer than [`Limits::timeout`] or when hooksink stops.
    async fn deliver(&self, events: &[Event]) -> Result<(), Undelivered>;

    /// Events and bytes a call, calls at once, time a call.
    fn limits(&self) -> Limits {
        Limits::default()
    }

    /// Reaches the target and proves the right to deliver, as far as that leaves nothing behind: for
    /// `hooksink check --connect`. It ends within [`Limits::timeout`]. The error names what to do, and no secret.
    async fn check(&self) -> Result<Checked, BoxError> {
        Ok(Checked { found: "nothing to connect to".to_owned(), warnings: Vec::new(), max_event_bytes: None })
    }

    /// Reopens files (SIGHUP).
    async fn reopen(&self) -> Result<(), BoxError> {
        Ok(())
    }

    /// Called once when hooksink stops, after the last `deliver`.
    async fn close(&self) -> Result<(), BoxError> {
        Ok(())
    }
}

/// What the dispatcher keeps to when it calls a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Events a call.
    pub max_events: usize,
    /// Raw bytes of the events of a call, but for a single larger event.
    pub max_bytes: usize,
    /// Calls at once.
    pub concurrency: usize,
    /// The longest a call may take; it counts as failed then.
    pub timeout: Duration,
    /// After a call has begun, how long the next one gathers events, unless as many as fit are there, or half of the
    /// window. For sinks to which a call costs much whatever is in it. Zero for those that take single events.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_events: 100,
            max_bytes: 4 * 1024 * 1024,
            concurrency: 1,
            timeout: Duration::from_secs(30),
            linger: Duration::ZERO,
        }
    }
}

/// A call that did not deliver everything.
#[derive(Debug, thiserror::Error)]
#[error("{delivered} delivered, then: {cause}")]
pub struct Undelivered {
    /// Events from the front that got through.
    pub delivered: usize,
    /// Whether the next event alone caused the failure.
    pub blame: Blame,
    /// Why.
    #[source]
    pub cause: SinkError,
}

impl Undelivered {
    /// The first event that was not delivered is refused for itself, for good.
    pub fn refused(delivered: usize, why: impl Into<BoxError>) -> Self {
        Self { delivered, blame: Blame::Event, cause: SinkError::permanent(why) }
    }

    /// It may work later, and is no event's fault as far as is known.
    pub fn unknown(delivered: usize, why: impl Into<BoxError>) -> Self {
        Self { delivered, blame: Blame::Unknown, cause: SinkError::transient(why) }
    }
}

/// Who caused a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The first event that was not delivered.
    Event,
    /// It cannot be told.
    Unknown,
}

/// Why a sink did not deliver. The texts go to logs and dead letters: no payload, person or secret may be in them.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// It may work later.
    #[error("{source}")]
    Transient {
        /// Not before this time has passed, says the target.
        retry_after: Option<Duration>,
        /// Why.
        source: BoxError,
    },
    /// The target will not have it.
    #[error("{source}")]
    Permanent {
        /// Why.
        source: BoxError,
    },
}

impl SinkError {
    /// It may work later; the target does not say when.
    pub fn transient(why: impl Into<BoxError>) -> Self {
        Self::Transient { retry_after: None, source: why.into() }
    }

    /// The target will not have it.
    pub fn permanent(why: impl Into<BoxError>) -> Self {
        Self::Permanent { source: why.into() }
    }
}
