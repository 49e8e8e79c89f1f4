use clap::{Args, Subcommand};
use hooksink::admin::{Count, Rename};
use hooksink::journal::SinkStatus;
use hooksink::names::SinkName;

use super::admin_client::AdminArgs;
use super::block_on;
use super::exit::{Failure, Outcome};
use super::output::{print, table};

/// See how far the sinks of a running server are; forget or rename one that left the configuration
#[derive(Debug, Args)]
pub(crate) struct Sinks {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the sinks that the journal knows
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Forget a sink that left the configuration, and everything it is owed
    Forget {
        /// The sink
        #[arg(value_parser = sink_name)]
        name: SinkName,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Hand the place of a sink that left the configuration to another name
    Rename {
        /// The name it had
        #[arg(value_parser = sink_name)]
        old: SinkName,
        /// The name it has now
        #[arg(value_parser = sink_name)]
        new: SinkName,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// A sink's name, as an argument.
pub(crate) fn sink_name(text: &str) -> Result<SinkName, String> {
    text.parse().map_err(|error: hooksink::names::InvalidName| error.to_string())
}

impl Sinks {
    pub(crate) fn run(self) -> Outcome {
        match self.command {
            Command::List { json, admin } => {
                let (client, _) = admin.client()?;
                let sinks: Vec<SinkStatus> = block_on(client.get("/api/v1/sinks"))?;
                if json {
                    let text =
                        serde_json::to_string_pretty(&sinks).map_err(|error| Failure::internal(error.to_string()))?;
                    return print(&(text + "\n"));
                }
                print(&list(&sinks))
            }
            Command::Forget { name, admin } => {
                let (client, _) = admin.client()?;
                let _: Count = block_on(client.delete(&format!("/api/v1/sinks/{name}")))?;
                print(&format!("{name} is forgotten\n"))
            }
            Command::Rename { old, new, admin } => {
                let (client, _) = admin.client()?;
                let rename = Rename { to: new.clone() };
                let _: Count = block_on(client.post(&format!("/api/v1/sinks/{old}/rename"), &rename))?;
                print(&format!("{new} goes on where {old} was\n"))
            }
        }
    }
}

fn list(sinks: &[SinkStatus]) -> String {
    let heading =
        ["SINK", "CURSOR", "BEHIND", "PARKED", "DEAD", "SKIPPED", "OLDEST UNSENT", ""].map(str::to_owned).to_vec();
    let rows = sinks.iter().map(|sink| {
        vec![
            sink.sink.to_string(),
            sink.cursor.to_string(),
            sink.lag_events.to_string(),
            sink.parked.to_string(),
            sink.dead_letters.to_string(),
            sink.skipped.to_string(),
            sink.oldest_unsent.map_or_else(|| "-".into(), hooksink::event::cloud_event::rfc3339),
            if sink.configured { String::new() } else { "not in the configuration".into() },
        ]
    });
    table(&[heading].into_iter().chain(rows).collect::<Vec<_>>())
}
