//! What `type = "log"` is told.

use std::sync::Arc;

use super::super::{BoxError, Sink};
use super::LogSink;
use crate::names::SinkName;
use crate::remote::Exposed;
use crate::settings::values;
use crate::settings::{Given, Section};

/// `type = "log"`: events to stdout.
#[derive(Debug, Clone)]
pub struct LogSinkConfig {
    /// `format`: JSON lines or a readable line.
    pub format: LogSinkFormat,
    /// `reveal`: whether personal data is shown as it is.
    pub reveal: bool,
}

/// The form of the `log` sink's lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogSinkFormat {
    /// A CloudEvent a line.
    #[default]
    Json,
    /// A line for people.
    Text,
}

impl LogSinkConfig {
    pub(crate) fn read(section: &mut Section<'_>) -> Option<Self> {
        fn format(given: &Given<'_>) -> Result<LogSinkFormat, String> {
            values::choice(given, &[("json", LogSinkFormat::Json), ("text", LogSinkFormat::Text)])
        }
        Some(Self {
            format: section.or("format", format, LogSinkFormat::default()),
            reveal: section.or("reveal", values::boolean, false),
        })
    }

    #[expect(clippy::unused_self, reason = "every type has this method")]
    pub(crate) fn target(&self) -> String {
        "stdout".into()
    }

    #[expect(clippy::unused_self, reason = "every type has this method")]
    pub(crate) fn exposed(&self) -> Option<Exposed> {
        None
    }

    pub(crate) fn build(&self, name: &SinkName, key: [u8; 32]) -> Result<Arc<dyn Sink>, BoxError> {
        Ok(Arc::new(LogSink::stdout(name, self, key)?))
    }
}
