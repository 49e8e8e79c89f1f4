//! Rates, latencies and CPU time of hooksink beside the bare handler, for each payload and number of connections.

use std::io::BufRead;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::client::{Measured, Ready};
use crate::disk::Probe;
use crate::payload::Payload;
use crate::servers::{Server, folder};
use crate::table::{Table, median, spread};
use crate::{Arguments, Failure};

/// How long the disk is probed before each round.
const PROBE: Duration = Duration::from_millis(500);

/// A server that takes part.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// An axum handler that reads the body and answers 200.
    Bare,
    /// hooksink with a sink whose filter matches nothing.
    NoEventWanted,
    /// hooksink with a file sink.
    File,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Bare, Self::NoEventWanted, Self::File];

    fn start(self, parent: &Path) -> Result<Server, Failure> {
        let (name, sink) = match self {
            Self::Bare => return Server::bare(),
            Self::NoEventWanted => {
                ("no event wanted", r#"{ type = "file", path = "x", kinds = ["webex_connect.postback"] }"#)
            }
            Self::File => ("file sink", r#"{ type = "file", path = "events.jsonl" }"#),
        };
        Server::hooksink(name, &folder(parent, name), &format!("sinks.one = {sink}"))
    }
}

/// A turn of a server.
struct Turn {
    measured: Measured,
    cpu_seconds: f64,
    /// Events the sinks were owed when the last answer had come.
    lag: u64,
    /// How long they took to get them.
    drained: Duration,
}

impl Turn {
    /// Requests a second, over the time until sinks had what they were owed.
    fn per_second(&self) -> f64 {
        self.measured.requests / (self.measured.seconds + self.drained.as_secs_f64())
    }
}

/// One server's turn. The CPU time that its sinks take counts, also when they come after the last answer.
fn turn(server: &Server, payload: Payload, connections: usize, seconds: u64, run: u64) -> Result<Turn, Failure> {
    let client = Ready::start(server.address, payload, connections, seconds, run)?;
    let cpu_before = server.cpu_seconds()?;
    let measured = client.go().map_err(|error| format!("{}: {error}", server.name))?;
    let ended = Instant::now();
    let lag = server.lag()?;
    let drained = if lag == 0 { Duration::ZERO } else { server.drain().map(|_| ended.elapsed())? };
    Ok(Turn { measured, cpu_seconds: server.cpu_seconds()? - cpu_before, lag, drained })
}

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let parent = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut probe = Probe::new(parent.path())?;
    let servers: Vec<Server> =
        arguments.server.iter().map(|kind| kind.start(parent.path())).collect::<Result<_, _>>()?;
    for server in &servers {
        let ready = server.ready_after.as_secs_f64();
        println!("{}: process {}, {}, ready after {ready:.2} s", server.name, server.id(), server.address);
    }
    if arguments.wait {
        println!("press Enter to begin");
        std::io::stdin().lock().read_line(&mut String::new())?;
    }
    let idle: Vec<f64> = servers.iter().map(|server| Ok(server.resident()?.0)).collect::<Result<_, Failure>>()?;
    let mut run = 0;
    for server in &servers {
        run += 1;
        turn(server, Payload::Echo, 16, 1, run)?; // warm-up
    }
    let table = Table::new(&[
        ("payload", 8),
        ("connections", 0),
        ("server", 25),
        ("requests/s", 0),
        ("events/s", 0),
        ("p50 ms", 0),
        ("p99 ms", 0),
        ("p99.9 ms", 0),
        ("longest ms", 0),
        ("CPU s per 1,000", 0),
        ("of bare (lowest-highest)", 0),
        ("sink lag", 7),
        ("drained in", 8),
    ]);
    for &payload in &arguments.payload {
        for &connections in &arguments.connections {
            let mut rounds: Vec<Vec<Turn>> = Vec::new();
            for _ in 0..arguments.rounds {
                probe.run(PROBE)?;
                let mut turns = Vec::new();
                for server in &servers {
                    run += 1;
                    turns.push(turn(server, payload, connections, arguments.seconds, run)?);
                }
                rounds.push(turns);
            }
            let bare = servers.iter().position(|server| !server.is_hooksink());
            for (at, server) in servers.iter().enumerate() {
                row(&table, server, payload, connections, &rounds, at, bare);
            }
        }
    }
    println!("\n{probe}");
    for (server, idle) in servers.iter().zip(idle) {
        let (now, most) = server.resident()?;
        println!("{}: {idle:.1} MiB resident at the start, {now:.1} at the end, {most:.1} at most", server.name);
    }
    if arguments.wait {
        println!("press Enter to end");
        std::io::stdin().lock().read_line(&mut String::new())?;
    }
    Ok(())
}

fn row(
    table: &Table,
    server: &Server,
    payload: Payload,
    connections: usize,
    rounds: &[Vec<Turn>],
    at: usize,
    bare: Option<usize>,
) {
    let of = |figure: fn(&Turn) -> f64| median(rounds.iter().map(|round| figure(&round[at])));
    let per_second = of(Turn::per_second);
    let ratios: Option<Vec<f64>> =
        bare.map(|bare| rounds.iter().map(|round| round[at].per_second() / round[bare].per_second()).collect());
    let has_sink = server.is_hooksink();
    table.row([
        payload.name().to_owned(),
        connections.to_string(),
        server.name.clone(),
        format!("{per_second:.0}"),
        format!("{:.0}", per_second * payload.items() as f64),
        format!("{:.2}", of(|turn| turn.measured.p50)),
        format!("{:.2}", of(|turn| turn.measured.p99)),
        format!("{:.2}", of(|turn| turn.measured.p999)),
        format!("{:.2}", of(|turn| turn.measured.longest)),
        format!("{:.4}", of(|turn| turn.cpu_seconds / turn.measured.requests * 1000.0)),
        ratios.map_or_else(String::new, |ratios| spread(&ratios)),
        if has_sink { format!("{:.0}", of(|turn| turn.lag as f64)) } else { String::new() },
        if has_sink { format!("{:.2} s", of(|turn| turn.drained.as_secs_f64())) } else { String::new() },
    ]);
}
