use std::path::PathBuf;
use std::time::Duration;

use crate::secret::Secrets;
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
    pub servers: Vec<String>,
    /// The text of a credentials file.
    pub credentials: Secrets,
    /// A user, and their password.
    pub username: Option<String>,
    /// See `username`.
    pub password: Secrets,
    /// A token.
    pub token: Secrets,
    /// The seed of an nkey.
    pub nkey: Secrets,
    /// Certificates to trust in place of those of the system.
    pub ca_file: Option<PathBuf>,
    /// The certificate to show, and its key.
    pub client_cert: Option<(PathBuf, PathBuf)>,
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

/// Addresses of servers. They stand in errors and logs, so that no password may stand in them.
fn servers(given: &Given<'_>) -> Result<Vec<String>, String> {
    let servers = values::list(given, |given| {
        let text = values::text(given)?;
        let form = "write it like \"nats://10.0.0.1:4222\" or \"tls://nats.example:4222\"";
        let Some((scheme, rest)) = text.split_once("://") else { return Err(form.into()) };
        if !matches!(scheme, "nats" | "tls") || rest.is_empty() || rest.contains(['/', '?', '#', ' ', ',']) {
            return Err(form.into());
        }
        if rest.contains('@') {
            return Err("who this is stands in username and password, credentials, token or nkey".into());
        }
        Ok(text)
    })?;
    if servers.is_empty() { Err("the list is empty".into()) } else { Ok(servers) }
}

/// A credentials file's text, or an nkey's seed: what the client library refuses is found when it connects.
fn printable(bytes: &[u8]) -> Result<(), &'static str> {
    if std::str::from_utf8(bytes).is_ok() { Ok(()) } else { Err("this is not text") }
}

impl JetstreamConfig {
    fn read(section: &mut Section<'_>) -> Option<Self> {
        let addresses = section.required("servers", servers);
        let credentials = section.secrets("credentials", printable);
        let username = section.optional("username", values::text);
        let password = section.secrets("password", printable);
        let token = section.secrets("token", printable);
        let nkey = section.secrets("nkey", printable);
        let ca_file = section.optional("ca_file", path);
        let client_cert_file = section.optional("client_cert_file", path);
        let client_key_file = section.optional("client_key_file", path);
        if section.has("password") != section.has("username") {
            section.error("password", "username and password belong together");
        }
        let is_tls = |address: &&String| address.starts_with("tls://");
        if let Some(addresses) = &addresses {
            let with_tls = addresses.iter().filter(is_tls).count();
            let file = ["ca_file", "client_cert_file", "client_key_file"].into_iter().find(|key| section.has(key));
            if with_tls > 0 && with_tls < addresses.len() {
                section.error("servers", "write all of them with tls://, or all with nats://");
            } else if let (0, Some(file)) = (with_tls, file) {
                section.error("servers", format!("write them with tls://, since {file} is set"));
            }
        }
        let given = ["credentials", "username", "token", "nkey"].into_iter().filter(|key| section.has(key));
        let given: Vec<&str> = given.collect();
        if given.len() > 1 {
            section.error(given[1], format!("one way of proving who this is is enough; {} is set too", given[0]));
        }
        let client_cert = match (client_cert_file, client_key_file) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => {
                section.error("client_key_file", "this must be set where client_cert_file is");
                None
            }
            (None, Some(_)) => {
                section.error("client_cert_file", "this must be set where client_key_file is");
                None
            }
        };
        let config = Self {
            credentials,
            username,
            password,
            token,
            nkey,
            ca_file,
            client_cert,
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
            servers: addresses?,
        };
        if config.lease < Duration::from_secs(1) {
            section.error("lease", "this must be at least \"1s\"");
        }
        if config.duplicate_window < config.append_timeout * 2 {
            section.error("duplicate_window", "this must be at least twice append_timeout");
        }
        Some(config)
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
