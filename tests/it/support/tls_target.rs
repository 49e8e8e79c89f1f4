//! TLS in front of a target, with a certificate of a test's own making.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// Who signs certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate"))
    }

    /// Its own certificate, for who is to trust it.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a host and its key, in PEM, for servers that read files.
    pub(crate) fn pems(&self, host: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, host);
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.0).expect("a certificate").pem(), key.serialize_pem())
    }

    /// A certificate for a host, which has expired or not.
    pub(crate) fn certify(&self, host: &str, expired: bool) -> Certificate {
        self.certify_before(host, expired, WebPkiClientVerifier::no_client_auth())
    }

    /// A certificate for a host that asks who comes for one of the same authority.
    pub(crate) fn certify_among_ourselves(&self, host: &str) -> Certificate {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a certificate");
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), ring).build().expect("it has a root");
        self.certify_before(host, false, clients)
    }

    fn certify_before(&self, host: &str, expired: bool, clients: Arc<dyn ClientCertVerifier>) -> Certificate {
        let mut params = CertificateParams::new(vec![host.to_owned()]).expect("a name");
        if expired {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate.der().clone()], key);
        Certificate(TlsAcceptor::from(Arc::new(config.expect("they belong together"))))
    }
}

/// What a server presents, with its key.
#[derive(Clone)]
pub(crate) struct Certificate(TlsAcceptor);

/// Ends TLS and hands on what is inside. It stops when dropped.
pub(crate) struct TlsTarget {
    pub(crate) address: SocketAddr,
    certificate: Arc<Mutex<Certificate>>,
    task: AbortHandle,
}

impl TlsTarget {
    pub(crate) async fn start(certificate: Certificate, behind: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let certificate = Arc::new(Mutex::new(certificate));
        let presented = certificate.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Certificate(acceptor) = presented.lock().expect("no panic").clone();
                tokio::spawn(async move {
                    // Who does not trust it hangs up.
                    let Ok(mut inside) = acceptor.accept(stream).await else { return };
                    let Ok(mut behind) = TcpStream::connect(behind).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut inside, &mut behind).await;
                });
            }
        });
        Self { address, certificate, task: task.abort_handle() }
    }

    /// New connections are shown this certificate.
    pub(crate) fn renew(&self, certificate: Certificate) {
        *self.certificate.lock().expect("no panic") = certificate;
    }
}

impl Drop for TlsTarget {
    fn drop(&mut self) {
        self.task.abort();
    }
}
