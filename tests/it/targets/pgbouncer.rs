//! PgBouncer before a server, which gives each transaction whatever connection is free.

use std::net::SocketAddr;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::Server;
use super::postgres::{PostgresServer, settings};
use crate::programs::{find, find_or_skip};
use crate::support::daemon::{Daemon, free_port};
use crate::support::postgres::{as_nobody, folder_of_nobody};
use crate::support::server::eventually;

/// A server behind a pooler in transaction mode with two connections, which all sinks share.
pub(crate) struct PgBouncer {
    server: PostgresServer,
    folder: TempDir,
    port: u16,
    pooler: Daemon,
}

fn start(folder: &TempDir, port: u16, server: &PostgresServer) -> Daemon {
    let text = format!(
        "[databases]\npostgres = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = users.txt\npool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 100\nserver_login_retry = 0\n",
        server.port()
    );
    std::fs::write(folder.path().join("pgbouncer.ini"), text).expect("a file");
    std::fs::write(folder.path().join("users.txt"), "\"postgres\" \"\"\n").expect("a file");
    let mut command = as_nobody(&find("pgbouncer").expect("it was there"));
    command.current_dir(folder.path()).args(["--quiet", "pgbouncer.ini"]);
    let log = std::fs::File::create(folder.path().join("pgbouncer.log")).expect("a file");
    let pooler = Daemon::start(command.stdout(Stdio::null()).stderr(log));
    eventually("PgBouncer listens", || std::net::TcpStream::connect(("127.0.0.1", port)).ok().map(drop));
    pooler
}

impl Server for PgBouncer {
    const TYPE: &'static str = "postgres";

    fn start(test: &str) -> Option<Self> {
        find_or_skip(test, "pgbouncer")?;
        let server = PostgresServer::with(test, &[])?;
        let (folder, port) = (folder_of_nobody(), free_port());
        let pooler = start(&folder, port, &server);
        Some(Self { server, folder, port, pooler })
    }

    fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    fn settings(&self, address: SocketAddr, place: &str) -> String {
        settings(address, place)
    }

    fn prepare(&mut self, _place: &str) {}

    fn events(&mut self, place: &str) -> Vec<Value> {
        self.server.events(place)
    }

    fn kill(&mut self) {
        self.pooler.kill();
        self.server.kill();
    }

    fn restart(&mut self) {
        self.server.restart();
        self.pooler = start(&self.folder, self.port, &self.server);
    }

    fn restart_empty(&mut self) {
        self.server.restart_empty();
        self.pooler = start(&self.folder, self.port, &self.server);
    }

    fn signal(&self, signal: Signal) {
        self.pooler.signal(signal);
        self.server.signal(signal);
    }
}
