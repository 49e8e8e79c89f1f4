//! From a body through split and decode to the CloudEvents that leave, read back by a reader of our own. An input is a
//! byte that names the sender, and a body, perhaps with its content type and a NUL before it.

use std::sync::Arc;

use hooksink::event::{Event, Format, Record};
use hooksink::model::Payload;
use hooksink::names::SourceType;

use super::json::{Json, Value};
use super::request::{LONGEST, now, parted, sources, split};

/// Every event leaves as one line, which a strict reader of CloudEvents 1.0.2 takes, and which says what the record says.
pub fn check(input: &[u8]) {
    let [sender, rest @ ..] = input else { return };
    let (content_type, body) = parted(rest);
    if body.len() > LONGEST {
        return;
    }
    let sender = if sender % 2 == 0 { SourceType::Meta } else { SourceType::WebexConnect };
    let (_, split) = split(sender, content_type, body);
    for record in split.records.into_iter().take(20) {
        let event = sources().decode(Arc::new(record));
        let line = event.to_json(Format::Cloudevents, false);
        is_read_back(&event, &line, false);
        let line = event.to_json(Format::Cloudevents, true);
        is_read_back(&event, &line, true);
    }
}

/// The attributes that hooksink writes, and whether each must be there.
const ATTRIBUTES: &[(&str, bool)] = &[
    ("specversion", true),
    ("id", true),
    ("source", true),
    ("type", true),
    ("subject", false),
    ("time", true),
    ("datacontenttype", true),
    ("receivedtime", true),
    ("sourcetype", true),
];

fn is_read_back(event: &Event, line: &[u8], with_raw: bool) {
    let record = &*event.record;
    let text = str::from_utf8(line).expect("a line is UTF-8");
    assert!(!text.contains(['\n', '\r']), "one line");
    let json = Json::read(text).unwrap_or_else(|| panic!("no JSON: {text}"));
    let members = json.root();
    assert!(members.is_object());
    let as_sent = |name: &str| members.member("data").and_then(|data| data.member(name)).map(Value::at);
    let (fields, raw) =
        (as_sent("fields").unwrap_or_default(), as_sent("raw").filter(|_| with_raw).unwrap_or_default());
    assert!(json.is_all_text(&raw), "{text}");
    // Below `fields` names stand as often as they were sent, and with `raw` beside it this is checked already.
    assert!(with_raw || json.has_each_name_once(&fields), "{text}");
    for member in members.children() {
        let name = member.name().expect("a member has a name");
        let known = ATTRIBUTES.iter().any(|(known, _)| *known == name) || matches!(&*name, "data" | "data_base64");
        assert!(known, "{name}");
    }
    let mut attributes = std::collections::BTreeMap::new();
    for (name, required) in ATTRIBUTES {
        match members.member(name) {
            Some(value) => {
                let value = value.text().unwrap_or_else(|| panic!("{name} is a string: {text}"));
                assert!(!value.is_empty() && value.chars().all(may_stand_in_an_attribute), "{name}: {value:?}");
                attributes.insert(*name, value);
            }
            None => assert!(!required, "{name} is missing"),
        }
    }
    assert_eq!(attributes["specversion"], "1.0");
    assert_eq!(attributes["id"], record.id.0.to_string());
    assert_eq!(attributes["source"], format!("/webhooks/{}", record.source.as_str()));
    assert_eq!(attributes["type"], record.kind.as_str());
    assert_eq!(attributes["sourcetype"], record.source_type.as_str());
    let subject = record.subject.as_ref().map(|subject| {
        let shown = |char| if may_stand_in_an_attribute(char) { char } else { '\u{fffd}' };
        subject.as_str().chars().map(shown).collect::<String>()
    });
    assert_eq!(attributes.get("subject"), subject.as_ref());
    assert_eq!(milliseconds(&attributes["receivedtime"]), Some(now().timestamp_millis()));
    let time = record.occurred_at.unwrap_or(record.received_at);
    assert_eq!(milliseconds(&attributes["time"]), Some(time.timestamp_millis()), "{}", attributes["time"]);

    let media_type = attributes["datacontenttype"].as_bytes();
    assert!(media_type.iter().all(|byte| matches!(byte, b' '..=b'~')) && media_type.contains(&b'/'), "{media_type:?}");
    if matches!(*event.payload, Payload::Opaque) {
        assert!(members.member("data").is_none());
        let data = members.member("data_base64").and_then(Value::text).expect("a body that is no JSON");
        assert_eq!(base64(&data).as_deref(), Some(&*record.raw), "the bytes as they were sent");
        return;
    }
    assert!(members.member("data_base64").is_none());
    assert_eq!(attributes["datacontenttype"], "application/json");
    let data = members.member("data").expect("an event has data");
    says_what_the_payload_says(event, data, with_raw);
    if with_raw {
        carries_the_raw_json(record, data);
    }
}

