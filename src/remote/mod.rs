//! Servers of others, as sinks and the distributed journal reach them: where they are, TLS, who hooksink is to them.

mod address;
mod exposed;
pub mod nats;
pub mod tls;

pub(crate) use address::Form;
pub use exposed::Exposed;
