//! How answers are written: tables for people, JSON for programs.

use std::io::{self, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::exit::Failure;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Table,
    Json,
}

impl Format {
    /// Writes `answer` as JSON, or what `table` makes of it.
    pub fn write<T: Serialize + ?Sized>(self, answer: &T, table: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        let text = match self {
            Self::Table => table(answer),
            Self::Json => to_json(answer)?,
        };
        line(&text)
    }
}

fn to_json(answer: &(impl Serialize + ?Sized)) -> Result<String, Failure> {
    serde_json::to_string_pretty(answer).map_err(|error| Failure::other(format!("write JSON: {error}")))
}

/// Writes a line to stdout. A reader that has gone (`| head`) ends the program quietly.
pub fn line(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout().lock(), "{text}") {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::other(format!("write to stdout: {error}"))),
    }
}

/// Columns without lines, easy to cut.
pub fn table<const N: usize>(header: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.map(str::to_uppercase));
    table.add_rows(rows);
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// A moment in milliseconds since 1970 as RFC 3339.
pub fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |at| at.to_string())
}

pub fn list(items: &[String]) -> String {
    if items.is_empty() { "-".to_owned() } else { items.join(", ") }
}

/// Bytes as text where they are, else as hex digits.
pub fn bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("0x{}", hex(bytes)),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `key` and its value: text, or under `<key>_hex` where it is no text, or null.
pub fn put_bytes(object: &mut serde_json::Map<String, serde_json::Value>, key: &str, value: Option<&[u8]>) {
    match value.map(std::str::from_utf8) {
        None => drop(object.insert(key.to_owned(), serde_json::Value::Null)),
        Some(Ok(text)) => drop(object.insert(key.to_owned(), text.into())),
        Some(Err(_)) => drop(object.insert(format!("{key}_hex"), hex(value.unwrap_or_default()).into())),
    }
}
