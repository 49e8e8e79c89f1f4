//! The command line: one file a subcommand, each with its arguments and `run`.

mod admin_client;
mod check;
mod completions;
mod config_args;
mod console;
mod dead_letters;
mod demo;
mod exit;
mod fresh;
mod healthcheck;
mod journal;
mod log_lines;
mod output;
mod post;
mod replay;
mod samples;
mod schema;
mod send;
mod serve;
mod sinks;
pub(crate) mod telemetry;

pub(crate) use output::visible;

use clap::{Parser, Subcommand};
use exit::Outcome;

/// Receives webhooks from Webex Connect and Meta Messenger, keeps each on disk before it answers, and hands them on.
#[derive(Debug, Parser)]
#[command(version, propagate_version = false, max_term_width = 100, arg_required_else_help = true)]
#[command(
    after_help = "Exit status: 0 done, 2 wrong usage, 69 unavailable (port, journal, server), 70 internal error, \
                        78 wrong configuration."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Demo(demo::Demo),
    Check(check::Check),
    Send(send::Send),
    Schema(schema::Schema),
    Healthcheck(healthcheck::Healthcheck),
    DeadLetters(dead_letters::DeadLetters),
    Replay(replay::Replay),
    Sinks(sinks::Sinks),
    Journal(journal::Journal),
    Completions(completions::Completions),
}

impl Cli {
    /// Does what was asked for.
    pub(crate) fn run(self) -> Outcome {
        match self.command {
            Command::Serve(command) => command.run(),
            Command::Demo(command) => command.run(),
            Command::Check(command) => command.run(),
            Command::Send(command) => command.run(),
            Command::Schema(command) => command.run(),
            Command::Healthcheck(command) => command.run(),
            Command::DeadLetters(command) => command.run(),
            Command::Replay(command) => command.run(),
            Command::Sinks(command) => command.run(),
            Command::Journal(command) => command.run(),
            Command::Completions(command) => command.run(),
        }
    }
}

/// Runs a subcommand that waits for one thing at a time.
fn block_on<T>(future: impl Future<Output = Result<T, exit::Failure>>) -> Result<T, exit::Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| exit::Failure::internal(format!("cannot start: {error}")))?.block_on(future)
}
