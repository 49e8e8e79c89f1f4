//! Layers of text become one table, which remembers where each setting comes from.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::errors::{ConfigError, ConfigErrors, Origin};

/// The defaults, which are the documentation too.
pub const DEFAULTS: &str = include_str!("../../config/hooksink.toml");

/// Environment variables that begin with this are settings: `HOOKSINK__SERVER__LISTEN`.
pub const ENVIRONMENT_PREFIX: &str = "HOOKSINK__";

/// Reads a secret's file.
pub type ReadSecret = dyn Fn(&Path) -> io::Result<Vec<u8>> + Send + Sync;

/// Everything a configuration is made of, already read, so that loading is a function of its arguments.
pub struct Inputs<'a> {
    /// The configuration file's name and text.
    pub file: Option<(PathBuf, String)>,
    /// The environment: settings (`HOOKSINK__…`), and what `{ env = "NAME" }` refers to.
    pub environment: BTreeMap<String, String>,
    /// Settings of the command line: a dotted key and its value.
    pub flags: Vec<(String, String)>,
    /// Reads what `{ file = "/path" }` refers to.
    pub read_secret: &'a ReadSecret,
}

/// Where the settings come from, and as which text those of the environment and the command line were given.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    by_key: BTreeMap<String, (Origin, Option<String>)>,
    file: Option<PathBuf>,
}

impl Origins {
    /// Where a setting comes from; a missing one is missing in what its section comes from.
    pub(crate) fn of(&self, key: &str) -> Origin {
        if let Some((origin, _)) = self.by_key.get(key) {
            return origin.clone();
        }
        let mut key = key;
        while let Some((parent, _)) = key.rsplit_once('.') {
            match self.by_key.get(parent) {
                Some((Origin::Defaults, _)) | None => key = parent,
                Some((origin, _)) => return origin.clone(),
            }
        }
        self.file.clone().map_or(Origin::Nowhere, Origin::File)
    }

    /// The text of a setting given by the environment or the command line.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.by_key.get(key)?.1.as_deref()
    }

    fn set(&mut self, key: &str, origin: &Origin, text: Option<&str>) {
        // What stood below the key before has been replaced with it.
        let below = format!("{key}.");
        self.by_key.retain(|other, _| !other.starts_with(&below));
        self.by_key.insert(key.to_owned(), (origin.clone(), text.map(ToOwned::to_owned)));
    }
}

/// The layers, the later over the earlier. Tables are merged, everything else is replaced.
pub(crate) fn merge(inputs: &Inputs<'_>) -> Result<(Table, Origins), ConfigErrors> {
    let mut merged = Table::new();
    let mut origins = Origins { file: inputs.file.as_ref().map(|(path, _)| path.clone()), ..Origins::default() };
    let mut errors = Vec::new();

    let texts = [Some((Origin::Defaults, DEFAULTS))]
        .into_iter()
        .chain([inputs.file.as_ref().map(|(path, text)| (Origin::File(path.clone()), text.as_str()))]);
    for (origin, text) in texts.flatten() {
        match text.parse::<Table>() {
            Ok(table) => overlay(&mut merged, table, "", &origin, None, &mut origins),
            Err(error) => errors.push(ConfigError { origin, key: String::new(), message: located(text, &error) }),
        }
    }

    let environment = inputs.environment.iter().filter_map(|(name, text)| {
        let key = name.strip_prefix(ENVIRONMENT_PREFIX)?.to_lowercase().replace("__", ".");
        Some((Origin::Environment(name.clone()), key, text))
    });
    let flags = inputs.flags.iter().map(|(key, text)| (Origin::Flag, key.clone(), text));
    for (origin, key, text) in environment.chain(flags) {
        if key.split('.').any(str::is_empty) {
            let message = "this names no setting; write it like HOOKSINK__SERVER__LISTEN or server.listen".into();
            errors.push(ConfigError { origin, key: String::new(), message });
            continue;
        }
        let value = key.rsplit('.').fold(value_of(text), |value, part| {
            let mut table = Table::new();
            table.insert(part.to_owned(), value);
            Value::Table(table)
        });
        if let Value::Table(table) = value {
            overlay(&mut merged, table, "", &origin, Some(text), &mut origins);
        }
    }
    if errors.is_empty() { Ok((merged, origins)) } else { Err(ConfigErrors(errors)) }
}

/// TOML where the text is TOML, else the text: `8`, `["a"]` and `{ file = "x" }` need no quotes, and neither does `a`.
fn value_of(text: &str) -> Value {
    // Behind a key, so that a text of several lines cannot set anything else.
    format!("value = {text}")
        .parse::<Table>()
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn overlay(under: &mut Table, over: Table, path: &str, origin: &Origin, text: Option<&str>, origins: &mut Origins) {
    for (name, value) in over {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (under.get_mut(&name), value) {
            (Some(Value::Table(below)), Value::Table(above)) => overlay(below, above, &key, origin, text, origins),
            (_, Value::Table(above)) => {
                let mut below = Table::new();
                origins.set(&key, origin, None);
                overlay(&mut below, above, &key, origin, text, origins);
                under.insert(name, Value::Table(below));
            }
            (_, value) => {
                origins.set(&key, origin, text);
                under.insert(name, value);
            }
        }
    }
}

/// What the parser says, with line and column, and without the line, which may hold a secret.
fn located(text: &str, error: &toml::de::Error) -> String {
    let message = error.message();
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return format!("this is not TOML: {message}");
    };
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}: this is not TOML: {message}")
}
