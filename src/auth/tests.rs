//! The wrong doors: what a stranger may try at each scheme, and what each refuses it as.

use proptest::prelude::*;

use super::hmac_signature::{Algorithm, sign};
use super::*;
use crate::config::ApiKey;
use crate::secret::{Secret, Secrets};

const BODY: &[u8] = br#"{"object":"page","entry":[]}"#;

fn secrets(values: &[&str]) -> Secrets {
    Secrets::new(values.iter().map(|value| Secret::new(*value)).collect())
}

fn request(headers: &[(&str, &str)], query: &str, body: &[u8]) -> Received {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    Received {
        headers: map,
        query: query.to_owned(),
        body: Bytes::copy_from_slice(body),
        client_address: "192.0.2.7".parse().unwrap(),
        request_id: "r".to_owned(),
    }
}

fn signed_by(values: &[&str]) -> Auth {
    Auth { signature_secrets: secrets(values), ..Auth::default() }
}

fn signature(algorithm: Algorithm, secret: &str, body: &[u8]) -> String {
    sign(algorithm, &Secret::new(secret), body)
}

fn bare(signature: &str) -> String {
    signature.split_once('=').unwrap().1.to_owned()
}

/// The refusal, or the proofs as (scheme, position). What is refused before the body is read is refused alike.
fn outcome(schemes: &Schemes, request: Received) -> Result<Vec<(Scheme, usize)>, Refusal> {
    let screened = schemes.screen(&request);
    let verified = schemes.authenticate(request);
    if let Err(refusal) = screened {
        assert_eq!(verified.as_ref().err(), Some(&refusal));
    }
    let verified = verified?;
    Ok(verified.arrival().proofs.iter().map(|proof| (proof.scheme, proof.position)).collect())
}

#[test]
fn meta_takes_its_own_signature_by_any_of_its_secrets() {
    let schemes = Schemes::new(&signed_by(&["new", "old"]), SignatureRules::Meta);
    for (secret, position) in [("new", 0), ("old", 1)] {
        let header = signature(Algorithm::Sha256, secret, BODY);
        let verified = schemes.authenticate(request(&[("x-hub-signature-256", &header)], "", BODY)).unwrap();
        assert_eq!(verified.body(), BODY);
        assert!(verified.proven_by_secret());
        assert_eq!(verified.arrival().proofs, [Proof { scheme: Scheme::HmacSha256, position }]);
    }
}

#[test]
fn meta_refuses_every_wrong_door() {
    let schemes = Schemes::new(&signed_by(&["right"]), SignatureRules::Meta);
    let right = signature(Algorithm::Sha256, "right", BODY);
    let strong = |value: &str| vec![("x-hub-signature-256".to_owned(), value.to_owned())];
    let twice = [strong(&right), strong(&right)].concat();
    let trailing = [BODY, b"\n"].concat();
    let malformed = Refusal::Malformed(Scheme::HmacSha256);
    let missing = Refusal::Missing(Scheme::HmacSha256);
    let wrong = Refusal::Wrong(Scheme::HmacSha256);
    for (case, headers, body, refusal) in [
        ("no header", vec![], BODY, missing),
        ("empty header", strong(""), BODY, missing),
        ("prefix alone", strong("sha256="), BODY, malformed),
        ("no prefix", strong(&bare(&right)), BODY, malformed),
        ("truncated by a digit", strong(&right[..right.len() - 1]), BODY, malformed),
        ("truncated by a byte", strong(&right[..right.len() - 2]), BODY, malformed),
        ("a byte too long", strong(&format!("{right}00")), BODY, malformed),
        ("upper-case hex", strong(&format!("sha256={}", bare(&right).to_uppercase())), BODY, malformed),
        ("upper-case prefix", strong(&right.replace("sha256", "SHA256")), BODY, malformed),
        ("not hex", strong(&format!("sha256={}", "g".repeat(64))), BODY, malformed),
        ("all zeroes", strong(&format!("sha256={}", "0".repeat(64))), BODY, wrong),
        ("another algorithm", strong(&signature(Algorithm::Sha512, "right", BODY)), BODY, malformed),
        (
            "another algorithm under this name",
            strong(&format!("sha256={}", &bare(&signature(Algorithm::Sha512, "right", BODY))[..64])),
            BODY,
            wrong,
        ),
        ("another source's secret", strong(&signature(Algorithm::Sha256, "wrong", BODY)), BODY, wrong),
        ("twice", twice, BODY, malformed),
        ("trailing bytes", strong(&right), &trailing, wrong),
        ("empty body", strong(&right), b"", wrong),
        ("SHA-1 alone", vec![("x-hub-signature".to_owned(), signature(Algorithm::Sha1, "right", BODY))], BODY, missing),
        ("the other header", vec![("x-hub-signature".to_owned(), right.clone())], BODY, missing),
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(outcome(&schemes, request(&headers, "", body)), Err(refusal), "{case}");
    }
}

