//! What `type = "redis"` is told.

use std::fmt;
use std::sync::Arc;

use super::super::calls::Calls;
use super::super::encoding::Encoding;
use super::super::template::Template;
use super::super::{BoxError, Sink};
use super::RedisSink;
use crate::names::SinkName;
use crate::remote::tls::TlsFiles;
use crate::remote::{Exposed, Form};
use crate::secret::Secrets;
use crate::settings::secrets;
use crate::settings::values::{self, number};
use crate::settings::{Given, Section};

/// `type = "redis"`: streams of Redis or Valkey.
#[derive(Debug, Clone)]
pub struct RedisSinkConfig {
    /// `url`: a server, or nodes of a cluster, or Sentinels.
    pub servers: Vec<Address>,
    /// Which of these they are: `cluster`, `sentinel_master`.
    pub deployment: Deployment,
    /// The number in the URL.
    pub database: u32,
    /// `rediss://`: TLS, with these files.
    pub tls: Option<TlsFiles>,
    /// `username`: the ACL user; the default one, if not given.
    pub username: Option<String>,
    /// `password`: the first is used.
    pub password: Secrets,
    /// `stream`: the key of the stream.
    pub stream: Template,
    /// `max_len`: about so many entries are kept in a stream; all, if not given.
    pub max_len: Option<u64>,
    /// `format` and `include_raw`: of the field `data`.
    pub encoding: Encoding,
    /// Calls, which share a connection.
    pub calls: Calls,
}

/// Host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name or an address, the latter without brackets.
    pub host: String,
    /// The port, if one is given.
    pub port: Option<u16>,
}

/// What the servers are.
#[derive(Debug, Clone)]
pub enum Deployment {
    /// One server.
    Server,
    /// Some nodes of a cluster, which tell of the others.
    Cluster,
    /// Sentinels, which tell where the master is.
    Sentinels {
        /// `sentinel_master`: by which name they know it.
        master: String,
        /// `sentinel_username`
        username: Option<String>,
        /// `sentinel_password`
        password: Secrets,
    },
}

impl Address {
    /// The port to connect to.
    pub fn port_or(&self, default: u16) -> u16 {
        self.port.unwrap_or(default)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') { write!(f, "[{}]", self.host) } else { f.write_str(&self.host) }?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// One URL.
struct Place {
    address: Address,
    tls: bool,
    database: u32,
}

impl RedisSinkConfig {
    pub(crate) fn read(section: &mut Section<'_>) -> Option<Self> {
        let places = section.required("url", |given| values::some(given, place));
        let cluster = section.or("cluster", values::boolean, false);
        let master = section.optional("sentinel_master", values::text);
        let sentinel_username = section.optional("sentinel_username", values::text);
        let sentinel_password = section.secrets("sentinel_password", secrets::text);
        let username = section.optional("username", values::text);
        let password = section.secrets("password", secrets::text);
        if username.is_some() && !section.has("password") {
            section.error("username", "this has no meaning without password");
        }
        if master.is_none() {
            for key in ["sentinel_username", "sentinel_password"] {
                if section.has(key) {
                    section.error(key, "this has no meaning without sentinel_master");
                }
            }
        }
        let first = places.as_ref().and_then(|places| places.first());
        let (tls, database) = first.map_or((false, 0), |place| (place.tls, place.database));
        let tls = {
            let files = TlsFiles::read(section, (!tls).then_some("begin url with rediss://"));
            tls.then_some(files)
        };
        if let Some(places) = &places {
            if places.iter().any(|place| (place.tls, place.database) != (tls.is_some(), database)) {
                section.error("url", "all of the list must have the same scheme and the same number of a database");
            }
            match (cluster, &master) {
                (true, Some(_)) => section.error("cluster", "this contradicts sentinel_master; keep one of them"),
                (true, None) if database != 0 => section.error("url", "a cluster has no database but 0"),
                (false, None) if places.len() != 1 => {
                    section.error("url", "this must be one URL, unless cluster or sentinel_master is set");
                }
                _ => {}
            }
        }
        let stream = section.or("stream", stream, default_stream());
        let max_len = section.optional("max_len", number::<_, 1, { i64::MAX }>);
        let encoding = Encoding::read(section);
        let calls = Calls::read(section, Calls::default());
        let deployment = match master {
            Some(master) => Deployment::Sentinels { master, username: sentinel_username, password: sentinel_password },
            None if cluster => Deployment::Cluster,
            None => Deployment::Server,
        };
        Some(Self {
            servers: places?.into_iter().map(|place| place.address).collect(),
            deployment,
            database,
            tls,
            username,
            password,
            stream,
            max_len,
            encoding,
            calls,
        })
    }

    pub(crate) fn target(&self) -> String {
        let scheme = if self.tls.is_some() { "rediss" } else { "redis" };
        let servers: Vec<_> = self.servers.iter().map(ToString::to_string).collect();
        let which = match &self.deployment {
            Deployment::Server if self.database == 0 => String::new(),
            Deployment::Server => format!("/{}", self.database),
            Deployment::Cluster => " (cluster)".to_owned(),
            Deployment::Sentinels { master, .. } => format!(" (Sentinels of {master})"),
        };
        format!("{scheme}://{}{which}, stream {}", servers.join(","), self.stream.as_str())
    }

    pub(crate) fn exposed(&self) -> Option<Exposed> {
        let of_sentinels = match &self.deployment {
            Deployment::Sentinels { password, .. } => !password.is_empty(),
            Deployment::Server | Deployment::Cluster => false,
        };
        let secrets = [("password", !self.password.is_empty()), ("sentinel_password", of_sentinels)];
        let hosts = self.servers.iter().map(|address| address.host.as_str()).filter(|_| self.tls.is_none());
        Exposed::find(&secrets, hosts, "begin url with rediss://")
    }

    pub(crate) fn build(&self, _name: &SinkName, _key: [u8; 32]) -> Result<Arc<dyn Sink>, BoxError> {
        Ok(Arc::new(RedisSink::new(self.clone())))
    }
}

const FORM: Form = Form {
    schemes: &[("redis", false), ("rediss", true), ("valkey", false), ("valkeys", true)],
    like: "write it like \"redis://host:6379\", \"redis://host:6379/2\" or, for TLS, \"rediss://host:6379\"",
    login: "username and password",
};

fn place(given: &Given<'_>) -> Result<Place, String> {
    let address = FORM.read(given)?;
    let wrong = |_| format!("what follows the host is the number of a database; {}", FORM.like);
    let database = if address.path.is_empty() { 0 } else { address.path.parse().map_err(wrong)? };
    Ok(Place { address: Address { host: address.host, port: address.port }, tls: address.tls, database })
}

fn stream(given: &Given<'_>) -> Result<Template, String> {
    Template::parse(&values::text(given)?)
}

/// A person's events are all of one source, so they are in one stream, in order.
fn default_stream() -> Template {
    Template::parse("hooksink:{source}").expect("its braces are known")
}
