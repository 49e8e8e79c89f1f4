//! TLS: the settings `ca_file`, `client_cert_file` and `client_key_file`, whom hooksink trusts and what it presents.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use crate::settings::Section;
use crate::settings::values;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Has every client library use ring, the one provider built in. The first one installed stays; a second attempt changes
/// nothing.
pub fn use_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

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
pub(crate) struct Pem {
    pub(crate) ca: Option<Vec<u8>>,
    pub(crate) client: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
}

impl TlsFiles {
    /// Whether none is given.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the settings. `without` says why they have no meaning, where they have none.
    pub(crate) fn read(section: &mut Section<'_>, without: Option<&str>) -> Self {
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
    pub(crate) async fn load(&self) -> Result<Pem, Error> {
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

    /// What a connection is made with.
    pub(crate) async fn client_config(&self) -> Result<ClientConfig, Error> {
        let pem = self.load().await?;
        let build = move || {
            let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
            let builder =
                builder.with_safe_default_protocol_versions()?.with_root_certificates(roots(pem.ca.as_deref())?);
            let Some((certificate, key)) = pem.client else { return Ok(builder.with_no_client_auth()) };
            let chain = CertificateDer::pem_slice_iter(&certificate).collect::<Result<Vec<_>, _>>();
            let chain = chain.map_err(|error| format!("client_cert_file: {error}"))?;
            let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| format!("client_key_file: {error}"))?;
            Ok(builder.with_client_auth_cert(chain, key)?)
        };
        tokio::task::spawn_blocking(build).await?
    }
}

/// The authorities in this text, or the system's.
fn roots(ca: Option<&[u8]>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    if let Some(ca) = ca {
        for certificate in CertificateDer::pem_slice_iter(ca) {
            roots.add(certificate.map_err(|error| format!("ca_file: {error}"))?)?;
        }
    } else {
        // What cannot be read among many does not keep the others from being trusted.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if roots.is_empty() {
        return Err("no certificate authority is there to be trusted".into());
    }
    Ok(roots)
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| format!("{key} {} cannot be read: {error}", path.display()).into())
}
