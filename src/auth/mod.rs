//! Authentication: the trust boundary. Only [`Schemes::authenticate`] makes a [`Verified`], and only a `Verified` can
//! be split into events. One scheme a file, `sign` beside `verify`.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;

use crate::event::{Arrival, Proof, Scheme};

/// A request as it came, before anything is known of it.
pub struct Received {
    /// The headers.
    pub headers: HeaderMap,
    /// The query string, without `?`.
    pub query: String,
    /// The exact bytes of the body.
    pub body: Bytes,
    /// The client, as the trusted proxies tell it.
    pub client_address: IpAddr,
    /// The `x-request-id` of the answer.
    pub request_id: String,
}

/// A request proven authentic: its exact bytes, and how it arrived.
#[derive(Debug)]
pub struct Verified {
    body: Bytes,
    arrival: Arc<Arrival>,
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
    /// The credential cannot be read.
    #[error("unreadable credential for {}", .0.as_str())]
    Malformed(Scheme),
    /// The credential is wrong.
    #[error("wrong credential for {}", .0.as_str())]
    Wrong(Scheme),
}

/// The schemes of a source; all must hold.
pub struct Schemes {
    _todo: Vec<Proof>,
}
