//! What is wrong with a configuration, said so that it can be put right: where it stands, which key, what is allowed.

use std::fmt;
use std::path::PathBuf;

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The defaults in the binary.
    Defaults,
    /// A configuration file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// `--set`
    Flag,
    /// Nowhere: the setting is missing, and no file was read.
    Nowhere,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Defaults => f.write_str("built-in defaults"),
            Self::File(path) => path.display().fmt(f),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag => f.write_str("--set"),
            Self::Nowhere => f.write_str("configuration"),
        }
    }
}

/// One thing that is wrong. It never holds a secret, nor a line of the file, which might.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {}{message}", key_prefix(.key))]
pub struct ConfigError {
    /// Where the setting comes from.
    pub origin: Origin,
    /// Its path, such as `sources.messenger.verify_token`; empty where the file as a whole is meant.
    pub key: String,
    /// What is wrong, and what is allowed.
    pub message: String,
}

/// Everything that is wrong, a line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

/// Something that is allowed and yet probably not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The setting it is about.
    pub key: String,
    /// What follows from it, and what to do.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", key_prefix(&self.key), self.message)
    }
}

fn key_prefix(key: &str) -> String {
    if key.is_empty() { String::new() } else { format!("{key}: ") }
}

fn lines(errors: &[ConfigError]) -> String {
    errors.iter().map(ConfigError::to_string).collect::<Vec<_>>().join("\n")
}

/// The one of `allowed` that was probably meant by `given`.
pub(crate) fn suggestion<'a>(given: &str, allowed: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    allowed
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(given, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 5)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_gets_a_suggestion_and_nonsense_none() {
        let allowed = ["listen", "worker_threads", "trusted_proxies"];
        assert_eq!(suggestion("lisen", allowed), Some("listen"));
        assert_eq!(suggestion("truested_proxis", allowed), Some("trusted_proxies"));
        assert_eq!(suggestion("colour", allowed), None);
    }
}
