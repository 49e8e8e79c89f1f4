use std::borrow::Cow;

/// Reads JSON (RFC 8259) from front to back, once, and builds nothing: values are slices of the text. Nothing recurses,
/// however deep the text nests. What is no JSON is `None`, and then no more may be read.
///
/// Each method reads one value and leaves what follows it. White space before a value is passed over.
#[derive(Clone, Copy)]
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

/// What a value is, told by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// `null`
    Null,
    /// `true` or `false`
    Truth,
    /// A number.
    Number,
    /// A string.
    Text,
    /// `[…]`
    List,
    /// `{…}`
    Object,
}

impl<'a> Scanner<'a> {
    /// At the front of this text.
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// What the next value is.
    pub fn peek(&mut self) -> Option<Type> {
        Some(match self.begin()? {
            b'"' => Type::Text,
            b'{' => Type::Object,
            b'[' => Type::List,
            b'-' | b'0'..=b'9' => Type::Number,
            b't' | b'f' => Type::Truth,
            b'n' => Type::Null,
            _ => return None,
        })
    }

    /// The next value, whatever it is.
    pub fn value(&mut self) -> Option<&'a str> {
        let first = self.begin()?;
        let start = self.at;
        if !matches!(first, b'{' | b'[') {
            self.scalar()?;
            return Some(&self.text[start..self.at]);
        }
        // The containers that are open: whether each is an object.
        let mut open = Open::default();
        loop {
            // At the first byte of a value.
            let container = match self.byte()? {
                b'{' => Some(true),
                b'[' => Some(false),
                _ => {
                    self.scalar()?;
                    None
                }
            };
            let mut first = container.is_some();
            if let Some(object) = container {
                self.at += 1;
                open.push(object);
            }
            // Behind a value, or behind the beginning of a container.
            loop {
                let Some(object) = open.last() else { return Some(&self.text[start..self.at]) };
                let end = if object { b'}' } else { b']' };
                match self.begin()? {
                    byte if byte == end => {
                        self.at += 1;
                        open.pop();
                        first = false;
                        continue;
                    }
                    b',' if !first => {
                        self.at += 1;
                        self.begin()?;
                    }
                    _ if first => {}
                    _ => return None,
                }
                if object {
                    self.string()?;
                    self.colon()?;
                }
                break;
            }
        }
    }

    /// Calls `each` with the name of every field of an object, in their order, to read its value; names that occur twice
    /// come twice. Whether it was an object: another value is passed over.
    pub fn fields(&mut self, mut each: impl FnMut(Cow<'a, str>, &mut Self) -> Option<()>) -> Option<bool> {
        if self.begin()? != b'{' {
            return self.value().map(|_| false);
        }
        self.at += 1;
        let mut more = self.begin()? != b'}';
        while more {
            self.begin()?;
            let name = self.string()?;
            self.colon()?;
            each(name, self)?;
            more = self.more(b'}')?;
        }
        self.at += 1;
        Some(true)
    }

    /// Calls `each` for every item of a list, to read it. Whether it was a list: another value is passed over.
    pub fn items(&mut self, mut each: impl FnMut(&mut Self) -> Option<()>) -> Option<bool> {
        if self.begin()? != b'[' {
            return self.value().map(|_| false);
        }
        self.at += 1;
        let mut more = self.begin()? != b']';
        while more {
            self.begin()?;
            each(self)?;
            more = self.more(b']')?;
        }
        self.at += 1;
        Some(true)
    }

    /// A string, borrowed where it has no escapes. Half a pair of surrogates is U+FFFD.
    pub fn string(&mut self) -> Option<Cow<'a, str>> {
        if self.byte()? != b'"' {
            return None;
        }
        let start = self.at + 1;
        let escaped = self.rest_of_string()?;
        let inner = &self.text[start..self.at - 1];
        Some(if escaped { Cow::Owned(unescaped(inner)) } else { Cow::Borrowed(inner) })
    }

    /// Whether nothing but white space is left.
    pub fn is_at_end(&mut self) -> bool {
        self.begin().is_none()
    }

    /// Where it is in the text: at the first byte of the next value, once that has been peeked at.
    pub fn position(&self) -> usize {
        self.at
    }

    /// The text from a position to here.
    pub fn since(&self, position: usize) -> &'a str {
        &self.text[position..self.at]
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next byte that is no white space, which is not read.
    #[inline]
    fn begin(&mut self) -> Option<u8> {
        loop {
            match self.byte()? {
                b' ' | b'\n' | b'\t' | b'\r' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    fn colon(&mut self) -> Option<()> {
        (self.begin()? == b':').then(|| self.at += 1)?;
        self.begin().map(|_| ())
    }

    /// Behind a value of a container: past the comma, or at its end.
    fn more(&mut self, end: u8) -> Option<bool> {
        match self.begin()? {
            b',' => {
                self.at += 1;
                Some(true)
            }
            byte => (byte == end).then_some(false),
        }
    }

    /// Past a value that is no container.
    fn scalar(&mut self) -> Option<()> {
        match self.byte()? {
            b'"' => self.rest_of_string().map(|_| ()),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => None,
        }
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.text.as_bytes()[self.at..].starts_with(word.as_bytes()).then(|| self.at += word.len())
    }

    fn number(&mut self) -> Option<()> {
        if self.byte()? == b'-' {
            self.at += 1;
        }
        match self.byte()? {
            b'0' => self.at += 1,
            _ => self.digits()?,
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.byte(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let rest = &self.text.as_bytes()[self.at..];
        let count = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
        self.at += count;
        (count > 0).then_some(())
    }

    /// From the quote before a string to the place behind the one after it. Whether there is an escape between them.
    fn rest_of_string(&mut self) -> Option<bool> {
        let bytes = self.text.as_bytes();
        let mut at = self.at + 1;
        let mut escaped = false;
        loop {
            at += plain(bytes.get(at..)?);
            match bytes.get(at)? {
                b'"' => {
                    self.at = at + 1;
                    return Some(escaped);
                }
                b'\\' => {
                    escaped = true;
                    match bytes.get(at + 1)? {
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => at += 2,
                        b'u' if bytes.get(at + 2..at + 6)?.iter().all(u8::is_ascii_hexdigit) => at += 6,
                        _ => return None,
                    }
                }
                // A control character.
                _ => return None,
            }
        }
    }
}

/// How many bytes from the front are no quote, backslash or control character: eight at a time.
#[inline]
fn plain(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 0xff;
    const HIGH: u64 = ONES << 7;
    // The high bit of the lowest byte that is zero is set, and of none below it.
    let zero = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let (words, rest) = bytes.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
        let found = control | zero(word ^ (ONES * u64::from(b'"'))) | zero(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return number * 8 + (found.trailing_zeros() / 8) as usize;
        }
    }
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..=0x1f);
    words.len() * 8 + rest.iter().position(special).unwrap_or(rest.len())
}

/// The text that the inside of a string stands for. Its escapes have been checked.
fn unescaped(inner: &str) -> String {
    let mut text = String::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        text.push_str(&rest[..at]);
        let escape = rest.as_bytes().get(at + 1).copied().unwrap_or_default();
        rest = &rest[(at + 2).min(rest.len())..];
        text.push(match escape {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let (char, length) = unicode(rest);
                rest = rest.get(length..).unwrap_or_default();
                char
            }
            other => char::from(other),
        });
    }
    text.push_str(rest);
    text
}

