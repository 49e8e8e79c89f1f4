//! What commands print on stdout.

use std::borrow::Cow;
use std::io::{self, Write};

use super::exit::{Failure, Outcome};

/// Prints text, what a terminal would obey made visible. A reader that has gone (`| head`) ends the output and is no failure.
pub(crate) fn print(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    match out.write_all(visible(text).as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::internal(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// The text with its control characters as `\u001b`, but for line ends and tabs: ids and words of persons are printed,
/// and whoever sends them must not move the cursor or rename the window. In JSON, where only strings can hold control
/// characters, it stays the same JSON.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\t' | '\r');
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let mut visible = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if obeyed(c) { visible.push_str(&format!("\\u{:04x}", u32::from(c))) } else { visible.push(c) }
    }
    Cow::Owned(visible)
}

/// Lines of cells in columns, the first line being the heading.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell: &String| cell.chars().count()).max();
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for row in rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_printed_is_obeyed_by_a_terminal() {
        for (text, printed) in [
            ("a line\n\tand another, ä😀\n", "a line\n\tand another, ä😀\n"),
            ("\u{1b}]0;title\u{7}", "\\u001b]0;title\\u0007"),
            ("\u{9b}2J\u{7f}", "\\u009b2J\\u007f"),
        ] {
            assert_eq!(visible(text), printed);
        }
        let json = r#"{"id":"\u001b[2J \u009b"}"#;
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::from_str::<serde_json::Value>(&visible(&value.to_string())).unwrap(), value);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["SINK".to_owned(), "LAG".to_owned()], vec!["archive".to_owned(), "7".to_owned()]];
        assert_eq!(table(&rows), "SINK     LAG\narchive  7\n");
    }
}
