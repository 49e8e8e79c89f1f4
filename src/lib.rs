//! hooksink receives webhooks from Webex Connect and Meta Messenger, keeps every authentic event on disk before it
//! answers 200, decodes it into typed models, and hands it to sinks.
//!
//! # The way of an event
//! ```text
//! POST /webhooks/{source}
//!   ├─ receive       bounded body, exact bytes kept                     413, 503 when too busy
//!   ├─ authenticate  bytes + headers ──► Verified                       401, nothing stored
//!   ├─ split         Verified ──► records, one per item in the request  total: what does not fit is `unrecognized`
//!   ├─ append        one transaction, de-duplicated, fsync              503, the sender tries again
//!   └─ 200
//!                   ┊ the durable boundary: before it we owe the sender an answer, after it we owe every sink the event
//!   dispatch, one per sink:  read after the cursor ─► lanes by person ─► sink.deliver ─► advance | wait | dead letter
//! ```
//!
//! # Invariants
//! 1. Only authentication makes a [`auth::Verified`]; only a `Verified` can be split.
//! 2. 200 means: on disk, synced. Nothing but the journal stands between a verified request and its answer.
//! 3. An authentic request is never refused because a model lags behind the sender.
//! 4. The journal keeps the exact bytes of every event; typed views are computed from them.
//! 5. One slow or dead sink delays only itself. Events of one person reach a sink in the order they were stored.
//! 6. Delivery to sinks is at least once, with the same id every time. Nothing unsent is dropped to make room, except
//!    for a sink that says `on_full = "skip"`, and then as a counted, logged gap.
//! 7. Everything has a bound.
//! 8. No body, header value, query string, secret or person's id reaches a diagnostic line at info or above.
//! 9. Authentication, decoding, splitting and back-off do no I/O and read no clock.
//!
//! # Modules, in reading order
//! Imports point downwards: models know nobody, sinks know events and nothing of HTTP or sources, sources know nothing
//! of sinks, and only [`app`] knows all.

pub mod admin;
pub mod app;
pub mod auth;
pub mod config;
pub mod dispatch;
pub mod event;
pub mod filter;
pub mod http;
pub mod journal;
pub mod json;
pub mod metrics;
pub mod model;
pub mod names;
pub mod secret;
pub mod sinks;
pub mod sources;

/// The examples of the README are compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
