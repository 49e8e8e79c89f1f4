//! What is special to PostgreSQL, before real servers of Debian's package: what a row holds and what jsonb refuses, how
//! the table is made, users of few rights, TLS, trouble of the server's own.

mod rights;
mod rows;
mod tables;
mod tls;
mod trouble;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_postgres::{NoTls, Row};

use super::Server;
use crate::support::daemon::{Daemon, free_port};
use crate::support::postgres::{forget, initialised, programs, start};
use crate::support::{finishes, runtime};
use crate::support::server::eventually;

/// A server without passwords for `postgres`, who may do everything, and with one for everybody else.
pub(crate) struct PostgresServer {
    programs: PathBuf,
    folder: TempDir,
    port: u16,
    /// Settings beside the usual ones, as in `postgres -c`.
    settings: Vec<String>,
    daemon: Daemon,
    runtime: Runtime,
}

impl PostgresServer {
    /// Starts one with these settings beside the usual ones.
    pub(crate) fn with(test: &str, settings: &[&str]) -> Option<Self> {
        let programs = programs(test)?;
        let folder = initialised(&programs);
        let settings: Vec<_> = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let port = free_port();
        let daemon = start(&programs, &folder, port, &settings);
        let server = Self { programs, folder, port, settings, daemon, runtime: runtime() };
        server.wait();
        Some(server)
    }

    fn wait(&self) {
        eventually("PostgreSQL answers", || self.try_ask("select 1").ok().map(drop));
    }

    fn try_ask(&self, statement: &str) -> Result<Vec<Row>, tokio_postgres::Error> {
        finishes(&self.runtime, async {
            let address = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", self.port);
            let (client, connection) = tokio_postgres::connect(&address, NoTls).await?;
            let driving = tokio::spawn(connection);
            let rows = client.query(statement, &[]).await;
            drop(client);
            let _ = driving.await;
            rows
        })
    }

    /// The rows of a statement, by someone who may do everything.
    #[track_caller]
    pub(crate) fn ask(&self, statement: &str) -> Vec<Row> {
        self.try_ask(statement).unwrap_or_else(|error| panic!("{statement}: {error:?}"))
    }

    /// The one value of a statement.
    #[track_caller]
    pub(crate) fn value<T: for<'a> tokio_postgres::types::FromSql<'a>>(&self, statement: &str) -> T {
        self.ask(statement)[0].get(0)
    }

    /// What a CloudEvent would be made of, in the order of the rows.
    fn stored(&self, place: &str) -> Vec<Value> {
        // It is made with the first event.
        let is_there: bool = self.value(&format!("select to_regclass('\"{place}\"') is not null"));
        if !is_there {
            return Vec::new();
        }
        let rows = self.ask(&format!("select id::text, data::text from \"{place}\" order by seq"));
        let data = |row: &Row| row.get::<_, Option<String>>(1).map(|data| serde_json::from_str::<Value>(&data).expect("JSON"));
        rows.iter().map(|row| json!({ "id": row.get::<_, String>(0), "data": data(row) })).collect()
    }

    /// Runs statements.
    #[track_caller]
    fn batch(&self, statements: &str) {
        let ran = finishes(&self.runtime, async {
            let address = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", self.port);
            let (client, connection) = tokio_postgres::connect(&address, NoTls).await?;
            tokio::spawn(connection);
            client.batch_execute(statements).await
        });
        ran.unwrap_or_else(|error| panic!("{statements}: {error:?}"));
    }

    /// Where its sockets, its log and the folder `data` are.
    fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// All of its processes: each of a session has a process group of its own.
    fn processes(&self) -> Vec<Pid> {
        let id = self.daemon.id();
        let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let ids = children.split_whitespace().filter_map(|child| child.parse().ok());
        ids.chain(i32::try_from(id).ok()).filter_map(Pid::from_raw).collect()
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.kill();
        forget(&self.folder);
    }
}

/// The lines of a sink that reaches a server as `postgres`.
pub(crate) fn settings(address: SocketAddr, table: &str) -> String {
    format!(
        "type = \"postgres\"\nurl = \"postgres://{address}/postgres\"\nsslmode = \"disable\"\nusername = \"postgres\"\ntable = \"{table}\"\nconnect_timeout = \"1s\"\ntimeout = \"2s\""
    )
}

impl Server for PostgresServer {
    const TYPE: &'static str = "postgres";

    fn start(test: &str) -> Option<Self> {
        Self::with(test, &[])
    }

    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    fn settings(&self, address: SocketAddr, place: &str) -> String {
        settings(address, place)
    }

    fn prepare(&mut self, _place: &str) {}

    fn events(&mut self, place: &str) -> Vec<Value> {
        self.stored(place)
    }

    fn kill(&mut self) {
        let processes = self.processes();
        self.daemon.kill();
        for process in processes {
            let _ = kill_process(process, Signal::KILL);
        }
    }

    fn restart(&mut self) {
        // It refuses as long as a process of the killed one still has its memory.
        let mut started = start(&self.programs, &self.folder, self.port, &self.settings);
        eventually("PostgreSQL answers", || {
            if started.has_ended() {
                started = start(&self.programs, &self.folder, self.port, &self.settings);
            }
            self.try_ask("select 1").ok().map(drop)
        });
        self.daemon = started;
    }

    fn restart_empty(&mut self) {
        forget(&self.folder);
        self.folder = initialised(&self.programs);
        self.restart();
    }

    fn signal(&self, signal: Signal) {
        // Those that have ended are left in peace.
        for process in self.processes() {
            let _ = kill_process(process, signal);
        }
    }
}
