//! A reader of JSON (RFC 8259) written for these targets alone: strict, without recursion, and with the place of every
//! value. Strings are kept as the UTF-16 units that their escapes stand for, so that half a surrogate pair is one, too.

use std::ops::Range;

/// A JSON text: its values in the order in which they begin, the first being the whole.
pub(crate) struct Json<'a> {
    text: &'a str,
    nodes: Vec<Node>,
}

struct Node {
    name: Option<Vec<u16>>,
    at: Range<usize>,
    kind: Kind,
    children: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Truth(bool),
    /// Its digits as they stand.
    Number,
    Text(Vec<u16>),
    List,
    Object,
}

/// A value in a JSON text.
#[derive(Clone, Copy)]
pub(crate) struct Value<'j> {
    json: &'j Json<'j>,
    node: usize,
}

impl<'a> Json<'a> {
    /// None where this is no JSON text.
    pub(crate) fn read(text: &'a str) -> Option<Self> {
        let mut reader = Reader { text, at: 0, nodes: Vec::new() };
        reader.text()?;
        Some(Self { text, nodes: reader.nodes })
    }

    pub(crate) fn root(&self) -> Value<'_> {
        Value { json: self, node: 0 }
    }

    /// Whether no object has two members of one name, but for what is within this range.
    pub(crate) fn has_each_name_once(&self, but: &Range<usize>) -> bool {
        self.nodes.iter().filter(|node| !contains(but, &node.at)).all(|node| {
            let mut names: Vec<_> = node.children.iter().map(|child| &self.nodes[*child].name).collect();
            names.sort();
            node.kind != Kind::Object || names.windows(2).all(|pair| pair[0] != pair[1])
        })
    }

    /// Whether every string is text, without half a pair of surrogates and without NUL, but for what is within this
    /// range.
    pub(crate) fn is_all_text(&self, but: &Range<usize>) -> bool {
        let is_text = |units: &[u16]| String::from_utf16(units).is_ok_and(|text| !text.contains('\0'));
        self.nodes.iter().filter(|node| !contains(but, &node.at)).all(|node| {
            node.name.as_deref().is_none_or(is_text)
                && if let Kind::Text(units) = &node.kind { is_text(units) } else { true }
        })
    }
}

impl<'j> Value<'j> {
    fn node(self) -> &'j Node {
        &self.json.nodes[self.node]
    }

    pub(crate) fn kind(self) -> &'j Kind {
        &self.node().kind
    }

    pub(crate) fn at(self) -> Range<usize> {
        self.node().at.clone()
    }

    /// As it stands in the text.
    pub(crate) fn source(self) -> &'j str {
        &self.json.text[self.at()]
    }

    pub(crate) fn is_object(self) -> bool {
        *self.kind() == Kind::Object
    }

    pub(crate) fn is_list(self) -> bool {
        *self.kind() == Kind::List
    }

    /// The text of a string that is one.
    pub(crate) fn text(self) -> Option<String> {
        match self.kind() {
            Kind::Text(units) => String::from_utf16(units).ok(),
            _ => None,
        }
    }

    /// The values of a list or an object, in their order.
    pub(crate) fn children(self) -> impl Iterator<Item = Value<'j>> {
        self.node().children.iter().map(move |node| Value { json: self.json, node: *node })
    }

    /// Its name, where it is the member of an object.
    pub(crate) fn name(self) -> Option<String> {
        self.node().name.as_deref().map(String::from_utf16_lossy)
    }

    /// The members of this name, in their order.
    pub(crate) fn members(self, name: &str) -> impl Iterator<Item = Value<'j>> {
        let name: Vec<u16> = name.encode_utf16().collect();
        self.children().filter(move |child| child.node().name.as_ref() == Some(&name))
    }

    /// The last member of this name, which is the one that counts.
    pub(crate) fn member(self, name: &str) -> Option<Value<'j>> {
        self.members(name).last()
    }

    /// Whether both say the same: names in any order, numbers digit for digit, strings by what their escapes stand for
    /// and, with `lenient`, with U+FFFD for what is no text. The last member of a name counts.
    pub(crate) fn says_the_same(self, other: Value<'_>, lenient: bool) -> bool {
        self.canonical(lenient) == other.canonical(lenient)
    }

    /// A text that is the same for all JSON that says the same.
    fn canonical(self, lenient: bool) -> String {
        // Children come behind their parents, so that from the back every child is ready when its parent needs it.
        let nodes = &self.json.nodes;
        let end = self.last_below() + 1;
        let mut ready: Vec<String> = vec![String::new(); end - self.node];
        for at in (self.node..end).rev() {
            let node = &nodes[at];
            ready[at - self.node] = match &node.kind {
                Kind::Null => "null".to_owned(),
                Kind::Truth(truth) => truth.to_string(),
                Kind::Number => self.json.text[node.at.clone()].to_owned(),
                Kind::Text(units) => format!("{:?}", mended(units, lenient)),
                Kind::List => {
                    let items: Vec<_> = node.children.iter().map(|child| ready[child - self.node].as_str()).collect();
                    format!("[{}]", items.join(","))
                }
                Kind::Object => {
                    let mut members = std::collections::BTreeMap::new();
                    for child in &node.children {
                        let name = nodes[*child].name.as_deref().unwrap_or_default();
                        members.insert(mended(name, lenient), &ready[child - self.node]);
                    }
                    let members: Vec<_> = members.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
                    format!("{{{}}}", members.join(","))
                }
            };
        }
        ready.swap_remove(0)
    }

    fn last_below(self) -> usize {
        let mut last = self.node;
        while let Some(child) = self.json.nodes[last].children.last() {
            last = *child;
        }
        last
    }
}

