//! How answers are written: tables for people, JSON for programs.
//!
//! The one way to stdout. Data from records, guests and servers goes through [`text`], [`bytes`] or [`table`], which let
//! none of it draw on the terminal or fake a line; what is exact is `-o json`.

use std::borrow::Cow;
use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use forebay::api::proto::Refusal;
use forebay::model::text::{printable, printable_json, printable_lines};
use serde::Serialize;
use serde_json::{Map, Value};

use super::exit::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Table,
    Json,
}

impl Format {
    /// Writes `answer` as JSON, or what `table` makes of it.
    pub fn write<T: Serialize + ?Sized>(self, answer: &T, table: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        match self {
            Self::Table => line(&table(answer)),
            Self::Json => json(&to_json(answer)?),
        }
    }
}

fn to_json(answer: &(impl Serialize + ?Sized)) -> Result<String, Failure> {
    serde_json::to_string_pretty(answer).map_err(|error| Failure::other(format!("write JSON: {error}")))
}

/// Writes lines for people to stdout.
pub fn line(text: &str) -> Result<(), Failure> {
    write(&printable_lines(text))
}

/// Writes JSON to stdout: the same values, safe to look at.
pub fn json(json: &str) -> Result<(), Failure> {
    write(&printable_json(json))
}

/// A reader that has gone (`| head`) ends the program quietly.
fn write(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout().lock(), "{text}") {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::other(format!("write to stdout: {error}"))),
    }
}

/// Columns without lines, easy to cut. A cell is one line whatever is in it.
pub fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.map(str::to_uppercase));
    table.add_rows(rows.into_iter().map(|row| row.map(|cell| printable(&cell).into_owned())));
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// A moment in milliseconds since 1970 as RFC 3339.
pub fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| at.to_string())
}

/// A watermark in nanoseconds since 1970; before all records a dash.
pub fn event_time(ns: i64) -> String {
    match ns {
        i64::MIN => "-".to_owned(),
        ns => jiff::Timestamp::from_nanosecond(ns.into()).map_or_else(|_| ns.to_string(), |at| format!("{at:.3}")),
    }
}

/// What stands against a plan, with the way on.
pub fn refused(refusal: &Refusal) -> String {
    format!("  refused  {}: {}\n           {}", refusal.place, refusal.found, refusal.remedy)
}

pub fn list(items: &[String]) -> String {
    if items.is_empty() { "-".to_owned() } else { items.join(", ") }
}

/// Text from outside, made safe to stand inside a line of this program.
pub fn text(text: &str) -> Cow<'_, str> {
    printable(text)
}

/// Bytes as text where they are, else as hex digits; of a null a dash.
pub fn bytes(bytes: Option<&[u8]>) -> String {
    match bytes.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => "-".to_owned(),
        Some((Ok(text), _)) => printable(text).into_owned(),
        Some((Err(_), bytes)) => format!("0x{}", hex(bytes)),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `key` and its value: text, or under `<key>_hex` where it is no text, or null.
pub fn put_bytes(object: &mut Map<String, Value>, key: &str, value: Option<&[u8]>) {
    match value.map(std::str::from_utf8) {
        None => drop(object.insert(key.to_owned(), Value::Null)),
        Some(Ok(text)) => drop(object.insert(key.to_owned(), text.into())),
        Some(Err(_)) => drop(object.insert(format!("{key}_hex"), hex(value.unwrap_or_default()).into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_with_line_breaks_and_control_characters_is_still_one_row() {
        let shown = table(["place", "key"], [["0@1".to_owned(), "a\n 0@2  fake\u{1b}[2J".to_owned()]]);
        assert_eq!(shown.lines().count(), 2, "{shown}");
        assert!(shown.contains("a\\n 0@2  fake\\u{1b}[2J"), "{shown}");
    }

    #[test]
    fn bytes_are_shown_as_text_as_digits_or_as_nothing() {
        assert_eq!(bytes(Some(b"a\tb")), "a\\tb");
        assert_eq!(bytes(Some(b"\xff\x00")), "0xff00");
        assert_eq!(bytes(None), "-");
    }
}
