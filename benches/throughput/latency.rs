//! Latencies while everything goes on at once: commits, the file sink, checkpoints, and retention that removes events
//! as fast as they come.

use std::time::Duration;

use crate::client::Ready;
use crate::disk::Probe;
use crate::payload::Payload;
use crate::servers::{Server, folder};
use crate::summary::Summary;
use crate::table::{Table, median, spread};
use crate::{Arguments, Failure};

const CONNECTIONS: usize = 64;
/// How long the disk is probed before each round.
const PROBE: Duration = Duration::from_secs(1);

/// Segments are small, so that some are begun and dropped in each round.
const SETTINGS: &str = r#"
    journal.retention = "2s"
    journal.segment_events = 20000
    sinks.one = { type = "file", path = "events.jsonl" }
"#;

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments, summary: &mut Summary) -> Result<(), Failure> {
    println!("\nLatencies at {CONNECTIONS} connections, with a file sink and a retention of 2 s");
    let parent = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut probe = Probe::new(parent.path())?;
    let server = Server::hooksink(arguments, "latency", &folder(parent.path(), "latency"), SETTINGS)?;
    let table = Table::new(&[
        ("requests/s", 0),
        ("p50 ms", 0),
        ("p99 ms", 0),
        ("p99.9 ms", 0),
        ("longest ms", 0),
        ("events removed", 0),
    ]);
    let mut p99s = Vec::new();
    let mut held_before = 0;
    for round in 0..=arguments.rounds {
        probe.run(PROBE)?;
        let client = Ready::start(server.address, Payload::Echo, CONNECTIONS, arguments.seconds, u64::from(round))?;
        let measured = client.go()?;
        let held = server.held()?;
        let removed = (held_before + measured.requests as u64).saturating_sub(held);
        held_before = held;
        if round == 0 {
            continue; // warm-up: nothing was old enough yet
        }
        p99s.push(measured.p99);
        table.row([
            format!("{:.0}", measured.requests / measured.seconds),
            format!("{:.2}", measured.p50),
            format!("{:.2}", measured.p99),
            format!("{:.2}", measured.p999),
            format!("{:.2}", measured.longest),
            removed.to_string(),
        ]);
    }
    let (_, disk) = probe.median_and_p99();
    println!("\n{probe}\np99 over the rounds: {} ms", spread(&p99s));
    let wanted = f64::max(10.0, 5.0 * disk);
    let what = format!("p99 at {CONNECTIONS} connections while retention removes (10 ms, or 5 times the disk's p99)");
    summary.at_most(what, wanted, median(p99s), " ms");
    Ok(())
}
