//! Diagnostics on stderr.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use hooksink::config::{LogConfig, LogFormat};
use tracing_subscriber::EnvFilter;

use super::exit::{Failure, Outcome};
use super::log_lines::LogLines;

static LINES: OnceLock<LogLines> = OnceLock::new();

/// Writes the diagnostics that still wait. To be called before the process ends.
pub(crate) fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush_all();
    }
}

/// What is left out unless `log.level` asks for it: libraries that say at each attempt what the sink says once, when it is
/// down for it.
const SILENT: &str = "rustls_platform_verifier=off,async_nats=off";

/// What is left out whatever is asked for: it warns of a message that came back with all that is in it.
const NEVER: &str = "lapin=off";

/// Starts diagnostics as configured; `RUST_LOG` ranks above `log.level`.
pub(crate) fn start(config: &LogConfig) -> Outcome {
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(text) if !text.is_empty() => format!("{text},{NEVER}")
            .parse()
            .map_err(|error| Failure::usage(format!("RUST_LOG is no filter: {error}")))?,
        _ => EnvFilter::new(format!("{SILENT},{},{NEVER}", config.level)),
    };
    let writer = LogLines::to(io::stderr())
        .map_err(|error| Failure::internal(format!("the thread that writes diagnostics cannot start: {error}")))?;
    let writer = LINES.get_or_init(|| writer).clone();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let started = match config.format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().with_current_span(false).with_span_list(false).try_init(),
    };
    started.map_err(|error| Failure::internal(format!("diagnostics cannot start: {error}")))?;
    // A panic's own message may quote what it choked on, and with it a person's words; its place says enough.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, "a task panicked, which is a defect of hooksink; the request or call it served failed");
    }));
    Ok(())
}
