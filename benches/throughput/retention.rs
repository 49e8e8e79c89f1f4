//! What it costs to remove many old events at once: latencies at 64 connections while they go.

use std::time::{Duration, Instant};

use crate::client::Ready;
use crate::payload::Payload;
use crate::servers::{Server, folder};
use crate::summary::Summary;
use crate::table::Table;
use crate::{Arguments, Failure, fill};

const CONNECTIONS: usize = 64;
const SETTINGS: &str = r#"sinks.one = { type = "file", path = "x", kinds = ["webex_connect.postback"] }"#;
/// Everything that was there at the start is older than this by the time of the first request or soon after.
const RETENTION: &str = r#"journal.retention = "5s""#;
/// No more rounds than this, however slowly the events go.
const ROUNDS: u64 = 200;

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments, summary: &mut Summary) -> Result<(), Failure> {
    let events = arguments.old;
    println!("\n{events} old events removed while {CONNECTIONS} connections send single echoes");
    let parent = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let folder = folder(parent.path(), "retention");
    fill::fill(&Server::hooksink(arguments, "retention", &folder, SETTINGS)?, events, arguments.seconds)?;
    let server = Server::hooksink(arguments, "retention", &folder, &format!("{RETENTION}\n{SETTINGS}"))?;
    let (_, last_old) = server.positions()?;
    let began = Instant::now();
    let table = Table::new(&[
        ("", 8),
        ("requests/s", 0),
        ("p50 ms", 0),
        ("p99 ms", 0),
        ("p99.9 ms", 0),
        ("longest ms", 0),
        ("CPU s per 1,000", 0),
    ]);
    let (mut worst, mut after, mut gone) = (0.0_f64, 0, Duration::ZERO);
    for run in 1..=ROUNDS {
        let client = Ready::start(server.address, Payload::Echo, CONNECTIONS, arguments.seconds, run)?;
        let removing = server.positions()?.0 <= last_old;
        let cpu = server.cpu_seconds()?;
        let measured = client.go()?;
        let cpu = server.cpu_seconds()? - cpu;
        if removing {
            worst = worst.max(measured.p99);
            gone = began.elapsed();
        } else {
            after += 1;
        }
        table.row([
            if removing { "removing" } else { "after" }.to_owned(),
            format!("{:.0}", measured.requests / measured.seconds),
            format!("{:.2}", measured.p50),
            format!("{:.2}", measured.p99),
            format!("{:.2}", measured.p999),
            format!("{:.2}", measured.longest),
            format!("{:.4}", cpu / measured.requests * 1000.0),
        ]);
        if after == 3 {
            break;
        }
    }
    println!("\nall old events were gone within {:.0} s", gone.as_secs_f64());
    summary.at_most(format!("p99 while {events} old events are removed"), 25.0, worst, " ms");
    Ok(())
}
