//! What `type = "postgres"` is told.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use super::super::calls::Calls;
use super::super::{BoxError, Sink};
use super::PostgresSink;
use super::table::TableName;
use crate::names::SinkName;
use crate::remote::tls::TlsFiles;
use crate::remote::{Exposed, Form};
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

    pub(crate) fn exposed(&self) -> Option<Exposed> {
        let hosts = self.servers.iter().filter(|_| self.tls.is_none()).filter_map(|server| match server {
            Server::Tcp(host, _) => Some(host.as_str()),
            Server::Socket(..) => None,
        });
        Exposed::find(&[("password", !self.password.is_empty())], hosts, "leave sslmode out")
    }

    pub(crate) fn build(&self, _name: &SinkName, _key: [u8; 32]) -> Result<Arc<dyn Sink>, BoxError> {
        Ok(Arc::new(PostgresSink::new(self.clone())))
    }
}

const FORM: Form = Form {
    schemes: &[("postgres", false), ("postgresql", false)],
    like: "write it like \"postgres://host:5432/database\", or \"postgres://%2Frun%2Fpostgresql/database\" for a socket in \
           that folder",
    login: "username and password",
};

fn place(given: &Given<'_>) -> Result<(Server, String), String> {
    let address = FORM.read(given)?;
    let decoded = |text: &str| percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned());
    let host = decoded(&address.host).ok_or(format!("this names no host; {}", FORM.like))?;
    let database = decoded(&address.path).filter(|name| !name.is_empty() && !name.contains('/'));
    let database = database.ok_or(format!("this names no database; {}", FORM.like))?;
    let port = address.port.unwrap_or(PORT);
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
