//! An API key in a named header or query parameter. Webex Connect does not document which of the two it uses.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::{Prove, Received, Refusal};
use crate::config::ApiKey;
use crate::event::{Proof, Scheme};

/// The scheme: one of several keys, exactly once in the request.
pub(super) struct KeyScheme {
    key: ApiKey,
}

impl KeyScheme {
    pub(super) fn new(key: ApiKey) -> Self {
        Self { key }
    }

    /// Every value the request presents as a key.
    fn presented<'a>(&'a self, request: &'a Received) -> impl Iterator<Item = Cow<'a, [u8]>> {
        let in_headers = self.key.header.iter().flat_map(|name| request.headers.get_all(name));
        let in_query = self.key.query.iter().flat_map(|name| parameter(&request.query, name));
        in_headers.map(|value| Cow::Borrowed(value.as_bytes())).chain(in_query)
    }
}

/// The values of a query parameter, percent-decoded. A `+` stays one (RFC 3986): keys in base64 have it, and hardly any
/// has a space.
fn parameter<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = Cow<'a, [u8]>> {
    query.split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let key: Cow<'_, [u8]> = percent_decode_str(key).into();
        (*key == *name.as_bytes()).then(|| percent_decode_str(value).into())
    })
}

impl Prove for KeyScheme {
    fn prove(&self, request: &Received) -> Result<Proof, Refusal> {
        let mut presented = self.presented(request);
        let key = presented.next().filter(|key| !key.is_empty()).ok_or(Refusal::Missing(Scheme::ApiKey))?;
        if presented.next().is_some() {
            return Err(Refusal::Malformed(Scheme::ApiKey));
        }
        let position = self.key.values.position(|secret| secret.verify(&key)).ok_or(Refusal::Wrong(Scheme::ApiKey))?;
        Ok(Proof { scheme: Scheme::ApiKey, position })
    }
}
