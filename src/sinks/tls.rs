//! The settings `ca_file`, `client_cert_file` and `client_key_file`: whom a sink trusts over TLS, and what it presents.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::BoxError;
use crate::settings::Section;
use crate::settings::values;

/// Files in PEM. They are read anew for each connection, so that a renewed certificate needs no restart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// `ca_file`: the authorities that are trusted, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// `client_cert_file`: the certificate to present, with its chain.
    pub client_cert_file: Option<PathBuf>,
    /// `client_key_file`: its key.
    pub client_key_file: Option<PathBuf>,
}

/// What is in the files.
pub(super) struct Pem {
    pub(super) ca: Option<Vec<u8>>,
    pub(super) client: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
}

impl TlsFiles {
    /// Reads the settings. `without` says why they have no meaning, where they have none.
    pub(super) fn read(section: &mut Section<'_>, without: Option<&str>) -> Self {
        let files = Self {
            ca_file: section.optional("ca_file", values::path),
            client_cert_file: section.optional("client_cert_file", values::path),
            client_key_file: section.optional("client_key_file", values::path),
        };
        let given = [
            ("ca_file", files.ca_file.is_some()),
            ("client_cert_file", files.client_cert_file.is_some()),
            ("client_key_file", files.client_key_file.is_some()),
        ];
        if let (Some(why), Some((key, _))) = (without, given.iter().find(|(_, given)| *given)) {
            section.error(key, format!("this has no meaning without TLS: {why}"));
        }
        match (&files.client_cert_file, &files.client_key_file) {
            (Some(_), None) => section.error("client_key_file", "this must be set beside client_cert_file"),
            (None, Some(_)) => section.error("client_cert_file", "this must be set beside client_key_file"),
            _ => {}
        }
        files
    }

    /// What is in the files now.
    pub(super) async fn load(&self) -> Result<Pem, BoxError> {
        let files = self.clone();
        let load = move || {
            let ca = files.ca_file.as_deref().map(|path| read("ca_file", path)).transpose()?;
            let client = match (&files.client_cert_file, &files.client_key_file) {
                (Some(certificate), Some(key)) => {
                    let key = Zeroizing::new(read("client_key_file", key)?);
                    Some((read("client_cert_file", certificate)?, key))
                }
                _ => None,
            };
            Ok(Pem { ca, client })
        };
        tokio::task::spawn_blocking(load).await?
    }
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, BoxError> {
    std::fs::read(path).map_err(|error| format!("{key} {} cannot be read: {error}", path.display()).into())
}
