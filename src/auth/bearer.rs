//! OAuth 2.0 bearer tokens (RFC 6750), in the `Authorization` header only. The tokens are fixed ones of the
//! configuration; nothing is fetched to check them.

use http::HeaderValue;
use http::header::InvalidHeaderValue;
use zeroize::Zeroizing;

use super::{Prove, Received, Refusal, authorization};
use crate::event::{Proof, Scheme};
use crate::secret::{Secret, Secrets};

/// The `Authorization` header of a sender that has `token`, marked sensitive. An error where the token has bytes that no
/// header may have.
pub fn credentials(token: &Secret) -> Result<HeaderValue, InvalidHeaderValue> {
    let bytes = Zeroizing::new([b"Bearer ", token.expose()].concat());
    let mut value = HeaderValue::from_bytes(&bytes)?;
    value.set_sensitive(true);
    Ok(value)
}

/// The scheme: one of several tokens.
pub(super) struct Bearer {
    tokens: Secrets,
}

impl Bearer {
    pub(super) fn new(tokens: Secrets) -> Self {
        Self { tokens }
    }
}

impl Prove for Bearer {
    fn prove(&self, request: &Received) -> Result<Proof, Refusal> {
        let token = authorization(&request.headers, "Bearer", Scheme::Bearer)?;
        let position = self.tokens.position(|secret| secret.verify(token)).ok_or(Refusal::Wrong(Scheme::Bearer))?;
        Ok(Proof { scheme: Scheme::Bearer, position })
    }

    fn challenge(&self) -> Option<&'static str> {
        Some(r#"Bearer realm="hooksink""#)
    }
}
