//! Rates, latencies and CPU time of hooksink beside the bare handler, for each payload and number of connections.

use std::io::BufRead;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::client::{Measured, Ready};
use crate::disk::Probe;
use crate::payload::Payload;
use crate::servers::{Server, Target, folder, free_address};
use crate::summary::Summary;
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
    /// hooksink with an http sink that sends batches to a bare handler.
    HttpBatch,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Bare, Self::NoEventWanted, Self::File, Self::HttpBatch];

    fn start(self, arguments: &Arguments, parent: &Path, target: SocketAddr) -> Result<Server, Failure> {
        let to_target = format!(r#"{{ type = "http", url = "http://{target}/in", format = "cloudevents_batch" }}"#);
        let (name, sink) = match self {
            Self::Bare => return Server::bare(),
            Self::NoEventWanted => {
                ("no event wanted", r#"{ type = "file", path = "x", kinds = ["webex_connect.postback"] }"#)
            }
            Self::File => ("file sink", r#"{ type = "file", path = "events.jsonl" }"#),
            Self::HttpBatch => ("http sink, batches", to_target.as_str()),
        };
        Server::hooksink(arguments, name, &folder(parent, name), &format!("sinks.one = {sink}"))
    }

    /// What its rate should be of the bare handler's, at 64 and 256 connections.
    fn wanted(self) -> Option<f64> {
        match self {
            Self::Bare | Self::HttpBatch => None,
            Self::NoEventWanted => Some(0.60),
            Self::File => Some(0.50),
        }
    }
}

/// A turn of a server.
pub(crate) struct Turn {
    pub(crate) measured: Measured,
    cpu_seconds: f64,
    /// Events the sinks were owed when the last answer had come.
    lag: u64,
    /// How long they took to get them.
    drained: Duration,
}

impl Turn {
    /// Requests a second, over the time until sinks had what they were owed.
    pub(crate) fn per_second(&self) -> f64 {
        self.measured.requests / (self.measured.seconds + self.drained.as_secs_f64())
    }

    /// CPU seconds for a thousand requests.
    pub(crate) fn cpu_per_thousand(&self) -> f64 {
        self.cpu_seconds / self.measured.requests * 1000.0
    }
}

/// One server's turn. The CPU time that its sinks take counts, also when they come after the last answer.
pub(crate) fn turn(
    server: &Server,
    payload: Payload,
    connections: usize,
    seconds: f64,
    run: u64,
) -> Result<Turn, Failure> {
    let client = Ready::start(server.address, payload, connections, seconds, run)?;
    let cpu_before = server.cpu_seconds()?;
    let measured = client.go().map_err(|error| format!("{}: {error}", server.name))?;
    let ended = Instant::now();
    let lag = server.lag()?;
    let drained = if lag == 0 { Duration::ZERO } else { server.drain().map(|_| ended.elapsed())? };
    Ok(Turn { measured, cpu_seconds: server.cpu_seconds()? - cpu_before, lag, drained })
}

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments, summary: &mut Summary) -> Result<(), Failure> {
    let parent = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut probe = Probe::new(parent.path())?;
    let target = Target::start(free_address())?;
    let servers: Vec<Server> = arguments
        .server
        .iter()
        .map(|kind| kind.start(arguments, parent.path(), target.address))
        .collect::<Result<_, _>>()?;
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
        turn(server, Payload::Echo, 16, arguments.seconds.min(1.0), run)?; // warm-up
    }
    let table = Table::new(&[
        ("payload", 8),
        ("connections", 0),
        ("server", 28),
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
    // Events a second of single posts, of each server.
    let mut singles: Vec<Option<f64>> = vec![None; servers.len()];
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
            for (at, server) in servers.iter().enumerate() {
                let bare = servers.iter().position(|server| !server.is_hooksink());
                let figures = Figures::of(&rounds, at, bare, payload);
                figures.print(&table, server, payload, connections);
                if !server.is_hooksink() {
                    continue;
                }
                let name = format!("{}, {connections} connections", server.name);
                if payload == Payload::Echo {
                    if let Some(ratios) = &figures.ratios
                        && let Some(wanted) = arguments.server[at].wanted()
                        && connections >= 64
                    {
                        let ratio = median(ratios.iter().copied());
                        summary.at_least(format!("{name}: echoes, of the bare handler"), wanted, ratio, "");
                    }
                    if arguments.server[at] != Kind::NoEventWanted {
                        summary.at_most(
                            format!("{name}: echoes, the sink has the last after"),
                            1.0,
                            figures.drained,
                            " s",
                        );
                    }
                }
                match payload {
                    Payload::Echo if connections == 64 => singles[at] = Some(figures.events_per_second),
                    Payload::Batch if connections == 64 => {
                        if let Some(single) = singles[at] {
                            let times = figures.events_per_second / single;
                            summary.at_least(format!("{name}: events/s of batches, of single echoes"), 3.0, times, "");
                        }
                    }
                    _ => {}
                }
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

/// A server's figures over the rounds of one payload and number of connections.
struct Figures {
    per_second: f64,
    events_per_second: f64,
    p50: f64,
    p99: f64,
    p999: f64,
    longest: f64,
    cpu_per_thousand: f64,
    lag: f64,
    drained: f64,
    /// To the bare handler in the same round, if it took part.
    ratios: Option<Vec<f64>>,
}

impl Figures {
    fn of(rounds: &[Vec<Turn>], at: usize, bare: Option<usize>, payload: Payload) -> Self {
        let of = |figure: fn(&Turn) -> f64| median(rounds.iter().map(|round| figure(&round[at])));
        let per_second = of(Turn::per_second);
        Self {
            per_second,
            events_per_second: per_second * payload.items() as f64,
            p50: of(|turn| turn.measured.p50),
            p99: of(|turn| turn.measured.p99),
            p999: of(|turn| turn.measured.p999),
            longest: of(|turn| turn.measured.longest),
            cpu_per_thousand: of(Turn::cpu_per_thousand),
            lag: of(|turn| turn.lag as f64),
            drained: of(|turn| turn.drained.as_secs_f64()),
            ratios: bare
                .map(|bare| rounds.iter().map(|round| round[at].per_second() / round[bare].per_second()).collect()),
        }
    }

    fn print(&self, table: &Table, server: &Server, payload: Payload, connections: usize) {
        let only_with_sink = |text: String| if server.is_hooksink() { text } else { String::new() };
        table.row([
            payload.name().to_owned(),
            connections.to_string(),
            server.name.clone(),
            format!("{:.0}", self.per_second),
            format!("{:.0}", self.events_per_second),
            format!("{:.2}", self.p50),
            format!("{:.2}", self.p99),
            format!("{:.2}", self.p999),
            format!("{:.2}", self.longest),
            format!("{:.4}", self.cpu_per_thousand),
            self.ratios.as_deref().map_or_else(String::new, spread),
            only_with_sink(format!("{:.0}", self.lag)),
            only_with_sink(format!("{:.2} s", self.drained)),
        ]);
    }
}
