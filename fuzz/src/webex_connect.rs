//! Authenticate and split of a `webex-connect` source. An input is a body, or a signature, a NUL and a body.

use hooksink::event::Kind;
use hooksink::names::SourceType;
use sha2::{Sha256, Sha512};

use super::json::Json;
use super::request::{LONGEST, authenticate, hmac, parted, refuses_wrong_signatures, split};

/// Only a right signature opens the door, and the body becomes one record.
pub fn check(input: &[u8]) {
    let (signature, body) = parted(input);
    if body.len() > LONGEST {
        return;
    }
    if let Some(signature) = signature
        && let Some(answer) = authenticate(SourceType::WebexConnect, signature, body)
    {
        assert_eq!(answer.is_ok(), is_right(signature, body), "{}", signature.escape_ascii());
    }
    refuses_wrong_signatures(SourceType::WebexConnect, body);
    let (_, split) = split(SourceType::WebexConnect, None, body);
    let json = str::from_utf8(body).ok().and_then(Json::read);
    assert_eq!(split.json, json.is_some(), "what is JSON and what is not");
    assert_eq!(split.records.len(), 1);
    let record = &split.records[0];
    assert_eq!(&*record.raw, body);
    let notified = json.as_ref().is_some_and(|json| {
        let body = json.root();
        body.is_object() && body.member("deliveryInfoNotification").is_some_and(|member| member.is_object())
    });
    assert_eq!(record.kind == Kind::ConnectDeliveryNotification, notified);
    if json.is_none() {
        assert_eq!((record.kind, record.occurred_at), (Kind::ConnectUnrecognized, None));
        assert!(record.subject.is_none());
    }
}

/// Hex in either case with or without the digest's name before it, over the body or the body without white space around.
fn is_right(signature: &[u8], body: &[u8]) -> bool {
    let signature = signature.to_ascii_lowercase();
    [body, body.trim_ascii()].iter().any(|body| {
        let (short, long) = (hmac::<Sha256>(body), hmac::<Sha512>(body));
        [format!("sha256={short}"), short, format!("sha512={long}"), long]
            .iter()
            .any(|right| right.as_bytes() == signature)
    })
}
