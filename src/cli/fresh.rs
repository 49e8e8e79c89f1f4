//! Makes a new event of a sample: ids and times are replaced in the text, everything else stays as it is, escapes and
//! oddities included, so that this works for JSON that no parser takes.

use std::collections::HashMap;

use chrono::{DateTime, SecondsFormat, Utc};
use uuid::Uuid;

/// Keys of ids that the sender makes anew for each message.
const IDS: [&str; 6] = ["mid", "mids", "tid", "transid", "subtid", "correlationid"];
/// Keys of times.
const TIMES: [&str; 6] = ["timestamp", "timeStamp", "ts", "time", "watermark", "timeStampMs"];

/// The body with fresh ids and times. `nonce` makes every object of it unlike any other, even where it has neither; a
/// bare number that stands for an event stays what it is, and so a copy.
pub(crate) fn freshen(body: &[u8], nonce: Uuid, now: DateTime<Utc>) -> Vec<u8> {
    let mut fresh = Fresh { body, out: Vec::with_capacity(body.len() + 64), nonce, now, ids: HashMap::new() };
    fresh.rewrite();
    fresh.out
}

struct Fresh<'a> {
    body: &'a [u8],
    out: Vec<u8>,
    nonce: Uuid,
    now: DateTime<Utc>,
    /// An id that stands in several places stays one id.
    ids: HashMap<&'a [u8], Vec<u8>>,
}

impl<'a> Fresh<'a> {
    fn rewrite(&mut self) {
        let body = self.body;
        let mut at = 0;
        // The key whose value comes; items of a list share that of the list.
        let mut key: Option<&[u8]> = None;
        let mut objects = 0;
        // What came before an opening brace, white space aside.
        let mut before = None;
        while let Some(byte) = body.get(at) {
            let end = match byte {
                b'"' => string_end(body, at),
                b'-' | b'0'..=b'9' => at + body[at..].iter().take_while(|b| is_scalar(**b)).count(),
                _ => at + 1,
            };
            let token = &body[at..end];
            match byte {
                b'"' if next_is_colon(body, end) => {
                    key = Some(inside(token));
                    self.out.extend_from_slice(token);
                }
                b'"' | b'-' | b'0'..=b'9' => self.value(key, token),
                b'{' => {
                    self.out.push(b'{');
                    // Items stand in lists, or are the body itself; white space within makes their bytes new.
                    if matches!(before, None | Some(b'[' | b',')) {
                        self.white_space();
                        objects += 1;
                    }
                    key = None;
                }
                b'}' => {
                    self.out.push(b'}');
                    key = None;
                }
                _ => self.out.extend_from_slice(token),
            }
            if !byte.is_ascii_whitespace() {
                before = Some(*byte);
            }
            at = end;
        }
        if objects == 0 {
            self.white_space();
        }
    }

    /// The nonce in a form that no reader of JSON sees.
    fn white_space(&mut self) {
        let bits = self.nonce.as_u128();
        self.out.extend((0..32).map(|pair| b" \t\n\r"[(bits >> (2 * pair)) as usize & 3]));
    }

    fn value(&mut self, key: Option<&[u8]>, token: &'a [u8]) {
        let is = |keys: &[&str]| key.is_some_and(|key| keys.iter().any(|name| name.as_bytes() == key));
        if is(&TIMES) {
            let time = self.time(token);
            self.out.extend_from_slice(&time);
        } else if is(&IDS) && token.first() == Some(&b'"') && !inside(token).is_empty() {
            let (nonce, count) = (self.nonce, self.ids.len());
            let id = self.ids.entry(inside(token)).or_insert_with(|| fresh_id(inside(token), nonce, count));
            self.out.push(b'"');
            self.out.extend_from_slice(id);
            self.out.push(b'"');
        } else {
            self.out.extend_from_slice(token);
        }
    }

    /// Now, in the form of the time given; a form that is none of the usual stays.
    fn time(&self, token: &[u8]) -> Vec<u8> {
        let text = inside(token);
        let digits = text.iter().all(u8::is_ascii_digit);
        let now = match text.len() {
            13 if digits => self.now.timestamp_millis().to_string(),
            10 if digits => self.now.timestamp().to_string(),
            19.. if is_date_time(&text[..19]) => {
                let now = self.now.to_rfc3339_opts(SecondsFormat::Secs, true);
                let separator = char::from(text[10]);
                // The zone stays, and so does a fraction: the time is at most a zone's offset away from now.
                now[..19].replace('T', &separator.to_string()) + &String::from_utf8_lossy(&text[19..])
            }
            _ => return token.to_vec(),
        };
        let quote: &[u8] = if token.first() == Some(&b'"') { b"\"" } else { b"" };
        [quote, now.as_bytes(), quote].concat()
    }
}

