//! Where the configuration is: the arguments, and the reading of what they name.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use hooksink::config::{self, AdminConfig, ConfigError, ConfigErrors, Inputs, JournalConfig, Loaded, Origin};

/// Read where `--config` is not given; the first that exists.
const PLACES: [&str; 2] = ["hooksink.toml", "/etc/hooksink/hooksink.toml"];

/// A secret is a line, and a configuration a few pages: whatever is larger is the wrong file.
const MAX_SECRET_BYTES: u64 = 64 << 10;
const MAX_CONFIG_BYTES: u64 = 4 << 20;

#[derive(Debug, Clone, Args)]
pub(crate) struct ConfigArgs {
    /// The configuration file [default: ./hooksink.toml, else /etc/hooksink/hooksink.toml, else none]
    #[arg(long, value_name = "FILE", env = "HOOKSINK_CONFIG")]
    pub(crate) config: Option<PathBuf>,

    /// A setting that ranks above file and environment, such as server.listen=127.0.0.1:8000
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    pub(crate) set: Vec<(String, String)>,
}

fn setting(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("write it like server.listen=127.0.0.1:8000")?;
    Ok((key.trim().to_owned(), value.trim().to_owned()))
}

impl ConfigArgs {
    /// Reads file and environment, and makes a configuration of them.
    pub(crate) fn load(&self) -> Result<Loaded, ConfigErrors> {
        config::load(&self.inputs()?)
    }

    /// The parts that the subcommands for a running server need, without the secrets of sources and sinks.
    pub(crate) fn load_operator(&self) -> Result<(AdminConfig, JournalConfig), ConfigErrors> {
        config::load_operator(&self.inputs()?)
    }

    /// The file that would be read.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        self.config.clone().or_else(|| PLACES.iter().map(PathBuf::from).find(|path| path.exists()))
    }

    /// File and environment as they are now.
    pub(crate) fn inputs(&self) -> Result<Inputs<'static>, ConfigErrors> {
        let file = match self.file() {
            None => None,
            Some(path) => match read_config(&path) {
                Ok(text) => Some((path, text)),
                Err(error) => {
                    let message = format!("cannot be read: {error}");
                    return Err(ConfigError { origin: Origin::File(path), key: String::new(), message }.into());
                }
            },
        };
        let environment: BTreeMap<_, _> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Ok(Inputs { file, environment, flags: self.set.clone(), read_secret: &read_secret })
    }
}

fn read_config(path: &Path) -> io::Result<String> {
    let bytes = read_at_most(path, MAX_CONFIG_BYTES)?;
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8"))
}

fn read_secret(path: &Path) -> io::Result<Vec<u8>> {
    read_at_most(path, MAX_SECRET_BYTES)
}

fn read_at_most(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it is larger than {most} bytes")));
    }
    Ok(bytes)
}
