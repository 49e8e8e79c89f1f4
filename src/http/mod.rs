//! The public door: a listener with a bound on everything, and the way of a request from its first byte to its answer.
//!
//! Reading order: [`listener`] takes connections, `public` leads a request through `body`, authentication, splitting and
//! the journal to an `outcome`, `answer` writes it down, `request_log` says what happened, as often as `line_limit` lets it, and `tally` counts it.

mod answer;
mod body;
mod client_address;
mod file_limit;
mod line_limit;
pub mod listener;
mod outcome;
mod problem;
mod public;
mod request_log;
mod tally;
mod write_timeout;

pub use client_address::ClientAddress;
pub use file_limit::raise_fd_limit;
pub use listener::Listener;
pub use problem::Problem;
pub use public::{Answering, Public, public_door};
