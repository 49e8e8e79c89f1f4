//! Authentication: the trust boundary. Only [`Schemes::authenticate`] makes a [`Verified`], and only a `Verified` can
//! be split into events:
//! ```compile_fail
//! # fn forge(body: bytes::Bytes, arrival: std::sync::Arc<hooksink::event::Arrival>) -> hooksink::auth::Verified {
//! hooksink::auth::Verified { body, arrival }
//! # }
//! ```
//! One scheme a file, what the sender does (`sign`, `credentials`) beside `prove`. Nothing here does I/O or reads a
//! clock, no error carries a value of the request, and every secret of a list is tried whichever matches.

mod address_list;
mod api_key;
pub mod basic;
pub mod bearer;
pub mod hmac_signature;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Auth;
use crate::event::{Arrival, Proof, Scheme};

pub use hmac_signature::SignatureRules;

/// The longest text of a header that is kept with an event, in characters. It is kept with each event of a request, and
/// no signature covers it.
const EVIDENCE_CHARS: usize = 256;

/// What Webex Connect sends and does not document.
static WX_GTRID: HeaderName = HeaderName::from_static("x-wx-gtrid");

/// A request as it came, before anything is known of it.
pub struct Received {
    /// The headers.
    pub headers: HeaderMap,
    /// The query string, without `?`.
    pub query: String,
    /// The exact bytes of the body; none while it has not been read, which is enough for [`Schemes::screen`].
    pub body: Bytes,
    /// The client, as the trusted proxies tell it.
    pub client_address: IpAddr,
    /// The `x-request-id` of the answer.
    pub request_id: String,
}

/// A request proven authentic: its exact bytes, and how it arrived.
pub struct Verified {
    body: Bytes,
    arrival: Arc<Arrival>,
}

impl fmt::Debug for Verified {
    /// Without the body, so that it may be printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("body_bytes", &self.body.len())
            .field("arrival", &self.arrival)
            .finish_non_exhaustive()
    }
}

impl Verified {
    /// The exact bytes of the body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// How the request arrived.
    pub fn arrival(&self) -> &Arc<Arrival> {
        &self.arrival
    }

    /// Whether a signature, Basic, bearer or API key proved it, and not its address alone or nothing.
    pub fn proven_by_secret(&self) -> bool {
        self.arrival.proofs.iter().any(|proof| proof.scheme.proves_a_secret())
    }
}

/// Why a request is not authentic. It names the scheme, never a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The credential of this scheme is not in the request.
    #[error("no credential for {}", .0.as_str())]
    Missing(Scheme),
    /// The credential cannot be read, or is there more than once.
    #[error("unreadable credential for {}", .0.as_str())]
    Malformed(Scheme),
    /// The credential is wrong.
    #[error("wrong credential for {}", .0.as_str())]
    Wrong(Scheme),
    /// The credential is of a scheme that the configuration does not allow (SHA-1 without `allow_sha1`).
    #[error("{} is not allowed", .0.as_str())]
    NotAllowed(Scheme),
    /// The source has no scheme at all and does not say `auth = "none"`; the configuration refuses this before.
    #[error("no scheme is configured")]
    Unconfigured,
}

/// One scheme of a source.
trait Prove: Send + Sync {
    /// Refuses what `prove` would refuse whatever the body is. It does not look at the body.
    fn screen(&self, request: &Received) -> Result<(), Refusal> {
        self.prove(request).map(drop)
    }

    /// What of the request holds under this scheme.
    fn prove(&self, request: &Received) -> Result<Proof, Refusal>;

    /// The value for `WWW-Authenticate`, if the scheme has one.
    fn challenge(&self) -> Option<&'static str> {
        None
    }
}

/// The schemes of a source; all must hold.
pub struct Schemes {
    schemes: Vec<Box<dyn Prove>>,
    open: bool,
}

