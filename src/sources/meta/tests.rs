use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::LazyLock;

use chrono::SecondsFormat;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::Value;

use super::*;
use crate::event::{Event, Format};

/// Every fixture and the kinds it splits into. A test walks the folder, so that none is forgotten here.
const FIXTURES: &[(&str, &[&str])] = &[
    ("account-linking.linked", &["meta.account_linking"]),
    ("account-linking.unlinked", &["meta.account_linking"]),
    ("bare.message", &["meta.message"]),
    ("bare.postback", &["meta.postback"]),
    (
        "batch.ten-mixed",
        &[
            "meta.message_echo",
            "meta.message",
            "meta.delivery",
            "meta.read",
            "meta.reaction",
            "meta.postback",
            "meta.referral",
            "meta.handover",
            "meta.event",
            "meta.unrecognized",
        ],
    ),
    ("batch.two-entries", &["meta.message", "meta.message"]),
    ("change.bare", &["meta.change"]),
    ("change.dashboard-test", &["meta.change"]),
    ("change.feed", &["meta.change"]),
    ("change.several", &["meta.change", "meta.change"]),
    ("change.whatsapp-message-echoes", &["meta.change"]),
    ("change.without-value", &["meta.change"]),
    ("delivery.mids", &["meta.delivery"]),
    ("delivery.watermark", &["meta.delivery"]),
    ("echo.appointment-booking", &["meta.message_echo"]),
    ("echo.attachment.empty", &["meta.message_echo"]),
    ("echo.attachment.payload-missing", &["meta.message_echo"]),
    ("echo.attachment.payload-null", &["meta.message_echo"]),
    ("echo.attachment.payload-text", &["meta.message_echo"]),
    ("echo.attachment.wrong-types", &["meta.message_echo"]),
    ("echo.attachments.several", &["meta.message_echo"]),
    ("echo.attachments.wrong-types", &["meta.message_echo"]),
    ("echo.audio", &["meta.message_echo"]),
    ("echo.deleted", &["meta.message_echo"]),
    ("echo.ephemeral", &["meta.message_echo"]),
    ("echo.escapes", &["meta.message_echo"]),
    ("echo.extras", &["meta.message_echo"]),
    ("echo.fallback", &["meta.message_echo"]),
    ("echo.fallback.capitals", &["meta.message_echo"]),
    ("echo.fallback.inside", &["meta.message_echo"]),
    ("echo.fallback.nothing", &["meta.message_echo"]),
    ("echo.fallback.text", &["meta.message_echo"]),
    ("echo.file", &["meta.message_echo"]),
    ("echo.ids-are-numbers", &["meta.message_echo"]),
    ("echo.ig-reel", &["meta.message_echo"]),
    ("echo.image", &["meta.message_echo"]),
    ("echo.image.attachment-id", &["meta.message_echo"]),
    ("echo.image.sticker", &["meta.message_echo"]),
    ("echo.like-heart", &["meta.message_echo"]),
    ("echo.location", &["meta.message_echo"]),
    ("echo.lone-surrogate", &["meta.message_echo", "meta.message_echo"]),
    ("echo.metadata.empty", &["meta.message_echo"]),
    ("echo.metadata.json", &["meta.message_echo"]),
    ("echo.mid.forms", &["meta.message_echo", "meta.message_echo", "meta.message_echo", "meta.message_echo"]),
    ("echo.nested-200-deep", &["meta.message_echo", "meta.message_echo"]),
    ("echo.nul", &["meta.message_echo", "meta.message_echo"]),
    ("echo.numbers-beyond-2-53", &["meta.message_echo"]),
    ("echo.post", &["meta.message_echo"]),
    ("echo.prior-message", &["meta.message_echo"]),
    ("echo.quick-reply", &["meta.message_echo"]),
    ("echo.reel", &["meta.message_echo"]),
    ("echo.reply-to", &["meta.message_echo"]),
    ("echo.reply-to.alone", &["meta.message_echo"]),
    ("echo.seed.button", &["meta.message_echo"]),
    ("echo.seed.common", &["meta.message_echo"]),
    ("echo.seed.fallback", &["meta.message_echo"]),
    ("echo.seed.image", &["meta.message_echo"]),
    ("echo.seed.products", &["meta.message_echo"]),
    ("echo.seed.standby", &["meta.message_echo"]),
    ("echo.seed.text", &["meta.message_echo"]),
    ("echo.share", &["meta.message_echo"]),
    ("echo.sticker", &["meta.message_echo"]),
    ("echo.story-mention", &["meta.message_echo"]),
    ("echo.template.airline-boardingpass", &["meta.message_echo"]),
    ("echo.template.airline-update", &["meta.message_echo"]),
    ("echo.template.button", &["meta.message_echo"]),
    ("echo.template.generic", &["meta.message_echo"]),
    ("echo.template.list", &["meta.message_echo"]),
    ("echo.template.media", &["meta.message_echo"]),
    ("echo.template.media.attachment-id-text", &["meta.message_echo"]),
    ("echo.template.media.url", &["meta.message_echo"]),
    ("echo.template.null", &["meta.message_echo"]),
    ("echo.template.product", &["meta.message_echo"]),
    ("echo.template.receipt", &["meta.message_echo"]),
    ("echo.text", &["meta.message_echo"]),
    ("echo.text.app-id-missing", &["meta.message_echo"]),
    ("echo.text.app-id-null", &["meta.message_echo"]),
    ("echo.text.app-id-text", &["meta.message_echo"]),
    ("echo.text.instagram-inbox", &["meta.message_echo"]),
    ("echo.text.other-app", &["meta.message_echo"]),
    ("echo.text.page-inbox", &["meta.message_echo"]),
    ("echo.text.page-inbox-documented", &["meta.message_echo"]),
    ("echo.time.empty", &["meta.message_echo"]),
    ("echo.time.iso", &["meta.message_echo"]),
    ("echo.time.missing", &["meta.message_echo"]),
    ("echo.time.nowhere", &["meta.message_echo"]),
    ("echo.time.null", &["meta.message_echo"]),
    ("echo.time.seconds", &["meta.message_echo"]),
    ("echo.time.text", &["meta.message_echo"]),
    ("echo.time.unreadable", &["meta.message_echo"]),
    ("echo.time.zero", &["meta.message_echo"]),
    ("echo.unsupported-type", &["meta.message_echo"]),
    ("echo.utf8", &["meta.message_echo"]),
    ("echo.video", &["meta.message_echo"]),
    ("echo.wire", &["meta.message_echo"]),
    ("envelope.entry-id-number", &["meta.message_echo"]),
    ("envelope.keys-twice", &["meta.message_echo", "meta.message", "meta.message"]),
    ("envelope.object-last", &["meta.message_echo"]),
    ("envelope.object-missing", &["meta.message_echo"]),
    ("envelope.time-seconds", &["meta.message_echo"]),
    ("envelope.time-text", &["meta.message_echo"]),
    ("event.game-play", &["meta.event"]),
    ("event.message-request", &["meta.event"]),
    ("event.messaging-feedback", &["meta.event"]),
    ("event.order", &["meta.event"]),
    ("event.policy-enforcement", &["meta.event"]),
    ("event.policy-enforcement-older", &["meta.event"]),
    ("event.response-feedback", &["meta.event"]),
    ("handover.app-roles", &["meta.handover"]),
    ("handover.pass", &["meta.handover"]),
    ("handover.request", &["meta.handover"]),
    ("handover.take", &["meta.handover"]),
    ("message-edit", &["meta.message_edit"]),
    ("message.deleted", &["meta.message"]),
    ("message.empty", &["meta.message"]),
    ("message.fallback", &["meta.message"]),
    ("message.image", &["meta.message"]),
    ("message.is-echo-false", &["meta.message"]),
    ("message.location", &["meta.message"]),
    ("message.nlp", &["meta.message"]),
    ("message.prior-message", &["meta.message"]),
    ("message.quick-reply", &["meta.message"]),
    ("message.referral", &["meta.message"]),
    ("message.reply-to", &["meta.message"]),
    ("message.reply-to.story", &["meta.message"]),
    ("message.sender-missing", &["meta.message"]),
    ("message.sender-user-ref", &["meta.message"]),
    ("message.sticker", &["meta.message"]),
    ("message.text", &["meta.message"]),
    ("message.unsupported", &["meta.message"]),
    ("optin.notification-messages", &["meta.optin"]),
    ("optin.user-ref", &["meta.optin"]),
    ("postback.button", &["meta.postback"]),
    ("postback.referral", &["meta.postback"]),
    ("reaction.of-the-page", &["meta.reaction"]),
    ("reaction.react", &["meta.reaction"]),
    ("reaction.unreact", &["meta.reaction"]),
    ("read.mid", &["meta.read"]),
    ("read.watermark", &["meta.read"]),
    ("referral.ad", &["meta.referral"]),
    ("referral.link", &["meta.referral"]),
    ("standby.beside-messaging", &["meta.message", "meta.message_echo"]),
    ("standby.echo.text", &["meta.message_echo"]),
    ("standby.message.text", &["meta.message"]),
    ("standby.read", &["meta.read"]),
    ("unrecognized.empty-entry", &["meta.unrecognized"]),
    ("unrecognized.empty-item", &["meta.unrecognized"]),
    ("unrecognized.entry-null", &["meta.unrecognized"]),
    ("unrecognized.entry-of-another-type", &["meta.unrecognized"]),
    (
        "unrecognized.entry-without-lists",
        &["meta.unrecognized", "meta.unrecognized", "meta.unrecognized", "meta.unrecognized"],
    ),
    ("unrecognized.event-key", &["meta.unrecognized"]),
    (
        "unrecognized.items-of-other-types",
        &["meta.unrecognized", "meta.unrecognized", "meta.unrecognized", "meta.unrecognized", "meta.message"],
    ),
    ("unrecognized.json-list", &["meta.unrecognized"]),
    ("unrecognized.list-of-another-type", &["meta.message_echo", "meta.unrecognized"]),
    ("unrecognized.message-null", &["meta.unrecognized"]),
    ("unrecognized.object-unknown", &["meta.unrecognized"]),
    ("unrecognized.other-object", &["meta.unrecognized"]),
    ("unrecognized.test-message", &["meta.unrecognized"]),
];

