use crate::settings::values;
use crate::settings::{Given, Section};

/// `[log]`: diagnostics on stderr.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// Text or JSON.
    pub format: LogFormat,
    /// A tracing filter such as "info" or "hooksink=debug"; `RUST_LOG` ranks above it.
    pub level: String,
    /// Lines a second for requests of one outcome at one source; further ones are counted and said in one line.
    pub request_lines: u32,
}

/// The form of diagnostics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// A readable line.
    Text,
    /// A JSON object a line.
    Json,
}

impl LogConfig {
    pub(super) fn read(mut section: Section<'_>) -> Option<Self> {
        let format = section
            .required("format", |given| values::choice(given, &[("text", LogFormat::Text), ("json", LogFormat::Json)]));
        let level = section.required("level", level);
        let request_lines = section.required("request_lines", values::number::<_, 0, 1_000_000>);
        section.finish();
        Some(Self { format: format?, level: level?, request_lines: request_lines? })
    }
}

fn level(given: &Given<'_>) -> Result<String, String> {
    let text = values::text(given)?;
    match text.parse::<tracing_subscriber::filter::EnvFilter>() {
        Ok(_) => Ok(text),
        Err(_) => Err(format!(
            "{text:?} is no level; write \"error\", \"warn\", \"info\", \"debug\" or \"trace\", or a filter like \"info,hooksink::dispatch=debug\""
        )),
    }
}