fn says_what_the_payload_says(event: &Event, data: Value<'_>, with_raw: bool) {
    let payload = serde_json::to_string(&*event.payload).expect("a payload is JSON");
    let payload = Json::read(&payload).expect("a payload is JSON");
    assert_eq!(payload.root().kind(), data.kind());
    let written = data.children().count() - usize::from(with_raw);
    assert_eq!(written, payload.root().children().count());
    for member in payload.root().children() {
        let name = member.name().expect("a member has a name");
        let same = data.member(&name).is_some_and(|written| written.says_the_same(member, false));
        assert!(same, "{name}: {}", data.source());
    }
}

/// `data.raw` says what was sent; but for its white space it is the bytes.
fn carries_the_raw_json(record: &Record, data: Value<'_>) {
    let sent = Json::read(str::from_utf8(&record.raw).expect("JSON is text")).expect("it is no opaque body");
    let raw = data.member("raw").expect("the raw JSON is asked for");
    assert!(raw.says_the_same(sent.root(), false));
}

/// CloudEvents 1.0.2, "Type System", String: no control characters and no noncharacters.
fn may_stand_in_an_attribute(char: char) -> bool {
    let code = u32::from(char);
    !char.is_control() && code & 0xfffe != 0xfffe && !(0xfdd0..=0xfdef).contains(&code)
}

/// RFC 3339 in UTC, in milliseconds since 1970, by the count of days of the Gregorian calendar.
fn milliseconds(time: &str) -> Option<i64> {
    let digits = |range: std::ops::Range<usize>| -> Option<i64> {
        let text = time.get(range)?;
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
    };
    let punctuation: String = time.chars().filter(|char| !char.is_ascii_digit()).collect();
    if time.len() != 24 || punctuation != "--T::.Z" {
        return None;
    }
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let (hour, minute, second, millis) = (digits(11..13)?, digits(14..16)?, digits(17..19)?, digits(20..23)?);
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let month = usize::try_from(month).ok()?.checked_sub(1).filter(|month| *month < 12)?;
    // A leap second is written as the sixtieth.
    if !(1..=lengths[month]).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days_of = |year: i64| 365 + i64::from(leap(year));
    let years: i64 =
        if year >= 1970 { (1970..year).map(days_of).sum() } else { -(year..1970).map(days_of).sum::<i64>() };
    let days = years + lengths[..month].iter().sum::<i64>() + day - 1;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + millis)
}

/// RFC 4648, with padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let groups: Vec<_> = text.as_bytes().chunks(4).collect();
    for (number, group) in groups.iter().enumerate() {
        let padding = group.iter().rev().take_while(|byte| **byte == b'=').count();
        if padding > 2 || (padding > 0 && number + 1 != groups.len()) {
            return None;
        }
        let mut bits = 0_u32;
        for byte in &group[..4 - padding] {
            bits = bits << 6 | u32::try_from(ALPHABET.iter().position(|known| known == byte)?).ok()?;
        }
        bits <<= 6 * padding;
        bytes.extend_from_slice(&bits.to_be_bytes()[1..4 - padding]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_by_the_calendar() {
        for (time, expected) in [
            ("1970-01-01T00:00:00.000Z", Some(0)),
            ("2000-02-29T23:59:59.999Z", Some(951_868_799_999)),
            ("1969-12-31T23:59:59.999Z", Some(-1)),
            ("0000-01-01T00:00:00.000Z", Some(-62_167_219_200_000)),
            ("2016-12-31T23:59:60.000Z", Some(1_483_228_800_000)),
            ("2001-02-29T00:00:00.000Z", None),
            ("2001-02-28T24:00:00.000Z", None),
            ("2001-02-28T00:00:00Z", None),
            ("2001-02-28T00:00:00.000+", None),
        ] {
            assert_eq!(milliseconds(time), expected, "{time}");
        }
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (text, bytes) in
            [("", Some(&b""[..])), ("Zg==", Some(b"f")), ("Zm8=", Some(b"fo")), ("Zm9vYmFy", Some(b"foobar"))]
        {
            assert_eq!(base64(text).as_deref(), bytes, "{text}");
        }
        for text in ["Zg", "Zg=", "Z===", "Zg==Zg==", "Zm-v"] {
            assert_eq!(base64(text), None, "{text}");
        }
    }
}