fn fixture(name: &str) -> Bytes {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/meta").join(format!("{name}.json"));
    std::fs::read(&file).unwrap_or_else(|error| panic!("{name}: {error}")).into()
}

fn source() -> SourceName {
    "messenger".parse().unwrap()
}

fn arrival() -> Arc<Arrival> {
    Arc::new(Arrival {
        request_id: "r".to_owned(),
        client_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        proofs: Vec::new(),
        content_type: None,
        content_encoding: None,
        user_agent: None,
        wx_gtrid: None,
    })
}

fn split_body(body: impl Into<Bytes>) -> Split {
    split(&source(), &body.into(), &arrival(), DateTime::UNIX_EPOCH)
}

fn records(body: impl Into<Bytes>) -> Vec<Record> {
    split_body(body).records
}

fn apps() -> Apps {
    Apps { own: vec!["862914073551208".to_owned()], page_inbox: PAGE_INBOX_APP_IDS.map(str::to_owned).into() }
}

/// The CloudEvent of a record.
fn emitted(record: Record) -> Value {
    let payload = Arc::new(decode(&record, &apps()));
    let event = Event { record: Arc::new(record), payload };
    serde_json::from_slice(&event.to_json(Format::Cloudevents, false)).expect("an event is JSON")
}

/// `data` of the only event of a fixture.
fn data(name: &str) -> Value {
    let mut records = records(fixture(name));
    assert_eq!(records.len(), 1, "{name}");
    emitted(records.remove(0))["data"].take()
}

