//! Signatures of [Standard Webhooks](https://www.standardwebhooks.com), `v1` (HMAC-SHA256).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::secret::Secret;

/// A secret that begins with `whsec_` and does not go on in base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a signing secret that begins with \"whsec_\" must go on in base64")]
pub struct InvalidSecret;

/// The key of a secret: what `whsec_` is followed by in base64, or else the bytes of the text themselves.
fn key(secret: &Secret) -> Result<Zeroizing<Vec<u8>>, InvalidSecret> {
    let key = match secret.expose().strip_prefix(b"whsec_") {
        Some(encoded) => STANDARD.decode(encoded).map_err(|_| InvalidSecret)?,
        None => secret.expose().to_vec(),
    };
    Ok(Zeroizing::new(key))
}

fn mac(secret: &Secret, id: &str, timestamp: i64, body: &[u8]) -> Result<Hmac<Sha256>, InvalidSecret> {
    // HMAC takes keys of any length.
    let mut mac = Hmac::<Sha256>::new_from_slice(&key(secret)?).map_err(|_| InvalidSecret)?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    Ok(mac)
}

/// The value of `webhook-signature`: one signature a secret, separated by spaces. `timestamp` is in seconds since 1970
/// and goes into `webhook-timestamp`; `body` is what is sent, after compression.
pub fn sign(secrets: &[Secret], id: &str, timestamp: i64, body: &[u8]) -> Result<String, InvalidSecret> {
    let one = |secret| Ok(format!("v1,{}", STANDARD.encode(mac(secret, id, timestamp, body)?.finalize().into_bytes())));
    Ok(secrets.iter().map(one).collect::<Result<Vec<_>, _>>()?.join(" "))
}

/// Whether one of the signatures in `header` was made with this secret. Constant-time in the signature.
pub fn verify(secret: &Secret, id: &str, timestamp: i64, body: &[u8], header: &str) -> Result<bool, InvalidSecret> {
    let mac = mac(secret, id, timestamp, body)?;
    let signatures = header.split(' ').filter_map(|one| STANDARD.decode(one.strip_prefix("v1,")?).ok());
    Ok(signatures.fold(false, |found, signature| mac.clone().verify_slice(&signature).is_ok() | found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_the_specification_shows() {
        // The example of the Standard Webhooks specification and its libraries.
        let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
        let body = br#"{"test": 2432232314}"#;
        let header = sign(std::slice::from_ref(&secret), "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(header.as_deref(), Ok("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn each_secret_signs_and_verifies() {
        let secrets = [Secret::new("plain text"), Secret::new("whsec_AAEC")];
        let header = sign(&secrets, "id", 7, b"body").expect("both are valid");
        for secret in &secrets {
            assert_eq!(verify(secret, "id", 7, b"body", &header), Ok(true));
            assert_eq!(verify(secret, "id", 8, b"body", &header), Ok(false));
            assert_eq!(verify(secret, "id", 7, b"other", &header), Ok(false));
        }
        assert_eq!(verify(&Secret::new("another"), "id", 7, b"body", &header), Ok(false));
        assert_eq!(sign(&[Secret::new("whsec_*")], "id", 7, b""), Err(InvalidSecret));
    }
}
