use std::path::PathBuf;
use std::time::Duration;

use async_nats::ServerAddr;

use crate::remote::Exposed;
use crate::remote::nats::{self, NatsLogin};
use crate::remote::tls::TlsFiles;
use crate::settings::units::{duration, size};
use crate::settings::values::{self, number, path};
use crate::settings::{Given, Origin, Section};

/// `[journal]`: what both engines have in common, and the engine.
#[derive(Debug, Clone)]
pub struct JournalConfig {
    /// What keeps the events, with its own settings.
    pub engine: Engine,
    /// How long events are kept that no sink is owed any more.
    pub retention: Duration,
    /// How long dead letters are kept.
    pub dead_letter_retention: Duration,
    /// Bytes in use, dead letters included, at which the oldest events go that no sink is owed, then `on_full` acts.
    pub max_size: u64,
    /// Requests waiting to be written; further ones are answered 503.
    pub queue: usize,
    /// Bytes of the largest body that a source takes, which an event may be as large as. No setting of its own.
    pub largest_body: u64,
}

/// What keeps the events.
#[derive(Debug, Clone)]
pub enum Engine {
    /// The embedded journal.
    Sqlite(SqliteConfig),
    /// The distributed one.
    Jetstream(Box<JetstreamConfig>),
}

/// `engine = "sqlite"`
#[derive(Debug, Clone)]
pub struct SqliteConfig {
    /// The file; its folder is created.
    pub path: PathBuf,
    /// Free bytes of the disk below which nothing is accepted.
    pub disk_reserve: u64,
    /// Bytes of the write-ahead log past which it is finished and started anew.
    pub wal_limit: u64,
    /// Events a segment: each has an index of its own, so that cost does not depend on history.
    pub segment_events: u64,
    /// Where `journal backup` may write.
    pub backup_dir: PathBuf,
}

/// `engine = "jetstream"`
#[derive(Debug, Clone)]
pub struct JetstreamConfig {
    /// `nats://host:port` or `tls://host:port`, one of which is enough to find the others.
    pub servers: Vec<ServerAddr>,
    /// `username` and `password`, `token`, `nkey` or `credentials`.
    pub login: NatsLogin,
    /// `ca_file`, `client_cert_file` and `client_key_file`.
    pub tls: TlsFiles,
    /// What the names of the streams begin with.
    pub stream: String,
    /// Copies of each stream.
    pub replicas: usize,
    /// Parts of the log, each of which one replica hands to a sink at a time.
    pub partitions: u16,
    /// How long the servers know an event by its id.
    pub duplicate_window: Duration,
    /// What the servers are configured to do before they acknowledge.
    pub nats_sync: NatsSync,
    /// How long an acknowledgement is waited for before the event is published again.
    pub publish_timeout: Duration,
    /// How long it is published again before the append has failed.
    pub append_timeout: Duration,
    /// How long a replica may be silent before the others take over what it was handing out.
    pub lease: Duration,
    /// How long a start waits for the servers.
    pub start_timeout: Duration,
}

/// What the servers do before they acknowledge, which they do not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatsSync {
    /// `sync_interval: always`: the disk is synced.
    Always,
    /// The servers' default: it is synced some time later.
    Interval,
}

/// The engines by name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Sqlite,
    Jetstream,
}

const ENGINES: [(&str, Kind); 2] = [("sqlite", Kind::Sqlite), ("jetstream", Kind::Jetstream)];

const SYNC: [(&str, NatsSync); 2] = [("always", NatsSync::Always), ("interval", NatsSync::Interval)];

/// The settings of each engine alone.
const OF_SQLITE: &[&str] = &["path", "disk_reserve", "wal_limit", "segment_events", "backup_dir"];
const OF_JETSTREAM: &[&str] = &[
    "servers",
    "credentials",
    "username",
    "password",
    "token",
    "nkey",
    "ca_file",
    "client_cert_file",
    "client_key_file",
    "stream",
    "replicas",
    "partitions",
    "duplicate_window",
    "nats_sync",
    "publish_timeout",
    "append_timeout",
    "lease",
    "start_timeout",
];

