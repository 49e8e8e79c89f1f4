//! `check --connect`: reaches every target, proves the right to deliver as far as that leaves nothing behind, and says
//! which events would be too large for it.

use std::sync::Arc;

use bytesize::ByteSize;
use hooksink::config::{Config, SinkConfig};
use hooksink::names::SinkName;
use hooksink::sinks::{Checked, Sink};
use tokio::task::JoinSet;

use super::super::block_on;
use super::super::exit::{Failure, Outcome};
use super::super::output::print;

/// How many times as large as what came an event may be when it is sent: its typed form, and its raw form within it.
const AS_SENT: u64 = 4;

/// Prints a line for each sink, in the order of their names.
pub(super) fn connect(config: &Config) -> Outcome {
    let (lines, failed) = block_on(async {
        let mut checks = JoinSet::new();
        for (name, sink) in &config.sinks {
            // The key is the journal's, and covers what a `log` sink shows; nothing is shown here.
            let made = sink.kind.build(name, [0; 32]).map_err(|error| error.to_string());
            let name = name.clone();
            checks.spawn(async move {
                let checked = match made {
                    Ok(sink) => check(sink).await,
                    Err(error) => Err(error),
                };
                (name, checked)
            });
        }
        let mut checked = checks.join_all().await;
        checked.sort_by(|(one, _), (other, _)| one.cmp(other));
        let failed = checked.iter().filter(|(_, result)| result.is_err()).count();
        let lines: String = checked
            .into_iter()
            .flat_map(|(name, result)| lines(config, &name, result))
            .map(|line| line + "\n")
            .collect();
        Ok((lines, failed))
    })?;
    print(&lines)?;
    match failed {
        0 => Ok(()),
        1 => Err(Failure::unavailable("a sink cannot be delivered to")),
        several => Err(Failure::unavailable(format!("{several} sinks cannot be delivered to"))),
    }
}

async fn check(sink: Arc<dyn Sink>) -> Result<Checked, String> {
    let timeout = sink.limits().timeout;
    match tokio::time::timeout(timeout, sink.check()).await {
        Ok(checked) => checked.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no result within {timeout:?}")),
    }
}

fn lines(config: &Config, name: &SinkName, result: Result<Checked, String>) -> Vec<String> {
    match result {
        Err(error) => vec![format!("sink {name}: FAILED, {error}")],
        Ok(Checked { found, warnings, max_event_bytes }) => {
            let mut lines = vec![format!("sink {name}: ok, {found}")];
            lines.extend(warnings.into_iter().map(|warning| format!("warning: sinks.{name}: {warning}")));
            if let (Some(most), Some(sink)) = (max_event_bytes, config.sinks.get(name)) {
                lines.extend(too_large(config, name, sink, most));
            }
            lines
        }
    }
}

/// The sources that take larger bodies than the target takes events: such an event would end as a dead letter.
fn too_large(config: &Config, name: &SinkName, sink: &SinkConfig, most: u64) -> Vec<String> {
    let wanted = config.sources.iter().filter(|(source, _)| sink.wants.wants_source(source));
    let larger = wanted.filter(|(_, source)| source.max_body().saturating_mul(AS_SENT) > most);
    let line = |source: &str, max_body: u64| {
        format!(
            "warning: sinks.{name}: the target takes events of {} at most, and sources.{source}.max_body is {}, of which \
             an event as it is sent may be up to {AS_SENT} times: larger ones become dead letters",
            ByteSize(most),
            ByteSize(max_body)
        )
    };
    larger.map(|(source_name, source)| line(source_name.as_str(), source.max_body())).collect()
}