/// The character of `XXXX` or `XXXX\uXXXX`, and how long that is.
fn unicode(digits: &str) -> (char, usize) {
    let unit = |at: usize| digits.get(at..at + 4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let high = unit(0).unwrap_or(0xfffd);
    if (0xd800..0xdc00).contains(&high)
        && digits.get(4..6) == Some("\\u")
        && let Some(low) = unit(6).filter(|low| (0xdc00..0xe000).contains(low))
    {
        let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
        return (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 10);
    }
    (char::from_u32(high).unwrap_or(char::REPLACEMENT_CHARACTER), 4)
}

/// Which containers are open, a bit each: 64 levels without memory of their own.
#[derive(Default)]
struct Open {
    /// The innermost is the lowest bit.
    bits: u64,
    /// Of how many levels `bits` tells.
    held: u32,
    /// Those further out.
    outer: Vec<u64>,
}

impl Open {
    fn push(&mut self, object: bool) {
        if self.held == 64 {
            self.outer.push(self.bits);
            self.held = 0;
        }
        self.bits = self.bits << 1 | u64::from(object);
        self.held += 1;
    }

    fn last(&self) -> Option<bool> {
        (self.held > 0).then_some(self.bits & 1 == 1)
    }

    fn pop(&mut self) {
        self.bits >>= 1;
        self.held -= 1;
        if self.held == 0
            && let Some(bits) = self.outer.pop()
        {
            (self.bits, self.held) = (bits, 64);
        }
    }
}

/// Calls `each` with the fields of an object in their order, values as slices of `json`; `false` if it is none. Keys
/// that occur twice come twice. Nothing is built and nothing recurses, whatever stands in the values.
pub fn each_field<'a>(json: &'a str, mut each: impl FnMut(&str, &'a str)) -> bool {
    let fields = |name: Cow<'a, str>, value: &mut Scanner<'a>| {
        each(&name, value.value()?);
        Some(())
    };
    Scanner::new(json).fields(fields) == Some(true)
}

/// Calls `each` with the items of a list in their order, as slices of `json`; `false` if it is none.
pub fn each_item<'a>(json: &'a str, mut each: impl FnMut(&'a str)) -> bool {
    let items = |item: &mut Scanner<'a>| {
        each(item.value()?);
        Some(())
    };
    Scanner::new(json).items(items) == Some(true)
}