impl JournalConfig {
    pub(super) fn read(mut section: Section<'_>) -> Option<Self> {
        let kind = section.required("engine", |given| values::choice(given, &ENGINES));
        let retention = section.required("retention", duration);
        let dead_letter_retention = section.required("dead_letter_retention", duration);
        let max_size = section.required("max_size", size);
        let queue = section.required("queue", number::<_, 1, 1_000_000>);
        if max_size.is_some_and(|max_size| max_size < 16 << 20) {
            section.error("max_size", "this must be at least \"16 MiB\"");
        }
        let engine = match kind {
            Some(Kind::Jetstream) => {
                refuse_others(&mut section, OF_SQLITE, "sqlite");
                JetstreamConfig::read(&mut section).map(|own| Engine::Jetstream(Box::new(own)))
            }
            Some(Kind::Sqlite) | None => {
                refuse_others(&mut section, OF_JETSTREAM, "jetstream");
                SqliteConfig::read(&mut section).map(Engine::Sqlite)
            }
        };
        section.finish();
        kind?;
        Some(Self {
            engine: engine?,
            retention: retention?,
            dead_letter_retention: dead_letter_retention?,
            max_size: max_size?,
            queue: queue?,
            largest_body: 0,
        })
    }
}

/// Makes errors of the settings of the other engine, but for its defaults, which stand there always.
fn refuse_others(section: &mut Section<'_>, keys: &[&'static str], engine: &str) {
    for key in keys.iter().copied().filter(|key| section.has(key)).collect::<Vec<_>>() {
        section.pass_over(key);
        if section.reader.origins.of(&section.key(key)) != Origin::Defaults {
            section.error(key, format!("this is a setting of engine = \"{engine}\""));
        }
    }
}

/// What the names of streams may begin with.
fn prefix(given: &Given<'_>) -> Result<String, String> {
    let text = values::text(given)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if text.len() <= 32 && text.bytes().all(plain) {
        Ok(text)
    } else {
        Err("this must be 1 to 32 letters, digits, '-' and '_'".into())
    }
}

impl JetstreamConfig {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let servers = section.required("servers", nats::servers);
        let login = NatsLogin::read(section);
        let plain = servers.as_ref().is_some_and(|servers| servers.iter().any(|server| !server.tls_required()));
        let tls = TlsFiles::read(section, plain.then_some("begin servers with tls://"));
        let config = Self {
            login,
            tls,
            stream: section.or("stream", prefix, "hooksink".to_owned()),
            replicas: section.or("replicas", number::<_, 1, 5>, 3),
            partitions: section.or("partitions", number::<_, 1, 256>, 12),
            duplicate_window: section.or("duplicate_window", duration, Duration::from_secs(2 * 3600)),
            nats_sync: section.or("nats_sync", |given| values::choice(given, &SYNC), NatsSync::Interval),
            publish_timeout: section.or("publish_timeout", duration, Duration::from_secs(1)),
            append_timeout: section.or("append_timeout", duration, Duration::from_secs(10)),
            lease: section.or("lease", duration, Duration::from_secs(5)),
            start_timeout: section.or("start_timeout", duration, Duration::from_secs(30)),
            // The last, so that every key has been asked for.
            servers: servers?,
        };
        if config.lease < Duration::from_secs(1) {
            section.error("lease", "this must be at least \"1s\"");
        }
        if config.duplicate_window < config.append_timeout * 2 {
            section.error("duplicate_window", "this must be at least twice append_timeout");
        }
        Some(config)
    }

    /// `servers`, for people.
    pub fn addresses(&self) -> String {
        self.servers.iter().map(ServerAddr::as_url_str).collect::<Vec<_>>().join(", ")
    }

    /// Whether nothing may be said to a server without TLS.
    pub(crate) fn requires_tls(&self) -> bool {
        !self.tls.is_empty() || self.servers.iter().any(ServerAddr::tls_required)
    }

    /// The settings whose secrets would go to another machine without TLS.
    pub(super) fn exposed(&self) -> Option<Exposed> {
        self.login.exposed(self.servers.iter().filter(|_| !self.requires_tls()).map(ServerAddr::host))
    }
}

impl SqliteConfig {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let file = section.required("path", path);
        let disk_reserve = section.required("disk_reserve", size);
        let wal_limit = section.required("wal_limit", size);
        let segment_events = section.required("segment_events", number::<_, 1_000, 1_000_000_000>);
        let backup_dir = section.required("backup_dir", path);
        if wal_limit.is_some_and(|wal_limit| wal_limit < 1 << 20) {
            section.error("wal_limit", "this must be at least \"1 MiB\"");
        }
        Some(Self {
            path: file?,
            disk_reserve: disk_reserve?,
            wal_limit: wal_limit?,
            segment_events: segment_events?,
            backup_dir: backup_dir?,
        })
    }
}
