//! How a command can end, and the status of each: the only place that knows the numbers (those of sysexits.h).

use std::fmt;
use std::process::ExitCode;

use hooksink::config::ConfigErrors;

/// What a command comes to.
pub(crate) type Outcome = Result<(), Failure>;

/// Why a command failed, as the status says it. Wrong usage (2) is told by the argument parser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The arguments contradict each other or the surroundings.
    Usage,
    /// A port, the journal or a server cannot be used.
    Unavailable,
    /// What should not happen.
    Internal,
    /// The configuration is wrong.
    Configuration,
}

impl Exit {
    /// The number.
    pub(crate) fn status(self) -> u8 {
        match self {
            Self::Usage => 2,
            Self::Unavailable => 69,
            Self::Internal => 70,
            Self::Configuration => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.status().into()
    }
}

/// A failed command.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What the status says.
    pub(crate) exit: Exit,
    message: String,
}

impl Failure {
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into() }
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self { exit: Exit::Unavailable, message: message.into() }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self { exit: Exit::Internal, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        let lines: String = errors.0.iter().map(|error| format!("\n  {error}")).collect();
        Self { exit: Exit::Configuration, message: format!("the configuration is wrong{lines}") }
    }
}
