//! Delivery to an HTTP target, an event a request: hooksink beside the same HTTP client that posts the same bodies,
//! read from memory, to the same target.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hooksink::sinks::http::client;

use crate::client::Ready;
use crate::payload::Payload;
use crate::servers::{Server, Target, folder, free_address};
use crate::summary::Summary;
use crate::table::{Table, median, spread};
use crate::{Arguments, Failure};

/// Requests at once: the default of the sink, and many.
const CONCURRENCY: [usize; 2] = [4, 64];

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments, summary: &mut Summary) -> Result<(), Failure> {
    println!("\nDelivery over HTTP, an event a request, beside the same client without hooksink");
    let parent = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let folder = folder(parent.path(), "delivery");
    let archive = r#"sinks.archive = { type = "file", path = "events.jsonl" }"#;
    // The file sink writes what the http sink would send.
    let filling = Server::hooksink(arguments, "filling", &folder, archive)?;
    for run in 0.. {
        if filling.held()? >= arguments.events {
            break;
        }
        Ready::start(filling.address, Payload::Batch, 16, arguments.seconds.min(1.0), run)?.go()?;
    }
    filling.drain()?;
    drop(filling);
    let events = fs::read(folder.join("events.jsonl"))?.iter().filter(|byte| **byte == b'\n').count();
    let target = Target::start(free_address())?;
    println!("{events} events");
    let table = Table::new(&[
        ("requests at once", 0),
        ("client alone, events/s", 0),
        ("hooksink, events/s", 0),
        ("CPU s per 1,000", 0),
        ("of the client alone (lowest-highest)", 0),
    ]);
    for concurrency in CONCURRENCY {
        let (mut alone, mut through, mut costs) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..arguments.rounds {
            alone.push(events as f64 / post_alone(&folder.join("events.jsonl"), target.address, concurrency)?);
            // A sink that is new each time, and begins at the start.
            let sink = format!(
                r#"
                {archive}
                [sinks.c{concurrency}-{round}]
                type = "http"
                url = "http://{}/in"
                from = "start"
                concurrency = {concurrency}
                "#,
                target.address
            );
            let server = Server::hooksink(arguments, "delivering", &folder, &sink)?;
            let began = Instant::now();
            while server.lag_of(&format!("c{concurrency}-{round}"))? > 0 {
                // Each question costs the server some time.
                std::thread::sleep(Duration::from_millis(25));
            }
            through.push(events as f64 / (server.ready_after + began.elapsed()).as_secs_f64());
            costs.push(server.cpu_seconds()? / events as f64 * 1000.0);
        }
        let ratios: Vec<f64> = through.iter().zip(&alone).map(|(through, alone)| through / alone).collect();
        table.row([
            concurrency.to_string(),
            format!("{:.0}", median(alone)),
            format!("{:.0}", median(through)),
            format!("{:.4}", median(costs)),
            spread(&ratios),
        ]);
        let what = format!("single-event HTTP delivery, {concurrency} at once, of the client alone");
        summary.at_least(what, 0.5, median(ratios), "");
    }
    Ok(())
}

/// Has the client alone post every line of the file; the seconds it took.
fn post_alone(lines: &Path, target: SocketAddr, concurrency: usize) -> Result<f64, Failure> {
    let mut process = Command::new(std::env::current_exe()?)
        .arg("post")
        .arg(lines)
        .args([target.to_string(), concurrency.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(process.stdout.take().ok_or("no stdout")?).read_line(&mut line)?;
    if !process.wait()?.success() {
        return Err("the client alone failed".into());
    }
    Ok(line.trim().parse()?)
}

/// The process of the client alone.
pub(crate) async fn post(lines: &Path, target: SocketAddr, concurrency: usize) -> Result<(), Failure> {
    let text = Bytes::from(fs::read(lines)?);
    let bodies: Arc<Vec<Bytes>> = Arc::new(
        text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| text.slice_ref(line)).collect(),
    );
    let client = client().pool_max_idle_per_host(concurrency).build()?;
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let tasks: Vec<_> = (0..concurrency)
        .map(|_| {
            let (client, bodies, next) = (client.clone(), bodies.clone(), next.clone());
            tokio::spawn(async move {
                while let Some(body) = bodies.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let request = client.post(format!("http://{target}/in")).body(body.clone());
                    let answer = request.header("content-type", "application/cloudevents+json").send().await?;
                    answer.error_for_status()?.bytes().await?;
                }
                Ok::<(), reqwest::Error>(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    println!("{}", began.elapsed().as_secs_f64());
    Ok(())
}
