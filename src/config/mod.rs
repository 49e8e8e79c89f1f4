//! The configuration: what every setting means stands in `config/hooksink.toml`, which is embedded as the defaults.
//! Layers, the later over the earlier: embedded defaults, file, environment (`HOOKSINK__SERVER__LISTEN`), flags.

mod admin;
mod journal;
mod log;
mod server;
mod sinks;
mod sources;
mod units;

use std::collections::BTreeMap;

pub use admin::AdminConfig;
pub use journal::{Engine, JournalConfig};
pub use log::{LogConfig, LogFormat};
pub use server::{ClientAddressHeader, ServerConfig};
pub use sinks::{
    DeliveryConfig, FileSinkConfig, HttpFormat, HttpSinkConfig, LogSinkConfig, LogSinkFormat, OnFull, SinkConfig,
    SinkKind,
};
pub use sources::{ApiKey, Auth, MetaConfig, SourceConfig, WebexConnectConfig};

use crate::names::{SinkName, SourceName};

/// `[sources.*]`
pub type Sources = BTreeMap<SourceName, SourceConfig>;
/// `[sinks.*]`
pub type Sinks = BTreeMap<SinkName, SinkConfig>;

/// The whole configuration, with secrets resolved.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`
    pub server: ServerConfig,
    /// `[admin]`
    pub admin: AdminConfig,
    /// `[journal]`
    pub journal: JournalConfig,
    /// `[log]`
    pub log: LogConfig,
    /// `[sources.*]`
    pub sources: Sources,
    /// `[sinks.*]`
    pub sinks: Sinks,
}
