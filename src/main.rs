//! hooksink: arguments, then the subcommand, then the status.

mod cli;

use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // TLS towards sinks and servers.
    hooksink::remote::tls::use_ring();
    let outcome = cli::Cli::parse().run();
    cli::telemetry::flush();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("hooksink: {}", cli::visible(&failure.to_string()));
            failure.exit.into()
        }
    }
}