#[test]
fn sha1_is_never_a_way_around_a_better_signature() {
    let auth = Auth { allow_sha1: true, ..signed_by(&["right"]) };
    let schemes = Schemes::new(&auth, SignatureRules::Meta);
    let sha1 = signature(Algorithm::Sha1, "right", BODY);
    let forged = signature(Algorithm::Sha256, "wrong", BODY);
    let good = signature(Algorithm::Sha256, "right", BODY);
    assert_eq!(outcome(&schemes, request(&[("x-hub-signature", &sha1)], "", BODY)), Ok(vec![(Scheme::HmacSha1, 0)]));
    let both = request(&[("x-hub-signature", &sha1), ("x-hub-signature-256", &forged)], "", BODY);
    assert_eq!(outcome(&schemes, both), Err(Refusal::Wrong(Scheme::HmacSha256)));
    let empty = request(&[("x-hub-signature", &sha1), ("x-hub-signature-256", "")], "", BODY);
    assert_eq!(outcome(&schemes, empty), Err(Refusal::Missing(Scheme::HmacSha256)));
    let proper = request(&[("x-hub-signature", &sha1), ("x-hub-signature-256", &good)], "", BODY);
    assert_eq!(outcome(&schemes, proper), Ok(vec![(Scheme::HmacSha256, 0)]));
    assert_eq!(outcome(&schemes, request(&[], "", BODY)), Err(Refusal::Missing(Scheme::HmacSha256)));
}

#[test]
fn webex_connect_takes_every_way_it_writes_a_signature() {
    let auth = Auth { allow_sha1: true, ..signed_by(&["other", "right"]) };
    let schemes = Schemes::new(&auth, SignatureRules::WebexConnect);
    for algorithm in Algorithm::ALL {
        let with_prefix = signature(algorithm, "right", BODY);
        let proof = Ok(vec![(algorithm.scheme(), 1)]);
        for value in
            [with_prefix.clone(), with_prefix.to_uppercase(), bare(&with_prefix), bare(&with_prefix).to_uppercase()]
        {
            assert_eq!(outcome(&schemes, request(&[("x-hub-signature", &value)], "", BODY)), proof, "{value}");
        }
        let padded = [b"\r\n ", BODY, b"\n"].concat();
        let over_exact = signature(algorithm, "right", &padded);
        assert_eq!(outcome(&schemes, request(&[("x-hub-signature", &over_exact)], "", &padded)), proof, "exact bytes");
        assert_eq!(outcome(&schemes, request(&[("x-hub-signature", &with_prefix)], "", &padded)), proof, "trimmed");
    }
}

