//! A loaded configuration, and what a later one (SIGHUP) changes in it: secrets at once, everything else with a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use toml::{Table, Value};

use super::{Config, checks, load};
use crate::secret::Secrets;
use crate::settings::Inputs;
use crate::settings::{ConfigErrors, Warning};

/// A valid configuration.
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What is allowed in it and yet probably not meant.
    pub warnings: Vec<Warning>,
    /// The live secrets by key; they are shared with `config`.
    secrets: BTreeMap<String, Secrets>,
    /// Every other setting by key.
    plain: BTreeMap<String, Value>,
}

impl fmt::Debug for Loaded {
    /// Without the settings as they were given, some of which hold secrets in what looks like plain text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded").field("config", &self.config).field("warnings", &self.warnings).finish_non_exhaustive()
    }
}

/// What a later configuration changed. Keys, never values.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Secrets that have new values, from now on.
    pub rotated: Vec<String>,
    /// Settings that have new values, which need a restart.
    pub restart: Vec<String>,
}

impl Loaded {
    pub(super) fn new(config: Config, table: &Table, secrets: BTreeMap<String, Secrets>) -> Self {
        let mut plain = BTreeMap::new();
        flatten(table, "", &secrets, &mut plain);
        Self { warnings: checks::warnings(&config), config, secrets, plain }
    }

    /// Loads anew. Secrets that had and have a value take the new one at once, for everyone who holds them; for
    /// anything else that differs from what is running, the key is returned. A configuration with errors changes
    /// nothing.
    pub fn reload(&self, inputs: &Inputs<'_>) -> Result<Reloaded, ConfigErrors> {
        let new = load(inputs)?;
        let mut changes = Reloaded::default();
        let keys: BTreeSet<_> = self.secrets.keys().chain(new.secrets.keys()).collect();
        for key in keys {
            match (self.secrets.get(key), new.secrets.get(key)) {
                (Some(old), Some(new)) if !same(old, new) => {
                    old.replace(new);
                    changes.rotated.push(key.clone());
                }
                (Some(_), Some(_)) => {}
                // A scheme that appears or goes changes more than a value.
                _ => changes.restart.push(key.clone()),
            }
        }
        let keys: BTreeSet<_> = self.plain.keys().chain(new.plain.keys()).collect();
        changes.restart.extend(keys.into_iter().filter(|key| self.plain.get(*key) != new.plain.get(*key)).cloned());
        Ok(changes)
    }
}

fn same(old: &Secrets, new: &Secrets) -> bool {
    let (old, new) = (old.load(), new.load());
    old.len() == new.len() && old.iter().zip(new.iter()).all(|(old, new)| old.verify(new.expose()))
}

fn flatten(table: &Table, path: &str, secrets: &BTreeMap<String, Secrets>, plain: &mut BTreeMap<String, Value>) {
    for (name, value) in table {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match value {
            _ if secrets.contains_key(&key) => {}
            Value::Table(table) => flatten(table, &key, secrets, plain),
            value => {
                plain.insert(key, value.clone());
            }
        }
    }
}
