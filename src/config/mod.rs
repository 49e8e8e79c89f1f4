//! The configuration: what every setting means stands in `config/hooksink.toml`, which is embedded as the defaults.
//! Layers, the later over the earlier: embedded defaults, file, environment (`HOOKSINK__SERVER__LISTEN`), flags.
//!
//! [`load`] is a function of its arguments: who calls it has read the file and the environment, and says how secret
//! files are read.

mod admin;
mod checks;
mod journal;
mod log;
mod reload;
mod server;
mod sinks;
mod sources;

use std::collections::BTreeMap;

pub use admin::AdminConfig;
pub use journal::{Engine, JetstreamConfig, JournalConfig, NatsSync, SqliteConfig};
pub use log::{LogConfig, LogFormat};
pub use reload::{Loaded, Reloaded};
pub use server::{ClientAddressHeader, ServerConfig};
pub use sinks::{DeliveryConfig, Expressions, OnFull, SinkConfig};
pub use sources::{ApiKey, Auth, MetaConfig, SourceConfig, WebexConnectConfig};

use toml::Value;

use crate::names::{SinkName, SourceName};
pub use crate::settings::{
    ConfigError, ConfigErrors, DEFAULTS, ENVIRONMENT_PREFIX, Inputs, Origin, ReadSecret, Warning,
};
use crate::settings::{Gathered, Reader, Section, merge};
pub use crate::sinks::SinkKind;

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

/// The configuration of these layers, or everything that is wrong with it.
pub fn load(inputs: &Inputs<'_>) -> Result<Loaded, ConfigErrors> {
    let (table, origins) = merge(inputs)?;
    let reader = Reader::new(inputs, &origins);
    let config = read(&reader, &Value::Table(table.clone()));
    if let Some(config) = &config {
        checks::check(config, &reader);
    }
    let Gathered { errors, secrets, .. } = reader.finish();
    match config {
        Some(config) if errors.is_empty() => Ok(Loaded::new(config, &table, secrets)),
        _ => Err(ConfigErrors(errors)),
    }
}

/// Only `[admin]` and `[journal]`: what the subcommands need that talk to a running server, so that they do not ask for
/// the secrets of sources and sinks.
pub fn load_operator(inputs: &Inputs<'_>) -> Result<(AdminConfig, JournalConfig), ConfigErrors> {
    let (table, origins) = merge(inputs)?;
    let reader = Reader::new(inputs, &origins);
    let table = Value::Table(table);
    let mut root = Section::new(&reader, String::new(), Some(&table));
    let sections = (AdminConfig::read(root.section("admin")), JournalConfig::read(root.section("journal")));
    let errors = reader.finish().errors;
    match sections {
        (Some(admin), Some(journal)) if errors.is_empty() => Ok((admin, journal)),
        _ => Err(ConfigErrors(errors)),
    }
}

/// Reads everything. `None` where a setting that must be there is missing or wrong.
fn read(reader: &Reader<'_>, table: &Value) -> Option<Config> {
    let mut root = Section::new(reader, String::new(), Some(table));
    let server = ServerConfig::read(root.section("server"));
    let admin = AdminConfig::read(root.section("admin"));
    let journal = JournalConfig::read(root.section("journal"));
    let log = LogConfig::read(root.section("log"));
    let sources = sources::read(&mut root);
    let sinks = sinks::read(&mut root);
    root.finish();
    let largest_body = sources.values().map(SourceConfig::max_body).max().unwrap_or_default();
    let journal = journal.map(|journal| JournalConfig { largest_body, ..journal });
    Some(Config { server: server?, admin: admin?, journal: journal?, log: log?, sources, sinks })
}

#[cfg(test)]
mod tests;
