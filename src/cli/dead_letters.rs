use clap::{Args, Subcommand};
use hooksink::admin::Count;
use hooksink::event::cloud_event::rfc3339;
use hooksink::journal::{DeadLetter, Letters};
use hooksink::names::SinkName;
use serde_json::Value;
use serde_json::value::RawValue;

use super::admin_client::{AdminArgs, AdminClient};
use super::block_on;
use super::exit::{Failure, Outcome};
use super::output::{print, table};
use super::sinks::sink_name;

/// See, retry or drop the events that a sink of a running server gave up on
#[derive(Debug, Args)]
pub(crate) struct DeadLetters {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List them, oldest first
    List {
        /// Only those of this sink
        #[arg(long, value_parser = sink_name)]
        sink: Option<SinkName>,
        /// Print JSON lines
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Show one with its event, personal data and all
    Show {
        /// Its number
        id: i64,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Have them tried again
    Retry(Which),
    /// Drop them for good
    Drop(Which),
}

#[derive(Debug, Args)]
struct Which {
    /// Their numbers
    #[arg(required_unless_present = "sink", conflicts_with = "sink")]
    ids: Vec<i64>,
    /// All of this sink
    #[arg(long, value_parser = sink_name)]
    sink: Option<SinkName>,
    #[command(flatten)]
    admin: AdminArgs,
}

impl DeadLetters {
    pub(crate) fn run(self) -> Outcome {
        match self.command {
            Command::List { sink, json, admin } => {
                let (client, _) = admin.client()?;
                block_on(list(&client, sink.as_ref(), json))
            }
            Command::Show { id, admin } => {
                let (client, _) = admin.client()?;
                let letter: Box<RawValue> = block_on(client.get(&format!("/api/v1/dead-letters/{id}")))?;
                // What this parser does not take, such as half an emoji or what nests too deep, is shown as it is.
                let pretty = serde_json::from_str(letter.get())
                    .and_then(|letter: Value| serde_json::to_string_pretty(&letter))
                    .unwrap_or_else(|_| letter.get().to_owned());
                print(&(pretty + "\n"))
            }
            Command::Retry(which) => which.tell("retry", "will be tried again"),
            Command::Drop(which) => which.tell("drop", "dropped"),
        }
    }
}

impl Which {
    fn tell(self, verb: &str, done: &str) -> Outcome {
        let (client, _) = self.admin.client()?;
        let letters = self.sink.map_or(Letters::Ids(self.ids), Letters::Sink);
        let Count { count } = block_on(client.post(&format!("/api/v1/dead-letters/{verb}"), &letters))?;
        print(&format!("{count} {done}\n"))
    }
}

/// Page by page, so that any number of them can be listed.
async fn list(client: &AdminClient, sink: Option<&SinkName>, json: bool) -> Outcome {
    let mut after = 0;
    let of_sink = sink.map_or_else(String::new, |sink| format!("&sink={sink}"));
    loop {
        let page: Vec<DeadLetter> = client.get(&format!("/api/v1/dead-letters?after={after}{of_sink}")).await?;
        let Some(last) = page.last() else {
            return if after == 0 && !json { print("there are none\n") } else { Ok(()) };
        };
        if json {
            let lines: Result<Vec<_>, _> = page.iter().map(serde_json::to_string).collect();
            print(&(lines.map_err(|error| Failure::internal(error.to_string()))?.join("\n") + "\n"))?;
        } else {
            print(&rows(&page))?;
        }
        after = last.id;
    }
}

fn rows(letters: &[DeadLetter]) -> String {
    let heading = ["ID", "SINK", "KIND", "RECEIVED", "GIVEN UP", "TRIED", "REASON"].map(str::to_owned).to_vec();
    let rows = letters.iter().map(|letter| {
        vec![
            letter.id.to_string(),
            letter.sink.to_string(),
            letter.kind.clone(),
            rfc3339(letter.received_at),
            rfc3339(letter.died_at),
            letter.attempts.to_string(),
            if letter.retrying { format!("{} (being tried again)", letter.reason) } else { letter.reason.clone() },
        ]
    });
    table(&[heading].into_iter().chain(rows).collect::<Vec<_>>())
}
