//! Delivery to each kind of server: hooksink beside a plain loop of the same client library, which sends from memory, to
//! the same server, what hooksink's file sink wrote. The loop runs twice: with at most one batch of events under way, as
//! one writes it at first, and with as many as the sink has. Its client has the settings that it has by itself.
//!
//! A kind is a file here with its `Rival`, a module and a line in [`Kind`].

#[cfg(feature = "kafka")]
mod kafka;
mod lines;
mod nats;
mod postgres;
mod rabbitmq;
mod redis;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use self::lines::Line;
use crate::client::Ready;
use crate::payload::Payload;
use crate::servers::{Server, folder};
use crate::summary::Summary;
use crate::table::{Table, median, spread};
use crate::{Arguments, Failure};

/// As much as a sink has under way with its default settings: events a call, calls at once.
const BATCH: usize = 250;
const AT_ONCE: usize = 4;

/// A kind of sink with a server.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    #[cfg(feature = "kafka")]
    Kafka,
    Nats,
    Postgres,
    Rabbitmq,
    Redis,
}

/// A server of this run, and the client alone.
trait Rival {
    /// The lines of a sink that delivers to this place of the server, as a user would write them.
    fn settings(&self, place: &str) -> String;

    /// Where the client alone finds the server.
    fn address(&self) -> String;

    /// Makes the topic, stream, … of this name.
    fn prepare(&mut self, place: &str) -> Result<(), Failure>;
}

impl Kind {
    /// All that this bench was built with.
    pub(crate) fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Starts the server; `None` where its program is missing, which was said then.
    fn start(self) -> Result<Option<Box<dyn Rival>>, Failure> {
        Ok(match self {
            #[cfg(feature = "kafka")]
            Self::Kafka => boxed(Some(kafka::Cluster::start())),
            Self::Nats => boxed(nats::start()),
            Self::Postgres => boxed(postgres::Postgres::start()?),
            Self::Rabbitmq => boxed(rabbitmq::start()),
            Self::Redis => boxed(redis::Redis::start()?),
        })
    }

    /// Sends all of it with the client alone, so many batches at once; `Ok` when the server has acknowledged all of it.
    async fn send(self, address: &str, place: &str, lines: Vec<Line>, at_once: usize) -> Result<Duration, Failure> {
        match self {
            #[cfg(feature = "kafka")]
            Self::Kafka => kafka::send(address, place, &lines, at_once).await,
            Self::Nats => nats::send(address, place, &lines, at_once).await,
            Self::Postgres => postgres::send(address, place, &lines, at_once).await,
            Self::Rabbitmq => rabbitmq::send(address, place, &lines, at_once).await,
            Self::Redis => redis::send(address, place, &lines, at_once).await,
        }
    }
}

fn boxed<R: Rival + 'static>(rival: Option<R>) -> Option<Box<dyn Rival>> {
    rival.map(|rival| Box::new(rival) as Box<dyn Rival>)
}

/// Measures and prints.
pub(crate) fn run(arguments: &Arguments, summary: &mut Summary) -> Result<(), Failure> {
    println!("\nDelivery to servers, beside a plain loop of the same client library");
    let parent = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let folder = folder(parent.path(), "sinks");
    // The file sink writes what the other sinks would send.
    let archive = r#"sinks.archive = { type = "file", path = "events.jsonl" }"#;
    let filling = Server::hooksink(arguments, "filling", &folder, archive)?;
    for run in 0.. {
        if filling.held()? >= arguments.sink_events {
            break;
        }
        Ready::start(filling.address, Payload::Batch, 16, arguments.seconds.min(1.0), run)?.go()?;
    }
    filling.drain()?;
    drop(filling);
    let file = folder.join("events.jsonl");
    let events = lines::read(&file)?.len();
    println!("{events} events, each of another person");
    let table = Table::new(&[
        ("sink", 10),
        ("plain loop, events/s", 0),
        ("four batches at once", 0),
        ("hooksink, events/s", 0),
        ("CPU s per 1,000", 0),
        ("of the plain loop", 16),
        ("of four at once (lowest-highest)", 0),
    ]);
    for kind in &arguments.sink {
        let name = kind.name();
        let Some(mut rival) = kind.start()? else { continue };
        let (mut plain, mut alone, mut through, mut costs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for round in 0..arguments.rounds {
            for (at_once, rates) in [(1, &mut plain), (AT_ONCE, &mut alone)] {
                let place = format!("alone_{at_once}_{round}");
                rival.prepare(&place)?;
                rates.push(events as f64 / send_alone(*kind, &file, &rival.address(), &place, at_once)?);
            }
            // A sink that is new each time, and begins at the start.
            let place = format!("through_{round}");
            rival.prepare(&place)?;
            let settings = rival.settings(&place);
            let sink = format!("{archive}\n[sinks.{name}-{round}]\ntype = \"{name}\"\nfrom = \"start\"\n{settings}");
            let server = Server::hooksink(arguments, "delivering", &folder, &sink)?;
            // From when it is ready; what it delivered before is not counted. It may be connected and have a window in
            // memory by then; the client alone is connected too, but for that of Kafka, which connects with the first.
            let sink = format!("{name}-{round}");
            let (began, owed) = (Instant::now(), server.lag_of(&sink)?);
            while server.lag_of(&sink)? > 0 {
                // Each question costs the server some time.
                std::thread::sleep(Duration::from_millis(25));
            }
            through.push(owed as f64 / began.elapsed().as_secs_f64());
            costs.push(server.cpu_seconds()? / events as f64 * 1000.0);
        }
        let of =
            |rates: &[f64]| -> Vec<f64> { through.iter().zip(rates).map(|(through, rate)| through / rate).collect() };
        let (of_plain, of_alone) = (of(&plain), of(&alone));
        table.row([
            name.clone(),
            format!("{:.0}", median(plain)),
            format!("{:.0}", median(alone)),
            format!("{:.0}", median(through.clone())),
            format!("{:.4}", median(costs)),
            spread(&of_plain),
            spread(&of_alone),
        ]);
        summary.at_least(format!("delivery to {name}, of a plain loop"), 0.7, median(of_plain), "");
        summary.at_least(format!("delivery to {name}, of a loop with as much at once"), 0.7, median(of_alone), "");
    }
    Ok(())
}

/// Has the client alone send every line of the file, so many batches at once; the seconds it took.
fn send_alone(kind: Kind, lines: &Path, address: &str, place: &str, at_once: usize) -> Result<f64, Failure> {
    let mut process = Command::new(std::env::current_exe()?)
        .args(["send", &kind.name()])
        .arg(lines)
        .args([address, place, &at_once.to_string()])
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
pub(crate) async fn send(kind: Kind, file: &Path, address: &str, place: &str, at_once: usize) -> Result<(), Failure> {
    let lines = lines::read(file)?;
    let took = kind.send(address, place, lines, at_once).await?;
    println!("{}", took.as_secs_f64());
    Ok(())
}
