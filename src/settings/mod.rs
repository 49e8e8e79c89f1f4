//! How settings are read: layers of text become a table, a `Section` hands out its values, and what is wrong becomes
//! an error that names where, which key and what is allowed. Pure.
//!
//! What a part of hooksink is told stands beside that part, or in `config`; both read it with this.

mod errors;
mod layers;
mod reader;
pub(crate) mod secrets;
pub(crate) mod units;
pub(crate) mod values;

pub(crate) use errors::suggestion;
pub use errors::{ConfigError, ConfigErrors, Origin, Warning};
pub(crate) use layers::merge;
pub use layers::{DEFAULTS, ENVIRONMENT_PREFIX, Inputs, ReadSecret};
pub(crate) use reader::{Gathered, Given, Reader, Section};