/// The value at a path such as `attachments.0.url`.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, step| match step.parse::<usize>() {
        Ok(position) => &value[position],
        Err(_) => &value[step],
    })
}

#[test]
fn every_fixture_splits_into_its_kinds() {
    for (name, kinds) in FIXTURES {
        let split = split_body(fixture(name));
        let found: Vec<_> = split.records.iter().map(|record| record.kind.as_str()).collect();
        assert_eq!(found, *kinds, "{name}");
        assert!(split.json, "{name}");
    }
}

#[test]
fn every_fixture_is_listed_and_every_kind_has_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/meta");
    let files: BTreeSet<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| {
            file.unwrap()
                .file_name()
                .into_string()
                .unwrap()
                .strip_suffix(".json")
                .expect("fixtures are JSON")
                .to_owned()
        })
        .collect();
    let listed: BTreeSet<_> = FIXTURES.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(files, listed);
    let kinds: BTreeSet<_> = FIXTURES.iter().flat_map(|(_, kinds)| *kinds).copied().collect();
    let of_meta = Kind::ALL.iter().filter(|kind| kind.source_type() == SourceType::Meta);
    assert_eq!(kinds, of_meta.map(|kind| kind.as_str()).collect());
}

#[test]
fn fixtures_are_events_of_their_own() {
    // The examples on Meta's page share mids and times; their bytes tell them apart.
    let mut ids = BTreeMap::new();
    for (name, _) in FIXTURES {
        for record in records(fixture(name)) {
            if let Some(other) = ids.insert(record.id, *name) {
                panic!("{name} and {other} hold the same event");
            }
        }
    }
}

