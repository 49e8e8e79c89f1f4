use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use super::*;
use crate::config::Auth;
use crate::event::Event;

fn source() -> WebexConnect {
    let config = WebexConnectConfig {
        auth: Auth { none: true, ..Auth::default() },
        timezone: Some("Asia/Kolkata".parse().unwrap()),
        max_body: 16 << 20,
    };
    WebexConnect::new("connect".parse().unwrap(), &config)
}

fn received_at() -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_789_400_000_000).unwrap()
}

fn split(body: impl Into<Bytes>) -> Split {
    let source = source();
    let request = Received {
        headers: HeaderMap::new(),
        query: String::new(),
        body: body.into(),
        client_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        request_id: "r".to_owned(),
    };
    source.split(&source.authenticate(request).unwrap(), received_at())
}

fn record(body: impl Into<Bytes>) -> Record {
    split(body).records.remove(0)
}

/// The CloudEvent that a sink receives.
fn event(record: Record) -> Value {
    let payload = source().decode(&record).into();
    let event = Event { record: record.into(), payload };
    serde_json::from_slice(&event.to_json(crate::event::Format::Cloudevents, false)).unwrap()
}

fn fixtures() -> BTreeMap<String, Bytes> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/webex-connect");
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap().into()))
        .collect()
}

#[test]
fn every_fixture_is_what_its_name_says() {
    let fixtures = fixtures();
    assert!(fixtures.len() > 150, "the folder was read");
    let mut kinds = BTreeSet::new();
    for (name, body) in fixtures {
        let Split { records, json } = split(body.clone());
        assert!(json, "{name}");
        let [record] = &records[..] else { panic!("{name} is {} records", records.len()) };
        let kind = match name.split('.').next() {
            Some("delivery") => Kind::ConnectDeliveryNotification,
            Some("message") => Kind::ConnectMessage,
            Some("postback") => Kind::ConnectPostback,
            Some("event") => Kind::ConnectEvent,
            Some("unrecognized") => Kind::ConnectUnrecognized,
            _ => panic!("{name} names no kind"),
        };
        assert_eq!(record.kind, kind, "{name}");
        assert_eq!(record.raw, body, "{name}: the exact bytes");
        let payload = source().decode(record);
        let typed = matches!(payload, Payload::DeliveryNotification(_) | Payload::ConnectEvent(_));
        assert_eq!(typed, kind != Kind::ConnectUnrecognized, "{name}");
        agrees(record, &payload);
        kinds.insert(kind);
    }
    let of_connect = Kind::ALL.iter().filter(|kind| kind.source_type() == SourceType::WebexConnect);
    assert_eq!(kinds, of_connect.copied().collect(), "each kind has a fixture");
}

/// What was fixed when the record was stored is what its typed view says.
fn agrees(record: &Record, payload: &Payload) {
    let (person, time) = match payload {
        Payload::DeliveryNotification(notification) => (&notification.destination, notification.timestamp),
        Payload::ConnectEvent(event) => (&event.user.id, event.timestamp),
        _ => (&None, None),
    };
    assert_eq!(record.subject.as_ref().map(Subject::as_str), person.as_deref());
    assert_eq!(record.occurred_at, time);
}

#[test]
fn no_two_fixtures_are_one_event() {
    let ids: std::collections::BTreeSet<_> = fixtures().into_values().map(|body| record(body).id).collect();
    assert_eq!(ids.len(), fixtures().len());
}

