//! What `type = "postgres"` is told.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use reqwest::Url;

use super::super::calls::Calls;
use super::super::tls::TlsFiles;
use super::super::{BoxError, Sink};
use super::PostgresSink;
use super::table::TableName;
use crate::names::SinkName;
use crate::secret::Secrets;
use crate::settings::secrets;
use crate::settings::values;
use crate::settings::{Given, Section};

/// `type = "postgres"`: rows of a table.
#[derive(Debug, Clone)]
pub struct PostgresSinkConfig {
    /// `url`: the servers, of which the first that takes writes is used.
    pub servers: Vec<Server>,
    /// The database in the URL.
    pub database: String,
    /// `sslmode`: TLS, with these files.
    pub tls: Option<TlsFiles>,
    /// `username`
    pub username: String,
    /// `password`: the first is used.
    pub password: Secrets,
    /// `table`: with its schema, or found by the user's `search_path`.
    pub table: TableName,
    /// `create_table`: whether the table is made and changed by us, as far as it was not made by others.
    pub create_table: bool,
    /// Calls, each a statement over a connection of its own.
    pub calls: Calls,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// A name or an address, the latter without brackets, and a port.
    Tcp(String, u16),
    /// The folder of its socket, and the port that the socket is named for.
    Socket(PathBuf, u16),
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Socket(folder, port) => write!(f, "{}/.s.PGSQL.{port}", folder.display()),
        }
    }
}

/// The port of PostgreSQL.
const PORT: u16 = 5432;

impl PostgresSinkConfig {
    pub(crate) fn read(section: &mut Section<'_>) -> Option<Self> {
        let places = section.required("url", |given| values::list(given, place));
        let sockets = |places: &Vec<(Server, String)>| {
            !places.is_empty() && places.iter().all(|(server, _)| matches!(server, Server::Socket(..)))
        };
        let over_socket = places.as_ref().is_some_and(sockets);
        let tls = match section.or("sslmode", sslmode, !over_socket) {
            true if over_socket => {
                section.error("sslmode", "a socket of this machine has no TLS; leave this out");
                true
            }
            tls => tls,
        };
        let tls = {
            let files = TlsFiles::read(section, (!tls).then_some("sslmode is \"disable\", or url a socket"));
            tls.then_some(files)
        };
        if let Some(places) = &places {
            let database = places.first().map(|(_, database)| database);
            if places.iter().any(|(_, other)| Some(other) != database) {
                section.error("url", "all of the list must name the same database");
            }
            if database.is_none() {
                section.error("url", "the list is empty");
            }
        }
        let username = section.required("username", values::text);
        let password = section.secrets("password", secrets::any);
        let table = section.or("table", table, TableName::default());
        let create_table = section.or("create_table", values::boolean, true);
        let calls = Calls::read(section, Calls::default());
        let (servers, databases): (_, Vec<_>) = places?.into_iter().unzip();
        Some(Self {
            servers,
            database: databases.into_iter().next()?,
            tls,
            username: username?,
            password,
            table,
            create_table,
            calls,
        })
    }

    pub(crate) fn target(&self) -> String {
        let servers: Vec<_> = self.servers.iter().map(ToString::to_string).collect();
        format!("postgres://{}/{}, table {}", servers.join(","), self.database, self.table)
    }

    pub(crate) fn build(&self, _name: &SinkName, _key: [u8; 32]) -> Result<Arc<dyn Sink>, BoxError> {
        Ok(Arc::new(PostgresSink::new(self.clone())))
    }
}

/// The errors do not repeat the URL, since people put secrets into them.
fn place(given: &Given<'_>) -> Result<(Server, String), String> {
    const FORM: &str = "write it like \"postgres://host:5432/database\", or \"postgres://%2Frun%2Fpostgresql/database\" \
                        for a socket in that folder";
    let text = values::text(given)?;
    let url = Url::parse(&text).map_err(|error| format!("this is no URL: {error}; {FORM}"))?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(format!("this must begin with postgres://, not {}:", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("user and password do not belong in the URL; use username and password".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("nothing is set by what follows ? or # in a URL; {FORM}"));
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned());
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let host = decoded(host).filter(|host| !host.is_empty()).ok_or(format!("this names no host; {FORM}"))?;
    let database = decoded(url.path().trim_start_matches('/')).filter(|name| !name.is_empty() && !name.contains('/'));
    let database = database.ok_or(format!("this names no database; {FORM}"))?;
    let port = url.port().unwrap_or(PORT);
    let server = if host.starts_with('/') { Server::Socket(host.into(), port) } else { Server::Tcp(host, port) };
    Ok((server, database))
}

/// Whether there is TLS. What other clients call `require` or `verify-ca` would take any server's word, or any name;
/// ours takes neither.
fn sslmode(given: &Given<'_>) -> Result<bool, String> {
    values::choice(given, &[("verify-full", true), ("require", true), ("disable", false)])
}

fn table(given: &Given<'_>) -> Result<TableName, String> {
    values::text(given)?.parse()
}
