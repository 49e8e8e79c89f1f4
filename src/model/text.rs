//! Values that senders write in several ways, as text or time.

use chrono::{DateTime, Datelike, NaiveDateTime, Offset, SecondsFormat, TimeDelta, TimeZone, Utc};
use serde::Serializer;
use serde_json::Value;

use super::{Fields, Zone};

/// A scalar as text: a string as it is, a number digit for digit, a boolean by its name. Null, empty strings, arrays
/// and objects are none.
pub fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// A time as senders write it: RFC 3339, the same without a zone (then in `zone`), or epoch seconds (below 10^12) or
/// milliseconds. None for 0, for what cannot be read, and for years beyond 9999, which RFC 3339 cannot write.
pub fn parse_time(text: &str, zone: Zone) -> Option<DateTime<Utc>> {
    let text = text.trim();
    let time = if text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+')) {
        epoch(text)
    } else {
        with_zone(text).or_else(|| without_zone(text, zone))
    }?;
    (0..=9999).contains(&time.year()).then_some(time)
}

/// Takes a time out of a field. One that cannot be read stays in.
pub fn take_time(fields: &mut Fields, name: &str) -> Option<DateTime<Utc>> {
    let time = parse_time(&scalar_text(fields.peek(name)?)?, Zone::UTC)?;
    fields.value(name);
    Some(time)
}

/// RFC 3339 in UTC with milliseconds, as all times leave.
pub fn serialize_time<S: Serializer>(time: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.serialize_some(&time.to_rfc3339_opts(SecondsFormat::Millis, true)),
        None => serializer.serialize_none(),
    }
}

/// Epoch seconds or milliseconds; 0 says that there is no time.
fn epoch(text: &str) -> Option<DateTime<Utc>> {
    const FIRST_MILLISECOND: i64 = 1_000_000_000_000;
    let number: i64 = match text.parse() {
        Ok(number) => number,
        Err(_) => {
            // A number with a fraction or an exponent. Times are below 2^53, so that a float holds them.
            let number: f64 = text.parse().ok()?;
            let millis = if number < FIRST_MILLISECOND as f64 { number * 1000.0 } else { number };
            // `as` saturates, and what is beyond every year is refused below.
            return (number > 0.0).then_some(millis as i64).and_then(DateTime::from_timestamp_millis);
        }
    };
    match number {
        ..=0 => None,
        1..FIRST_MILLISECOND => DateTime::from_timestamp(number, 0),
        _ => DateTime::from_timestamp_millis(number),
    }
}

fn with_zone(text: &str) -> Option<DateTime<Utc>> {
    ["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z"]
        .iter()
        .find_map(|format| DateTime::parse_from_str(text, format).ok())
        .or_else(|| DateTime::parse_from_rfc3339(text).ok())
        .map(|time| time.to_utc())
}

fn without_zone(text: &str, zone: Zone) -> Option<DateTime<Utc>> {
    let local = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"]
        .iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())?;
    match zone {
        Zone::Named(zone) => resolve(local, zone),
        Zone::Offset(zone) => resolve(local, zone),
    }
}

/// A local time that a clock change made occur twice is the earlier one; one that it skipped counts from the offset
/// before the change.
fn resolve<Z: TimeZone>(local: NaiveDateTime, zone: Z) -> Option<DateTime<Utc>> {
    if let Some(time) = zone.from_local_datetime(&local).earliest() {
        return Some(time.to_utc());
    }
    // No zone is more than 26 hours from UTC, nor has one skipped more than a day.
    let before = local.checked_sub_signed(TimeDelta::hours(26))?;
    let offset = zone.offset_from_utc_datetime(&before).fix();
    Some(local.checked_sub_offset(offset)?.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str, zone: &str) -> String {
        parse_time(text, zone.parse().unwrap())
            .map_or_else(|| "none".into(), |t| t.to_rfc3339_opts(SecondsFormat::Millis, true))
    }

    #[test]
    fn every_form_a_sender_writes() {
        for (text, expected) in [
            ("1457764197627", "2016-03-12T06:29:57.627Z"),
            ("1457764197", "2016-03-12T06:29:57.000Z"),
            ("999999999999", "none"),
            ("1000000000000", "2001-09-09T01:46:40.000Z"),
            ("1457764197627.0", "2016-03-12T06:29:57.627Z"),
            ("1.457764197627e12", "2016-03-12T06:29:57.627Z"),
            ("1457764197.5", "2016-03-12T06:29:57.500Z"),
            (" 1457764197 ", "2016-03-12T06:29:57.000Z"),
            ("2016-07-21T12:44:23.644Z", "2016-07-21T12:44:23.644Z"),
            ("2016-07-21t12:44:23z", "2016-07-21T12:44:23.000Z"),
            ("2016-07-21T12:44:23+05:45", "2016-07-21T06:59:23.000Z"),
            ("2016-07-21T12:44:23.1-0330", "2016-07-21T16:14:23.100Z"),
            ("2016-07-21T12:44:23+0000", "2016-07-21T12:44:23.000Z"),
            ("2016-07-21 12:44:23.644123456+02", "2016-07-21T10:44:23.644Z"),
            ("2016-07-21T12:44Z", "2016-07-21T12:44:00.000Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:60.000Z"),
            ("2016-07-21T12:44:23", "2016-07-21T07:14:23.000Z"),
            ("2016-07-21T12:44:23.6", "2016-07-21T07:14:23.600Z"),
            ("2016-07-21 12:44:23.644123", "2016-07-21T07:14:23.644Z"),
            ("2016-07-21T12:44", "2016-07-21T07:14:00.000Z"),
            ("0", "none"),
            ("", "none"),
            ("-1", "none"),
            (".", "none"),
            ("e", "none"),
            ("1e400", "none"),
            ("99999999999999999999", "none"),
            ("9223372036854775807", "none"),
            ("16 July 2016", "none"),
            ("2016-13-41T00:00:00Z", "none"),
            ("+12345-01-01T00:00:00Z", "none"),
            ("2016-07-21T12:44:23+99:99", "none"),
            ("ä€😀", "none"),
        ] {
            assert_eq!(time(text, "Asia/Kolkata"), expected, "{text}");
        }
    }

    #[test]
    fn clock_changes_cost_no_time() {
        for (text, zone, expected) in [
            ("2026-03-29T02:30:00", "Europe/Berlin", "2026-03-29T01:30:00.000Z"),
            ("2026-10-25T02:30:00", "Europe/Berlin", "2026-10-25T00:30:00.000Z"),
            ("2026-10-04T02:15:00", "Australia/Lord_Howe", "2026-10-03T15:45:00.000Z"),
            ("2011-12-30T12:00:00", "Pacific/Apia", "2011-12-30T22:00:00.000Z"),
            ("2026-03-29T02:30:00", "+05:45", "2026-03-28T20:45:00.000Z"),
            ("0000-01-01T00:00:00", "+14:00", "none"),
            ("9999-12-31T23:59:59", "Pacific/Pago_Pago", "none"),
        ] {
            assert_eq!(time(text, zone), expected, "{text} {zone}");
        }
    }
}
