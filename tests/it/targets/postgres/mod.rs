//! What is special to PostgreSQL, before real servers of Debian's package: what a row holds and what jsonb refuses, how
//! the table is made, users of few rights, TLS, trouble of the server's own.

mod rights;
mod rows;
mod tables;
mod tls;
mod trouble;

use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_postgres::{NoTls, Row};

use super::Server;
use crate::programs::skipped;
use crate::support::daemon::{Daemon, free_port};
use crate::support::runtime;
use crate::support::server::eventually;

/// Where Debian keeps the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";

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

/// The folder with `initdb` and `postgres` of the newest version.
fn programs(test: &str) -> Option<PathBuf> {
    let versions = std::fs::read_dir(VERSIONS).into_iter().flatten().flatten().map(|version| version.path().join("bin"));
    let found = versions.filter(|programs| programs.join("postgres").is_file() && programs.join("initdb").is_file()).max();
    if found.is_none() {
        skipped(test, &format!("there is no PostgreSQL in {VERSIONS}"));
    }
    found
}

/// A user without rights: these programs refuse to run as root.
const NOBODY: u32 = 65534;

/// A program that gives up root, if it is run by root.
pub(crate) fn as_nobody(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string(), "--clear-groups", "--"]).arg(program);
    command
}

/// A folder for programs that gave up root.
pub(crate) fn folder_of_nobody() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    if rustix::process::geteuid().is_root() {
        chown(folder.path(), Some(NOBODY), Some(NOBODY)).expect("root may");
    }
    folder
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
        self.runtime.block_on(async {
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
        let ran = self.runtime.block_on(async {
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

    fn signal(&self, signal: Signal) {
        // Those that have ended are left in peace.
        for process in self.processes() {
            let _ = kill_process(process, signal);
        }
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A folder with an empty database in it.
fn initialised(programs: &Path) -> TempDir {
    let folder = folder_of_nobody();
    let mut initdb = as_nobody(&programs.join("initdb"));
    initdb.current_dir(folder.path()).args(["--pgdata=data", "--username=postgres", "--auth=trust", "--no-sync"]);
    let made = initdb.args(["--encoding=UTF8", "--locale=C"]).stdin(Stdio::null()).output().expect("it starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let rules = "local all all trust\nhost all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
    std::fs::write(folder.path().join("data/pg_hba.conf"), rules).expect("a file");
    folder
}

fn start(programs: &Path, folder: &TempDir, port: u16, settings: &[String]) -> Daemon {
    let mut command = as_nobody(&programs.join("postgres"));
    command.current_dir(folder.path()).args(["-D", "data", "-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
    command.arg("-c").arg(format!("unix_socket_directories={}", folder.path().display()));
    settings.iter().for_each(|setting| {
        command.args(["-c", setting]);
    });
    let log = std::fs::File::create(folder.path().join("postgres.log")).expect("a file");
    Daemon::start(command.stdout(Stdio::null()).stderr(log))
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
        self.folder = initialised(&self.programs);
        self.restart();
    }

    fn pause(&self) {
        self.signal(Signal::STOP);
    }

    fn resume(&self) {
        self.signal(Signal::CONT);
    }
}