#[test]
fn webex_connect_refuses_every_wrong_door() {
    let schemes = Schemes::new(&signed_by(&["right"]), SignatureRules::WebexConnect);
    let right = signature(Algorithm::Sha256, "right", BODY);
    let header = |value: &str| vec![("x-hub-signature".to_owned(), value.to_owned())];
    let trailing = [BODY, b"}"].concat();
    let malformed = Refusal::Malformed(Scheme::HmacSha256);
    let missing = Refusal::Missing(Scheme::HmacSha256);
    let wrong = Refusal::Wrong(Scheme::HmacSha256);
    let sha1 = signature(Algorithm::Sha1, "right", BODY);
    for (case, headers, body, refusal) in [
        ("no header", vec![], BODY, missing),
        ("empty header", header(""), BODY, missing),
        ("prefix alone", header("sha256="), BODY, malformed),
        ("truncated", header(&bare(&right)[..62]), BODY, malformed),
        ("a length of no digest", header("00"), BODY, malformed),
        ("another algorithm's name", header(&right.replace("sha256", "sha512")), BODY, malformed),
        ("unknown algorithm", header(&right.replace("sha256", "md5")), BODY, malformed),
        ("two signs", header(&right.replace('=', "==")), BODY, malformed),
        ("not hex", header(&"g".repeat(64)), BODY, malformed),
        ("SHA-1 unasked for", header(&sha1), BODY, Refusal::NotAllowed(Scheme::HmacSha1)),
        ("SHA-1 without prefix", header(&bare(&sha1)), BODY, Refusal::NotAllowed(Scheme::HmacSha1)),
        (
            "another source's secret",
            header(&signature(Algorithm::Sha512, "wrong", BODY)),
            BODY,
            Refusal::Wrong(Scheme::HmacSha512),
        ),
        ("twice", [header(&right), header(&right)].concat(), BODY, malformed),
        ("trailing bytes", header(&right), &trailing, wrong),
        ("Meta's header", vec![("x-hub-signature-256".to_owned(), right.clone())], BODY, missing),
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(outcome(&schemes, request(&headers, "", body)), Err(refusal), "{case}");
    }
}

