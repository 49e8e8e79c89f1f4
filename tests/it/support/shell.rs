//! The real binary as a command: its arguments, its environment, its output and its status.

use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A folder of its own, and the binary in it with an empty environment.
pub(crate) struct Shell {
    folder: TempDir,
    environment: Vec<(String, String)>,
}

impl Shell {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), environment: Vec::new() }
    }

    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        std::fs::write(self.path().join(name), text).unwrap();
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn run(&self, arguments: &str) -> Ran {
        let environment: Vec<_> =
            self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        run_in(self.path(), arguments, &environment)
    }
}

/// Runs the binary in a folder, with these environment variables and no others; a later one replaces an earlier.
pub(crate) fn run_in(folder: &Path, arguments: &str, environment: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hooksink"));
    command.args(arguments.split_whitespace()).current_dir(folder).env_clear().envs(environment.iter().copied());
    Ran(command.output().unwrap())
}

pub(crate) struct Ran(Output);

impl Ran {
    pub(crate) fn out(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    pub(crate) fn err(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    #[track_caller]
    pub(crate) fn status(self, status: i32) -> Self {
        assert_eq!(self.0.status.code(), Some(status), "{}{}", self.out(), self.err());
        self
    }
}
