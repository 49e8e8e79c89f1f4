use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use clap::Args;
use hooksink::filter::Pattern;
use hooksink::journal::{ReplayProgress, ReplayRequest};
use hooksink::names::SinkName;

use super::admin_client::AdminArgs;
use super::block_on;
use super::exit::Outcome;
use super::output::print;
use super::sinks::sink_name;

/// How often progress is asked for.
const INTERVAL: Duration = Duration::from_millis(500);

/// Have a running server hand stored events to a sink once more, with the same ids
#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// To which sink
    #[arg(long, value_parser = sink_name)]
    sink: SinkName,

    /// Received at or after: 2026-09-14T09:30:00Z, 2026-09-14, or how long ago: 2h
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: DateTime<Utc>,

    /// Received before [default: now]
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<DateTime<Utc>>,

    /// Only these kinds, * stands for any run of characters: meta.message_echo,webex_connect.* [default: what the sink
    /// wants anyway]
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    kinds: Vec<String>,

    /// Start it and do not wait
    #[arg(long)]
    detach: bool,

    #[command(flatten)]
    admin: AdminArgs,
}

fn time(text: &str) -> Result<DateTime<Utc>, String> {
    time_at(text, Utc::now())
}

fn time_at(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = text.parse::<DateTime<Utc>>() {
        return Ok(time);
    }
    if let Some(midnight) = text.parse::<NaiveDate>().ok().and_then(|date| date.and_hms_opt(0, 0, 0)) {
        return Ok(midnight.and_utc());
    }
    let ago = humantime::parse_duration(text).ok().and_then(|ago| chrono::TimeDelta::from_std(ago).ok());
    ago.and_then(|ago| now.checked_sub_signed(ago))
        .ok_or_else(|| "write it like 2026-09-14T09:30:00Z, 2026-09-14, or 2h for two hours ago".into())
}

impl Replay {
    pub(crate) fn run(self) -> Outcome {
        let (client, _) = self.admin.client()?;
        let request = ReplayRequest {
            sink: self.sink,
            from: self.from,
            to: self.to,
            kinds: self.kinds.into_iter().map(Pattern::new).collect(),
        };
        block_on(async {
            let mut progress: ReplayProgress = client.post("/api/v1/replays", &request).await?;
            let id = progress.id;
            if self.detach {
                return print(&format!("replay {id} has started\n"));
            }
            let mut told = None;
            loop {
                let now = (progress.done, progress.delivered, progress.finished);
                if told.replace(now) != Some(now) {
                    let ReplayProgress { done, total, delivered, .. } = progress;
                    let end = if progress.finished { ", finished" } else { "" };
                    print(&format!("replay {id}: {done} of {total} looked at, {delivered} delivered{end}\n"))?;
                }
                if progress.finished {
                    return Ok(());
                }
                tokio::time::sleep(INTERVAL).await;
                progress = client.get(&format!("/api/v1/replays/{id}")).await?;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_points_or_ages() {
        let now = "2026-09-15T10:00:00Z".parse().unwrap();
        for (text, time) in [
            ("2026-09-14", "2026-09-14T00:00:00+00:00"),
            ("2026-09-14T09:30:00+02:00", "2026-09-14T07:30:00+00:00"),
            ("2h", "2026-09-15T08:00:00+00:00"),
            ("1d 1h", "2026-09-14T09:00:00+00:00"),
        ] {
            assert_eq!(time_at(text, now).unwrap().to_rfc3339(), time, "{text}");
        }
        assert!(time_at("yesterday", now).is_err());
    }
}
