//! Values that senders write in several ways, as text or time.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Offset, SecondsFormat, TimeDelta, TimeZone, Timelike, Utc};
use serde::Serializer;

use super::{Fields, Zone};

/// A time as senders write it: RFC 3339, the same without a zone (then in `zone`), or epoch seconds (below 10^12) or
/// milliseconds. None for 0, for what cannot be read, and for years beyond 9999, which RFC 3339 cannot write.
pub fn parse_time(text: &str, zone: Zone) -> Option<DateTime<Utc>> {
    let text = text.trim();
    let time = if text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+')) {
        epoch(text)
    } else if let Some((local, rest)) = usual(text) {
        match rest {
            "" => in_zone(local, zone),
            "Z" => Some(local.and_utc()),
            _ => with_zone(text),
        }
    } else {
        with_zone(text).or_else(|| without_zone(text, zone))
    }?;
    (0..=9999).contains(&time.year()).then_some(time)
}

/// Takes a time out of a field. One that cannot be read stays in.
pub fn take_time(fields: &mut Fields<'_>, name: &str) -> Option<DateTime<Utc>> {
    let time = parse_time(fields.peek(name)?.scalar()?, Zone::UTC)?;
    fields.value(name);
    Some(time)
}

/// RFC 3339 in UTC with milliseconds, as all times leave.
pub fn rfc3339(time: DateTime<Utc>) -> String {
    with_rfc3339(time, str::to_owned)
}

/// Does something with the same text, which takes no memory of its own.
pub fn with_rfc3339<T>(time: DateTime<Utc>, work: impl FnOnce(&str) -> T) -> T {
    let (year, nanosecond) = (time.year(), time.nanosecond());
    // A leap second is a nanosecond beyond the last. It and years of other lengths are for chrono, which takes longer.
    let (Ok(year @ 0..=9999), 0..1_000_000_000) = (u32::try_from(year), nanosecond) else {
        return work(&time.to_rfc3339_opts(SecondsFormat::Millis, true));
    };
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let mut write = |at: usize, digits: usize, mut number: u32| {
        for place in text[at..at + digits].iter_mut().rev() {
            *place += u8::try_from(number % 10).unwrap_or_default();
            number /= 10;
        }
    };
    write(0, 4, year);
    write(5, 2, time.month());
    write(8, 2, time.day());
    write(11, 2, time.hour());
    write(14, 2, time.minute());
    write(17, 2, time.second());
    write(20, 3, nanosecond / 1_000_000);
    work(str::from_utf8(&text).unwrap_or_default())
}

/// The same for a serialiser.
pub fn serialize_time<S: Serializer>(time: &Option<DateTime<Utc>>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => with_rfc3339(*time, |text| serializer.serialize_some(text)),
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

/// The local time in front of `2016-07-21T12:44:23.644+05:45`, as nearly everyone writes it, and what follows it. The
/// other forms are told apart by trying them, which takes ten times as long.
fn usual(text: &str) -> Option<(NaiveDateTime, &str)> {
    const FORM: &[u8; 19] = b"0000-00-00T00:00:00";
    let (front, mut rest) = text.split_at_checked(FORM.len())?;
    let bytes = front.as_bytes();
    let fits = |(byte, form): (&u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
    if !bytes.iter().zip(FORM).all(fits) {
        return None;
    }
    let number = |at: usize, digits: usize| {
        bytes[at..at + digits].iter().fold(0_u32, |number, digit| number * 10 + u32::from(digit - b'0'))
    };
    let mut nanoseconds = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let Some(places @ 1..=9) = u32::try_from(digits).ok() else { return None };
        nanoseconds = fraction[..digits].parse::<u32>().ok()? * 10_u32.pow(9 - places);
        rest = &fraction[digits..];
    }
    // A sixtieth second has a meaning of its own to those who try all forms.
    let second = Some(number(17, 2)).filter(|second| *second < 60)?;
    let date = NaiveDate::from_ymd_opt(i32::try_from(number(0, 4)).ok()?, number(5, 2), number(8, 2))?;
    Some((date.and_hms_nano_opt(number(11, 2), number(14, 2), second, nanoseconds)?, rest))
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
    in_zone(local, zone)
}

fn in_zone(local: NaiveDateTime, zone: Zone) -> Option<DateTime<Utc>> {
    match zone {
        Zone::UTC => Some(local.and_utc()),
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
    fn times_leave_as_chrono_writes_them() {
        let texts = [
            "1970-01-01T00:00:00.000Z",
            "0000-01-01T00:00:00.000Z",
            "9999-12-31T23:59:59.999Z",
            "2016-12-31T23:59:60.500Z",
        ];
        let times = texts.map(|text| parse_time(text, Zone::UTC).unwrap());
        assert_eq!(times.map(rfc3339), texts);
        for number in (0..4_000_000_000_000_i64).step_by(7_777_777_777) {
            let time = DateTime::from_timestamp_millis(number).unwrap();
            assert_eq!(rfc3339(time), time.to_rfc3339_opts(SecondsFormat::Millis, true));
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
