//! HMAC of the body: `x-hub-signature-256` of Meta, `x-hub-signature` of Webex Connect. Neither sender signs a time or
//! nonce: de-duplication is the protection against replay.

use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderName, HeaderValue};
use sha1::Sha1;

use super::{Prove, Received, Refusal, single};
use crate::event::{Proof, Scheme};
use crate::secret::{Secret, Secrets};

/// The longest digest, of SHA-512.
const MAX_DIGEST: usize = 64;

/// A digest that senders sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC-SHA-256.
    Sha256,
    /// HMAC-SHA-512.
    Sha512,
    /// HMAC-SHA-1, by explicit setting only.
    Sha1,
}

impl Algorithm {
    /// Every one there is.
    pub const ALL: [Self; 3] = [Self::Sha256, Self::Sha512, Self::Sha1];

    /// What stands before `=` in a signature.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
            Self::Sha1 => "sha1",
        }
    }

    /// What a proof made with it is called.
    pub fn scheme(self) -> Scheme {
        match self {
            Self::Sha256 => Scheme::HmacSha256,
            Self::Sha512 => Scheme::HmacSha512,
            Self::Sha1 => Scheme::HmacSha1,
        }
    }

    /// Bytes of its digest.
    fn digest_bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
            Self::Sha1 => 20,
        }
    }

    /// Whether `digest` is the HMAC of `body` under `secret`, in constant time.
    fn verify(self, secret: &Secret, body: &[u8], digest: &[u8]) -> bool {
        match self {
            Self::Sha256 => secret.hmac_sha256().chain_update(body).verify_slice(digest).is_ok(),
            Self::Sha512 => secret.hmac_sha512().chain_update(body).verify_slice(digest).is_ok(),
            Self::Sha1 => hmac_sha1(secret).chain_update(body).verify_slice(digest).is_ok(),
        }
    }
}

fn hmac_sha1(secret: &Secret) -> Hmac<Sha1> {
    Hmac::new_from_slice(secret.expose()).expect("HMAC takes keys of any length (RFC 2104)")
}

/// The signature of a body, as senders write it: `sha256=` and lower-case hex.
pub fn sign(algorithm: Algorithm, secret: &Secret, body: &[u8]) -> String {
    let digest = match algorithm {
        Algorithm::Sha256 => hex::encode(secret.hmac_sha256().chain_update(body).finalize().into_bytes()),
        Algorithm::Sha512 => hex::encode(secret.hmac_sha512().chain_update(body).finalize().into_bytes()),
        Algorithm::Sha1 => hex::encode(hmac_sha1(secret).chain_update(body).finalize().into_bytes()),
    };
    format!("{}={digest}", algorithm.as_str())
}

/// How a sender writes its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureRules {
    /// `x-hub-signature-256: sha256=<64 lower-case hex>` over the exact bytes. With `allow_sha1`, `x-hub-signature:
    /// sha1=<40 lower-case hex>` too, but never while the 256 header is in the request.
    /// See <https://developers.facebook.com/docs/messenger-platform/webhooks#event-notifications>.
    Meta,
    /// `x-hub-signature`, SHA-256 or SHA-512, SHA-1 with `allow_sha1`; hex in either case; the prefix may be missing,
    /// and the length tells the digest then. Over the exact bytes, else over the body without white space around it,
    /// which the sender's FAQ says to sign. See <https://help.webexconnect.io/docs/outbound-webhooks>.
    WebexConnect,
}

impl SignatureRules {
    /// The header that carries a signature made with `algorithm`.
    pub fn header(self, algorithm: Algorithm) -> HeaderName {
        self.name(algorithm).clone()
    }

    fn name(self, algorithm: Algorithm) -> &'static HeaderName {
        static X_HUB_SIGNATURE_256: HeaderName = HeaderName::from_static("x-hub-signature-256");
        static X_HUB_SIGNATURE: HeaderName = HeaderName::from_static("x-hub-signature");
        match (self, algorithm) {
            (Self::Meta, Algorithm::Sha256) => &X_HUB_SIGNATURE_256,
            _ => &X_HUB_SIGNATURE,
        }
    }

    /// The signature that the request presents.
    fn presented(self, request: &Received, allow_sha1: bool) -> Result<Presented, Refusal> {
        match self {
            Self::Meta => {
                let strong = self.name(Algorithm::Sha256);
                let algorithm = if allow_sha1 && !request.headers.contains_key(strong) {
                    Algorithm::Sha1
                } else {
                    Algorithm::Sha256
                };
                let scheme = algorithm.scheme();
                let value =
                    single(&request.headers, self.name(algorithm), scheme).map_err(|refusal| match refusal {
                        // With neither header there, it is the better one that is missing.
                        Refusal::Missing(_) => Refusal::Missing(Scheme::HmacSha256),
                        other => other,
                    })?;
                Presented::strict(algorithm, value).ok_or(Refusal::Malformed(scheme))
            }
            Self::WebexConnect => {
                let value = single(&request.headers, self.name(Algorithm::Sha256), Scheme::HmacSha256)?;
                let presented = Presented::lenient(value).ok_or(Refusal::Malformed(Scheme::HmacSha256))?;
                if presented.algorithm == Algorithm::Sha1 && !allow_sha1 {
                    return Err(Refusal::NotAllowed(Scheme::HmacSha1));
                }
                Ok(presented)
            }
        }
    }
}

/// A signature as read from a header.
struct Presented {
    algorithm: Algorithm,
    digest: [u8; MAX_DIGEST],
}

