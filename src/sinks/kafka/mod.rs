//! `type = "kafka"`: events produced to topics of Apache Kafka, through librdkafka.
//!
//! The producer is idempotent and waits for all replicas in sync (`acks=all`); the key is the person, so that a person's
//! events lie in one partition. Nothing is pipelined within a person (see [`super::turns`]), so that the order
//! holds also when a message in the middle times out.
//!
//! Built with the Cargo feature `kafka` only, since librdkafka is C and needs OpenSSL; its settings are known without.

#[cfg(feature = "kafka")]
mod call;
#[cfg(feature = "kafka")]
mod check;
mod extra;
#[cfg(feature = "kafka")]
mod message;
#[cfg(feature = "kafka")]
mod producer;
mod settings;
#[cfg(feature = "kafka")]
mod sink;

pub use settings::{KafkaCompression, KafkaFormat, KafkaLogin, KafkaSinkConfig, SaslMechanism};
#[cfg(feature = "kafka")]
pub use sink::KafkaSink;
