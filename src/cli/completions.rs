use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use super::exit::Outcome;
use super::output::print;

/// Print completions for a shell
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "hooksink", &mut script);
        print(&String::from_utf8_lossy(&script))
    }
}