fn contains(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// The units, with U+FFFD for NUL and for half a pair of surrogates.
fn mended(units: &[u16], lenient: bool) -> Vec<u16> {
    if !lenient {
        return units.to_vec();
    }
    let text = char::decode_utf16(units.iter().copied()).map(|char| char.unwrap_or('\u{fffd}'));
    text.map(|char| if char == '\0' { '\u{fffd}' } else { char }).collect::<String>().encode_utf16().collect()
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    nodes: Vec<Node>,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// The whole text.
    fn text(&mut self) -> Option<()> {
        // The containers that are open.
        let mut open: Vec<usize> = Vec::new();
        self.space();
        self.begin(None, &mut open)?;
        while let Some(container) = open.last().copied() {
            self.space();
            let is_object = self.nodes[container].kind == Kind::Object;
            let end = if is_object { b'}' } else { b']' };
            if self.peek()? == end {
                self.at += 1;
                self.nodes[container].at.end = self.at;
                open.pop();
                continue;
            }
            if !self.nodes[container].children.is_empty() {
                self.take(b',')?;
                self.space();
            }
            let name = if is_object {
                let name = self.string()?;
                self.space();
                self.take(b':')?;
                self.space();
                Some(name)
            } else {
                None
            };
            let child = self.nodes.len();
            self.nodes[container].children.push(child);
            self.begin(name, &mut open)?;
        }
        self.space();
        self.peek().is_none().then_some(())
    }

    /// A scalar, or the beginning of a container.
    fn begin(&mut self, name: Option<Vec<u16>>, open: &mut Vec<usize>) -> Option<()> {
        let start = self.at;
        let node = self.nodes.len();
        let kind = match self.peek()? {
            b'{' | b'[' => {
                let kind = if self.peek()? == b'{' { Kind::Object } else { Kind::List };
                self.at += 1;
                open.push(node);
                kind
            }
            b'"' => Kind::Text(self.string()?),
            b'-' | b'0'..=b'9' => {
                self.number()?;
                Kind::Number
            }
            _ => {
                let rest = &self.text[self.at..];
                let words = [("null", Kind::Null), ("true", Kind::Truth(true)), ("false", Kind::Truth(false))];
                let (word, kind) = words.into_iter().find(|(word, _)| rest.starts_with(word))?;
                self.at += word.len();
                kind
            }
        };
        self.nodes.push(Node { name, at: start..self.at, kind, children: Vec::new() });
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        _ = self.take(b'-');
        match self.peek()? {
            b'0' => self.at += 1,
            _ => self.digits()?,
        }
        if self.take(b'.').is_some() {
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Some(())
    }

    fn digits(&mut self) -> Option<()> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }

    fn string(&mut self) -> Option<Vec<u16>> {
        self.take(b'"')?;
        let mut units = Vec::new();
        loop {
            let char = self.text[self.at..].chars().next()?;
            self.at += char.len_utf8();
            match char {
                '"' => return Some(units),
                '\\' => {
                    let escape = self.peek()?;
                    self.at += 1;
                    units.push(match escape {
                        b'"' | b'\\' | b'/' => u16::from(escape),
                        b'b' => 8,
                        b'f' => 12,
                        b'n' => 10,
                        b'r' => 13,
                        b't' => 9,
                        b'u' => {
                            let digits = self.text.get(self.at..self.at + 4)?;
                            self.at += 4;
                            let hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                            u16::from_str_radix(digits, 16).ok().filter(|_| hex)?
                        }
                        _ => return None,
                    });
                }
                '\0'..='\u{1f}' => return None,
                _ => units.extend_from_slice(char.encode_utf16(&mut [0; 2])),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_is_read() {
        for text in ["null", " [1 , -0.5e+7, {} ]\n", r#"{"a":[],"a":"\ud83d\"\/"}"#, "\"\u{7f}\""] {
            assert!(Json::read(text).is_some(), "{text}");
        }
        let others = [
            "",
            " ",
            "nul",
            "nulll",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "+1",
            "0x1",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[",
            "]",
            "{",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{a:1}"#,
            r#"{"a":1,}"#,
            r#"{"a":1"b":2}"#,
            "\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u+123\"",
            "\"\n\"",
            "[}",
            "{]",
            "[] []",
            "\u{feff}1",
            "NaN",
            "// 1\n1",
        ];
        for text in others {
            assert!(Json::read(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_value_is_found_where_it_stands() {
        let json = Json::read(r#"{"a": [1, {"b":"x"}], "a" : 2.50 }"#).unwrap();
        let sources: Vec<_> = json.root().members("a").map(Value::source).collect();
        assert_eq!(sources, [r#"[1, {"b":"x"}]"#, "2.50"]);
        assert_eq!(json.root().member("a").unwrap().source(), "2.50");
        assert!(!json.has_each_name_once(&(0..0)));
        assert!(Json::read(r#"{"a":[{"b":1},{"b":1}]}"#).unwrap().has_each_name_once(&(0..0)));
        let inner = Json::read(r#"[{"b":1,"b":2},"\ud83d"]"#).unwrap();
        assert!(!inner.has_each_name_once(&(0..0)) && inner.has_each_name_once(&(1..14)));
        assert!(!inner.is_all_text(&(0..0)) && inner.is_all_text(&(15..23)));
    }

    #[test]
    fn what_says_the_same_is_told_from_what_does_not() {
        let same = |one: &str, other: &str, lenient| {
            let (one, other) = (Json::read(one).unwrap(), Json::read(other).unwrap());
            one.root().says_the_same(other.root(), lenient)
        };
        assert!(same(r#"{"a":1,"b":["\u0041",null]}"#, r#"{ "b" : [ "A", null ], "a":1}"#, false));
        for (one, other) in
            [("1", "1.0"), ("1", "\"1\""), ("[1,2]", "[2,1]"), ("[1,[2]]", "[1,2]"), ("{}", "[]"), ("[]", "[null]")]
        {
            assert!(!same(one, other, true), "{one} {other}");
        }
        assert!(same(r#"["\u0000\ud83d\ud83d\ude00"]"#, "[\"\u{fffd}\u{fffd}\u{1f600}\"]", true));
        assert!(!same(r#"["\ud83d"]"#, "[\"\u{fffd}\"]", false));
    }
}
