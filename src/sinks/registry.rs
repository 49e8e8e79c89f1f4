//! The list of types of sink.

use std::sync::Arc;

use super::file::FileSinkConfig;
use super::http::HttpSinkConfig;
use super::kafka::KafkaSinkConfig;
use super::log::LogSinkConfig;
use super::nats::NatsSinkConfig;
use super::postgres::PostgresSinkConfig;
use super::rabbitmq::RabbitmqSinkConfig;
use super::redis::RedisSinkConfig;
use super::{BoxError, Sink};
use crate::names::SinkName;
use crate::remote::Exposed;
use crate::settings::Section;

macro_rules! sink_types {
    ($($(#[doc = $doc:literal])* $variant:ident $text:literal $settings:ident,)+) => {
        /// What a sink is.
        #[derive(Debug, Clone)]
        pub enum SinkKind {
            $($(#[doc = $doc])* $variant($settings),)+
        }

        impl SinkKind {
            /// The values of `type` there are.
            pub const TYPES: &[&str] = &[$($text,)+];

            /// The value of `type`.
            pub fn type_name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $text,)+ }
            }

            /// Where it delivers to, in words that hold no secret.
            pub fn target(&self) -> String {
                match self { $(Self::$variant(settings) => settings.target(),)+ }
            }

            /// The settings whose secrets would go to another machine without TLS.
            pub fn exposed(&self) -> Option<Exposed> {
                match self { $(Self::$variant(settings) => settings.exposed(),)+ }
            }

            /// The sink of this name. `key` is the journal's, for the hashes of the `log` sink. Nothing is opened or
            /// connected yet; an error means that the configuration cannot work.
            pub fn build(&self, name: &SinkName, key: [u8; 32]) -> Result<Arc<dyn Sink>, BoxError> {
                match self { $(Self::$variant(settings) => settings.build(name, key),)+ }
            }
        }

        /// How the settings of each type are read.
        pub(crate) const READERS: &[(&str, Read)] =
            &[$(($text, |section| $settings::read(section).map(SinkKind::$variant)),)+];
    };
}

/// Reads the settings of one type; `None` where one that must be there is missing or wrong.
pub(crate) type Read = fn(&mut Section<'_>) -> Option<SinkKind>;

// What else a type needs stands in `sinks`; the compiler, or a test that walks this list, names what is forgotten.
sink_types! {
    /// Events to stdout.
    Log "log" LogSinkConfig,
    /// JSON Lines.
    File "file" FileSinkConfig,
    /// POST to a URL.
    Http "http" HttpSinkConfig,
    /// Streams of Redis.
    Redis "redis" RedisSinkConfig,
    /// Topics of Apache Kafka.
    Kafka "kafka" KafkaSinkConfig,
    /// A stream of NATS JetStream.
    Nats "nats" NatsSinkConfig,
    /// Rows of a table of PostgreSQL.
    Postgres "postgres" PostgresSinkConfig,
    /// An exchange of RabbitMQ.
    Rabbitmq "rabbitmq" RabbitmqSinkConfig,
}
