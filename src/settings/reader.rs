//! Reads settings out of the merged table. Which keys a section accepts is never written down twice: they are those
//! that were asked for.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::errors::{ConfigError, Origin, suggestion};
use super::layers::{Inputs, Origins};
use super::secrets;
use crate::secret::Secrets;

/// What is gathered while a configuration is read.
pub(crate) struct Reader<'a> {
    pub(crate) inputs: &'a Inputs<'a>,
    pub(crate) origins: &'a Origins,
    errors: RefCell<Vec<ConfigError>>,
    secrets: RefCell<BTreeMap<String, Secrets>>,
    asked: RefCell<BTreeSet<String>>,
}

/// What a reading leaves behind.
#[derive(Default)]
pub(crate) struct Gathered {
    /// Everything that is wrong.
    pub(crate) errors: Vec<ConfigError>,
    /// The live secrets by key.
    pub(crate) secrets: BTreeMap<String, Secrets>,
    /// Every key that was asked for, set or not.
    #[cfg_attr(not(test), expect(dead_code, reason = "a test compares it with config/hooksink.toml"))]
    pub(crate) asked: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(inputs: &'a Inputs<'a>, origins: &'a Origins) -> Self {
        Self { inputs, origins, errors: RefCell::default(), secrets: RefCell::default(), asked: RefCell::default() }
    }

    pub(crate) fn finish(self) -> Gathered {
        Gathered {
            errors: self.errors.into_inner(),
            secrets: self.secrets.into_inner(),
            asked: self.asked.into_inner(),
        }
    }

    /// The one of two contradicting keys to name: the one that is not a default.
    pub(crate) fn contradicting<'k>(&self, keys: [&'k str; 2]) -> &'k str {
        if self.origins.of(keys[0]) == Origin::Defaults { keys[1] } else { keys[0] }
    }

    /// Notes something that is wrong with `key`.
    pub(crate) fn error(&self, key: &str, message: impl Into<String>) {
        let error = ConfigError { origin: self.origins.of(key), key: key.to_owned(), message: message.into() };
        self.errors.borrow_mut().push(error);
    }
}

/// A setting's value, and its text where it was given by the environment or the command line.
pub(crate) struct Given<'a> {
    pub(crate) value: &'a Value,
    raw: Option<&'a str>,
}

impl<'a> Given<'a> {
    /// An item of a list.
    pub(crate) fn item(value: &'a Value) -> Self {
        Self { value, raw: None }
    }

    /// The value as text: a string, or whatever the environment gave, so that `TOKEN=123` is text too.
    pub(crate) fn text(&self) -> Option<&'a str> {
        match self.value {
            Value::String(text) => Some(text),
            Value::Table(_) | Value::Array(_) => None,
            _ => self.raw,
        }
    }
}

/// A table of settings. What is asked for is accepted; `finish` makes errors of the rest.
pub(crate) struct Section<'a> {
    pub(crate) reader: &'a Reader<'a>,
    pub(crate) path: String,
    table: &'a Table,
    asked: Vec<&'static str>,
    passed: Vec<&'a str>,
}

/// What can be made of a value; the error says what is allowed.
pub(crate) type Parse<T> = fn(&Given<'_>) -> Result<T, String>;

impl<'a> Section<'a> {
    /// The table at `path`; something else there is an error and read as an empty table.
    pub(crate) fn new(reader: &'a Reader<'a>, path: String, value: Option<&'a Value>) -> Self {
        static EMPTY: std::sync::LazyLock<Table> = std::sync::LazyLock::new(Table::new);
        let table = match value {
            Some(Value::Table(table)) => table,
            Some(_) => {
                reader.error(&path, "this must be a table of settings");
                &*EMPTY
            }
            None => &*EMPTY,
        };
        Self { reader, path, table, asked: Vec::new(), passed: Vec::new() }
    }

    /// The path of a key of this section; that of the section for "".
    pub(crate) fn key(&self, key: &str) -> String {
        match (self.path.as_str(), key) {
            ("", key) => key.to_owned(),
            (path, "") => path.to_owned(),
            (path, key) => format!("{path}.{key}"),
        }
    }

    /// Notes something that is wrong with a key of this section.
    pub(crate) fn error(&self, key: &str, message: impl Into<String>) {
        self.reader.error(&self.key(key), message);
    }

    /// Has `finish` pass over a key that has got its own error.
    pub(crate) fn pass_over(&mut self, key: &'a str) {
        self.passed.push(key);
    }

    /// The value of a key as it stands there.
    pub(crate) fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.asked.push(key);
        self.reader.asked.borrow_mut().insert(self.key(key));
        self.table.get(key)
    }

    /// The section at a key.
    pub(crate) fn section(&mut self, key: &'static str) -> Section<'a> {
        let value = self.value(key);
        Section::new(self.reader, self.key(key), value)
    }

    /// The sections of a table whose names the user chooses.
    pub(crate) fn named(&mut self, key: &'static str) -> Vec<(&'a str, Section<'a>)> {
        let Section { table, path, reader, .. } = self.section(key);
        let section = |(name, value)| {
            let name: &String = name;
            (name.as_str(), Section::new(reader, format!("{path}.{name}"), Some(value)))
        };
        table.iter().map(section).collect()
    }

    /// Entries of a table whose names the user chooses.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
        self.table.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// A setting that may be missing.
    pub(crate) fn optional<T>(&mut self, key: &'static str, parse: Parse<T>) -> Option<T> {
        let value = self.value(key)?;
        let path = self.key(key);
        let given = Given { value, raw: self.reader.origins.text(&path) };
        parse(&given).map_err(|message| self.reader.error(&path, message)).ok()
    }

    /// A setting with a default.
    pub(crate) fn or<T>(&mut self, key: &'static str, parse: Parse<T>, default: T) -> T {
        self.optional(key, parse).unwrap_or(default)
    }

    /// A setting that must be there. `None` where it is not, or is wrong; either has been noted.
    pub(crate) fn required<T>(&mut self, key: &'static str, parse: Parse<T>) -> Option<T> {
        if !self.table.contains_key(key) {
            self.error(key, "this must be set");
        }
        self.optional(key, parse)
    }

    /// Whether a key is set.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// One secret or several; empty where the key is not set.
    pub(crate) fn secrets(&mut self, key: &'static str, check: secrets::Check) -> Secrets {
        let Some(value) = self.value(key) else { return Secrets::default() };
        self.secret_value(key, value, check)
    }

    /// The secrets in the value of a key that may be of the user's choosing.
    pub(crate) fn secret_value(&self, key: &str, value: &Value, check: secrets::Check) -> Secrets {
        let path = self.key(key);
        let resolved = secrets::resolve(self.reader, &path, value, check);
        self.reader.secrets.borrow_mut().insert(path, resolved.clone());
        resolved
    }

    /// Makes an error of each key that was not asked for.
    pub(crate) fn finish(self) {
        for key in self.table.keys().map(String::as_str) {
            if self.asked.contains(&key) || self.passed.contains(&key) {
                continue;
            }
            let allowed = self.asked.join(", ");
            let meant = match suggestion(key, self.asked.iter().copied()) {
                Some(meant) => format!("did you mean \"{meant}\"? "),
                None => String::new(),
            };
            self.error(key, format!("unknown key; {meant}allowed here: {allowed}"));
        }
    }
}