#[test]
fn every_typed_field_comes_from_where_it_stands() {
    for (name, path, expected) in [
        ("echo.text", "object", r#""page""#),
        ("echo.text", "page_id", r#""104927135872001""#),
        ("echo.text", "sender_id", r#""104927135872001""#),
        ("echo.text", "recipient_id", r#""5083217764421199""#),
        ("echo.text", "standby", "false"),
        ("echo.text", "text", r#""Your table is booked for eight.""#),
        ("echo.text", "metadata", r#""order-4711""#),
        ("echo.text", "app_id", r#""862914073551208""#),
        ("echo.text", "origin", r#""own_app""#),
        ("echo.text", "attachments", "[]"),
        ("echo.text", "reply_to", "null"),
        ("echo.text", "is_deleted", "null"),
        ("echo.text", "extra", "{}"),
        ("echo.text.app-id-text", "origin", r#""own_app""#),
        ("echo.text.app-id-null", "origin", r#""unattributed""#),
        ("echo.text.app-id-missing", "app_id", "null"),
        ("echo.text.app-id-missing", "origin", r#""unattributed""#),
        ("echo.text.page-inbox", "origin", r#""page_inbox""#),
        ("echo.text.page-inbox-documented", "origin", r#""page_inbox""#),
        ("echo.text.instagram-inbox", "origin", r#""page_inbox""#),
        ("echo.text.instagram-inbox", "object", r#""instagram""#),
        ("echo.text.other-app", "origin", r#""other_app""#),
        ("echo.metadata.json", "metadata", r#""{\"ticket\":81,\"tags\":[\"vip\"]}""#),
        ("echo.metadata.empty", "metadata", "null"),
        ("echo.seed.common", "page_id", r#""<PAGE_ID>""#),
        ("echo.seed.common", "timestamp", r#""2016-03-12T06:29:57.627Z""#),
        ("echo.seed.standby", "standby", "true"),
        ("echo.seed.standby", "attachments.0.url", r#""https://www.facebook.com/commerce/update/""#),
        ("echo.seed.standby", "attachments.0.template.elements.0.attachment_id", r#""2457235337685388""#),
        ("echo.seed.products", "attachments.0.type", r#""product""#),
        ("echo.seed.fallback", "attachments.0.title", r#""Legacy Attachment""#),
        ("echo.sticker", "attachments.0.sticker_id", r#""369239263222822""#),
        ("echo.image.sticker", "extra.message.sticker_id", "369239343222814"),
        ("echo.location", "attachments.0.coordinates.lat", "48.137154"),
        ("echo.like-heart", "attachments.0.type_text", r#""like_heart""#),
        ("echo.attachment.payload-text", "attachments.0.payload_text", r#""https://cdn.example.com/file/2""#),
        ("echo.attachments.wrong-types", "attachments", "[]"),
        ("echo.attachments.wrong-types", "extra.message.attachments.type", r#""image""#),
        ("echo.attachments.wrong-types", "extra.message.text", r#"["not","text"]"#),
        ("echo.attachments.wrong-types", "extra.message.metadata.k", "1"),
        ("echo.template.receipt", "attachments.0.template.extra.order_number", "12345678902"),
        ("echo.template.receipt", "attachments.0.template.extra.summary.subtotal", "75.0"),
        ("echo.template.generic", "attachments.0.template.elements.0.buttons.0.payload", r#""ORDER:soup""#),
        ("echo.template.product", "attachments.0.products.1.id", r#""4102838169757556""#),
        ("echo.template.product", "attachments.0.products.1.retailer_id", r#""1002""#),
        ("echo.fallback.capitals", "attachments.0.url", r#""https://www.example.com/legacy""#),
        ("echo.reply-to.alone", "reply_to.is_self_reply", "true"),
        ("echo.deleted", "is_deleted", "true"),
        ("echo.quick-reply", "extra.message.quick_reply.payload", r#""COLOUR:red""#),
        ("echo.extras", "extra.message.brand_new.since", "2026"),
        ("echo.prior-message", "extra.prior_message.identifier", r#""ref-9""#),
        ("echo.numbers-beyond-2-53", "app_id", r#""900719925474099312""#),
        ("echo.numbers-beyond-2-53", "attachments.0.attachment_id", r#""900719925474099315""#),
        ("echo.numbers-beyond-2-53", "extra.message.campaign", "900719925474099317"),
        ("echo.ids-are-numbers", "recipient_id", r#""900719925474099319""#),
        ("echo.ids-are-numbers", "mid", r#""12345678901234567890""#),
        ("echo.ids-are-numbers", "text", r#""815""#),
        ("echo.escapes", "text", "\"Grüße ä 😀 \\\"quoted\\\"\""),
        ("echo.time.seconds", "timestamp", r#""2026-09-10T12:00:00.000Z""#),
        ("echo.time.text", "timestamp", r#""2026-09-10T12:00:00.123Z""#),
        ("echo.time.iso", "timestamp", r#""2026-09-10T12:00:00.000Z""#),
        ("echo.time.zero", "timestamp", "null"),
        ("echo.time.unreadable", "extra.timestamp", r#""yesterday""#),
        ("message.quick-reply", "quick_reply.payload", r#""COLOUR:green""#),
        ("message.reply-to.story", "reply_to.extra.story.id", r#""17900000000000002""#),
        ("message.is-echo-false", "extra", "{}"),
        ("message.sender-user-ref", "sender_id", "null"),
        ("message.sender-user-ref", "extra.sender.user_ref", r#""ref-77""#),
        ("message-edit", "num_edit", "1"),
        ("reaction.react", "action", r#""react""#),
        ("reaction.of-the-page", "page_id", r#""104927135872001""#),
        ("delivery.mids", "watermark", r#""2026-09-10T12:00:00.253Z""#),
        ("delivery.mids", "extra.delivery.seq", "37"),
        ("delivery.watermark", "mids", "[]"),
        ("read.watermark", "watermark", r#""2026-09-10T12:00:00.255Z""#),
        ("postback.referral", "referral.ref", r#""flyer-3""#),
        ("referral.ad", "fields.referral.ad_id", "6045246247433"),
        ("optin.user-ref", "page_id", r#""104927135872001""#),
        ("change.feed", "page_id", r#""104927135872001""#),
        ("change.feed", "fields.value.created_time", "1789041600"),
        ("unrecognized.test-message", "fields.message", r#""TEST_MESSAGE""#),
        ("unrecognized.event-key", "fields.brand_new_event.id", "900719925474099321"),
        ("unrecognized.empty-item", "fields", "{}"),
        ("unrecognized.json-list", "fields.0.a", "1"),
    ] {
        assert_eq!(at(&data(name), path).to_string(), expected, "{name} {path}");
    }
}

#[test]
fn text_that_is_none_costs_neither_the_event_nor_its_neighbour() {
    for (name, expected) in
        [("echo.lone-surrogate", "A truncated emoji: \u{fffd}"), ("echo.nul", "Before\u{fffd}after")]
    {
        let body = fixture(name);
        let mut records = records(body.clone());
        let neighbour = emitted(records.remove(1));
        assert!(neighbour["data"]["text"].as_str().unwrap().starts_with("A neighbour"), "{name}");
        let record = records.remove(0);
        assert!(body.windows(record.raw.len()).any(|slice| slice == record.raw), "{name}: the bytes stay as they were");
        assert_eq!(decoded_text(&record), expected, "{name}");
    }
}

fn decoded_text(record: &Record) -> String {
    match decode(record, &apps()) {
        Payload::MessageEcho(echo) => echo.text.unwrap_or_default(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn nesting_beyond_what_a_parser_takes_costs_only_what_nests() {
    let mut records = records(fixture("echo.nested-200-deep"));
    let neighbour = emitted(records.remove(1));
    assert_eq!(neighbour["data"]["text"], "A neighbour of the deep.");
    let record = records.remove(0);
    assert_eq!(record.subject.as_ref().unwrap().as_str(), "5083217764421199");
    // What no parser takes stands in the typed view as its JSON text.
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let echo = emitted(record.clone());
    assert_eq!(echo["data"]["text"], "Deeper than a parser goes.");
    assert_eq!(echo["data"]["extra"]["message"]["nested"], deep);
    let event = Event { payload: Arc::new(decode(&record, &apps())), record: Arc::new(record) };
    assert!(json::is_json(&event.to_json(Format::Cloudevents, true)));
}

#[test]
fn subject_and_time_of_events() {
    for (name, subject, occurred) in [
        ("echo.seed.text", "<PSID>", "2016-03-12T06:29:57.627Z"),
        ("standby.echo.text", "5083217764421199", ""),
        ("message.text", "5083217764421199", ""),
        ("reaction.of-the-page", "5083217764421199", ""),
        ("message.sender-missing", "none", ""),
        ("message.sender-user-ref", "none", ""),
        ("optin.user-ref", "none", ""),
        ("change.dashboard-test", "none", "2026-09-10T12:00:03.000Z"),
        ("echo.time.nowhere", "5083217764421199", "none"),
        ("echo.time.seconds", "5083217764421199", "2026-09-10T12:00:00.000Z"),
    ] {
        let record = records(fixture(name)).remove(0);
        assert_eq!(record.subject.as_ref().map_or("none", Subject::as_str), subject, "{name}");
        let time = record.occurred_at.map_or("none".to_owned(), |t| t.to_rfc3339_opts(SecondsFormat::Millis, true));
        assert!(occurred.is_empty() || time == occurred, "{name}: {time}");
    }
    // Without a time of its own an item has that of its entry.
    for name in ["echo.time.missing", "echo.time.zero", "echo.time.unreadable"] {
        let record = records(fixture(name)).remove(0);
        assert!(record.occurred_at.is_some() && emitted(record)["data"]["timestamp"].is_null(), "{name}");
    }
}

fn ids(body: impl Into<Bytes>) -> Vec<String> {
    records(body).iter().map(|record| record.id.to_string()).collect()
}

#[test]
fn copies_of_an_event_have_one_id() {
    let echo = r#"{"sender":{"id":"P"},"recipient":{"id":"U"},"timestamp":1,"message":{"mid":"m","is_echo":true}}"#;
    let body = |list: &str, time: u32, item: &str| {
        format!(r#"{{"object":"page","entry":[{{"id":"P","time":{time},"{list}":[{item}]}}]}}"#)
    };
    assert_eq!(ids(body("messaging", 1, echo)), ids(body("messaging", 2, echo)), "a redelivery");
    assert_eq!(ids(body("messaging", 1, echo)), ids(body("standby", 1, echo)), "the list is no part of it");
    assert_eq!(ids(body("messaging", 1, echo)), ids(format!("\n {} ", body("messaging", 1, &format!(" {echo}\t")))));
    let timeless = echo.replace("\"timestamp\":1,", "");
    assert_ne!(ids(body("messaging", 1, &timeless)), ids(body("messaging", 2, &timeless)), "no time of its own");
    let zero = echo.replace("\"timestamp\":1,", "\"timestamp\":0,");
    assert_ne!(ids(body("messaging", 1, &zero)), ids(body("messaging", 2, &zero)));
    let unreadable = echo.replace("\"timestamp\":1,", "\"timestamp\":\"x\",");
    assert_eq!(ids(body("messaging", 1, &unreadable)), ids(body("messaging", 2, &unreadable)));
    let unsent = echo.replace("\"mid\"", "\"is_deleted\":true,\"mid\"");
    assert_ne!(ids(body("messaging", 1, echo)), ids(body("messaging", 1, &unsent)), "one mid, two events");
    let change = r#"{"timestamp":1,"field":"feed","value":1}"#;
    assert_ne!(ids(body("changes", 1, change)), ids(body("changes", 2, change)), "changes have the time of the entry");
}

#[test]
fn a_body_that_is_not_json_is_kept_whole() {
    for body in [&b"hub=1"[..], b"{", b"{\"object\":\"page\"} x", b"\xff\xfe", b"\"\xc3\x28\"", b"[1,]", b" "] {
        let mut split = split_body(body);
        assert!(!split.json, "{body:?}");
        assert_eq!(split.records.len(), 1);
        let record = split.records.remove(0);
        assert_eq!((record.kind, &*record.raw), (Kind::MetaUnrecognized, body));
        assert!(matches!(decode(&record, &apps()), Payload::Opaque));
        assert!(emitted(record)["data_base64"].is_string());
    }
}

#[test]
fn an_encoded_body_is_not_looked_into() {
    let encoded = |encoding: &str| {
        let arrival = Arrival { content_encoding: Some(encoding.to_owned()), ..Arrival::clone(&arrival()) };
        split(&source(), &fixture("echo.text"), &Arc::new(arrival), DateTime::UNIX_EPOCH)
    };
    let split = encoded("gzip");
    assert!(!split.json);
    assert_eq!(split.records[0].raw, fixture("echo.text"));
    assert!(matches!(decode(&split.records[0], &apps()), Payload::Opaque));
    assert!(encoded("identity").json);
}

#[test]
fn what_has_no_place_in_an_envelope_is_kept_with_the_smallest_part_around_it() {
    for (body, expected) in [
        (r#"{"object":"page","entry":7}"#, &["meta.unrecognized {\"object\":\"page\",\"entry\":7}"][..]),
        (r#"{"entry":[7,{"messaging":"x"}]}"#, &["meta.unrecognized 7", "meta.unrecognized {\"messaging\":\"x\"}"]),
        (
            r#"{"entry":[{"read":{}},{"messaging":[{"read":{}}],"messaging":5}]}"#,
            &[
                "meta.unrecognized {\"read\":{}}",
                "meta.read {\"read\":{}}",
                "meta.unrecognized {\"messaging\":[{\"read\":{}}],\"messaging\":5}",
            ],
        ),
        (
            r#"{"entry":[{"messaging":[{"read":{}}]}],"entry":{}}"#,
            &[
                "meta.read {\"read\":{}}",
                "meta.unrecognized {\"entry\":[{\"messaging\":[{\"read\":{}}]}],\"entry\":{}}",
            ],
        ),
        (r#"{"entry":null,"read":{}}"#, &["meta.read {\"entry\":null,\"read\":{}}"]),
        (
            r#"{"entry":[{"changes":[null,{"message":{"is_echo":true}}]}]}"#,
            &["meta.change null", "meta.change {\"message\":{\"is_echo\":true}}"],
        ),
        ("null", &["meta.unrecognized null"]),
    ] {
        let found: Vec<_> = records(body.to_owned())
            .iter()
            .map(|record| format!("{} {}", record.kind, str::from_utf8(&record.raw).unwrap()))
            .collect();
        assert_eq!(found, expected, "{body}");
    }
}

#[test]
fn fields_are_as_deep_as_they_were_sent() {
    let deep = format!(r#"{{"referral":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let record = records(deep.clone()).remove(0);
    assert_eq!(record.kind, Kind::MetaReferral);
    let Payload::MetaFields(shown) = decode(&record, &apps()) else { panic!("not shown as sent") };
    assert_eq!(shown.fields.get(), deep);
    let event = Event { payload: Arc::new(Payload::MetaFields(shown)), record: Arc::new(record) };
    assert!(json::is_json(&event.to_json(Format::Cloudevents, true)));
}

#[test]
fn an_echo_stays_one_where_its_key_stands_twice() {
    let item = r#"{"sender":{"id":"P"},"recipient":{"id":"U"},"message":{"is_echo":true},"message":{"mid":"m"}}"#;
    let mut records = records(format!(r#"{{"object":"page","entry":[{{"id":"0","messaging":[{item}]}}]}}"#));
    let record = records.remove(0);
    assert_eq!((record.kind, record.subject.clone()), (Kind::MetaMessageEcho, Subject::new("U")));
    assert_eq!(emitted(record)["data"]["page_id"], "P");
}

#[test]
fn names_that_are_kept_with_every_item_have_a_bound() {
    let long = "1".repeat(MAX_NAME + 1);
    let records = records(format!(
        r#"{{"object":"page","entry":[{{"id":"{long}","messaging":[{{"sender":{{"id":"{long}"}},"read":{{}}}}]}}]}}"#
    ));
    let kinds: Vec<_> = records.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [Kind::MetaRead, Kind::MetaUnrecognized], "the entry is kept whole beside its item");
    assert_eq!(records[0].context.entry_id, None);
    assert_eq!(records[0].subject, None);
    assert!(str::from_utf8(&records[1].raw).unwrap().contains(&long));
}

#[test]
fn more_items_than_anyone_sends_are_kept_whole() {
    let body = |items: usize| format!(r#"{{"entry":[{{"messaging":[{}]}}]}}"#, vec!["{}"; items].join(","));
    assert_eq!(records(body(10_000)).len(), 10_000);
    let whole = records(body(10_001));
    assert_eq!(whole.len(), 1);
    assert_eq!(whole[0].raw.len(), body(10_001).len());
}

/// What is kept with every item, times the items, is the most that a small body can make of itself.
#[test]
fn small_bodies_stay_small() {
    let long = "1".repeat(MAX_NAME);
    let around = format!(r#"{{"object":"{long}","entry":[{{"id":"{long}","time":"{long}","messaging":["#);
    let body = format!("{around}{}]}}]}}", vec!["{}"; 100_000].join(","));
    assert_eq!(records(body).len(), 1);
    let most = format!("{around}{}]}}]}}", vec!["{}"; 9_000].join(","));
    let kept: usize = records(most).iter().map(|record| serde_json::to_vec(&record.context).unwrap().len()).sum();
    assert!(kept < 16 << 20, "{kept} bytes beside the items");
}

/// A piece of JSON that a mutation puts somewhere.
fn odd_value() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "null",
        "0",
        "-1",
        "true",
        "\"\"",
        "\"x\"",
        "[]",
        "{}",
        "[[]]",
        "{\"id\":1}",
        "1e999",
        "123456789012345678901234567890",
        "\"\\ud800\"",
        "\"\\u0000\"",
        "{\"$serde_json::private::Number\":\"x\"}",
        "{\"$serde_json::private::RawValue\":\"[\"}",
        "{\"is_echo\":true}",
        "{\"is_echo\":true,\"attachments\":[{\"payload\":{\"product\":{\"elements\":[null]}}}]}",
    ])
}

/// Any fixture.
fn any_fixture() -> impl Strategy<Value = Vec<u8>> {
    any::<Index>().prop_map(|index| fixture(index.get(FIXTURES).0).to_vec())
}

/// Splits, decodes and writes; every record is a slice of the body.
fn goes_through(body: Vec<u8>) -> Split {
    let body = Bytes::from(body);
    let split = split(&source(), &body, &arrival(), DateTime::UNIX_EPOCH);
    assert!(!split.records.is_empty());
    let within = body.as_ptr_range();
    for record in &split.records {
        let raw = record.raw.as_ptr_range();
        assert!(within.start <= raw.start && raw.end <= within.end, "a slice of the body, not a copy");
        let event = Event { record: Arc::new(record.clone()), payload: Arc::new(decode(record, &apps())) };
        assert!(json::is_json(&event.to_json(Format::Cloudevents, true)));
        assert!(json::is_json(&event.to_json(Format::Raw, false)));
    }
    split
}

/// The places in JSON text where a value stands: after a colon or comma, or in front of a list.
fn values(body: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut todo = vec![body];
    while let Some(text) = todo.pop() {
        let start = text.as_ptr() as usize - body.as_ptr() as usize;
        found.push((start, start + text.len()));
        if !json::each_field(text, |_, value| todo.push(value)) {
            json::each_item(text, |value| todo.push(value));
        }
    }
    found
}

proptest! {
    #[test]
    fn any_bytes_go_through(body in prop::collection::vec(any::<u8>(), 0..200)) {
        goes_through(body);
    }

    #[test]
    fn mutated_bytes_go_through(
        mut body in any_fixture(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>(), 0..4u8), 1..8),
    ) {
        for (place, byte, how) in changes {
            if body.is_empty() { break; }
            let place = place.index(body.len());
            match how {
                0 => body[place] = byte,
                1 => body.insert(place, byte),
                2 => _ = body.remove(place),
                _ => body.truncate(place),
            }
        }
        goes_through(body);
    }

    #[test]
    fn mutated_structure_goes_through(
        body in any_fixture(),
        changes in prop::collection::vec((any::<Index>(), odd_value()), 1..5),
    ) {
        let mut text = String::from_utf8(body).unwrap();
        for (place, value) in changes {
            // The text itself is among its values: replaced, it leaves no other.
            let places = values(&text);
            let (start, end) = *place.get(&places);
            text.replace_range(start..end, value);
        }
        prop_assert!(goes_through(text.into_bytes()).json);
    }

    #[test]
    fn an_item_never_costs_its_neighbours(
        others in prop::collection::vec(any::<Index>(), 1..6),
        place in any::<Index>(),
        wound in any::<Index>(),
        odd in odd_value(),
    ) {
                let mut batch: Vec<String> = others.iter().map(|index| index.get(&ITEMS).clone()).collect();
        let place = place.index(batch.len());
        let before = goes_through(envelope_of(&batch));
        let victim = batch[place].clone();
        let places = values(&victim);
        let (start, end) = *wound.get(&places);
        batch[place].replace_range(start..end, odd);
        let after = goes_through(envelope_of(&batch));
        prop_assert_eq!(before.records.len(), after.records.len());
        for (position, (before, after)) in before.records.iter().zip(&after.records).enumerate() {
            if position != place {
                prop_assert_eq!(shown(before), shown(after));
            }
        }
    }
}

/// Every item of `messaging` in the fixtures.
static ITEMS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let item = |record: &Record| matches!(record.context.place, Place::Messaging).then(|| record.raw.to_vec());
    FIXTURES
        .iter()
        .flat_map(|(name, _)| records(fixture(name)).iter().filter_map(item).collect::<Vec<_>>())
        .map(|item| String::from_utf8(item).unwrap())
        .collect()
});

fn envelope_of(items: &[String]) -> Vec<u8> {
    format!(r#"{{"object":"page","entry":[{{"id":"1","time":1789041600000,"messaging":[{}]}}]}}"#, items.join(","))
        .into_bytes()
}

/// All that is in a record and its payload.
fn shown(record: &Record) -> (String, &[u8], Option<&str>, String) {
    let payload = serde_json::to_string(&decode(record, &apps())).unwrap();
    (
        record.id.to_string(),
        &record.raw,
        record.subject.as_ref().map(Subject::as_str),
        format!("{} {:?} {payload}", record.kind, record.occurred_at),
    )
}
