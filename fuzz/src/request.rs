//! Requests with signatures of our own making, and what holds for the records of either sender.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use chrono::{DateTime, Datelike, Utc};
use hmac::digest::block_api::EagerHash;
use hmac::{Hmac, KeyInit, Mac};
use hooksink::auth::{Received, Refusal, Verified};
use hooksink::config::{Auth, MetaConfig, SourceConfig, WebexConnectConfig};
use hooksink::event::{Context, Record};
use hooksink::names::SourceType;
use hooksink::secret::{Secret, Secrets};
use hooksink::sources::{Source, Sources, Split};
use http::{HeaderMap, HeaderValue};

/// The longest input that is looked at. What only long ones do has tests of its own, and short ones are fast.
pub(crate) const LONGEST: usize = 16 << 10;

/// What the sources of the targets are signed with.
pub(crate) const SECRET: &str = "secret of the fuzz targets";

static SOURCES: LazyLock<Sources> = LazyLock::new(|| {
    let auth = Auth { signature_secrets: Secrets::new(vec![Secret::new(SECRET)]), ..Auth::default() };
    let meta = MetaConfig {
        verify_token: Secrets::new(vec![Secret::new("token")]),
        auth: auth.clone(),
        own_app_ids: vec!["1517776481860111".to_owned()],
        page_inbox_app_ids: vec!["263902037430900".to_owned()],
        max_body: 1 << 20,
    };
    let connect = WebexConnectConfig { auth, timezone: "Asia/Kolkata".parse().ok(), max_body: 1 << 20 };
    let configured = [
        ("messenger".parse().expect("a name"), SourceConfig::Meta(meta)),
        ("connect".parse().expect("a name"), SourceConfig::WebexConnect(connect)),
    ];
    Sources::new(&configured.into())
});

/// One source of each sender: `messenger` and `connect`.
pub(crate) fn sources() -> &'static Sources {
    &SOURCES
}

pub(crate) fn source(sender: SourceType) -> &'static Arc<dyn Source> {
    let name = match sender {
        SourceType::Meta => "messenger",
        SourceType::WebexConnect => "connect",
    };
    SOURCES.get(name).expect("it is configured")
}

/// The time at which all requests of the targets arrive.
pub(crate) fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).expect("a time")
}

/// The header of a sender's signature.
pub(crate) fn header(sender: SourceType) -> &'static str {
    match sender {
        SourceType::Meta => "x-hub-signature-256",
        SourceType::WebexConnect => "x-hub-signature",
    }
}

/// The HMAC of a body, in lower-case hex.
pub(crate) fn hmac<D: EagerHash>(body: &[u8]) -> String
where
    Hmac<D>: KeyInit + Mac,
{
    let mut mac = <Hmac<D> as KeyInit>::new_from_slice(SECRET.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(body);
    mac.finalize().into_bytes().iter().fold(String::new(), |mut hex, byte| {
        _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Proves a request with this body and this signature. None if that cannot stand in a header.
pub(crate) fn authenticate(sender: SourceType, signature: &[u8], body: &[u8]) -> Option<Result<Verified, Refusal>> {
    let mut headers = HeaderMap::new();
    headers.insert(header(sender), HeaderValue::from_bytes(signature).ok()?);
    Some(authenticate_with(sender, headers, body))
}

fn authenticate_with(sender: SourceType, headers: HeaderMap, body: &[u8]) -> Result<Verified, Refusal> {
    let request = Received {
        headers,
        query: String::new(),
        body: Bytes::copy_from_slice(body),
        client_address: [192, 0, 2, 1].into(),
        request_id: "request".to_owned(),
    };
    source(sender).authenticate(request)
}

/// Splits an authentic body, and checks what holds for that of either sender: the bytes of each record are of the body,
/// what stands beside them can be kept, and another copy has the same ids.
pub(crate) fn split(sender: SourceType, content_type: Option<&[u8]>, body: &[u8]) -> (Verified, Split) {
    let signature = format!("sha256={}", hmac::<sha2::Sha256>(body));
    let mut headers = HeaderMap::new();
    headers.insert(header(sender), HeaderValue::from_str(&signature).expect("hex can stand in a header"));
    if let Some(value) = content_type.and_then(|value| HeaderValue::from_bytes(value).ok()) {
        headers.insert("content-type", value);
    }
    let proven = || authenticate_with(sender, headers.clone(), body).expect("the signature is right");
    let verified = proven();
    assert_eq!(verified.body(), body, "the bytes are those that were signed");
    let split = source(sender).split(&verified, now());
    assert!(!split.records.is_empty(), "what is authentic is kept");
    let within = verified.body().as_ptr_range();
    for record in &split.records {
        let raw = record.raw.as_ptr_range();
        assert!(within.start <= raw.start && raw.end <= within.end, "the bytes of a record are a part of the body");
        can_be_kept(sender, record);
    }
    let later = now() + chrono::TimeDelta::days(1);
    let copies = source(sender).split(&proven(), later).records;
    let ids = |records: &[Record]| records.iter().map(|record| record.id).collect::<Vec<_>>();
    assert_eq!(ids(&copies), ids(&split.records), "a copy has the same ids, whenever it comes");
    let different: BTreeSet<_> = split.records.iter().map(|record| record.raw.clone()).collect();
    assert!(ids(&split.records).iter().collect::<BTreeSet<_>>().len() >= different.len(), "other bytes, another id");
    (verified, split)
}

fn can_be_kept(sender: SourceType, record: &Record) {
    assert_eq!((record.source_type, record.kind.source_type()), (sender, sender));
    assert_eq!(record.id.0.get_version_num(), 5);
    assert_eq!(record.received_at, now());
    assert!(record.occurred_at.is_none_or(|time| (0..=9999).contains(&time.year())));
    assert!(record.subject.as_ref().is_none_or(|subject| !subject.as_str().is_empty()));
    let context = serde_json::to_string(&record.context).expect("a context is JSON");
    let again: Context = serde_json::from_str(&context).expect("what was written can be read");
    assert_eq!(serde_json::to_string(&again).expect("a context is JSON"), context);
}

/// Wrong signatures of a body are refused: a digit changed, one too few or too many, another body's.
pub(crate) fn refuses_wrong_signatures(sender: SourceType, body: &[u8]) {
    let right = hmac::<sha2::Sha256>(body);
    let at = body.len() % right.len();
    let digit = if &right[at..=at] == "0" { "1" } else { "0" };
    let mut other = body.to_vec();
    other.push(b'x');
    for wrong in [
        format!("sha256={}{digit}{}", &right[..at], &right[at + 1..]),
        format!("sha256={}", &right[1..]),
        format!("sha256={right}0"),
        format!("sha512={right}"),
        format!("sha256={}", hmac::<sha2::Sha256>(&other)),
    ] {
        let answer = authenticate(sender, wrong.as_bytes(), body).expect("hex can stand in a header");
        assert!(answer.is_err(), "{wrong}");
    }
}

/// A header and a body: what stands before and behind the first NUL. Without one all of it is the body.
pub(crate) fn parted(input: &[u8]) -> (Option<&[u8]>, &[u8]) {
    match input.iter().position(|byte| *byte == 0) {
        Some(at) => (Some(&input[..at]), &input[at + 1..]),
        None => (None, input),
    }
}
