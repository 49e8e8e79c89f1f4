//! What stood around an item in its request, and the evidence of how the request arrived.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where in an envelope an item stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In `entry[].messaging`.
    Messaging,
    /// In `entry[].standby`: another app owns the thread.
    Standby,
    /// In `entry[].changes`.
    Changes,
    /// The body was the item.
    Bare,
}

/// What stood around an item, and how it arrived. The journal keeps it as JSON beside the raw bytes.
#[derive(Clone, Serialize, Deserialize)]
pub struct Context {
    /// `object` of a Meta envelope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// `entry[].id` of a Meta envelope, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_id: Option<String>,
    /// `entry[].time` of a Meta envelope, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_time: Option<String>,
    /// `field` of an item of `changes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Where the item stood.
    pub place: Place,
    /// How the request arrived; one for all items of a request.
    pub arrival: Arc<Arrival>,
}

impl Context {
    /// The context of an item that is the whole body.
    pub fn bare(arrival: Arc<Arrival>) -> Self {
        Self { object: None, entry_id: None, entry_time: None, field: None, place: Place::Bare, arrival }
    }
}

/// The evidence of a request's arrival, kept with each of its events.
#[derive(Clone, Serialize, Deserialize)]
pub struct Arrival {
    /// The `x-request-id` of the answer.
    pub request_id: String,
    /// The client, as the trusted proxies tell it.
    pub client_address: IpAddr,
    /// Everything that proved the request authentic; empty with `auth = "none"`.
    pub proofs: Vec<Proof>,
    /// The header of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// The header of that name; the body is kept as it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// The header of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// The header `x-wx-gtrid`, whose meaning Webex Connect does not document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wx_gtrid: Option<String>,
}

/// A scheme that held for a request, and which of its secrets it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The scheme.
    pub scheme: Scheme,
    /// The position of the secret (or address range) in its list, from 0.
    pub position: usize,
}

/// A way of proving a request authentic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scheme {
    /// HMAC of the body with SHA-256.
    HmacSha256,
    /// HMAC of the body with SHA-512.
    HmacSha512,
    /// HMAC of the body with SHA-1, by explicit setting only.
    HmacSha1,
    /// HTTP Basic (RFC 7617).
    Basic,
    /// OAuth 2.0 bearer token (RFC 6750).
    Bearer,
    /// A key in a named header or query parameter.
    ApiKey,
    /// The client's address is in a list.
    Address,
}

impl Scheme {
    /// How many there are.
    pub const COUNT: usize = Self::Address as usize + 1;

    /// Its name in logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac_sha256",
            Self::HmacSha512 => "hmac_sha512",
            Self::HmacSha1 => "hmac_sha1",
            Self::Basic => "basic",
            Self::Bearer => "bearer",
            Self::ApiKey => "api_key",
            Self::Address => "address",
        }
    }

    /// Whether it proves knowledge of a secret, and not only where the request came from.
    pub fn proves_a_secret(self) -> bool {
        self != Self::Address
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Arrival {
    /// Whether the body came with a Content-Encoding: it is never decompressed, and kept as a body that is not JSON.
    pub fn is_encoded(&self) -> bool {
        self.content_encoding.as_deref().is_some_and(|encoding| !encoding.trim().eq_ignore_ascii_case("identity"))
    }
}

impl fmt::Debug for Arrival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Arrival")
            .field("request_id", &self.request_id)
            .field("proofs", &self.proofs)
            .finish_non_exhaustive()
    }
}
