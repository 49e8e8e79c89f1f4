use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use chrono::DateTime;
use serde_json::Value as Json;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::*;
use crate::event::{Arrival, Context as Around, EventId, Format, Kind, Record, Subject};
use crate::model::Unrecognized;
use crate::names::SourceType;

/// An event whose `data` is `{"fields": …}`.
fn event(fields: &str) -> Event {
    let arrival = Arrival {
        request_id: String::new(),
        client_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        proofs: Vec::new(),
        content_type: None,
        content_encoding: None,
        user_agent: None,
        wx_gtrid: None,
    };
    let record = Record {
        id: EventId(Uuid::from_u128(7)),
        source: "connect".parse().unwrap(),
        source_type: SourceType::WebexConnect,
        kind: Kind::ConnectUnrecognized,
        subject: Subject::new("447700900123"),
        occurred_at: None,
        received_at: DateTime::from_timestamp(1_762_000_000, 0).unwrap(),
        context: Arc::new(Around::bare(Arc::new(arrival))),
        raw: Bytes::from(fields.to_owned()),
    };
    let fields = RawValue::from_string(fields.to_owned()).unwrap();
    Event { record: Arc::new(record), payload: Arc::new(Payload::Unrecognized(Unrecognized { fields })) }
}

const ORDER: &str = r#"{
    "status": "failed", "code": 7013, "price": 1.5, "big": 18446744073709551615, "none": null,
    "items": [{"id": "a", "tags": ["x", "y"]}, {"id": "b", "tags": []}], "text": "Grüße 😀"
}"#;

#[track_caller]
fn holds(expression: &str, fields: &str) -> Result<bool, Cannot> {
    Condition::compile(expression).unwrap_or_else(|error| panic!("{expression}: {error}")).holds(&event(fields))
}