/// A new id of the same form: a UUID for a UUID, else the old one with something after it.
fn fresh_id(old: &[u8], nonce: Uuid, count: usize) -> Vec<u8> {
    let fresh = Uuid::new_v5(&nonce, &count.to_be_bytes());
    if Uuid::try_parse_ascii(old).is_ok() {
        fresh.hyphenated().to_string().into_bytes()
    } else {
        [old, b"_", &fresh.simple().to_string().as_bytes()[..12]].concat()
    }
}

fn is_scalar(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E')
}

fn is_date_time(text: &[u8]) -> bool {
    let form = b"0000-00-00?00:00:00";
    text.iter().zip(form).all(|(byte, form)| match form {
        b'0' => byte.is_ascii_digit(),
        b'?' => matches!(byte, b'T' | b' '),
        other => byte == other,
    })
}

/// Behind the closing quote of the string that begins at `start`, or the end of the text.
fn string_end(body: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(byte) = body.get(at) {
        match byte {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    body.len()
}

fn next_is_colon(body: &[u8], at: usize) -> bool {
    body[at..].iter().find(|b| !b.is_ascii_whitespace()) == Some(&b':')
}

/// Without the quotes.
fn inside(token: &[u8]) -> &[u8] {
    token.strip_prefix(b"\"").map_or(token, |token| token.strip_suffix(b"\"").unwrap_or(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::samples::SAMPLES;

    fn now() -> DateTime<Utc> {
        "2026-09-14T09:30:15.250Z".parse().unwrap()
    }

    fn fresh(body: &str) -> String {
        let text = String::from_utf8(freshen(body.as_bytes(), Uuid::from_u128(7), now())).unwrap();
        // The nonce 7 as white space: its bits are 11 and 01, and then 00.
        text.replace(&format!("\r\t{}", " ".repeat(30)), "~")
    }

    #[test]
    fn ids_and_times_are_replaced_and_the_rest_stays() {
        assert_eq!(
            fresh(
                r#"{"a": [{"mid": "m_1", "timestamp": 1458668856463, "text": "\u00e4\/ \ud83d"}, {"time": "1458668856"}]}"#
            ),
            r#"{~"a": [{~"mid": "m_1_232218928abf", "timestamp": 1789378215250, "text": "\u00e4\/ \ud83d"}, {~"time": "1789378215"}]}"#
        );
        assert_eq!(
            fresh(
                r#"{"ts": "2015-04-12T13:00:19.456Z", "timeStamp": "2016-07-21 12:44:23", "timestamp": 0, "mid": ""}"#
            ),
            r#"{~"ts": "2026-09-14T09:30:15.456Z", "timeStamp": "2026-09-14 09:30:15", "timestamp": 0, "mid": ""}"#
        );
        assert_eq!(fresh("not JSON"), "not JSON~");
    }

    #[test]
    fn an_id_that_stands_in_two_places_stays_one() {
        let text = fresh(r#"{"mid":"a","mids":["a","b"],"transid":"38b0b8da-c3ed-44cd-bc9e-2403bea529cd"}"#);
        let value: serde_json::Value = serde_json::from_str(&text.replace('~', "")).unwrap();
        assert_eq!(value["mid"], value["mids"][0]);
        assert_ne!(value["mids"][0], value["mids"][1]);
        assert_ne!(value["transid"], "38b0b8da-c3ed-44cd-bc9e-2403bea529cd");
        assert!(Uuid::parse_str(value["transid"].as_str().unwrap()).is_ok());
    }

    #[test]
    fn every_sample_becomes_new_each_time_and_keeps_its_shape() {
        for sample in SAMPLES {
            let [one, two] = [1, 2].map(|nonce| freshen(sample.body, Uuid::from_u128(nonce), now()));
            assert_ne!(one, two, "{}", sample.name);
            assert_eq!(freshen(sample.body, Uuid::from_u128(1), now()), one, "{}", sample.name);
            let keys = |body: &[u8]| body.iter().filter(|byte| matches!(byte, b':' | b'{' | b'[' | b',')).count();
            let before = keys(sample.body);
            // Only the form `2026-09-14 …` has colons, and a replaced time has as many.
            assert_eq!(keys(&one), before, "{}", sample.name);
            assert_eq!(
                serde_json::from_slice::<serde_json::Value>(&one).is_ok(),
                serde_json::from_slice::<serde_json::Value>(sample.body).is_ok(),
                "{}",
                sample.name
            );
        }
    }
}
