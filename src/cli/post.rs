//! Posts a body as its sender would: signed, with the sender's header.

use std::time::Duration;

use hooksink::auth::hmac_signature::{Algorithm, sign};
use hooksink::auth::{self, SignatureRules};
use hooksink::names::SourceType;
use hooksink::secret::Secret;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap};
use reqwest::{Client, Url};
use serde::Deserialize;

use super::exit::Failure;

/// Webex Connect gives up after this long, Meta after half of it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A sender with its credentials.
pub(crate) struct Sender {
    pub(crate) source_type: SourceType,
    pub(crate) url: Url,
    /// Signs, if there is one.
    pub(crate) secret: Option<Secret>,
    pub(crate) algorithm: Algorithm,
    /// Sent along: Basic, a bearer token, an API key.
    pub(crate) headers: HeaderMap,
    client: Client,
}

/// What the server says it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Accepted {
    /// New events.
    pub(crate) accepted: u64,
    /// Copies of known ones.
    pub(crate) duplicates: u64,
}

impl Sender {
    pub(crate) fn new(source_type: SourceType, url: Url, secret: Option<Secret>) -> Result<Self, Failure> {
        let client = client(&url, TIMEOUT)?;
        Ok(Self { source_type, url, secret, algorithm: Algorithm::Sha256, headers: HeaderMap::new(), client })
    }

    /// Posts the body. An answer other than 200 is a failure.
    pub(crate) async fn post(&self, body: Vec<u8>) -> Result<Accepted, Failure> {
        let rules = match self.source_type {
            SourceType::Meta => SignatureRules::Meta,
            SourceType::WebexConnect => SignatureRules::WebexConnect,
        };
        let mut request =
            self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json").headers(self.headers.clone());
        if let Some(secret) = &self.secret {
            request = request.header(rules.header(self.algorithm), sign(self.algorithm, secret, &body));
        }
        let answer = request.body(body).send().await.map_err(|error| unreachable(&error))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| unreachable(&error))?;
        if status != 200 {
            return Err(Failure::unavailable(format!("answered {status}{}", detail(&text))));
        }
        serde_json::from_str(&text)
            .map_err(|_| Failure::unavailable("answered 200, but not as hooksink does: is the URL right?"))
    }
}

/// A header with `user:password`.
pub(crate) fn basic(user_password: &Secret) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, auth::basic::credentials(user_password))])
}

/// A header with a token.
pub(crate) fn bearer(token: &Secret) -> Result<HeaderMap, Failure> {
    let value = auth::bearer::credentials(token)
        .map_err(|_| Failure::usage("the token has a character that cannot stand in a header"))?;
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}

/// A client for this URL. Redirects are not followed: a sender does not either.
pub(crate) fn client(url: &Url, timeout: Duration) -> Result<Client, Failure> {
    let mut builder = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("hooksink/", env!("CARGO_PKG_VERSION")));
    if url.scheme() == "http" {
        // No certificates are needed, and none may be there.
        builder = builder.tls_certs_only([]);
    }
    let loopback = match url.host_str() {
        Some("localhost") => true,
        Some(host) => host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback()),
        None => false,
    };
    if loopback {
        builder = builder.no_proxy();
    }
    builder
        .connect_timeout(timeout.min(Duration::from_secs(5)))
        .read_timeout(timeout)
        .build()
        .map_err(|error| Failure::internal(format!("cannot make an HTTP client: {error}")))
}

/// What kept a request from an answer, without the URL's query, which may hold a key.
pub(crate) fn unreachable(error: &reqwest::Error) -> Failure {
    let mut text =
        error.url().map_or_else(String::new, |url| format!("{}://{}{}: ", url.scheme(), url.authority(), url.path()));
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    text += &if error.is_timeout() { "no answer in time".to_owned() } else { cause.to_string() };
    Failure::unavailable(text)
}

/// `detail`, or `title`, of a problem (RFC 9457).
pub(crate) fn detail(body: &str) -> String {
    let problem: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    ["detail", "title"]
        .iter()
        .find_map(|key| problem[key].as_str())
        .map_or_else(String::new, |text| format!(": {text}"))
}
