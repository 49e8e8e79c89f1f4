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
//! diagnostics going to /dev/null.
//!
//! Machines are noisy: the servers take turns in short rounds, a ratio is that of one round, and what is printed is the
//! median over the rounds. The CPU time that a server needs for a request is the steadiest of all figures.

mod client;
mod disk;
mod payload;
mod process;
mod rates;
mod servers;
mod table;

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use tokio::runtime;

use self::payload::Payload;
use self::rates::Kind;

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Role>,
    /// What to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Scenario::Rates])]
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
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Rounds, in each of which every server has its turn.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Waits for Enter when the servers run, before the first request and after the last.
    #[arg(long)]
    wait: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Requests and events a second, latencies and CPU time beside the bare handler.
    Rates,
}

/// What this program is when it is started by itself.
#[derive(Subcommand)]
enum Role {
    /// The bare handler.
    Bare,
    /// The client.
    Client { to: SocketAddr, payload: Payload, connections: usize, seconds: u64, run: u64 },
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    match arguments.role {
        None => report(&arguments),
        Some(Role::Bare) => runtime::Runtime::new()?.block_on(servers::bare()),
        Some(Role::Client { to, payload, connections, seconds, run }) => {
            let one_thread = runtime::Builder::new_current_thread().enable_all().build()?;
            one_thread.block_on(client::run(to, payload, connections, Duration::from_secs(seconds), run))
        }
    }
}

fn report(arguments: &Arguments) -> Result<(), Failure> {
    println!("{} cores", std::thread::available_parallelism()?);
    for scenario in &arguments.scenario {
        match scenario {
            Scenario::Rates => rates::run(arguments)?,
        }
    }
    Ok(())
}