impl Presented {
    /// `sha256=<64 lower-case hex>` and nothing else.
    fn strict(algorithm: Algorithm, value: &HeaderValue) -> Option<Self> {
        let digits = value.as_bytes().strip_prefix(algorithm.as_str().as_bytes())?.strip_prefix(b"=")?;
        if digits.iter().any(u8::is_ascii_uppercase) {
            return None;
        }
        Self::of_digits(algorithm, digits)
    }

    /// Hex in either case, its algorithm in front or told by its length.
    fn lenient(value: &HeaderValue) -> Option<Self> {
        let value = value.as_bytes();
        let (algorithm, digits) = match value.iter().position(|byte| *byte == b'=') {
            Some(at) => {
                let named = |algorithm: &Algorithm| value[..at].eq_ignore_ascii_case(algorithm.as_str().as_bytes());
                (Algorithm::ALL.into_iter().find(named)?, &value[at + 1..])
            }
            None => {
                let long = |algorithm: &Algorithm| algorithm.digest_bytes() * 2 == value.len();
                (Algorithm::ALL.into_iter().find(long)?, value)
            }
        };
        Self::of_digits(algorithm, digits)
    }

    fn of_digits(algorithm: Algorithm, digits: &[u8]) -> Option<Self> {
        let mut digest = [0; MAX_DIGEST];
        // Fails unless the length is exactly right.
        hex::decode_to_slice(digits, &mut digest[..algorithm.digest_bytes()]).ok()?;
        Some(Self { algorithm, digest })
    }

    fn matches(&self, secrets: &Secrets, body: &[u8]) -> Option<Proof> {
        let digest = &self.digest[..self.algorithm.digest_bytes()];
        let position = secrets.position(|secret| self.algorithm.verify(secret, body, digest))?;
        Some(Proof { scheme: self.algorithm.scheme(), position })
    }
}

/// The scheme: a signature over the body under one of several secrets.
pub(super) struct HmacSignature {
    rules: SignatureRules,
    secrets: Secrets,
    allow_sha1: bool,
}

impl HmacSignature {
    pub(super) fn new(rules: SignatureRules, secrets: Secrets, allow_sha1: bool) -> Self {
        Self { rules, secrets, allow_sha1 }
    }
}

impl Prove for HmacSignature {
    fn screen(&self, request: &Received) -> Result<(), Refusal> {
        self.rules.presented(request, self.allow_sha1).map(drop)
    }

    fn prove(&self, request: &Received) -> Result<Proof, Refusal> {
        let presented = self.rules.presented(request, self.allow_sha1)?;
        let trimmed = || match self.rules {
            SignatureRules::Meta => None,
            SignatureRules::WebexConnect => {
                Some(request.body.trim_ascii()).filter(|trimmed| trimmed.len() < request.body.len())
            }
        };
        presented
            .matches(&self.secrets, &request.body)
            .or_else(|| presented.matches(&self.secrets, trimmed()?))
            .ok_or(Refusal::Wrong(presented.algorithm.scheme()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test cases 1, 2, 3, 4, 6 and 7; 5 is about truncated digests, which nobody sends.
    #[test]
    fn signatures_are_those_of_rfc_4231() {
        let cases: [(Vec<u8>, Vec<u8>, &str, &str); 6] = [
            (
                vec![0x0b; 20],
                b"Hi There".to_vec(),
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
                "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
            ),
            (
                b"Jefe".to_vec(),
                b"what do ya want for nothing?".to_vec(),
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
            ),
            (
                vec![0xaa; 20],
                vec![0xdd; 50],
                "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
                "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39bf3e848279a722c806b485a47e67c807b946a337bee8942674278859e13292fb",
            ),
            (
                (1..=25).collect(),
                vec![0xcd; 50],
                "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
                "b0ba465637458c6990e5a8c5f61d4af7e576d97ff94b872de76f8050361ee3dba91ca5c11aa25eb4d679275cc5788063a5f19741120c4f2de2adebeb10a298dd",
            ),
            (
                vec![0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First".to_vec(),
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
                "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
            ),
            (
                vec![0xaa; 131],
                b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.".to_vec(),
                "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
                "e37b6a775dc87dbaa4dfa9f96e5e3ffddebd71f8867289865df5a32d20cdc944b6022cac3c4982b10d5eeb55c3e4de15134676fb6de0446065c97440fa8c6a58",
            ),
        ];
        for (key, data, sha256, sha512) in cases {
            let secret = Secret::new(key);
            for (algorithm, digest) in [(Algorithm::Sha256, sha256), (Algorithm::Sha512, sha512)] {
                assert_eq!(sign(algorithm, &secret, &data), format!("{}={digest}", algorithm.as_str()));
                assert!(algorithm.verify(&secret, &data, &hex::decode(digest).unwrap()));
            }
        }
    }

    /// RFC 2202, test case 2 for HMAC-SHA-1.
    #[test]
    fn sha1_signatures_are_those_of_rfc_2202() {
        assert_eq!(
            sign(Algorithm::Sha1, &Secret::new("Jefe"), b"what do ya want for nothing?"),
            "sha1=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
        );
    }

    /// Meta escapes non-ASCII characters and slashes on the wire: what is signed is those bytes, not the text they mean.
    #[test]
    fn escapes_are_signed_as_they_are_on_the_wire() {
        let secret = Secret::new("app-secret");
        let wire = sign(Algorithm::Sha256, &secret, br#"{"text":"\u00e4\/"}"#);
        assert_ne!(wire, sign(Algorithm::Sha256, &secret, "{\"text\":\"ä/\"}".as_bytes()));
    }
}
