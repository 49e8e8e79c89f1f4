//! Replicas of hooksink on three NATS servers: what one, two and three of them take, and who needs the CPU for it.
//!
//! All of it shares the cores of one machine, clients included: what tells of larger machines is the CPU time that each
//! part needs for a request.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::client::{Measured, Ready};
use crate::payload::Payload;
use crate::programs::find_or_skip;
use crate::servers::{Server, folder, wait_for};
use crate::summary::Summary;
use crate::support::daemon::{Daemon, free_port};
use crate::table::{Table, median};
use crate::{Arguments, Failure, process};

/// Connections over all replicas.
const CONNECTIONS: usize = 60;

/// Replicas at most, and NATS servers.
const MOST: usize = 3;

/// A sink that wants nothing that comes in, so that it is the journal that is measured.
const SINK: &str = r#"sinks.one = { type = "file", path = "x", kinds = ["webex_connect.postback"] }"#;

/// Three NATS servers that form a cluster.
struct Nats {
    ports: Vec<u16>,
    nodes: Vec<Daemon>,
    _folder: TempDir,
}

impl Nats {
    /// Starts them. `sync`: what they do before they acknowledge.
    fn start(sync: &str) -> Result<Option<Self>, Failure> {
        let Some(program) = find_or_skip("cluster", "nats-server") else { return Ok(None) };
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let ports: Vec<u16> = (0..MOST).map(|_| free_port()).collect();
        let routes: Vec<u16> = (0..MOST).map(|_| free_port()).collect();
        let others: Vec<String> = routes.iter().map(|port| format!("nats-route://127.0.0.1:{port}")).collect();
        let mut nodes = Vec::new();
        for (node, port) in ports.iter().enumerate() {
            let config = folder.path().join(format!("{node}.conf"));
            let store = folder.path().join(node.to_string());
            let text = format!(
                "server_name: node-{node}\nlisten: \"127.0.0.1:{port}\"\nmax_payload: 24MB\n\
                 jetstream {{ store_dir: {store:?}, sync_interval: {sync} }}\n\
                 cluster {{ name: bench, listen: \"127.0.0.1:{}\", routes: {others:?} }}\n",
                routes[node]
            );
            fs::write(&config, text)?;
            let mut command = Command::new(&program);
            nodes.push(Daemon::start(command.arg("-c").arg(&config).stdout(Stdio::null()).stderr(Stdio::null())));
        }
        for port in &ports {
            wait_for("nats-server", || TcpStream::connect(("127.0.0.1", *port)).is_ok())?;
        }
        Ok(Some(Self { ports, nodes, _folder: folder }))
    }

    fn cpu_seconds(&self) -> Result<f64, Failure> {
        self.nodes.iter().map(|node| process::cpu_seconds(node.id())).sum()
    }

    /// The settings of a journal of its own on these servers.
    fn journal(&self, name: &str) -> String {
        let servers: Vec<String> = self.ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        format!("journal.engine = \"jetstream\"\njournal.servers = {servers:?}\njournal.stream = \"{name}\"\n")
    }
}

/// One turn of some replicas.
struct Turn {
    per_second: f64,
    p50: f64,
    p99: f64,
    /// CPU seconds for a thousand requests: hooksink, NATS.
    hooksink: f64,
    nats: f64,
}

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments, _summary: &mut Summary) -> Result<(), Failure> {
    let parent = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let table = Table::new(&[
        ("journal", 34),
        ("replicas", 0),
        ("requests/s", 0),
        ("p50 ms", 0),
        ("p99 ms", 0),
        ("CPU s per 1,000: hooksink", 0),
        ("NATS", 7),
        ("share of hooksink", 0),
    ]);
    let mut run = 10_000;
    let alone = [Server::hooksink(arguments, "sqlite", &folder(parent.path(), "sqlite"), SINK)?];
    measure(arguments, &table, "SQLite", &alone, None, &mut run)?;
    drop(alone);
    for (sync, name) in [("\"2m\"", "JetStream, syncs now and then"), ("always", "JetStream, syncs always")] {
        let Some(nats) = Nats::start(sync)? else { return Ok(()) };
        for replicas in 1..=MOST {
            let servers = start(arguments, parent.path(), &nats, replicas)?;
            measure(arguments, &table, name, &servers, Some(&nats), &mut run)?;
        }
    }
    Ok(())
}

fn start(arguments: &Arguments, parent: &Path, nats: &Nats, replicas: usize) -> Result<Vec<Server>, Failure> {
    // Each number of replicas has a journal of its own, of the same length.
    let settings = nats.journal(&format!("of{replicas}")) + SINK;
    let server = |replica| {
        let name = format!("{replica}-of-{replicas}-{}", nats.ports[0]);
        Server::hooksink(arguments, &name, &folder(parent, &name), &settings)
    };
    (0..replicas).map(server).collect()
}

fn measure(
    arguments: &Arguments,
    table: &Table,
    name: &str,
    servers: &[Server],
    nats: Option<&Nats>,
    run: &mut u64,
) -> Result<(), Failure> {
    turn(servers, nats, 1, run)?; // warm-up
    let turns: Vec<Turn> =
        (0..arguments.rounds).map(|_| turn(servers, nats, arguments.seconds, run)).collect::<Result<_, _>>()?;
    let of = |figure: fn(&Turn) -> f64| median(turns.iter().map(figure));
    let (hooksink, nats) = (of(|turn| turn.hooksink), of(|turn| turn.nats));
    table.row([
        name.to_owned(),
        servers.len().to_string(),
        format!("{:.0}", of(|turn| turn.per_second)),
        format!("{:.2}", of(|turn| turn.p50)),
        format!("{:.2}", of(|turn| turn.p99)),
        format!("{hooksink:.3}"),
        format!("{nats:.3}"),
        format!("{:.0} %", 100.0 * hooksink / (hooksink + nats)),
    ]);
    Ok(())
}

/// A client for each replica, all at once.
fn turn(servers: &[Server], nats: Option<&Nats>, seconds: u64, run: &mut u64) -> Result<Turn, Failure> {
    let mut clients = Vec::new();
    for server in servers {
        *run += 1;
        clients.push(Ready::start(server.address, Payload::Echo, CONNECTIONS / servers.len(), seconds, *run)?);
    }
    let of_hooksink = || servers.iter().map(Server::cpu_seconds).sum::<Result<f64, Failure>>();
    let of_nats = || nats.map_or(Ok(0.0), Nats::cpu_seconds);
    let before = (of_hooksink()?, of_nats()?);
    let measured: Vec<Measured> = std::thread::scope(|scope| {
        let going: Vec<_> = clients.into_iter().map(|client| scope.spawn(|| client.go())).collect();
        going.into_iter().map(|client| client.join().map_err(|_| "a client panicked")?).collect::<Result<_, Failure>>()
    })?;
    let after = (of_hooksink()?, of_nats()?);
    let requests: f64 = measured.iter().map(|measured| measured.requests).sum();
    let most = |figure: fn(&Measured) -> f64| measured.iter().map(figure).fold(0.0, f64::max);
    Ok(Turn {
        per_second: measured.iter().map(|measured| measured.requests / measured.seconds).sum(),
        p50: most(|measured| measured.p50),
        p99: most(|measured| measured.p99),
        hooksink: (after.0 - before.0) / requests * 1000.0,
        nats: (after.1 - before.1) / requests * 1000.0,
    })
}
