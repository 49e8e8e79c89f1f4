//! Where a journal of each engine is opened in a test, and opened again after it was closed.

use std::sync::Arc;
use std::time::Duration;

use hooksink::config::{Engine, JetstreamConfig, JournalConfig, NatsSync};
use hooksink::journal::{self, Journal};
use hooksink::metrics::Metrics;
use hooksink::remote::nats::NatsLogin;
use hooksink::remote::tls::TlsFiles;
use tempfile::TempDir;

use crate::programs;
use crate::support::nats_server::NatsServer;
use crate::support::shell::Shell;

/// A place for one journal.
pub(crate) enum Ground {
    /// A folder for the embedded one.
    Folder(TempDir),
    /// A server of its own for the distributed one.
    Server(Box<NatsServer>),
}

/// A place of each kind, as far as their programs are there.
pub(crate) fn each(test: &str) -> Vec<Ground> {
    let folder = Ground::Folder(TempDir::new().expect("a folder"));
    let server = server(test).map(|server| Ground::Server(Box::new(server)));
    [Some(folder), server].into_iter().flatten().collect()
}

/// A server for the distributed journal.
pub(crate) fn server(test: &str) -> Option<NatsServer> {
    NatsServer::start(&format!("{test} (on JetStream)"), "max_payload: 8MB")
}

/// The settings of a distributed journal on this server.
pub(crate) fn on_server(server: &NatsServer) -> JournalConfig {
    JournalConfig { engine: Engine::Jetstream(Box::new(jetstream(vec![server.url()], 1))), ..common() }
}

/// The settings of the distributed engine.
pub(crate) fn jetstream(servers: Vec<String>, replicas: usize) -> JetstreamConfig {
    JetstreamConfig {
        servers: servers.iter().map(|server| server.parse().expect("an address")).collect(),
        login: NatsLogin::default(),
        tls: TlsFiles::default(),
        stream: "hooksink".to_owned(),
        replicas,
        partitions: 12,
        duplicate_window: Duration::from_secs(7200),
        nats_sync: NatsSync::Interval,
        publish_timeout: Duration::from_secs(1),
        append_timeout: Duration::from_secs(10),
        lease: Duration::from_secs(2),
        start_timeout: Duration::from_secs(100),
    }
}

/// The same with a log of one part, where it has parts.
pub(crate) fn in_one_part(mut config: JournalConfig) -> JournalConfig {
    if let Engine::Jetstream(own) = &mut config.engine {
        own.partitions = 1;
    }
    config
}

/// What both engines are told, with one that is to be replaced.
fn common() -> JournalConfig {
    crate::journal::config(std::path::Path::new("nowhere"))
}

impl Ground {
    pub(crate) fn config(&self) -> JournalConfig {
        match self {
            Self::Folder(folder) => crate::journal::config(folder.path()),
            Self::Server(server) => on_server(server),
        }
    }

    /// Whether it is for the distributed journal.
    pub(crate) fn is_distributed(&self) -> bool {
        matches!(self, Self::Server(_))
    }
}

/// Opens the journal.
pub(crate) async fn open(config: &JournalConfig) -> Arc<dyn Journal> {
    journal::open(config, Arc::new(Metrics::new())).await.unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn each_engine_that_the_configuration_knows_has_its_ground() {
    let grounds = each("grounds::each_engine_that_the_configuration_knows_has_its_ground");
    let mut names: Vec<_> = grounds
        .iter()
        .map(|ground| match ground.config().engine {
            Engine::Sqlite(_) => "sqlite",
            Engine::Jetstream(_) => "jetstream",
        })
        .collect();
    if programs::find("nats-server").is_none() {
        names.push("jetstream");
    }
    let said = Shell::new().file("hooksink.toml", "[journal]\nengine = \"none\"\n").run("check").status(78).err();
    let known: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let known = format!("journal.engine: \"none\" is not allowed; this must be {}\n", known.join(" or "));
    assert!(said.contains(&known), "{known} in {said}");
}
