//! Secrets: values that are compared in constant time, never printed, and replaced while the service runs.
//!
//! [`Secret`] has no `PartialEq`, `Hash` or `Deref`; [`Secret::verify`] is its only comparison:
//! ```compile_fail
//! # use hooksink::secret::Secret;
//! let (a, b) = (Secret::new("x"), Secret::new("x"));
//! assert!(a == b);
//! ```
//! ```
//! # use hooksink::secret::Secret;
//! assert!(Secret::new("x").verify(b"x"));
//! assert!(!Secret::new("x").verify(b"y"));
//! assert_eq!(format!("{:?}", Secret::new("x")), "Secret(***)");
//! ```

use std::fmt;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use hmac::{Hmac, KeyInit as _};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// One secret value. It is wiped from memory when dropped.
#[derive(Clone)]
pub struct Secret(Arc<Value>);

struct Value {
    bytes: Zeroizing<Vec<u8>>,
    /// MACs that have taken the key in, which is half the work on a short message. `sha2` wipes them too.
    sha256: OnceLock<Hmac<Sha256>>,
    sha512: OnceLock<Hmac<Sha512>>,
}

impl Secret {
    /// A secret of these bytes.
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        let bytes = Zeroizing::new(value.into());
        Self(Arc::new(Value { bytes, sha256: OnceLock::new(), sha512: OnceLock::new() }))
    }

    /// HMAC-SHA-256 under this key, before the first byte.
    pub fn hmac_sha256(&self) -> Hmac<Sha256> {
        let keyed = || Hmac::new_from_slice(self.expose()).expect("HMAC takes keys of any length (RFC 2104)");
        self.0.sha256.get_or_init(keyed).clone()
    }

    /// HMAC-SHA-512 under this key, before the first byte.
    pub fn hmac_sha512(&self) -> Hmac<Sha512> {
        let keyed = || Hmac::new_from_slice(self.expose()).expect("HMAC takes keys of any length (RFC 2104)");
        self.0.sha512.get_or_init(keyed).clone()
    }

    /// Whether `candidate` is this secret, in a time that depends on neither's content nor on where they differ.
    pub fn verify(&self, candidate: &[u8]) -> bool {
        // Digests have one length, so that the comparison does not tell the secret's length either.
        Sha256::digest(self.expose()).ct_eq(&Sha256::digest(candidate)).into()
    }

    /// The bytes, for keying a MAC or writing a credential to a peer; never for comparison or output.
    pub fn expose(&self) -> &[u8] {
        &self.0.bytes
    }

    /// Whether there are no bytes in it, which no configuration accepts.
    pub fn is_empty(&self) -> bool {
        self.0.bytes.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(***)")
    }
}

/// A list of secrets that can be replaced while others hold it: what a configuration key with secrets becomes. Clones
/// share the list, so a rotation (SIGHUP) reaches everyone who holds it.
#[derive(Clone, Default)]
pub struct Secrets(Arc<ArcSwap<Vec<Secret>>>);

impl Secrets {
    /// A list of these secrets, tried in this order.
    pub fn new(values: Vec<Secret>) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(values)))
    }

    /// The secrets of now.
    pub fn load(&self) -> Arc<Vec<Secret>> {
        self.0.load_full()
    }

    /// The first secret: the one to sign with.
    pub fn first(&self) -> Option<Secret> {
        self.0.load().first().cloned()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.load().is_empty()
    }

    /// Replaces the list for everyone who holds it.
    pub fn replace(&self, with: &Secrets) {
        self.0.store(with.load());
    }

    /// The position of the secret that `matches`, all of them tried whichever it is, so that time tells nothing.
    pub fn position(&self, matches: impl Fn(&Secret) -> bool) -> Option<usize> {
        let mut found = None;
        for (position, secret) in self.0.load().iter().enumerate() {
            let hit = matches(secret);
            found = found.or(hit.then_some(position));
        }
        found
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.load().len())
    }
}
