//! What is fuzzed, a module a target: each has a function `check` from bytes to nothing, which panics where a promise of
//! hooksink does not hold. Coverage-guided fuzzing calls them (`fuzz_targets/`), and so does `tests/it/fuzz_corpus.rs`
//! with the committed corpora. What they compare with is made here, by code that shares none with hooksink.

pub mod client_address;
pub mod cloud_event;
pub mod config;
pub mod decode;
mod json;
pub mod meta;
mod request;
pub mod webex_connect;

/// Checks one input.
pub type Check = fn(&[u8]);

/// Every target by its name, which is that of its corpus too.
pub const TARGETS: &[(&str, Check)] = &[
    ("client_address", client_address::check),
    ("cloud_event", cloud_event::check),
    ("config", config::check),
    ("decode", decode::check),
    ("meta", meta::check),
    ("webex_connect", webex_connect::check),
];