impl Schemes {
    /// The schemes that have a value in `auth`. Their secrets stay shared with it, so that a rotation reaches them. With
    /// no scheme and without `auth.none`, every request is refused.
    pub fn new(auth: &Auth, rules: SignatureRules) -> Self {
        // The cheap ones first: a stranger gets no digest over a large body for free.
        let mut schemes: Vec<Box<dyn Prove>> = Vec::new();
        if !auth.allow_addresses.is_empty() {
            schemes.push(Box::new(address_list::AddressList::new(auth.allow_addresses.clone())));
        }
        if let Some(key) = &auth.api_key {
            schemes.push(Box::new(api_key::KeyScheme::new(key.clone())));
        }
        if !auth.basic.is_empty() {
            schemes.push(Box::new(basic::Basic::new(auth.basic.clone())));
        }
        if !auth.bearer.is_empty() {
            schemes.push(Box::new(bearer::Bearer::new(auth.bearer.clone())));
        }
        if !auth.signature_secrets.is_empty() {
            let secrets = auth.signature_secrets.clone();
            schemes.push(Box::new(hmac_signature::HmacSignature::new(rules, secrets, auth.allow_sha1)));
        }
        let open = auth.none && schemes.is_empty();
        Self { schemes, open }
    }

    /// Refuses, before its body is read, a request that no body could make authentic: one from elsewhere, with a wrong key,
    /// password or token, or without the form of a signature.
    pub fn screen(&self, request: &Received) -> Result<(), Refusal> {
        if self.schemes.is_empty() && !self.open {
            return Err(Refusal::Unconfigured);
        }
        self.schemes.iter().try_for_each(|scheme| scheme.screen(request))
    }

    /// Proves a request authentic over the bytes as received. The first scheme that does not hold is the refusal.
    pub fn authenticate(&self, request: Received) -> Result<Verified, Refusal> {
        if self.schemes.is_empty() && !self.open {
            return Err(Refusal::Unconfigured);
        }
        let proofs =
            self.schemes.iter().map(|scheme| scheme.prove(&request)).collect::<Result<Vec<Proof>, Refusal>>()?;
        let Received { headers, body, client_address, request_id, .. } = request;
        let arrival = Arrival {
            request_id,
            client_address,
            proofs,
            content_type: evidence(&headers, &CONTENT_TYPE),
            content_encoding: evidence(&headers, &CONTENT_ENCODING),
            user_agent: evidence(&headers, &USER_AGENT),
            wx_gtrid: evidence(&headers, &WX_GTRID),
        };
        Ok(Verified { body, arrival: Arc::new(arrival) })
    }

    /// The values for `WWW-Authenticate` on a 401 (RFC 9110, 11.6.1).
    pub fn challenges(&self) -> Vec<&'static str> {
        self.schemes.iter().filter_map(|scheme| scheme.challenge()).collect()
    }
}

/// The first value of a header as text, within [`EVIDENCE_CHARS`]; what is not UTF-8 is shown as U+FFFD.
fn evidence(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?.as_bytes();
    if value.len() <= EVIDENCE_CHARS && value.is_ascii() {
        return str::from_utf8(value).ok().filter(|text| !text.is_empty()).map(str::to_owned);
    }
    // A character has at most four bytes, so that a huge value is not decoded whole.
    let start = &value[..value.len().min(4 * EVIDENCE_CHARS)];
    let text = String::from_utf8_lossy(start);
    let end = text.char_indices().nth(EVIDENCE_CHARS).map_or(text.len(), |(end, _)| end);
    (end > 0).then(|| text[..end].to_owned())
}

/// The one value of a header. A header that is there twice is refused: proxies and servers differ in which of the two
/// they look at.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName, scheme: Scheme) -> Result<&'a HeaderValue, Refusal> {
    let mut values = headers.get_all(name).iter();
    let value = values.next().ok_or(Refusal::Missing(scheme))?;
    if values.next().is_some() {
        return Err(Refusal::Malformed(scheme));
    }
    if value.is_empty() { Err(Refusal::Missing(scheme)) } else { Ok(value) }
}

/// What follows the name of an authorization scheme, which is compared without regard to case (RFC 9110, 11.1).
fn authorization<'a>(headers: &'a HeaderMap, name: &str, scheme: Scheme) -> Result<&'a [u8], Refusal> {
    let value = single(headers, &AUTHORIZATION, scheme)?.as_bytes();
    let (first, rest) = match value.iter().position(|byte| *byte == b' ') {
        Some(space) => (&value[..space], &value[space..]),
        None => (value, &b""[..]),
    };
    if !first.eq_ignore_ascii_case(name.as_bytes()) {
        return Err(Refusal::Missing(scheme));
    }
    match rest.trim_ascii() {
        [] => Err(Refusal::Missing(scheme)),
        credentials => Ok(credentials),
    }
}

#[cfg(test)]
mod tests;
