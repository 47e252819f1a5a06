//! Text from outside as people may be shown it: in terminals, tables, logs, errors and dead letters.
//!
//! One rule for all of them: what is shown can neither move the cursor, nor begin a line of its own, nor turn the order
//! of what stands beside it. Never changes what is stored or handed on.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Shows characters that control a terminal or change the direction of text as escapes.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |c| !draws(c), |c, out| out.extend(c.escape_default()))
}

/// The same for text whose own line ends and tabs are kept.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| !draws(c) || matches!(c, '\n' | '\t'), |c, out| out.extend(c.escape_default()))
}

/// JSON with the same meaning: such characters can only stand in its strings, where they are written as `\u` escapes.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    let by_number = |c: char, out: &mut String| {
        let mut units = [0; 2];
        for unit in c.encode_utf16(&mut units) {
            // Writing to a string never fails.
            let _ = write!(out, "\\u{unit:04x}");
        }
    };
    escaped(json, |c| !draws(c) || c == '\n', by_number)
}

/// Control characters, marks that end lines, and those that turn the order of text or hide in it.
fn draws(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}'
                | '\u{2029}'
                | '\u{061c}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
        )
}

fn escaped(text: &str, is_plain: impl Fn(char) -> bool, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if text.chars().all(&is_plain) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_plain(c) {
            out.push(c);
        } else {
            escape(c, &mut out);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_neither_draw_nor_fake_a_line() {
        assert_eq!(printable("red \u{1b}[31m\nfake\r\trow"), "red \\u{1b}[31m\\nfake\\r\\trow");
        assert_eq!(
            printable("8 bits \u{9b}2J, turned \u{202e}txt.exe, a mark \u{feff}"),
            "8 bits \\u{9b}2J, turned \\u{202e}txt.exe, a mark \\u{feff}"
        );
        assert!(matches!(printable("naïve 東京 👩‍🚀 \\n"), Cow::Borrowed(_)), "what is plain stays as it is");
    }

    #[test]
    fn lines_and_columns_stay_and_nothing_else() {
        assert_eq!(printable_lines("a\tb\nc\u{1b}[2J\r"), "a\tb\nc\\u{1b}[2J\\r");
    }

    #[test]
    fn json_says_the_same_as_before() {
        let value = serde_json::json!({"k\u{7f}": "a\u{9b}b\u{202e}c\nd\u{1b}"});
        let json = serde_json::to_string_pretty(&value).unwrap();
        let shown = printable_json(&json);
        assert!(!shown.chars().any(|c| draws(c) && c != '\n'), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }
}
