//! Routing: which records a sink wants, by source and by kind, with `*`.

use serde::{Deserialize, Serialize};

use crate::event::{Kind, Record};
use crate::names::SourceName;

/// A text in which each `*` stands for any run of characters: `webex_connect.*`, `*`, `meta.message_echo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pattern(String);

impl Pattern {
    /// The pattern of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the whole of `text` fits.
    pub fn matches(&self, text: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|prefix| text.strip_prefix(prefix)) else {
            return false;
        };
        let parts: Vec<&str> = parts.collect();
        let Some((suffix, middle)) = parts.split_last() else {
            return rest.is_empty();
        };
        for part in middle {
            match rest.find(part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        rest.ends_with(suffix)
    }
}

/// What a sink wants. An empty list means all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Patterns of source names.
    pub sources: Vec<Pattern>,
    /// Patterns of kinds.
    pub kinds: Vec<Pattern>,
}

impl Filter {
    /// Whether events of this source and kind are wanted.
    pub fn wants(&self, source: &SourceName, kind: Kind) -> bool {
        self.wants_source(source) && any(&self.kinds, kind.as_str())
    }

    /// Whether events of some kind of this source are wanted.
    pub fn wants_source(&self, source: &SourceName) -> bool {
        any(&self.sources, source.as_str())
    }

    /// Whether this record is wanted.
    pub fn matches(&self, record: &Record) -> bool {
        self.wants(&record.source, record.kind)
    }
}

/// Whether a text fits one of the patterns, or there is none.
fn any(patterns: &[Pattern], text: &str) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("*", "meta.read", true),
            ("meta.*", "meta.read", true),
            ("meta.*", "webex_connect.message", false),
            ("*.message", "webex_connect.message", true),
            ("*.message", "meta.message_echo", false),
            ("meta.*_*", "meta.message_echo", true),
            ("meta.read", "meta.read", true),
            ("meta.read", "meta.reads", false),
            ("a*a", "a", false),
            ("a*b*c", "axbxc", true),
            ("a*b*c", "axc", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(text), fits, "{pattern} {text}");
        }
    }
}
