//! What `type = "log"` is told.

use super::super::reader::{Given, Section};
use super::super::values;

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
    pub(super) fn read(section: &mut Section<'_>) -> Option<Self> {
        fn format(given: &Given<'_>) -> Result<LogSinkFormat, String> {
            values::choice(given, &[("json", LogSinkFormat::Json), ("text", LogSinkFormat::Text)])
        }
        Some(Self {
            format: section.or("format", format, LogSinkFormat::default()),
            reveal: section.or("reveal", values::boolean, false),
        })
    }

    #[expect(clippy::unused_self, reason = "every type has this method")]
    pub(super) fn target(&self) -> String {
        "stdout".into()
    }
}