/// What each of these fixtures is for. A value stands as text, JSON as JSON.
const INTENT: &[(&str, &[(&str, &str)])] = &[
    (
        "delivery.submitted",
        &[
            ("/type", "webex_connect.delivery_notification"),
            ("/subject", "1368028456544331"),
            ("/time", "2016-07-21T07:14:23.644Z"),
            ("/data/channel", "fb"),
            ("/data/status", "submitted"),
            ("/data/status_text", "Submited"),
            ("/data/code", "7501"),
            ("/data/code_meaning", "submitted (interim)"),
            ("/data/description", "Submited"),
            ("/data/destination_type", "psid"),
            ("/data/transaction_id", "4b72d8a2-290d-49e2-993e-3bd8edf31c81"),
            ("/data/correlation_id", "3bd8edf31c81-4b72d8a2-290d-49e2-993e"),
            ("/data/callback_data", "return callbackdata"),
            ("/data/timestamp", "2016-07-21T07:14:23.644Z"),
            ("/data/timestamp_text", "2016-07-21T12:44:23.644"),
            ("/data/contradictory", "false"),
            ("/data/sub_transaction_id", "null"),
            ("/data/extra", "{}"),
        ],
    ),
    (
        "delivery.delivered",
        &[("/data/status", "delivered"), ("/data/callback_data", "null"), ("/data/correlation_id", "cid")],
    ),
    (
        "delivery.failed",
        &[
            ("/data/status", "failed"),
            ("/data/code", "7010"),
            ("/data/sub_transaction_id", "null"),
            ("/time", "2020-02-24T14:23:34.633Z"),
        ],
    ),
    ("delivery.read", &[("/data/status", "read"), ("/data/code_meaning", "read"), ("/data/correlation_id", "null")]),
    (
        "delivery.channel.instagram",
        &[
            ("/data/timestamp", "2026-09-14T09:30:15.250Z"),
            ("/data/timestamp_text", "1789378215250"),
            ("/data/extra", "{}"),
        ],
    ),
    (
        "delivery.channel.push.ios",
        &[("/subject", "null"), ("/data/destination", "null"), ("/data/extra/pushId", "push-0002")],
    ),
    (
        "delivery.channel.unknown",
        &[("/data/channel", "carrierpigeon"), ("/data/destination_type", "null"), ("/data/status", "delivered")],
    ),
    ("delivery.channel.whatsapp", &[("/data/extra/waidNormalized", "false"), ("/data/extra/waid", "919000000002")]),
    ("delivery.channel.apple", &[("/data/extra/interaction", r#"{"type":"list","selected":["blue"]}"#)]),
    ("delivery.status.un_delivered", &[("/data/status", "undelivered"), ("/data/status_text", "Un-Delivered")]),
    ("delivery.status.bounce", &[("/data/status", "bounced"), ("/data/contradictory", "false")]),
    ("delivery.status.complaint", &[("/data/status", "complaint")]),
    ("delivery.status.clicked", &[("/data/status", "clicked")]),
    ("delivery.status.not_verified", &[("/data/status", "not_verified")]),
    ("delivery.status.not_verified.other_spelling", &[("/data/status", "not_verified")]),
    (
        "delivery.status.voice.trombone_released",
        &[("/data/status", "other"), ("/data/status_text", "TROMBONE_RELEASED")],
    ),
    ("delivery.status.unknown", &[("/data/status", "other")]),
    (
        "delivery.status.empty",
        &[("/data/status", "null"), ("/data/status_text", "null"), ("/data/contradictory", "false")],
    ),
    ("delivery.code.7303", &[("/data/code_meaning", "endpoint not reachable")]),
    ("delivery.code.7303.instagram", &[("/data/code", "7303"), ("/data/code_meaning", "null")]),
    (
        "delivery.code.2018336",
        &[("/data/code", "2018336"), ("/data/code_meaning", "refused for European privacy rules")],
    ),
    ("delivery.code.number", &[("/data/code", "7500"), ("/data/code_meaning", "delivered")]),
    (
        "delivery.code.placeholder",
        &[("/data/code", "<dynamic code>"), ("/data/code_meaning", "null"), ("/data/contradictory", "false")],
    ),
    (
        "delivery.contradictory.delivered_but_failed",
        &[("/data/contradictory", "true"), ("/data/status", "failed"), ("/data/code", "7500")],
    ),
    ("delivery.contradictory.failed_but_read", &[("/data/contradictory", "true")]),
    ("delivery.contradictory.submitted_but_delivered", &[("/data/contradictory", "true")]),
    (
        "delivery.additional_info.object",
        &[("/data/additional_info", "null"), ("/data/extra/additionalInfo/code", "131026")],
    ),
    (
        "delivery.additional_info.object_beside",
        &[("/data/additional_info", "Message undeliverable"), ("/data/extra/additional_info/code", "131026")],
    ),
    (
        "delivery.callback_data.json_text",
        &[("/data/callback_data", r#"{"order":4711,"note":"ünïcode 😀"}"#), ("/data/sub_transaction_id", "sub-1")],
    ),
    (
        "delivery.in_app.clicked",
        &[
            ("/data/sub_transaction_id", "sub-2"),
            ("/data/correlation_id", "corr-2"),
            ("/data/callback_data", "order=4711"),
            ("/data/extra", "{}"),
        ],
    ),
    (
        "delivery.voice.trans_info",
        &[("/data/extra/deliveryTransInfo", r#"<?xml version="1.0"?><cdr><duration unit="s">42</duration></cdr>"#)],
    ),
    (
        "delivery.extra.same_name_on_every_level",
        &[(
            "/data/extra",
            r#"{"region":"inner","deliveryInfoNotification.region":"middle","$.region":"outer","node":"n-1"}"#,
        )],
    ),
    (
        "delivery.ids.numbers",
        &[
            ("/subject", "123456789012345678901"),
            ("/data/transaction_id", "9007199254740993"),
            ("/data/correlation_id", "18446744073709551617"),
        ],
    ),
    ("delivery.time.offset", &[("/data/timestamp", "2026-09-14T09:30:15.250Z")]),
    ("delivery.time.zoneless", &[("/data/timestamp", "2026-09-14T09:30:15.250Z")]),
    ("delivery.time.epoch_seconds", &[("/data/timestamp", "2026-09-14T09:30:15.000Z")]),
    (
        "delivery.time.unreadable",
        &[
            ("/data/timestamp", "null"),
            ("/data/timestamp_text", "2026-09-14T09.30.15:250ZZ"),
            ("/time", "2026-09-14T15:33:20.000Z"),
        ],
    ),
    (
        "delivery.time.unreadable_and_epoch",
        &[("/data/timestamp", "2026-09-14T09:30:15.250Z"), ("/data/extra/timeStamp", "yesterday")],
    ),
    (
        "delivery.time.both",
        &[("/data/timestamp_text", "2026-09-14T09:30:15.250Z"), ("/data/extra/timestamp", "1789378216000")],
    ),
    ("delivery.time.missing", &[("/data/timestamp", "null"), ("/data/timestamp_text", "null")]),
    ("delivery.odd.flat", &[("/data/status", "delivered"), ("/subject", "9876500000000001")]),
    (
        "delivery.odd.wrong_types",
        &[
            ("/data/status", "null"),
            ("/data/extra/deliveryStatus", r#"{"value":"Delivered"}"#),
            ("/data/extra/callbackData/order", "4711"),
        ],
    ),
    ("delivery.odd.info_is_a_list", &[("/data/extra/deliveryInfo", r#"[{"deliveryStatus":"Delivered"}]"#)]),
    ("delivery.odd.lone_surrogate", &[("/data/description", "cut off �"), ("/data/additional_info", "a NUL � inside")]),
    (
        "message.messenger.text",
        &[
            ("/type", "webex_connect.message"),
            ("/subject", "1037878796267914"),
            ("/time", "2015-04-12T13:00:19.456Z"),
            ("/data/channel", "Facebook"),
            ("/data/event", "MO"),
            ("/data/app_id", "a_636035637428953782"),
            ("/data/transaction_id", "38b0b8da-c3ed-44cd-bc9e-2403bea529cd_0"),
            ("/data/user/id", "1037878796267914"),
            ("/data/user/id_type", "psid"),
            ("/data/user/connect_user_id", "8953"),
            ("/data/user/locale", "en_US"),
            ("/data/user/gender", "male"),
            ("/data/user/timezone", "5.5"),
            ("/data/text", "Simple Text"),
            ("/data/attachments", "[]"),
            ("/data/postback", "null"),
            ("/data/extra", "{}"),
        ],
    ),
    (
        "message.messenger.image",
        &[
            ("/data/text", "null"),
            ("/data/attachments/0/type", "image"),
            (
                "/data/attachments/0/url",
                "https://scontent.xx.fbcdn.net/v/t35.0-12/13682620_539022026303737_1111397419_o.jpg?_nc_ad=z-m&oh=5f15c5db7900be7a79ec5f7810a3d4be&oe=579C2B3D",
            ),
        ],
    ),
    ("message.messenger.video", &[("/data/attachments/0/type", "video")]),
    ("message.messenger.audio", &[("/data/attachments/0/type", "audio")]),
    ("message.messenger.file", &[("/data/attachments/0/type", "file")]),
    (
        "message.messenger.sticker",
        &[("/data/attachments/0/type", "sticker"), ("/data/attachments/0/sticker_id", "298592933654239")],
    ),
    (
        "message.messenger.location",
        &[
            ("/data/attachments/0/type", "location"),
            ("/data/attachments/0/title", "Joe's Location"),
            ("/data/attachments/0/coordinates", r#"{"lat":17.434871564442,"long":78.398511094914}"#),
        ],
    ),
    (
        "message.messenger.link",
        &[
            ("/data/attachments/0/type", "link"),
            ("/data/attachments/0/url", "https://www.goal.com/"),
            ("/data/attachments/0/title", "Goal.com"),
        ],
    ),
    (
        "message.messenger.2024",
        &[
            ("/data/user/name", "Asha Example"),
            ("/data/user/locale", "null"),
            ("/data/attachments", "[]"),
            ("/data/text", "Hello 👋"),
        ],
    ),
    ("message.messenger.no_attachments", &[("/data/attachments", "[]"), ("/data/extra", "{}")]),
    ("message.messenger.several_attachments", &[("/data/attachments/1/type", "video")]),
    (
        "message.messenger.unknown_attachment",
        &[
            ("/data/attachments/0/type", "other"),
            ("/data/attachments/0/type_text", "hologram"),
            ("/data/attachments/0/extra/payload/depth", "3"),
        ],
    ),
    ("message.messenger.attachments_real_array", &[("/data/attachments/0/type", "image")]),
    ("message.messenger.attachments_real_object", &[("/data/attachments/0/type", "image")]),
    (
        "message.messenger.attachments_plain_text",
        &[
            ("/data/attachments/0/type", "other"),
            ("/data/attachments/0/payload_text", r#"[{"type":"image","payload":{"url""#),
        ],
    ),
    (
        "message.messenger.attachment_strings",
        &[("/data/attachments/0/type", "image"), ("/data/attachments/1/payload_text", "loose text")],
    ),
    ("message.messenger.truncated_emoji", &[("/data/text", "cut off �"), ("/data/attachments/0/title", "cut off �")]),
    ("message.messenger.numbers", &[("/subject", "123456789012345678901"), ("/data/text", "42")]),
    ("message.messenger.time_unreadable", &[("/data/timestamp", "null"), ("/data/extra/ts", "soon")]),
    ("message.messenger.time_zoneless", &[("/time", "2026-09-14T09:30:15.250Z")]),
    (
        "message.messenger.times_differ",
        &[("/data/timestamp", "2026-09-14T09:30:15.250Z"), ("/data/extra/timeStamp", "2026-09-14T09:30:16.000Z")],
    ),
    ("message.whatsapp.text", &[("/data/user/id_type", "waid")]),
    ("message.whatsapp.bsuid", &[("/subject", "IN.13491208655302741918"), ("/data/user/id_type", "bsuid")]),
    ("message.whatsapp.user_handle", &[("/subject", "@asha"), ("/data/user/id_type", "userhandle")]),
    (
        "message.rcs.attachment",
        &[("/data/event", "ATTACHMENT"), ("/data/attachments/0/type", "image"), ("/subject", "+919000000003")],
    ),
    (
        "message.apple.text",
        &[
            ("/subject", "urn:mbid:AQAAYexampleexample1"),
            ("/data/user/id_type", "abcuserid"),
            ("/data/extra/intent", "billing"),
        ],
    ),
    (
        "message.in_app.text",
        &[("/subject", "customer-5521"), ("/data/user/id_type", "userid"), ("/data/user/connect_user_id", "null")],
    ),
    (
        "message.sms.text",
        &[
            ("/subject", "919000000001"),
            ("/data/event", "null"),
            ("/data/user/id_type", "msisdn"),
            ("/data/user/connect_user_id", "9009"),
            ("/data/extra/da", "918000000000"),
        ],
    ),
    ("message.sms.capital_key", &[("/data/channel", "SMS"), ("/data/extra/Channel", "null")]),
    ("message.sms.empty_event", &[("/data/event", "null")]),
    (
        "message.sms.json_text",
        &[("/data/text", r#"[{"url":"https://files.example.com/no-file"}]"#), ("/data/attachments", "[]")],
    ),
    ("message.sms.misspelt_user_id", &[("/data/user/connect_user_id", "9009"), ("/time", "2026-09-14T09:30:15.456Z")]),
    ("message.sms.only_destination", &[("/subject", "null"), ("/data/text", "From nobody")]),
    ("message.mms.text", &[("/data/text", "Simple text"), ("/data/attachments", "[]")]),
    (
        "message.mms.files",
        &[
            ("/data/text", "null"),
            ("/data/attachments/0/type", "image"),
            ("/data/attachments/0/url", "https://files.example.com/m/1.jpg"),
            ("/data/attachments/1/type", "file"),
            ("/data/attachments/2/url", "https://files.example.com/m/3"),
        ],
    ),
    ("message.mms.files_real_list", &[("/data/text", "null"), ("/data/attachments/2/type", "file")]),
    ("message.mms.urls", &[("/data/text", "null"), ("/data/attachments/1/url", "https://files.example.com/m/2.vcf")]),
    ("message.mms.text_that_is_json", &[("/data/text", "[1, 2, 3]"), ("/data/attachments", "[]")]),
    (
        "message.email.text",
        &[("/subject", "asha@example.com"), ("/data/user/id_type", "email"), ("/data/extra/subject", "My order")],
    ),
    (
        "message.email.inbound_message",
        &[
            ("/data/event", "Inbound Message"),
            ("/data/attachments/0/type", "image"),
            ("/data/attachments/1/type", "file"),
            ("/data/attachments/1/extra/content", "aGVsbG8="),
        ],
    ),
    (
        "message.instagram.story_mention",
        &[
            ("/data/user/id_type", "igsid"),
            ("/data/attachments/0/type", "other"),
            ("/data/attachments/0/type_text", "story_mention"),
        ],
    ),
    ("message.unknown_channel", &[("/subject", "919000000009")]),
    ("message.no_user", &[("/subject", "null"), ("/data/user/id", "null")]),
    (
        "postback.messenger",
        &[
            ("/type", "webex_connect.postback"),
            ("/data/event", "OnPostback"),
            ("/data/postback/payload", "1232"),
            ("/data/user/name", "Joe James"),
            ("/data/text", "null"),
        ],
    ),
    (
        "postback.messenger.2024",
        &[("/data/postback/title", "Get Started"), ("/data/postback/extra/referral/ref", "ad-1")],
    ),
    ("postback.messenger.real_object", &[("/data/postback/payload", "YES")]),
    ("postback.messenger.empty", &[("/data/postback", "null")]),
    ("postback.messenger.unparsable", &[("/data/postback/payload", r#"{"payload":"1232""#)]),
    ("postback.rcs", &[("/data/postback/payload", "Welcome"), ("/data/postback/title", "null")]),
    ("postback.whatsapp", &[("/data/postback/payload", "CONFIRM")]),
    ("postback.instagram", &[("/data/postback/payload", "ICEBREAKER_1"), ("/data/postback/extra/mid", "aWdfexample")]),
    ("postback.in_app", &[("/data/postback/payload", "MENU")]),
    (
        "event.messenger.optin",
        &[("/type", "webex_connect.event"), ("/data/event", "OnOptin"), ("/data/extra/optin/ref", "newsletter")],
    ),
    ("event.messenger.optin_plain_text", &[("/data/extra/optin", "newsletter")]),
    ("event.messenger.optin_empty", &[("/data/extra", "{}")]),
    ("event.rcs.location", &[("/data/extra/location/latitude", "17.434871564442")]),
    ("event.email.subscribe", &[("/data/event", "Subscribe"), ("/subject", "asha@example.com")]),
    ("event.unknown", &[("/data/event", "OnTeleport")]),
    ("unrecognized.list", &[("/type", "webex_connect.unrecognized"), ("/data/fields/0/oa", "919000000001")]),
    ("unrecognized.number", &[("/data/fields", "9007199254740993")]),
    ("unrecognized.text", &[("/data/fields", "TEST")]),
    ("unrecognized.empty_object", &[("/data/fields", "{}"), ("/subject", "null")]),
];

#[test]
fn every_variation_decodes_as_intended() {
    let fixtures = fixtures();
    for (name, fields) in INTENT {
        let event = event(record(fixtures.get(*name).unwrap_or_else(|| panic!("no fixture {name}")).clone()));
        for (pointer, expected) in *fields {
            let value = event.pointer(pointer).unwrap_or(&Value::Null);
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            assert_eq!(text, *expected, "{name} {pointer}");
        }
    }
}

#[test]
fn what_leaves_fits_its_published_schema() {
    let validator = |schema: schemars::Schema| jsonschema::validator_for(schema.as_value()).unwrap();
    let notification = validator(schemars::schema_for!(DeliveryNotification));
    let message = validator(schemars::schema_for!(ConnectEvent));
    for (name, body) in fixtures() {
        let event = event(record(body));
        let validator = match event["type"].as_str() {
            Some("webex_connect.delivery_notification") => &notification,
            Some("webex_connect.unrecognized") => continue,
            _ => &message,
        };
        let errors: Vec<String> = validator.iter_errors(&event["data"]).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
}

#[test]
fn a_body_that_is_not_json_is_kept() {
    for body in [
        &b"a=1&b=2"[..],
        b"{\"channel\":\"sms\",\"oa\":\"1\"} x",
        b"{\"a\":\"\xff\"}",
        b"\x1f\x8b\x08\x00",
        b" ",
        b"1 2",
    ] {
        let Split { records, json } = split(body);
        assert!(!json);
        assert_eq!(records[0].kind, Kind::ConnectUnrecognized);
        assert_eq!(records[0].raw, body);
        assert!(matches!(source().decode(&records[0]), Payload::Opaque));
    }
}

#[test]
fn nesting_costs_only_what_nests() {
    let deep = format!("{}1{}", "[{\"a\":".repeat(5000), "}]".repeat(5000));
    let message = format!(r#"{{"channel":"sms","oa":"919000000001","da":"1","message":"x","y":{deep}}}"#);
    let event = event(record(message.clone()));
    assert_eq!(event["type"], "webex_connect.message");
    assert_eq!(event["subject"], "919000000001");
    assert_eq!(event["data"]["text"], "x");
    assert!(event["data"]["extra"]["y"] == deep, "the JSON as text");

    let unrecognized = record(deep.clone());
    assert_eq!(unrecognized.kind, Kind::ConnectUnrecognized);
    match source().decode(&unrecognized) {
        Payload::Unrecognized(Unrecognized { fields }) => assert!(fields.get() == deep),
        _ => panic!("kept as JSON"),
    }
}

#[test]
fn unrecognized_json_leaves_as_sent_but_for_what_no_text_can_be() {
    let record = record("{ \"a\" : 1.0e400 ,\n \"b\": \"\\u0000 \\ud83d \\/ \u{e9}\" }");
    match source().decode(&record) {
        Payload::Unrecognized(Unrecognized { fields }) => {
            assert_eq!(fields.get(), "{\"a\":1.0e400,\"b\":\"\\ufffd \\ufffd \\/ \u{e9}\"}");
        }
        _ => panic!("kept as JSON"),
    }
}

#[test]
fn a_record_that_no_longer_fits_its_kind_is_kept() {
    let mut record = record("[]");
    record.kind = Kind::ConnectMessage;
    assert!(matches!(source().decode(&record), Payload::Unrecognized(_)));
    record.kind = Kind::ConnectDeliveryNotification;
    assert!(matches!(source().decode(&record), Payload::Unrecognized(_)));
    record.raw = Bytes::from_static(b"\x00");
    assert!(matches!(source().decode(&record), Payload::Opaque));
}

#[test]
fn an_encoded_body_is_not_looked_into() {
    let source = source();
    let request = Received {
        headers: HeaderMap::from_iter([(http::header::CONTENT_ENCODING, http::HeaderValue::from_static("gzip"))]),
        query: String::new(),
        body: fixtures()["delivery.submitted"].clone(),
        client_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        request_id: "r".to_owned(),
    };
    let split = source.split(&source.authenticate(request).unwrap(), received_at());
    assert!(!split.json);
    assert_eq!(split.records[0].kind, Kind::ConnectUnrecognized);
    assert!(matches!(source.decode(&split.records[0]), Payload::Opaque));
}

#[test]
fn the_handshake_is_empty() {
    assert_eq!(source().handshake("hub.mode=subscribe&hub.challenge=1"), Handshake::Empty);
}

mod mutated {
    use std::sync::LazyLock;

    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;
    use serde_json::json;

    use super::*;

    /// What happens to the bytes of a body.
    #[derive(Debug, Clone)]
    enum Change {
        Set(Index, u8),
        Insert(Index, Vec<u8>),
        Remove(Index, usize),
        Repeat(Index, usize),
        Cut(Index),
    }

    fn change() -> impl Strategy<Value = Change> {
        let token = prop_oneof![
            vec(any::<u8>(), 0..8),
            prop::sample::select(vec![
                "{",
                "}",
                "[",
                "]",
                ",",
                ":",
                "\"",
                "\\",
                "null",
                "true",
                "1e999",
                "-0",
                "\\u0000",
                "\\ud83d",
                "\\\\ud83d",
                "{\"deliveryInfoNotification\":",
                "\"event\":\"\",",
                "\"channel\":\"mms\",",
                "[[[[[[[[",
                "\u{feff}",
            ])
            .prop_map(|token| token.as_bytes().to_vec()),
        ];
        prop_oneof![
            (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
            (any::<Index>(), token).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
            (any::<Index>(), 1..40_usize).prop_map(|(at, len)| Change::Remove(at, len)),
            (any::<Index>(), 1..40_usize).prop_map(|(at, len)| Change::Repeat(at, len)),
            any::<Index>().prop_map(Change::Cut),
        ]
    }

    fn apply(change: Change, body: &mut Vec<u8>) {
        let range = |at: Index, len: usize| {
            let start = at.index(body.len() + 1);
            start..(start + len).min(body.len())
        };
        match change {
            Change::Set(at, byte) if !body.is_empty() => {
                let at = at.index(body.len());
                body[at] = byte;
            }
            Change::Set(..) => {}
            Change::Insert(at, bytes) => {
                let at = at.index(body.len() + 1);
                body.splice(at..at, bytes);
            }
            Change::Remove(at, len) => drop(body.drain(range(at, len))),
            Change::Repeat(at, len) => {
                let range = range(at, len);
                let copy = body[range.clone()].to_vec();
                body.splice(range.start..range.start, copy);
            }
            Change::Cut(at) => body.truncate(at.index(body.len() + 1)),
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            Just(json!("[{\"type\":\"image\"}]")),
            Just(json!("{\"payload\":{}}")),
            Just(json!("2026-09-14T09:30:15")),
            Just(json!("9223372036854775807")),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(Value::from),
                vec((prop_oneof![any::<String>(), name()], inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    fn name() -> impl Strategy<Value = String> {
        prop::sample::select(vec![
            "deliveryInfoNotification",
            "deliveryInfo",
            "deliveryChannel",
            "deliveryStatus",
            "code",
            "destination",
            "timeStamp",
            "timestamp",
            "transid",
            "channel",
            "Channel",
            "event",
            "oa",
            "da",
            "psid",
            "userId",
            "userld",
            "ts",
            "message",
            "attachments",
            "postback",
            "optin",
            "payload",
            "type",
            "url",
            "$serde_json::private::Number",
            "$serde_json::private::RawValue",
        ])
        .prop_map(str::to_owned)
    }

    /// Replaces one value somewhere inside, or adds a member.
    fn graft(tree: &mut Value, path: &[Index], name: &str, new: Value) {
        match (tree, path) {
            (Value::Object(members), [at, path @ ..]) if !members.is_empty() && !path.is_empty() => {
                let at = at.index(members.len());
                if let Some(member) = members.values_mut().nth(at) {
                    graft(member, path, name, new);
                }
            }
            (Value::Array(items), [at, path @ ..]) if !items.is_empty() && !path.is_empty() => {
                let at = at.index(items.len());
                graft(&mut items[at], path, name, new);
            }
            (Value::Object(members), _) => drop(members.insert(name.to_owned(), new)),
            (other, _) => *other = new,
        }
    }

    fn holds(body: Vec<u8>) {
        let body = Bytes::from(body);
        let Split { records, json } = split(body.clone());
        assert_eq!(json, json::is_json(&body));
        let [record] = &records[..] else { panic!("{} records", records.len()) };
        assert_eq!(record.raw, body);
        assert_eq!(record.id, super::record(body.clone()).id);
        let payload = source().decode(record);
        match &payload {
            Payload::DeliveryNotification(_) => assert_eq!(record.kind, Kind::ConnectDeliveryNotification),
            Payload::ConnectEvent(_) => assert_ne!(record.kind, Kind::ConnectUnrecognized),
            Payload::Unrecognized(_) => assert!(json && record.kind == Kind::ConnectUnrecognized),
            Payload::Opaque => assert!(!json),
            _ => panic!("a payload of another sender"),
        }
        agrees(record, &payload);
        let event = Event { record: record.clone().into(), payload: payload.into() };
        for format in [crate::event::Format::Cloudevents, crate::event::Format::Raw] {
            assert!(json::is_json(&event.to_json(format, true)));
        }
    }

    static SEEDS: LazyLock<Vec<Bytes>> = LazyLock::new(|| fixtures().into_values().collect());

    proptest! {
        #[test]
        fn bytes_cost_nothing(changes in vec(change(), 1..6), which: Index) {
            let mut body = which.get(SEEDS.as_slice()).to_vec();
            for change in changes {
                apply(change, &mut body);
            }
            holds(body);
        }

        #[test]
        fn structure_costs_nothing(which: Index, path in vec(any::<Index>(), 0..5), name in name(), new in any_json()) {
            let seed: &Bytes = which.get(SEEDS.as_slice());
            // One seed is deeper than a parser goes.
            let Ok(mut tree) = serde_json::from_slice::<Value>(&repair(seed)) else { return Ok(()) };
            graft(&mut tree, &path, &name, new);
            holds(tree.to_string().into_bytes());
        }

        #[test]
        fn noise_costs_nothing(body in vec(any::<u8>(), 0..200)) {
            holds(body);
        }
    }
}
