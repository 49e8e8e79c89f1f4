//! Message echoes as Meta would send them, signed, each with a mark of its own.

use hooksink::auth::hmac_signature::{Algorithm, sign};
use hooksink::secret::Secret;

use crate::wire::request;

/// The app secret that signs them.
pub(crate) const SECRET: &str = "the app secret of these tests";

/// An echo's body: `mid` tells it apart, `person` is who was sent the message.
pub(crate) fn echo(mid: &str, person: &str) -> Vec<u8> {
    echoes(&[(mid, person)])
}

/// The body of several echoes.
pub(crate) fn echoes(of: &[(&str, &str)]) -> Vec<u8> {
    let item = |(mid, person): &(&str, &str)| {
        format!(
            r#"{{"sender":{{"id":"1906385232743451"}},"recipient":{{"id":"{person}"}},"timestamp":1762000000000,"message":{{"mid":"{mid}","is_echo":true,"text":"Gr\u00fc\u00dfe \/ \ud83d\ude00","app_id":1517776481860111}}}}"#
        )
    };
    let items: Vec<String> = of.iter().map(item).collect();
    format!(
        r#"{{"object":"page","entry":[{{"id":"1906385232743451","time":1762000000123,"messaging":[{}]}}]}}"#,
        items.join(",")
    )
    .into_bytes()
}

/// The value of `X-Hub-Signature-256` for a body.
pub(crate) fn signature(body: &[u8]) -> String {
    sign(Algorithm::Sha256, &Secret::new(SECRET), body)
}

/// A whole signed request.
pub(crate) fn echo_request(source: &str, mid: &str, person: &str) -> Vec<u8> {
    let body = echo(mid, person);
    request("POST", &format!("/webhooks/{source}"), &[("X-Hub-Signature-256", &signature(&body))], &body)
}
