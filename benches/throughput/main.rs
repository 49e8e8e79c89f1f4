//! hooksink beside the same POSTs to a bare axum handler, in one run, on loopback.
//!
//! `cargo bench --bench throughput` runs every scenario, the ones about history and backlog small;
//! `cargo bench --bench throughput -- --scenario history --history 10000000` runs one, large. For a profiler:
//! `-- --server no-event-wanted --connections 64 --payload echo --seconds 10 --rounds 1`, which says the process ids.
//!
//! Several processes, so that nobody's work counts as another's: this one, which reports; each server, which is the bare
//! handler or the real program with its journal on the disk of `target/`; and the client. The client keeps its
//! connections open and one request at a time under way on each. Every request is one of its own, signed before the
//! clock starts, and never sent twice. hooksink runs with its default settings but for what a scenario says, its
//! diagnostics going to `stderr.log` beside its configuration.
//!
//! Machines are noisy: the servers take turns in short rounds, a ratio is that of one round, and what is printed is the
//! median over the rounds. The CPU time that a server needs for a request is the steadiest of all figures.

mod backlog;
mod client;
mod cluster;
mod delivery;
mod disk;
mod fill;
mod history;
mod latency;
mod payload;
mod process;
#[path = "../../tests/it/programs.rs"]
#[expect(dead_code, reason = "tests use more of it")]
mod programs;
mod rates;
mod retention;
mod servers;
mod sinks;
mod summary;
#[expect(dead_code, reason = "tests use more of it")]
mod support;
mod table;

use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use tokio::runtime;

use self::payload::Payload;
use self::rates::Kind;
use self::summary::Summary;

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// What to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Scenario::ALL)]
    scenario: Vec<Scenario>,
    /// Servers that take turns in `rates`.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Kind::ALL)]
    server: Vec<Kind>,
    /// Connections at once in `rates`.
    #[arg(long, value_delimiter = ',', default_values_t = [16, 64, 256])]
    connections: Vec<usize>,
    /// What is sent in `rates`.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Payload::ALL)]
    payload: Vec<Payload>,
    /// Seconds a round.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Rounds, in each of which every server has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Events to deliver in `delivery`.
    #[arg(long, default_value_t = 30_000)]
    events: u64,
    /// Sinks that take turns in `sinks`.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = sinks::Kind::all())]
    sink: Vec<sinks::Kind>,
    /// Events to deliver in `sinks`.
    #[arg(long, default_value_t = 300_000)]
    sink_events: u64,
    /// Events in the journal in `history`: 10,000,000 for the figure of the README.
    #[arg(long, default_value_t = 50_000)]
    history: u64,
    /// Old events to remove in `retention`: 1,000,000 for the figure of the README.
    #[arg(long, default_value_t = 50_000)]
    old: u64,
    /// Events that a sink is owed in `backlog`: 1,000,000 for the figure of the README.
    #[arg(long, default_value_t = 50_000)]
    backlog: u64,
    /// Another build of hooksink than the one beside this.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_hooksink"))]
    program: PathBuf,
    /// Waits for Enter when the servers run, before the first request and after the last.
    #[arg(long)]
    wait: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Requests and events a second, latencies and CPU time beside the bare handler.
    Rates,
    /// Latencies while retention removes what comes in.
    Latency,
    /// Single-event delivery over HTTP.
    Delivery,
    /// Delivery to servers beside their clients alone.
    Sinks,
    /// A journal with a long history beside an empty one.
    History,
    /// The removal of many old events.
    Retention,
    /// Memory with a sink that is down.
    Backlog,
    /// One, two and three replicas on NATS.
    Cluster,
}

impl Scenario {
    const ALL: [Self; 8] = [
        Self::Rates,
        Self::Latency,
        Self::Delivery,
        Self::Sinks,
        Self::History,
        Self::Retention,
        Self::Backlog,
        Self::Cluster,
    ];
}

/// What this program is when it is started by itself.
#[derive(Subcommand)]
enum Role {
    /// The bare handler.
    Bare { listen: SocketAddr },
    /// The client.
    Client { to: SocketAddr, payload: Payload, connections: usize, seconds: f64, run: u64 },
    /// The HTTP client of sinks, without hooksink.
    Post { lines: PathBuf, target: SocketAddr, concurrency: usize },
    /// The client of a server, without hooksink.
    Send { sink: sinks::Kind, lines: PathBuf, address: String, place: String, at_once: usize },
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    match arguments.role {
        None => report(&arguments),
        Some(Role::Bare { listen }) => runtime::Runtime::new()?.block_on(servers::bare(listen)),
        Some(Role::Client { to, payload, connections, seconds, run }) => {
            let one_thread = runtime::Builder::new_current_thread().enable_all().build()?;
            one_thread.block_on(client::run(to, payload, connections, Duration::from_secs_f64(seconds), run))
        }
        Some(Role::Post { ref lines, target, concurrency }) => {
            // As many threads as hooksink has.
            let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(delivery::post(lines, target, concurrency))
        }
        Some(Role::Send { sink, ref lines, ref address, ref place, at_once }) => {
            let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(sinks::send(sink, lines, address, place, at_once))
        }
    }
}

fn report(arguments: &Arguments) -> Result<(), Failure> {
    println!("{} cores", std::thread::available_parallelism()?);
    let mut summary = Summary::default();
    for scenario in &arguments.scenario {
        let run = match scenario {
            Scenario::Rates => rates::run,
            Scenario::Latency => latency::run,
            Scenario::Delivery => delivery::run,
            Scenario::Sinks => sinks::run,
            Scenario::History => history::run,
            Scenario::Retention => retention::run,
            Scenario::Backlog => backlog::run,
            Scenario::Cluster => cluster::run,
        };
        run(arguments, &mut summary)?;
    }
    summary.print();
    Ok(())
}