/// A scalar as text: a string opened, a number digit for digit, a boolean by its name. None for null, the empty string,
/// lists and objects.
pub fn scalar(json: &str) -> Option<Cow<'_, str>> {
    match json.as_bytes().first()? {
        b'"' => Scanner::new(json).string().filter(|text| !text.is_empty()),
        b'{' | b'[' | b'n' => None,
        _ => Some(Cow::Borrowed(json)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn is_json(text: &str) -> bool {
        let mut scanner = Scanner::new(text);
        scanner.value().is_some() && scanner.is_at_end()
    }

    #[test]
    fn fields_come_in_order_and_as_they_stand() {
        let mut seen = Vec::new();
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        let json = format!(r#"{{ "a" : 1.50 , "a":"\/", "\u0062": {deep} }}"#);
        assert!(each_field(&json, |key, value| seen.push((key.to_owned(), value))));
        assert_eq!(seen, [("a".to_owned(), "1.50"), ("a".to_owned(), r#""\/""#), ("b".to_owned(), deep.as_str())]);
    }

    #[test]
    fn items_come_in_order_and_as_they_stand() {
        let mut seen = Vec::new();
        assert!(each_item(" [ 1 ,null, {\"a\": [ ]}, \"]\" ] ", |item| seen.push(item)));
        assert_eq!(seen, ["1", "null", "{\"a\": [ ]}", "\"]\""]);
    }

    #[test]
    fn another_type_is_none() {
        for json in ["null", "1", "true", "\"x\"", "[]"] {
            assert!(!each_field(json, |_, _| ()), "{json}");
        }
        for json in ["null", "1", "true", "\"x\"", "{}"] {
            assert!(!each_item(json, |_| ()), "{json}");
        }
    }

    #[test]
    fn scalars_as_text() {
        for (json, text) in [
            ("\"x\\u0041\"", Some("xA")),
            (r#""\"\\\/\b\f\n\r\t\ud83d\ude00é""#, Some("\"\\/\u{8}\u{c}\n\r\t😀é")),
            ("90071992547409931", Some("90071992547409931")),
            ("true", Some("true")),
            ("\"\"", None),
            ("null", None),
            ("{}", None),
            ("[1]", None),
        ] {
            assert_eq!(scalar(json).as_deref(), text, "{json}");
        }
    }

    #[test]
    fn nesting_of_any_depth_is_kept_track_of() {
        for depth in [1, 63, 64, 65, 127, 128, 129, 1000] {
            let lists = "[".repeat(depth);
            let objects = r#"{"a":"#.repeat(depth);
            let whole = format!("{objects}{lists}1{}{}", "]".repeat(depth), "}".repeat(depth));
            assert!(is_json(&whole), "{depth}");
            assert!(!is_json(&whole[..whole.len() - 1]), "{depth}");
            assert!(!is_json(&format!("{lists}1{}}}", "]".repeat(depth - 1))), "{depth}");
        }
    }

    #[test]
    fn a_special_byte_is_found_wherever_it_stands() {
        for length in 0..40 {
            for special in [b'"', b'\\', 0, 0x1f] {
                for other in [b' ', b'!', b'#', b'[', b']', 0x7f, 0x80, 0xff, 0xa2, 0xdc] {
                    let mut bytes = vec![other; length];
                    bytes.push(special);
                    bytes.extend_from_slice(b"\"\\\0");
                    assert_eq!(plain(&bytes), length, "{other} {special}");
                }
            }
        }
    }

    proptest! {
        /// What is JSON and what is not is as serde_json has it, and so is what a string stands for.
        #[test]
        fn it_takes_what_serde_json_takes(text in r#"([\[\]{},:"\\ue0-9.\-+a-f \n]|"a":|\\u[0-9a-f]{4}|null|true|é|😀){0,24}"#) {
            let raw = serde_json::from_str::<&RawValue>(&text);
            prop_assert_eq!(is_json(&text), raw.is_ok());
            if let Ok(text) = serde_json::from_str::<String>(&text) {
                let mut scanner = Scanner::new(raw.unwrap().get());
                prop_assert_eq!(scanner.string().unwrap(), text);
            }
        }

        #[test]
        fn every_text_comes_back(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(Scanner::new(&json).string().unwrap(), text);
        }
    }
}