#[test]
fn basic_takes_its_pairs_and_nothing_else() {
    let auth = Auth { basic: secrets(&["ann:old", "bob:p:w"]), ..Auth::default() };
    let schemes = Schemes::new(&auth, SignatureRules::WebexConnect);
    let value = |pair: &str| basic::credentials(&Secret::new(pair)).to_str().unwrap().to_owned();
    let right = value("bob:p:w");
    let header = |value: &str| vec![("authorization".to_owned(), value.to_owned())];
    let (missing, malformed) = (Refusal::Missing(Scheme::Basic), Refusal::Malformed(Scheme::Basic));
    let wrong = Refusal::Wrong(Scheme::Basic);
    let held = Ok(vec![(Scheme::Basic, 1)]);
    for (case, headers, expected) in [
        ("right", header(&right), held.clone()),
        ("scheme in another case", header(&right.replace("Basic", "bASIC")), held.clone()),
        ("without padding", header(right.trim_end_matches('=')), held),
        ("no header", vec![], Err(missing)),
        ("empty header", header(""), Err(missing)),
        ("scheme alone", header("Basic"), Err(missing)),
        ("another scheme", header("Bearer bob:p:w"), Err(missing)),
        ("not base64", header("Basic bob:p:w"), Err(malformed)),
        ("truncated", header(&value("bob:p:")), Err(wrong)),
        ("another case", header(&value("bob:P:w")), Err(wrong)),
        ("the password alone", header(&value("p:w")), Err(wrong)),
        ("another user with this password", header(&value("ann:p:w")), Err(wrong)),
        ("trailing bytes", header(&value("bob:p:w\n")), Err(wrong)),
        ("twice", [header(&right), header(&right)].concat(), Err(malformed)),
        ("two in one", header(&format!("{right}, {right}")), Err(malformed)),
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(outcome(&schemes, request(&headers, "", BODY)), expected, "{case}");
    }
    assert_eq!(schemes.challenges(), [r#"Basic realm="hooksink""#]);
}

#[test]
fn bearer_takes_its_tokens_and_nothing_else() {
    let auth = Auth { bearer: secrets(&["first-token", "t0ken"]), ..Auth::default() };
    let schemes = Schemes::new(&auth, SignatureRules::WebexConnect);
    let right = bearer::credentials(&Secret::new("t0ken")).unwrap().to_str().unwrap().to_owned();
    let header = |value: &str| vec![("authorization".to_owned(), value.to_owned())];
    let (missing, malformed) = (Refusal::Missing(Scheme::Bearer), Refusal::Malformed(Scheme::Bearer));
    let wrong = Refusal::Wrong(Scheme::Bearer);
    for (case, headers, query, expected) in [
        ("right", header(&right), "", Ok(vec![(Scheme::Bearer, 1)])),
        ("scheme in another case", header("bearer t0ken"), "", Ok(vec![(Scheme::Bearer, 1)])),
        ("no header", vec![], "", Err(missing)),
        ("scheme alone", header("Bearer "), "", Err(missing)),
        ("another scheme", header("Basic t0ken"), "", Err(missing)),
        ("no scheme", header("t0ken"), "", Err(missing)),
        ("truncated", header("Bearer t0ke"), "", Err(wrong)),
        ("another case", header("Bearer T0KEN"), "", Err(wrong)),
        ("two tokens", header("Bearer t0ken t0ken"), "", Err(wrong)),
        ("twice", [header(&right), header("Bearer x")].concat(), "", Err(malformed)),
        ("in the query", vec![], "access_token=t0ken", Err(missing)),
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(outcome(&schemes, request(&headers, query, BODY)), expected, "{case}");
    }
    assert_eq!(schemes.challenges(), [r#"Bearer realm="hooksink""#]);
}

#[test]
fn an_api_key_is_taken_where_it_is_configured_and_only_once() {
    let key = |header: Option<&'static str>, query: Option<&str>| {
        let values = secrets(&["k&1", "k+2"]);
        let api_key = ApiKey { header: header.map(HeaderName::from_static), query: query.map(str::to_owned), values };
        Schemes::new(&Auth { api_key: Some(api_key), ..Auth::default() }, SignatureRules::WebexConnect)
    };
    let (missing, malformed) = (Refusal::Missing(Scheme::ApiKey), Refusal::Malformed(Scheme::ApiKey));
    let wrong = Refusal::Wrong(Scheme::ApiKey);
    let in_header = key(Some("x-api-key"), None);
    for (case, headers, query, expected) in [
        ("right", vec![("X-Api-Key", "k&1")], "", Ok(vec![(Scheme::ApiKey, 0)])),
        ("missing", vec![], "", Err(missing)),
        ("empty", vec![("x-api-key", "")], "", Err(missing)),
        ("wrong", vec![("x-api-key", "k&")], "", Err(wrong)),
        ("twice", vec![("x-api-key", "k&1"), ("x-api-key", "k&1")], "", Err(malformed)),
        ("in the query", vec![], "x-api-key=k%261", Err(missing)),
    ] {
        assert_eq!(outcome(&in_header, request(&headers, query, BODY)), expected, "header: {case}");
    }
    let in_query = key(None, Some("key"));
    for (case, headers, query, expected) in [
        ("right", vec![], "a=b&key=k%261", Ok(vec![(Scheme::ApiKey, 0)])),
        ("a plus is a plus", vec![], "key=k+2", Ok(vec![(Scheme::ApiKey, 1)])),
        ("an encoded name", vec![], "%6bey=k%2B2", Ok(vec![(Scheme::ApiKey, 1)])),
        ("missing", vec![], "keys=k%261", Err(missing)),
        ("empty", vec![], "key=", Err(missing)),
        ("no value", vec![], "key", Err(missing)),
        ("wrong", vec![], "key=k%262", Err(wrong)),
        ("twice", vec![], "key=x&key=k%261", Err(malformed)),
        ("in a header", vec![("key", "k&1")], "", Err(missing)),
    ] {
        assert_eq!(outcome(&in_query, request(&headers, query, BODY)), expected, "query: {case}");
    }
    let nowhere = key(None, None);
    assert_eq!(outcome(&nowhere, request(&[("x-api-key", "k&1")], "key=k%261", BODY)), Err(missing));
}

#[test]
fn an_address_proves_no_secret() {
    let auth = Auth {
        allow_addresses: vec!["198.51.100.0/24".parse().unwrap(), "192.0.2.7/32".parse().unwrap()],
        ..Auth::default()
    };
    let schemes = Schemes::new(&auth, SignatureRules::WebexConnect);
    let from = |address: &str| Received { client_address: address.parse().unwrap(), ..request(&[], "", BODY) };
    for (address, expected) in [
        ("192.0.2.7", Ok(vec![(Scheme::Address, 1)])),
        ("::ffff:192.0.2.7", Ok(vec![(Scheme::Address, 1)])),
        ("192.0.2.8", Err(Refusal::Wrong(Scheme::Address))),
        ("::1", Err(Refusal::Wrong(Scheme::Address))),
    ] {
        assert_eq!(outcome(&schemes, from(address)), expected, "{address}");
    }
    assert!(!schemes.authenticate(from("192.0.2.7")).unwrap().proven_by_secret());
}

#[test]
fn all_configured_schemes_must_hold() {
    let auth = Auth {
        signature_secrets: secrets(&["right"]),
        basic: secrets(&["ann:pw"]),
        allow_addresses: vec!["192.0.2.0/24".parse().unwrap()],
        ..Auth::default()
    };
    let schemes = Schemes::new(&auth, SignatureRules::WebexConnect);
    let hub = signature(Algorithm::Sha256, "right", BODY);
    let pair = basic::credentials(&Secret::new("ann:pw")).to_str().unwrap().to_owned();
    let (hub, pair) = (("x-hub-signature", hub.as_str()), ("authorization", pair.as_str()));
    let all = vec![(Scheme::Address, 0), (Scheme::Basic, 0), (Scheme::HmacSha256, 0)];
    assert_eq!(outcome(&schemes, request(&[hub, pair], "", BODY)), Ok(all));
    assert_eq!(outcome(&schemes, request(&[hub], "", BODY)), Err(Refusal::Missing(Scheme::Basic)));
    assert_eq!(outcome(&schemes, request(&[pair], "", BODY)), Err(Refusal::Missing(Scheme::HmacSha256)));
    let elsewhere = Received { client_address: "203.0.113.1".parse().unwrap(), ..request(&[hub, pair], "", BODY) };
    assert_eq!(outcome(&schemes, elsewhere), Err(Refusal::Wrong(Scheme::Address)));
}

/// The body is not there yet, and whoever has a right signature for it must get the chance to send it.
#[test]
fn what_no_body_can_mend_is_refused_before_it_is_read() {
    let key = ApiKey { header: Some(HeaderName::from_static("x-key")), query: None, values: secrets(&["key"]) };
    let right = signature(Algorithm::Sha256, "right", BODY);
    let wrong = signature(Algorithm::Sha256, "wrong", BODY);
    let short = &right[..right.len() - 1];
    for (auth, rules, headers, refusal) in [
        (signed_by(&["right"]), SignatureRules::Meta, vec![], Err(Refusal::Missing(Scheme::HmacSha256))),
        (
            signed_by(&["right"]),
            SignatureRules::Meta,
            vec![("x-hub-signature-256", short)],
            Err(Refusal::Malformed(Scheme::HmacSha256)),
        ),
        (signed_by(&["right"]), SignatureRules::Meta, vec![("x-hub-signature-256", right.as_str())], Ok(())),
        (signed_by(&["right"]), SignatureRules::Meta, vec![("x-hub-signature-256", wrong.as_str())], Ok(())),
        (signed_by(&["right"]), SignatureRules::WebexConnect, vec![("x-hub-signature", right.as_str())], Ok(())),
        (
            signed_by(&["right"]),
            SignatureRules::WebexConnect,
            vec![("x-hub-signature", short)],
            Err(Refusal::Malformed(Scheme::HmacSha256)),
        ),
        (
            Auth { api_key: Some(key.clone()), ..Auth::default() },
            SignatureRules::WebexConnect,
            vec![("x-key", "no")],
            Err(Refusal::Wrong(Scheme::ApiKey)),
        ),
        (Auth { api_key: Some(key), ..Auth::default() }, SignatureRules::WebexConnect, vec![("x-key", "key")], Ok(())),
        (Auth::default(), SignatureRules::Meta, vec![], Err(Refusal::Unconfigured)),
        (Auth { none: true, ..Auth::default() }, SignatureRules::Meta, vec![], Ok(())),
    ] {
        assert_eq!(Schemes::new(&auth, rules).screen(&request(&headers, "", b"")), refusal, "{headers:?}");
    }
}

#[test]
fn only_a_source_that_says_so_is_open() {
    let schemes = Schemes::new(&Auth::default(), SignatureRules::Meta);
    assert_eq!(outcome(&schemes, request(&[], "", BODY)), Err(Refusal::Unconfigured));
    let open = Schemes::new(&Auth { none: true, ..Auth::default() }, SignatureRules::Meta);
    let verified = open.authenticate(request(&[], "", BODY)).unwrap();
    assert!(verified.arrival().proofs.is_empty() && !verified.proven_by_secret());
    let contradictory = Schemes::new(&Auth { none: true, ..signed_by(&["right"]) }, SignatureRules::Meta);
    assert_eq!(outcome(&contradictory, request(&[], "", BODY)), Err(Refusal::Missing(Scheme::HmacSha256)));
}

#[test]
fn a_rotation_reaches_the_scheme() {
    let auth = signed_by(&["old"]);
    let schemes = Schemes::new(&auth, SignatureRules::Meta);
    let header = signature(Algorithm::Sha256, "new", BODY);
    let ask = || outcome(&schemes, request(&[("x-hub-signature-256", &header)], "", BODY));
    assert_eq!(ask(), Err(Refusal::Wrong(Scheme::HmacSha256)));
    auth.signature_secrets.replace(&secrets(&["new", "old"]));
    assert_eq!(ask(), Ok(vec![(Scheme::HmacSha256, 0)]));
    auth.signature_secrets.replace(&Secrets::default());
    assert_eq!(ask(), Err(Refusal::Wrong(Scheme::HmacSha256)), "a list that became empty opens nothing");
}

#[test]
fn the_evidence_of_arrival_is_bounded_text() {
    let open = Schemes::new(&Auth { none: true, ..Auth::default() }, SignatureRules::Meta);
    let mut received = request(&[("content-type", "application/json"), ("user-agent", "")], "", BODY);
    received.headers.insert("content-encoding", HeaderValue::from_bytes(b"g\xffzip").unwrap());
    received.headers.insert("x-wx-gtrid", HeaderValue::from_bytes("ä".repeat(5_000).as_bytes()).unwrap());
    let verified = open.authenticate(received).unwrap();
    let arrival = verified.arrival();
    assert_eq!(arrival.content_type.as_deref(), Some("application/json"));
    assert_eq!(arrival.content_encoding.as_deref(), Some("g\u{fffd}zip"));
    assert_eq!(arrival.user_agent, None);
    assert_eq!(arrival.wx_gtrid.as_deref(), Some("ä".repeat(256).as_str()));
}

#[test]
fn refusals_name_the_scheme_and_no_value() {
    assert_eq!(Refusal::Wrong(Scheme::HmacSha256).to_string(), "wrong credential for hmac_sha256");
    assert_eq!(Refusal::Missing(Scheme::ApiKey).to_string(), "no credential for api_key");
}

proptest! {
    /// No header value but the signature itself gets in, and none makes it panic.
    #[test]
    fn a_stranger_never_gets_in(value in "\\PC{0,80}|(sha(1|256|512)=)?[0-9a-fA-F]{0,130}", body in ".{0,40}") {
        for rules in [SignatureRules::Meta, SignatureRules::WebexConnect] {
            let auth = Auth { allow_sha1: true, ..signed_by(&["right"]) };
            let schemes = Schemes::new(&auth, rules);
            let mut received = request(&[], &value, body.as_bytes());
            let Ok(header) = HeaderValue::from_bytes(value.as_bytes()) else { continue };
            received.headers.insert("x-hub-signature", header.clone());
            received.headers.insert("x-hub-signature-256", header.clone());
            received.headers.insert("authorization", header);
            prop_assert!(schemes.authenticate(received).is_err());
        }
    }
}
