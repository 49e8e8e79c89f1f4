//! Payloads as no sender writes them: random, or a sender's own with bytes or parts of the JSON changed. All of it comes
//! from one seed.

use std::ops::Range;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};

/// Values that senders, parsers and stores of text have stumbled over.
const VALUES: &[&str] = &[
    "null",
    "true",
    "0",
    "-0",
    "-1",
    "1e999",
    "0.1e-7",
    "9007199254740993",
    "18446744073709551616",
    "123456789012345678901234567890",
    "253402300800000",
    "-99999999999999999",
    "\"\"",
    "\" \"",
    "\"0\"",
    "\"null\"",
    "\"[]\"",
    "\"{}\"",
    "\"[null,1,{}]\"",
    r#""[{\"type\":\"image\",\"payload\":{\"url\":1}}]""#,
    r#""{\"payload\":\"\\ud83d\"}""#,
    "\"2016-07-21T12:44:23.644\"",
    "\"0001-01-01T00:00:00+14:00\"",
    "\"9223372036854775807\"",
    r#""\u0000""#,
    r#""\ud83d""#,
    r#""\ude00\ud83d""#,
    r#""\ud83d\ude00""#,
    r#""https%3A%2F%2F%00%FF""#,
    "\"\u{202e}\u{feff}\u{1f469}\u{200d}\u{1f4bb}\"",
    "[]",
    "[[]]",
    "[null]",
    "{}",
    r#"{"":""}"#,
    r#"{"id":null}"#,
    r#"{"id":{}}"#,
    r#"{"id":1}"#,
    r#"{"is_echo":true}"#,
    r#"{"$serde_json::private::Number":"x"}"#,
    r#"{"$serde_json::private::RawValue":"{"}"#,
];

/// Bytes that mean something to a parser of JSON.
const TOKENS: &[&[u8]] = &[
    b"\"",
    b"\\",
    b"\\u",
    b"\\u0000",
    b"\\ud83d",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"null",
    b"1e",
    b"-",
    b" ",
    b"\n",
    b"\0",
    b"\xff",
    b"\xf0\x9f\x98",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"//",
    b"/*",
];

/// What mutants are made of.
#[derive(Debug)]
pub(crate) struct Parts {
    whole: Vec<Vec<u8>>,
    keys: Vec<Vec<u8>>,
    values: Vec<Vec<u8>>,
}

impl Parts {
    /// All keys and values of these JSON texts, and the texts.
    pub(crate) fn of(whole: Vec<Vec<u8>>) -> Self {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for json in &whole {
            for Span { at, is_key } in spans(json) {
                if is_key { &mut keys } else { &mut values }.push(json[at].to_vec());
            }
        }
        Self { whole, keys, values }
    }
}

/// Makes payloads.
pub(crate) struct Mutator {
    rng: StdRng,
    parts: Arc<Parts>,
}

