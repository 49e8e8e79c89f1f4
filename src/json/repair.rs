use std::borrow::Cow;

/// The same JSON with `\u0000` and every lone surrogate escape (a truncated emoji) replaced by `\ufffd`.
///
/// Both are six bytes, so every offset into the result is an offset into the original: items are found in the repaired
/// text and cut out of the original one.
pub fn repair(json: &[u8]) -> Cow<'_, [u8]> {
    let mut out = Cow::Borrowed(json);
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &json[at..]) {
        let escape = at + found;
        match unit(json, escape) {
            // A pair is two units that belong together.
            Some(0xD800..=0xDBFF) if matches!(unit(json, escape + 6), Some(0xDC00..=0xDFFF)) => {
                at = escape + 12;
            }
            Some(0 | 0xD800..=0xDFFF) => {
                out.to_mut()[escape + 2..escape + 6].copy_from_slice(b"fffd");
                at = escape + 6;
            }
            Some(_) => at = escape + 6,
            None => at = (escape + 2).min(json.len()),
        }
    }
    out
}

/// The same for text.
pub fn mended(json: &str) -> Cow<'_, str> {
    match repair(json.as_bytes()) {
        Cow::Borrowed(_) => Cow::Borrowed(json),
        // Only ASCII has been replaced by ASCII.
        Cow::Owned(bytes) => String::from_utf8(bytes).map_or(Cow::Borrowed(json), Cow::Owned),
    }
}

/// The UTF-16 unit that `\uXXXX` at this offset stands for.
fn unit(json: &[u8], at: usize) -> Option<u16> {
    let escape = json.get(at..at + 6)?;
    let digits = escape.strip_prefix(b"\\u")?;
    digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | u16::try_from(char::from(digit).to_digit(16)?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::repair;

    #[test]
    fn only_what_stands_for_no_text_is_replaced() {
        for (before, after) in [
            (r#""plain""#, r#""plain""#),
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""\ud83d""#, r#""\ufffd""#),
            (r#""\ude00 \ud83d\ud83d\ude00""#, r#""\ufffd \ufffd\ud83d\ude00""#),
            (r#""\u0000\u0001""#, r#""\ufffd\u0001""#),
            (r#""\\ud83d \\\ud83d""#, r#""\\ud83d \\\ufffd""#),
            (r#""\ud8"#, r#""\ud8"#),
            (r#""\"#, r#""\"#),
        ] {
            assert_eq!(repair(before.as_bytes()), after.as_bytes(), "{before}");
        }
    }
}
