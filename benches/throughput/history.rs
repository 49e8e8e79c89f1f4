//! What a long history costs: rates and CPU time beside an empty journal, the time to start, memory.

use crate::payload::Payload;
use crate::rates::turn;
use crate::servers::{Server, folder};
use crate::summary::Summary;
use crate::table::{Table, median, spread};
use crate::{Arguments, Failure, fill};

const CONNECTIONS: usize = 64;
const STARTS: usize = 5;

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments, summary: &mut Summary) -> Result<(), Failure> {
    let events = arguments.history;
    println!("\n{events} events in the journal, beside none; {CONNECTIONS} connections, single echoes");
    let parent = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    // A small history has as many segments as the large one has with the default.
    let segment_events = (events / 10).clamp(1000, 1_000_000);
    let settings = format!(
        r#"
        journal.segment_events = {segment_events}
        journal.max_size = "1 TiB"
        sinks.one = {{ type = "file", path = "x", kinds = ["webex_connect.postback"] }}
        "#
    );
    let [long, none] = ["long history", "no history"].map(|name| (name, folder(parent.path(), name)));
    fill::fill(&Server::hooksink(arguments, long.0, &long.1, &settings)?, events, arguments.seconds)?;
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let server = Server::hooksink(arguments, long.0, &long.1, &settings)?;
        starts.push(server.ready_after.as_secs_f64());
        server.drain()?;
    }
    println!("ready after {} s", spread(&starts));
    summary.at_most(format!("start to ready with {events} events"), 1.0, median(starts), " s");

    let servers = [
        Server::hooksink(arguments, none.0, &none.1, &settings)?,
        Server::hooksink(arguments, long.0, &long.1, &settings)?,
    ];
    let idle: Vec<f64> = servers.iter().map(|server| Ok(server.resident()?.0)).collect::<Result<_, Failure>>()?;
    let table = Table::new(&[
        ("server", 22),
        ("requests/s", 0),
        ("p50 ms", 0),
        ("p99 ms", 0),
        ("CPU s per 1,000", 0),
        ("MiB idle", 0),
        ("MiB at most", 0),
    ]);
    let (mut rates, mut costs, mut turns) = (Vec::new(), Vec::new(), Vec::new());
    let mut run = 0;
    for _ in 0..arguments.rounds {
        let mut round = Vec::new();
        for server in &servers {
            run += 1;
            round.push(turn(server, Payload::Echo, CONNECTIONS, arguments.seconds, run)?);
        }
        rates.push(round[1].per_second() / round[0].per_second());
        costs.push(round[1].cpu_per_thousand() / round[0].cpu_per_thousand());
        turns.push(round);
    }
    for (at, server) in servers.iter().enumerate() {
        let of = |figure: fn(&crate::rates::Turn) -> f64| median(turns.iter().map(|round| figure(&round[at])));
        table.row([
            server.name.clone(),
            format!("{:.0}", of(|turn| turn.per_second())),
            format!("{:.2}", of(|turn| turn.measured.p50)),
            format!("{:.2}", of(|turn| turn.measured.p99)),
            format!("{:.4}", of(|turn| turn.cpu_per_thousand())),
            format!("{:.1}", idle[at]),
            format!("{:.1}", server.resident()?.1),
        ]);
    }
    println!("\nrate with history, of that without: {}; CPU time: {}", spread(&rates), spread(&costs));
    summary.at_least(format!("rate with {events} events in the journal, of that with none"), 0.75, median(rates), "");
    Ok(())
}
