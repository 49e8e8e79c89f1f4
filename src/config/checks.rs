//! What no section can see alone: contradictions between sections (errors), and settings that are allowed and yet
//! probably not meant (warnings).

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{Config, Engine, SinkKind, SourceConfig};
use crate::event::Kind;
use crate::names::SourceName;
use crate::settings::Reader;
use crate::settings::{Warning, suggestion};

/// Notes contradictions between sections.
pub(super) fn check(config: &Config, reader: &Reader<'_>) {
    let (public, admin) = (config.server.listen, config.admin.listen);
    if public == admin && public.port() != 0 {
        let key = reader.contradicting(["server.listen", "admin.listen"]);
        reader
            .error(key, format!("{admin} would be both server.listen and admin.listen; each needs a port of its own"));
    }
    for (name, source) in &config.sources {
        // The last quarter is for small bodies.
        if source.max_body() > config.server.max_buffered / 4 * 3 {
            let key = format!("sources.{name}.max_body");
            let message =
                "this is more than three quarters of server.max_buffered, so that the largest bodies would never fit";
            reader.error(&key, message);
        }
    }
    // Components, so that "data/./a" and "data/a" are one file.
    let mut files = BTreeMap::new();
    if let Engine::Sqlite(journal) = &config.journal.engine {
        files.insert(journal.path.components().collect::<PathBuf>(), "journal.path".to_owned());
    }
    for (name, sink) in &config.sinks {
        if let SinkKind::File(file) = &sink.kind {
            let key = format!("sinks.{name}.path");
            if let Some(other) = files.insert(file.path.components().collect(), key.clone()) {
                let path = file.path.display();
                reader.error(&key, format!("{path} is written by {other} too; each needs a file of its own"));
            }
        }
    }
}

/// What is allowed and yet probably not meant.
pub(super) fn warnings(config: &Config) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |key: String, message: String| warnings.push(Warning { key, message });
    if config.sources.is_empty() {
        warn("sources".into(), "there is none: nothing can come in".into());
    }
    if config.sinks.is_empty() {
        warn(
            "sinks".into(),
            "there is none: events wait in the journal until there is one with from = \"start\"".into(),
        );
    }
    for (name, source) in &config.sources {
        let auth = source.auth();
        if auth.none {
            warn(format!("sources.{name}.auth"), "\"none\": whoever reaches this source's path can send events".into());
        } else if auth.schemes() == ["address"] {
            warn(
                format!("sources.{name}.allow_addresses"),
                "the address is all that is checked; bodies that are not JSON are refused".into(),
            );
        }
        if auth.allow_sha1 {
            warn(
                format!("sources.{name}.allow_sha1"),
                "SHA-1 is outdated; choose SHA-256 or SHA-512 at the sender".into(),
            );
        }
        match source {
            SourceConfig::WebexConnect(connect) if connect.timezone.is_none() => warn(
                format!("sources.{name}.timezone"),
                "not set: times without a zone are read as UTC, and Webex Connect sends them in the tenant's own"
                    .into(),
            ),
            SourceConfig::Meta(meta) if meta.own_app_ids.is_empty() => warn(
                format!("sources.{name}.own_app_ids"),
                "not set: echoes of what your own app sends have the origin other_app".into(),
            ),
            _ => {}
        }
    }
    let of_journal = match &config.journal.engine {
        Engine::Sqlite(_) => None,
        Engine::Jetstream(own) => own.exposed().map(|exposed| ("journal".to_owned(), exposed)),
    };
    let of_sinks = config.sinks.iter().filter_map(|(name, sink)| Some((format!("sinks.{name}"), sink.kind.exposed()?)));
    for (section, exposed) in of_journal.into_iter().chain(of_sinks) {
        for key in &exposed.keys {
            warn(format!("{section}.{key}"), exposed.message());
        }
    }
    for (name, sink) in &config.sinks {
        let known: Vec<_> = config.sources.keys().map(SourceName::as_str).collect();
        let kinds: Vec<_> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        for (key, patterns, texts) in [("sources", &sink.wants.sources, known), ("kinds", &sink.wants.kinds, kinds)] {
            for pattern in patterns.iter().filter(|pattern| !texts.iter().any(|text| pattern.matches(text))) {
                let meant = match suggestion(pattern.as_str(), texts.iter().copied()) {
                    Some(meant) => format!("did you mean {meant:?}?"),
                    None => format!("there are {}", texts.join(", ")),
                };
                let message = format!("{:?} fits nothing; {meant}", pattern.as_str());
                warn(format!("sinks.{name}.{key}"), message);
            }
        }
    }
    warnings
}