#[track_caller]
fn makes(expression: &str, fields: &str) -> Result<String, Cannot> {
    let mapping = Mapping::compile(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    mapping.apply(&event(fields)).map(|event| String::from_utf8(event.to_json(Format::Raw, false)).unwrap())
}

#[test]
fn a_condition_looks_at_everything_an_event_has() {
    for (expression, expected) in [
        (r#"data.fields.status == "failed""#, true),
        (r#"data.fields.status in ["delivered", "read"]"#, false),
        ("data.fields.code >= 7000 && data.fields.code < 8000", true),
        ("data.fields.price > 1", true),
        ("data.fields.none == null", true),
        ("has(data.fields.status) && !has(data.fields.nothing)", true),
        (r#"data.fields.items.exists(i, i.tags.exists(t, t == "y"))"#, true),
        (r#"data.fields.items.all(i, i.id != "c") && size(data.fields.items) == 2"#, true),
        (r#"kind.startsWith("webex_connect.") && source == "connect" && sourcetype == "webex-connect""#, true),
        (r#"subject.matches("^4477[0-9]{8}$")"#, true),
        (r#"timestamp(receivedtime) > timestamp("2025-01-01T00:00:00Z") && time == receivedtime"#, true),
        (r#"type(data.fields.code) == int ? data.fields.code % 2 == 1 : false"#, true),
        (r#"id == "00000000-0000-0000-0000-000000000007""#, true),
    ] {
        assert_eq!(holds(expression, ORDER), Ok(expected), "{expression}");
    }
}

#[test]
fn what_has_no_result_is_told_by_its_kind() {
    for (expression, expected) in [
        ("data.fields.nothing == 1", Cannot::Missing),
        ("data.fields.items[9].id == \"a\"", Cannot::Missing),
        ("data.fields.status", Cannot::NoBoolean),
        ("data.fields.status > 5", Cannot::Types),
        ("data.fields.none.startsWith(\"a\")", Cannot::Types),
        ("data.fields.code / 0 == 1", Cannot::Computation),
        ("int(data.fields.status) == 1", Cannot::Computation),
    ] {
        assert_eq!(holds(expression, ORDER), Err(expected), "{expression}");
        // Nothing of the event is told.
        let text = expected.to_string();
        assert!(!text.contains("failed") && !text.contains("7013"), "{text}");
    }
}

#[test]
fn a_mapping_makes_json() {
    for (expression, expected) in [
        (r#"{"to": subject, "failed": data.fields.status == "failed"}"#, r#"{"failed":true,"to":"447700900123"}"#),
        ("data.fields.items.map(i, i.id)", r#"["a","b"]"#),
        (r#"data.fields.items.filter(i, size(i.tags) > 0).map(i, {"id": i.id})"#, r#"[{"id":"a"}]"#),
        ("data.fields.text + \"!\"", "\"Grüße 😀!\""),
        ("data.fields.big", "18446744073709551615"),
        ("data.fields.price", "1.5"),
        ("data.fields.none", "null"),
        ("timestamp(\"2026-01-02T03:04:05Z\")", "\"2026-01-02T03:04:05.000Z\""),
        ("{1: 2, true: null}", r#"{"1":2,"true":null}"#),
    ] {
        assert_eq!(makes(expression, ORDER).as_deref(), Ok(expected), "{expression}");
    }
    // All of `data` comes out as it went in, but for the order of names.
    let all: Json = serde_json::from_str(&makes("data", ORDER).unwrap()).unwrap();
    assert_eq!(all["fields"], serde_json::from_str::<Json>(ORDER).unwrap());
    for (expression, expected) in [("1.0 / 0.0", Cannot::NoJson), ("data.fields.nothing", Cannot::Missing)] {
        assert_eq!(makes(expression, ORDER), Err(expected), "{expression}");
    }
}

#[test]
fn a_body_that_is_not_json_has_no_data() {
    let event = Event { payload: Arc::new(Payload::Opaque), ..event("{}") };
    assert_eq!(Condition::compile("data == null").unwrap().holds(&event), Ok(true));
}

#[test]
fn what_cannot_work_is_said_when_it_is_compiled() {
    for (expression, expected) in [
        ("data.status ==", "this is no CEL expression"),
        ("dta.status == 1", "there is no \"dta\"; an expression sees id, source, sourcetype, kind, subject"),
        ("data.items.exists(i, j == 1)", "there is no \"j\""),
        ("sleep(5)", "there is no function \"sleep\"; there are bool, bytes"),
        ("data.a.replace(\"a\", data.b)", "there is no function \"replace\""),
        ("data.a.map(x, data.b.map(y, data.c.map(z, z)))", "may stand inside each other 2 deep"),
        ("Event{id: 1}", "there are no message types"),
        ("", "this is no CEL expression"),
    ] {
        let error = Condition::compile(expression).expect_err(expression);
        assert!(error.contains(expected) && !error.contains('\n'), "{expression:?}: {error}");
    }
    assert!(Condition::compile(&format!("data.a == \"{}\"", "x".repeat(MAX_EXPRESSION))).is_err());
    // Deeper than anybody writes, and no deeper than a stack.
    let deep = ["(", "!", "- ", "[", "1 + ", "true ? 1 : ", "true && !(", "data.a.map(x, ", "\"\\\"(\" + "];
    for deep in deep.map(|part| part.repeat(8_000 / part.len())) {
        assert!(Condition::compile(&format!("{deep}1")).is_err(), "{}", &deep[..10]);
    }
    // Texts of every form, and comments, hide nothing.
    for hiding in ["r\"\\\" == ", "\"\"\"\"\"\"\" == ", "'\\'' == ", "// \"\n"] {
        assert!(Condition::compile(&format!("{hiding}{}1", "(".repeat(3_000))).is_err(), "{hiding}");
    }
    assert!(Condition::compile("data.a == \"((\\\"[[\"").is_ok());
    for pattern in ["data.b", "5", "null"] {
        let error = Condition::compile(&format!("data.a.matches({pattern})")).unwrap_err();
        assert!(error.contains("takes a pattern in quotes"), "{error}");
    }
    // What no text can be compared with would keep all events away, one by one.
    for pattern in ["[", "(?!a)", "a{1000}{1000}{1000}"] {
        let error = Condition::compile(&format!("data.a.matches('{pattern}')")).unwrap_err();
        assert!(error.contains("takes a regular expression"), "{error}");
    }
}

#[test]
fn hostile_events_cost_little() {
    let long = format!(r#"{{"list": [{}], "text": "{}"}}"#, vec!["1"; 100_000].join(","), "x".repeat(500_000));
    for expression in [
        "data.fields.list.all(a, data.fields.list.all(b, a + b > 0))",
        "data.fields.list.map(a, data.fields.text + data.fields.text)",
        "data.fields.list.map(a, data.fields.list)",
    ] {
        assert_eq!(makes(expression, &long), Err(Cannot::Work), "{expression}");
    }
    // What doubles each time it passes through a macro.
    let chain = |times: usize| {
        (0..times).fold("data.fields.text".to_owned(), |inner, n| format!("[{inner}].map(x{n}, x{n} + x{n})[0]"))
    };
    assert!(holds(&format!("size({}) > 0", chain(3)), &long).is_ok());
    for times in [8, 11] {
        assert_eq!(holds(&format!("size({}) > 0", chain(times)), &long), Err(Cannot::Work), "{times}");
    }
    assert_eq!(holds("size(data.fields.list) == 100000", &long), Ok(true));
    assert_eq!(makes("[data, data]", &long), Err(Cannot::Output));
    let larger = format!(r#"{{"text": "{}"}}"#, "x".repeat(MAX_INPUT));
    assert_eq!(holds("true", &larger), Err(Cannot::Input));
    let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
    assert_eq!(holds("true", &deep), Err(Cannot::Input));
    // Many values of one text are small in memory and large on paper.
    let shared = format!(r#"{{"list": [{}], "text": "{}"}}"#, vec!["1"; 300].join(","), "x".repeat(10_000));
    assert_eq!(makes("data.fields.list.map(a, data.fields.text)", &shared), Err(Cannot::Output));
}
