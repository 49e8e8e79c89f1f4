use clap::{Args, ValueEnum};
use hooksink::config::DEFAULTS;
use hooksink::event::{Kind, event_schema};

use super::exit::{Failure, Outcome};
use super::output::print;

/// Print what sinks receive as a JSON Schema, the kinds of event, or every setting
#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// Of what
    what: What,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum What {
    /// The JSON Schema (2020-12) of the CloudEvents that sinks receive
    Events,
    /// The kinds of event, one a line
    Kinds,
    /// Every setting with unit, default and reason: the documented defaults as a TOML file
    Config,
}

impl Schema {
    pub(crate) fn run(self) -> Outcome {
        match self.what {
            What::Events => {
                let schema = serde_json::to_string_pretty(&event_schema());
                print(&(schema.map_err(|error| Failure::internal(error.to_string()))? + "\n"))
            }
            What::Kinds => print(&Kind::ALL.iter().map(|kind| format!("{kind}\n")).collect::<String>()),
            What::Config => print(DEFAULTS),
        }
    }
}
