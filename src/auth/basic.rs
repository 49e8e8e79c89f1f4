//! HTTP Basic (RFC 7617). The secrets are `user:password` pairs in UTF-8.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_PAD_INDIFFERENT};
use http::HeaderValue;
use zeroize::Zeroizing;

use super::{Prove, Received, Refusal, authorization};
use crate::event::{Proof, Scheme};
use crate::secret::{Secret, Secrets};

/// The `Authorization` header of a sender that knows `user_password`. The value is marked sensitive.
pub fn credentials(user_password: &Secret) -> HeaderValue {
    let text = Zeroizing::new(format!("Basic {}", STANDARD.encode(user_password.expose())));
    let mut value = HeaderValue::from_str(&text).expect("base64 is ASCII");
    value.set_sensitive(true);
    value
}

/// The scheme: one of several `user:password` pairs.
pub(super) struct Basic {
    pairs: Secrets,
}

impl Basic {
    pub(super) fn new(pairs: Secrets) -> Self {
        Self { pairs }
    }
}

impl Prove for Basic {
    fn prove(&self, request: &Received) -> Result<Proof, Refusal> {
        let encoded = authorization(&request.headers, "Basic", Scheme::Basic)?;
        let pair = STANDARD_PAD_INDIFFERENT.decode(encoded).map_err(|_| Refusal::Malformed(Scheme::Basic))?;
        let pair = Zeroizing::new(pair);
        let position = self.pairs.position(|secret| secret.verify(&pair)).ok_or(Refusal::Wrong(Scheme::Basic))?;
        Ok(Proof { scheme: Scheme::Basic, position })
    }

    fn challenge(&self) -> Option<&'static str> {
        Some(r#"Basic realm="hooksink""#)
    }
}
