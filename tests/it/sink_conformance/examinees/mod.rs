//! What the sinks of the exam deliver to, and how each is brought into trouble.

mod file;
mod http;
#[cfg(feature = "kafka")]
mod kafka;
mod log;

pub(crate) use file::FileExaminee;
pub(crate) use http::HttpExaminee;
#[cfg(feature = "kafka")]
pub(crate) use kafka::KafkaExaminee;
pub(crate) use log::LogExaminee;
