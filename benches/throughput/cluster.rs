//! Replicas of hooksink on three NATS servers: what one, two and three of them take, and who needs the CPU for it.
//!
//! All of it shares the cores of one machine, clients included: what tells of larger machines is the CPU time that each
//! part needs for a request.

use std::path::Path;

use crate::client::{Measured, Ready};
use crate::payload::Payload;
use crate::servers::{Server, folder};
use crate::summary::Summary;
use crate::support::nats_cluster::NatsCluster;
use crate::table::{Table, median};
use crate::{Arguments, Failure, process};

/// Connections over all replicas.
const CONNECTIONS: usize = 60;

/// Replicas at most.
const MOST: usize = 3;

/// A sink that wants nothing that comes in, so that it is the journal that is measured.
const SINK: &str = r#"sinks.one = { type = "file", path = "x", kinds = ["webex_connect.postback"] }"#;

/// What the program of the servers is called.
const NATS: &str = "nats-server";

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
    measure(arguments, &table, "SQLite", &alone, &mut run)?;
    drop(alone);
    for (sync, name) in [("", "JetStream, syncs now and then"), ("sync_interval: always", "JetStream, syncs always")] {
        let Some(nats) = NatsCluster::start_with("cluster", sync, "max_payload: 24MB") else { return Ok(()) };
        for replicas in 1..=MOST {
            let servers = start(arguments, parent.path(), &nats, replicas)?;
            measure(arguments, &table, name, &servers, &mut run)?;
        }
    }
    Ok(())
}

fn start(arguments: &Arguments, parent: &Path, nats: &NatsCluster, replicas: usize) -> Result<Vec<Server>, Failure> {
    // Each number of replicas has a journal of its own, of the same length.
    let servers = nats.urls();
    let settings = format!(
        "journal = {{ engine = \"jetstream\", servers = {servers:?}, stream = \"of{replicas}\", start_timeout = \"5m\" }}\n{SINK}"
    );
    let server = |replica| {
        let name = format!("{replica}-of-{replicas}-{}", servers[0].replace([':', '/'], "-"));
        Server::hooksink(arguments, &name, &folder(parent, &name), &settings)
    };
    (0..replicas).map(server).collect()
}

fn measure(arguments: &Arguments, table: &Table, name: &str, servers: &[Server], run: &mut u64) -> Result<(), Failure> {
    turn(servers, arguments.seconds.min(1.0), run)?; // warm-up
    let turns: Vec<Turn> =
        (0..arguments.rounds).map(|_| turn(servers, arguments.seconds, run)).collect::<Result<_, _>>()?;
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
fn turn(servers: &[Server], seconds: f64, run: &mut u64) -> Result<Turn, Failure> {
    let mut clients = Vec::new();
    for server in servers {
        *run += 1;
        clients.push(Ready::start(server.address, Payload::Echo, CONNECTIONS / servers.len(), seconds, *run)?);
    }
    let of_hooksink = || servers.iter().map(Server::cpu_seconds).sum::<Result<f64, Failure>>();
    let of_nats = || process::cpu_seconds_of_children(NATS);
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