impl Mutator {
    pub(crate) fn new(seed: u64, parts: Arc<Parts>) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), parts }
    }

    /// A number below this one.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.rng.random_range(0..bound)
    }

    /// One of these.
    pub(crate) fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    /// Bytes of any value, fewer than so many.
    pub(crate) fn noise(&mut self, bound: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.below(bound)];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    /// A body that owes nothing to a sender: noise, or pieces of JSON in any order.
    pub(crate) fn random(&mut self) -> Vec<u8> {
        if self.below(2) == 0 {
            return self.noise(600);
        }
        let mut body = Vec::new();
        for _ in 0..self.below(60) {
            let piece = if self.below(2) == 0 { self.one_of(TOKENS) } else { self.one_of(VALUES).as_bytes() };
            body.extend_from_slice(piece);
        }
        body
    }

    /// The same with some bytes changed; seldom JSON any more.
    pub(crate) fn bytes(&mut self, body: &[u8]) -> Vec<u8> {
        let mut body = body.to_vec();
        for _ in 0..=self.below(4) {
            let part = self.range(body.len());
            match self.below(8) {
                0 | 1 if !body.is_empty() => {
                    let at = self.below(body.len());
                    body[at] ^= 1 << self.below(8);
                }
                2 if !body.is_empty() => {
                    let at = self.below(body.len());
                    body[at] = self.one_of(b"\"\\{}[],:0-e \0\xff");
                }
                3 => drop(body.drain(part)),
                4 => {
                    let copy = body[part.clone()].to_vec();
                    body.splice(part.end..part.end, copy);
                }
                5 => body.truncate(part.end),
                6 => {
                    let parts = self.parts.clone();
                    let other = &parts.whole[self.below(parts.whole.len())];
                    let piece = self.range(other.len());
                    body.splice(part, other[piece].iter().copied());
                }
                _ => {
                    let token = self.one_of(TOKENS);
                    body.splice(part.start..part.start, token.iter().copied());
                }
            }
        }
        body
    }

    /// The same JSON with some of its parts changed. JSON stays JSON.
    pub(crate) fn structure(&mut self, json: &[u8]) -> Vec<u8> {
        let mut json = json.to_vec();
        for _ in 0..=self.below(3) {
            let spans = spans(&json);
            if spans.is_empty() {
                return json;
            }
            let Span { at, is_key } = self.one_of(&spans);
            let old = json[at.clone()].to_vec();
            let new = match (is_key, self.below(6)) {
                (true, 0 | 1) => [&old, &b":"[..], &self.value(), b",", &old].concat(),
                (true, _) => self.key(),
                (false, 0) => [b"[", &old[..], b"]"].concat(),
                (false, 1) => [br#"{"id":"#, &old[..], b"}"].concat(),
                (false, 2) => serde_json::to_vec(&String::from_utf8_lossy(&old)).expect("text is JSON"),
                (false, _) => self.value(),
            };
            json.splice(at, new);
        }
        json
    }

    /// Any value.
    fn value(&mut self) -> Vec<u8> {
        match self.below(20) {
            0 => format!("\"{}\"", "x".repeat(self.below(3000))).into_bytes(),
            1 => {
                let depth = self.below(400);
                [vec![b'['; depth], vec![b'1'], vec![b']'; depth]].concat()
            }
            2..10 => self.one_of(&self.parts.clone().values),
            _ => self.one_of(VALUES).into(),
        }
    }

    /// Any name, mostly one that a sender uses.
    fn key(&mut self) -> Vec<u8> {
        match self.below(8) {
            0 => self.one_of(&[&b"\"\""[..], b"\"\\u0000\"", b"\"new\""]).into(),
            _ => self.one_of(&self.parts.clone().keys),
        }
    }

    fn range(&mut self, length: usize) -> Range<usize> {
        let start = self.below(length + 1);
        let longest = (length - start).min(40);
        start..start + self.below(longest + 1)
    }
}

/// Where a key or a value stands.
#[derive(Debug, Clone)]
struct Span {
    at: Range<usize>,
    is_key: bool,
}

/// All keys and values of a JSON text.
fn spans(json: &[u8]) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut open = Vec::new();
    let mut at = 0;
    while at < json.len() {
        let start = at;
        at += 1;
        match json[start] {
            b'{' | b'[' => open.push(start),
            b'}' | b']' => spans.extend(open.pop().map(|start| Span { at: start..at, is_key: false })),
            b'"' => {
                while at < json.len() && json[at] != b'"' {
                    at += if json[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(json.len());
                let next = json[at..].iter().find(|byte| !byte.is_ascii_whitespace());
                spans.push(Span { at: start..at, is_key: next == Some(&b':') });
            }
            b',' | b':' | b' ' | b'\t' | b'\n' | b'\r' => {}
            _ => {
                while at < json.len() && !b",:]} \t\n\r".contains(&json[at]) {
                    at += 1;
                }
                spans.push(Span { at: start..at, is_key: false });
            }
        }
    }
    spans
}

#[test]
fn json_whose_parts_are_changed_stays_json() {
    let seed = br#"{"a": [1, "x\"", {"b" :null}], "c": true}"#.to_vec();
    let mut mutator = Mutator::new(1, Arc::new(Parts::of(vec![seed.clone()])));
    let mutants: std::collections::BTreeSet<_> = (0..1000).map(|_| mutator.structure(&seed)).collect();
    assert!(mutants.len() > 500, "they differ");
    for mutant in mutants {
        assert!(hooksink::json::is_json(&mutant), "{}", mutant.escape_ascii());
    }
}
