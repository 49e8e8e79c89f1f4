//! The subscription check: `GET path?hub.mode=subscribe&hub.verify_token=…&hub.challenge=…`.
//!
//! Sender's page: Meta, "Webhooks", "Verification Requests",
//! developers.facebook.com/docs/graph-api/webhooks/getting-started.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::Handshake;
use crate::secret::Secrets;

/// The longest challenge that is echoed, in bytes; Meta's are about ten digits.
const MAX_CHALLENGE: usize = 1024;

/// Answers the check with the challenge, byte for byte, if mode and token are right.
pub(super) fn answer(query: &str, tokens: &Secrets) -> Handshake {
    let (mut mode, mut token, mut challenge) = (None, None, None);
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let place = match &*decoded(name) {
            b"hub.mode" => &mut mode,
            b"hub.verify_token" => &mut token,
            b"hub.challenge" => &mut challenge,
            _ => continue,
        };
        place.get_or_insert_with(|| decoded(value));
    }
    let Some(mode) = mode else { return Handshake::Incomplete("hub.mode is missing") };
    let Some(token) = token else { return Handshake::Incomplete("hub.verify_token is missing") };
    let Some(challenge) = challenge else { return Handshake::Incomplete("hub.challenge is missing") };
    let known = tokens.position(|secret| secret.verify(&token)).is_some();
    if !known || *mode != *b"subscribe" {
        return Handshake::Forbidden;
    }
    if challenge.len() > MAX_CHALLENGE {
        return Handshake::Incomplete("hub.challenge is too long");
    }
    Handshake::Challenge(challenge.into_owned())
}

/// A name or value of a query (application/x-www-form-urlencoded), as bytes.
fn decoded(text: &str) -> Cow<'_, [u8]> {
    if text.contains('+') {
        // A plus that is meant is written %2B.
        return Cow::Owned(percent_decode_str(&text.replace('+', " ")).collect());
    }
    percent_decode_str(text).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn answered(query: &str) -> Handshake {
        answer(query, &Secrets::new(vec![Secret::new("old token"), Secret::new("t&k=n+ä")]))
    }

    fn challenge(text: &[u8]) -> Handshake {
        Handshake::Challenge(text.to_vec())
    }

    #[test]
    fn the_challenge_comes_back_byte_for_byte() {
        for (query, expected) in [
            ("hub.mode=subscribe&hub.verify_token=old+token&hub.challenge=1158201444", &b"1158201444"[..]),
            (
                "hub.challenge=CHALLENGE_ACCEPTED&x=y&hub.verify_token=old%20token&hub.mode=subscribe",
                b"CHALLENGE_ACCEPTED",
            ),
            (
                "hub.mode=subscribe&hub.verify_token=t%26k%3Dn%2B%C3%A4&hub.challenge=%22a+b%0A%00%FF%22",
                b"\"a b\n\0\xff\"",
            ),
            ("hub%2Emode=subscribe&hub.verify_token=old+token&hub.challenge=a=b", b"a=b"),
            ("hub.mode=subscribe&hub.verify_token=old+token&hub.challenge=1&hub.challenge=2", b"1"),
            ("hub.mode=subscribe&hub.verify_token=old+token&hub.challenge=", b""),
        ] {
            assert_eq!(answered(query), challenge(expected), "{query}");
        }
    }

    #[test]
    fn a_wrong_token_or_mode_is_forbidden() {
        for query in [
            "hub.mode=subscribe&hub.verify_token=wrong&hub.challenge=1",
            "hub.mode=subscribe&hub.verify_token=&hub.challenge=1",
            "hub.mode=subscribe&hub.verify_token=OLD+TOKEN&hub.challenge=1",
            "hub.mode=unsubscribe&hub.verify_token=old+token&hub.challenge=1",
        ] {
            assert_eq!(answered(query), Handshake::Forbidden, "{query}");
        }
        assert_eq!(
            answer("hub.mode=subscribe&hub.verify_token=&hub.challenge=1", &Secrets::default()),
            Handshake::Forbidden,
            "no token is configured"
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        for (query, missing) in [
            ("", "hub.mode is missing"),
            ("hub.mode=subscribe", "hub.verify_token is missing"),
            ("hub.mode=subscribe&hub.verify_token=old+token", "hub.challenge is missing"),
            ("HUB.MODE=subscribe&hub.verify_token=old+token&hub.challenge=1", "hub.mode is missing"),
        ] {
            assert_eq!(answered(query), Handshake::Incomplete(missing), "{query}");
        }
    }

    #[test]
    fn a_challenge_has_a_bound() {
        let query =
            |length| format!("hub.mode=subscribe&hub.verify_token=old+token&hub.challenge={}", "1".repeat(length));
        assert_eq!(answered(&query(1024)), challenge("1".repeat(1024).as_bytes()));
        assert_eq!(answered(&query(1025)), Handshake::Incomplete("hub.challenge is too long"));
    }
}
