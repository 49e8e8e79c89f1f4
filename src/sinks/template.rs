//! Names of topics, subjects, streams, … that are made of an event: `hooks.{source}.{kind}`.

use std::borrow::Cow;

use crate::event::{Kind, Record};
use crate::names::SourceType;

/// A text with `{source}` (the name of the source), `{sourcetype}` (`meta` or `webex-connect`) and `{kind}` (such as
/// `meta.message_echo`) in it. Nothing of a person can be part of it: there would be a topic for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Source,
    SourceType,
    Kind,
}

/// The names that may stand in braces.
const NAMES: &str = "{source}, {sourcetype} or {kind}";

/// As long as the name of a source can be.
const LONGEST_SOURCE: &str = "s-23456789_123456789_123456789_12";

/// Bytes that most texts have at most.
const FILLED: usize = 64;

impl Template {
    /// The template of this text.
    ///
    /// # Errors
    /// A brace that is not part of a known name; the text says what is allowed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            let name = from.strip_prefix('{').and_then(|from| from.split_once('}'));
            let (part, after) = match name {
                Some(("source", after)) => (Part::Source, after),
                Some(("sourcetype", after)) => (Part::SourceType, after),
                Some(("kind", after)) => (Part::Kind, after),
                Some((name, _)) => return Err(format!("{{{name}}} is not known; in braces stand {NAMES}")),
                None => return Err(format!("a brace stands alone; in braces stand {NAMES}")),
            };
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            parts.push(part);
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The template as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether every event has the same name.
    pub fn is_constant(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// The name for this event.
    pub fn render(&self, record: &Record) -> Cow<'_, str> {
        match &self.parts[..] {
            [] => Cow::Borrowed(""),
            [Part::Text(text)] => Cow::Borrowed(text),
            _ => Cow::Owned(self.fill(record.source.as_str(), record.source_type, record.kind)),
        }
    }

    /// A name as long as one can become, for whoever has to know whether all can be used.
    pub fn longest(&self) -> String {
        let length = |kind: &&Kind| kind.as_str().len();
        let kind = Kind::ALL.iter().max_by_key(length).copied().unwrap_or(Kind::MetaUnrecognized);
        self.fill(LONGEST_SOURCE, SourceType::WebexConnect, kind)
    }

    /// The name for a made-up event, for whoever asks a target whether it would take such.
    pub fn sample(&self) -> String {
        self.fill("check", SourceType::Meta, Kind::MetaMessageEcho)
    }

    fn fill(&self, source: &str, source_type: SourceType, kind: Kind) -> String {
        let mut filled = String::with_capacity(FILLED);
        for part in &self.parts {
            filled.push_str(match part {
                Part::Text(text) => text,
                Part::Source => source,
                Part::SourceType => source_type.as_str(),
                Part::Kind => kind.as_str(),
            });
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in() {
        let fill = |text: &str| {
            let template = Template::parse(text).unwrap();
            template.fill("messenger", SourceType::Meta, Kind::MetaMessageEcho)
        };
        for (text, expected) in [
            ("hooks.{source}.{kind}", "hooks.messenger.meta.message_echo"),
            ("{sourcetype}", "meta"),
            ("{kind}{kind}", "meta.message_echometa.message_echo"),
            ("all", "all"),
            ("", ""),
        ] {
            assert_eq!(fill(text), expected);
        }
        assert!(Template::parse("all").unwrap().is_constant());
        assert!(!Template::parse("all-{kind}").unwrap().is_constant());
        assert!(Template::parse("{source}").unwrap().longest().len() >= 32);
    }

    #[test]
    fn what_is_not_known_is_said() {
        for (text, expected) in [
            ("a.{subject}", "{subject} is not known; in braces stand {source}, {sourcetype} or {kind}"),
            ("a.{", "a brace stands alone; in braces stand {source}, {sourcetype} or {kind}"),
            ("a}", "a brace stands alone; in braces stand {source}, {sourcetype} or {kind}"),
            ("{}", "{} is not known; in braces stand {source}, {sourcetype} or {kind}"),
        ] {
            assert_eq!(Template::parse(text).unwrap_err(), expected);
        }
    }
}
