//! Memory: idle, at full load with a sink that is down and a long backlog, and while the backlog drains.

use std::time::Instant;

use crate::client::Ready;
use crate::payload::Payload;
use crate::servers::{Server, Target, folder, free_address};
use crate::summary::Summary;
use crate::table::Table;
use crate::{Arguments, Failure};

const CONNECTIONS: usize = 64;
/// No more rounds than this.
const ROUNDS: u64 = 500;

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments, summary: &mut Summary) -> Result<(), Failure> {
    let events = arguments.backlog;
    println!("\nA file sink, and an http sink that is down while {events} events come in");
    let parent = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let target = free_address();
    let settings = format!(
        r#"
        sinks.one = {{ type = "file", path = "events.jsonl" }}
        sinks.two = {{ type = "http", url = "http://{target}/in", format = "cloudevents_batch", retry_max = "1s" }}
        "#
    );
    let server = Server::hooksink(arguments, "backlog", &folder(parent.path(), "backlog"), &settings)?;
    let idle = server.resident()?.0;
    let table =
        Table::new(&[("", 22), ("backlog", 9), ("events/s", 0), ("p99 ms", 0), ("MiB now", 0), ("MiB at most", 0)]);
    let show = |what: &str, rate: Option<(f64, f64)>| -> Result<(), Failure> {
        let (now, most) = server.resident()?;
        let (rate, p99) = rate.map_or_else(Default::default, |(rate, p99)| (format!("{rate:.0}"), format!("{p99:.2}")));
        table.row([what.to_owned(), server.lag()?.to_string(), rate, p99, format!("{now:.1}"), format!("{most:.1}")]);
        Ok(())
    };
    show("idle", None)?;
    let mut run = 0;
    let mut load = |payload: Payload| -> Result<(f64, f64), Failure> {
        run += 1;
        let client = Ready::start(server.address, payload, CONNECTIONS, arguments.seconds, run)?;
        let measured = client.go()?;
        let events = measured.requests * payload.items() as f64;
        Ok((events / measured.seconds, measured.p99))
    };
    for round in 1..=ROUNDS {
        let rate = load(Payload::Batch)?;
        if server.lag()? >= events || round == ROUNDS {
            show("down, batches of ten", Some(rate))?;
            break;
        }
    }
    for _ in 0..arguments.rounds {
        let rate = load(Payload::Echo)?;
        show("down, single echoes", Some(rate))?;
    }
    let most_down = server.resident()?.1;
    let owed = server.lag()?;
    let target = Target::start(target)?;
    let began = Instant::now();
    let rate = load(Payload::Echo)?;
    show("draining, and echoes", Some(rate))?;
    server.drain()?;
    let rate = owed as f64 / began.elapsed().as_secs_f64();
    show("drained", Some((rate, 0.0)))?;
    drop(target);
    summary.at_most("resident memory, idle", 25.0, idle, " MiB");
    summary.at_most(format!("resident memory at full load with {events} events of backlog"), 120.0, most_down, " MiB");
    summary.at_most("resident memory while the backlog drains", 120.0, server.resident()?.1, " MiB");
    Ok(())
}
