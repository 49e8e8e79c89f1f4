//! `check`: what would run, and with `--connect` whether it can.

mod connect;

use std::fmt::Write as _;
use std::path::Path;

use bytesize::ByteSize;
use clap::Args;
use hooksink::config::{Config, Engine, SinkConfig, Warning};
use hooksink::filter::Pattern;

use super::config_args::ConfigArgs;
use super::exit::Outcome;
use super::output::{print, table};

/// Say what would run, or everything that is wrong with the configuration; never a secret
#[derive(Debug, Args)]
pub(crate) struct Check {
    #[command(flatten)]
    config: ConfigArgs,

    /// Reach every sink's target too, and prove the right to deliver, without delivering anything
    #[arg(long)]
    connect: bool,
}

impl Check {
    pub(crate) fn run(self) -> Outcome {
        let loaded = self.config.load()?;
        let file = self.config.file().map_or_else(|| "none, defaults only".into(), |path| path.display().to_string());
        let mut warnings = loaded.warnings;
        warnings.extend(too_little_space(&loaded.config));
        print(&report(&file, &loaded.config, &warnings))?;
        if self.connect { connect::connect(&loaded.config) } else { Ok(()) }
    }
}

fn report(file: &str, config: &Config, warnings: &[Warning]) -> String {
    let mut text = String::new();
    let cells = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
    let admin = if config.admin.token.is_empty() { "no token" } else { "token asked for" };
    let journal = &config.journal;
    let place = match &journal.engine {
        Engine::Sqlite(file) => file.path.display().to_string(),
        Engine::Jetstream(nats) => format!("JetStream {} at {}", nats.stream, nats.addresses()),
    };
    let kept = format!(
        "{place}, kept {}, at most {}",
        humantime::format_duration(journal.retention),
        ByteSize(journal.max_size)
    );
    text += &table(&[
        cells(&["configuration", file]),
        cells(&["public", &format!("http://{}", config.server.listen)]),
        cells(&["admin", &format!("http://{}, {admin}", config.admin.listen)]),
        cells(&["journal", &kept]),
    ]);

    let sources = config.sources.iter().map(|(name, source)| {
        let schemes = match source.auth().schemes().join(" and ") {
            none if none.is_empty() => "no authentication".into(),
            schemes => schemes,
        };
        let path = format!("{}/webhooks/{name}", config.server.public_url_prefix);
        vec![format!("source {name}"), source.source_type().to_string(), path, schemes]
    });
    let sinks = config.sinks.iter().map(|(name, sink)| {
        vec![format!("sink {name}"), sink.kind.type_name().into(), sink.kind.target(), wants(sink)]
    });
    let parts: Vec<_> = sources.chain(sinks).collect();
    text += &table(&parts);

    for warning in warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    text + "the configuration is valid\n"
}

fn wants(sink: &SinkConfig) -> String {
    let list = |patterns: &[Pattern]| patterns.iter().map(Pattern::as_str).collect::<Vec<_>>().join(", ");
    match (list(&sink.wants.kinds), list(&sink.wants.sources)) {
        (kinds, sources) if kinds.is_empty() && sources.is_empty() => "every event".into(),
        (kinds, sources) if sources.is_empty() => kinds,
        (kinds, sources) if kinds.is_empty() => format!("every event from {sources}"),
        (kinds, sources) => format!("{kinds} from {sources}"),
    }
}

/// The journal may grow to more than the disk has room for.
pub(crate) fn too_little_space(config: &Config) -> Option<Warning> {
    let journal = &config.journal;
    let Engine::Sqlite(file) = &journal.engine else { return None };
    // The folder is made at start: what exists above it is on the same disk, as far as can be told now.
    let existing =
        file.path.ancestors().skip(1).map(|path| if path.as_os_str().is_empty() { Path::new(".") } else { path });
    let disk = existing.filter(|path| path.exists()).find_map(|path| rustix::fs::statvfs(path).ok())?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let held = std::fs::metadata(&file.path).map_or(0, |file| file.len());
    let room = free.saturating_add(held).saturating_sub(file.disk_reserve);
    (journal.max_size > room).then(|| Warning {
        key: "journal.max_size".into(),
        message: format!(
            "{} is more than the disk has room for ({} beside disk_reserve): requests are answered 503 before the \
             journal is full, and retention by size never begins",
            ByteSize(journal.max_size),
            ByteSize(room)
        ),
    })
}
