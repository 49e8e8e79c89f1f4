//! Dispatch: hands the events of the journal to a sink, at least once, each person's in the order they were stored.
//!
//! One [`Dispatcher`] a sink, so that a slow or dead sink delays only itself. Reading order:
//! - `backoff`: how long to wait.
//! - `health`: whether the sink is up, and when a sink that is down is tried again.
//! - `queues`: the queues of lanes, by number.
//! - `lanes`: which events are handed to the sink next, and what becomes of each. A state machine without I/O, clock
//!   or randomness: all of that is passed in.
//! - `sieve`: what a sink's expressions do to events on their way.
//! - `dispatcher`: the loop around it that reads the journal, calls the sink and settles.
//! - `supervise`: starts that loop again when it fails.
//!
//! What counts as an attempt: a failure of an event alone counts only once the sink has accepted another event after it.
//! So an outage of any length dead-letters nothing, and a poison event that is alone waits. Attempts, waits and whether
//! the sink is down are the loop's own, and begin anew with it: after a restart, when the journal failed, and when parts
//! of a log on JetStream change hands.

mod backoff;
mod dispatcher;
mod health;
mod lanes;
mod queues;
mod sieve;
#[cfg(test)]
mod simulation;
mod supervise;

pub use dispatcher::{DispatchError, Dispatcher};
pub use sieve::{Decode, Sieve};
pub use supervise::supervise;
