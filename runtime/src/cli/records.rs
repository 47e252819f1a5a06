//! A record as a line of JSON: what `topic consume -o json` prints, and `topic produce --records` and `module check` read.
//!
//! Bytes in, bytes out. What is text stays that text, a value that is no text keeps the bytes that it is written with
//! (numbers their digits, objects their order and their names that come twice), headers keep their order, and equal ones
//! stay. What cannot be kept is refused.

use std::fmt;

use forebay::api::proto::Header;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::output::put_bytes;

/// A key and a value stand as text, or as hex digits under `key_hex` and `value_hex`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line<'a> {
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    key_hex: Option<String>,
    #[serde(default, borrow)]
    value: Option<&'a RawValue>,
    #[serde(default)]
    value_hex: Option<String>,
    #[serde(default)]
    pub timestamp_ms: Option<i64>,
    #[serde(default, borrow)]
    headers: Headers<'a>,
    /// Of `module check`: the module's input, and the time that the host would find.
    #[serde(default)]
    pub input: Option<String>,
    #[serde(default)]
    pub event_time_ns: Option<i64>,
    /// Where the record was read: printed by `consume`, and not asked for here.
    #[serde(default, rename = "partition")]
    _partition: Option<i32>,
    #[serde(default, rename = "offset")]
    _offset: Option<i64>,
}

impl<'a> Line<'a> {
    /// # Errors
    /// A sentence that says what cannot be read or kept.
    pub fn parse(line: &'a [u8]) -> Result<Self, String> {
        if line.trim_ascii().is_empty() {
            return Err("it is empty; each line is a JSON object".to_owned());
        }
        serde_json::from_slice(line).map_err(|error| error.to_string())
    }

    pub fn key(&self) -> Result<Option<Vec<u8>>, String> {
        match (&self.key, &self.key_hex) {
            (Some(_), Some(_)) => Err("both key and key_hex are given; give one".to_owned()),
            (_, Some(digits)) => from_hex("key_hex", digits).map(Some),
            (key, None) => Ok(key.clone().map(String::into_bytes)),
        }
    }

    pub fn value(&self) -> Result<Option<Vec<u8>>, String> {
        match (self.value, &self.value_hex) {
            (Some(_), Some(_)) => Err("both value and value_hex are given; give one".to_owned()),
            (_, Some(digits)) => from_hex("value_hex", digits).map(Some),
            (None, None) => Ok(None),
            (Some(value), None) => plain("value", value),
        }
    }

    pub fn headers(&self) -> Result<Vec<Header>, String> {
        self.headers.0.iter().map(RawHeader::read).collect()
    }
}

/// A string is the text that it stands for, null is none, and all else is kept as it is written.
fn plain(what: &str, value: &RawValue) -> Result<Option<Vec<u8>>, String> {
    let written = value.get();
    match written.as_bytes().first() {
        Some(b'"') => {
            let text: String = serde_json::from_str(written).map_err(|error| format!("{what}: {error}"))?;
            Ok(Some(text.into_bytes()))
        }
        Some(b'n') => Ok(None),
        _ => Ok(Some(written.as_bytes().to_vec())),
    }
}

fn from_hex(what: &str, digits: &str) -> Result<Vec<u8>, String> {
    let pairs: Option<Vec<u8>> = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| {
            let pair = std::str::from_utf8(pair).ok()?;
            let is_pair = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
            is_pair.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
        })
        .collect();
    pairs.ok_or_else(|| format!("{what} is no bytes: write two hex digits for each"))
}

/// A list of `{"name", "value"}`, or an object by name; both in the order in which they stand.
#[derive(Default)]
struct Headers<'a>(Vec<RawHeader<'a>>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHeader<'a> {
    name: String,
    #[serde(default, borrow)]
    value: Option<&'a RawValue>,
    #[serde(default)]
    value_hex: Option<String>,
}

impl RawHeader<'_> {
    fn read(&self) -> Result<Header, String> {
        let what = format!("header {:?}", self.name);
        let value = match (self.value, &self.value_hex) {
            (Some(_), Some(_)) => return Err(format!("{what}: both value and value_hex are given; give one")),
            (_, Some(digits)) => Some(from_hex(&format!("{what}: value_hex"), digits)?),
            (Some(value), None) => plain(&what, value)?,
            (None, None) => None,
        };
        Ok(Header { name: self.name.clone(), value })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Headers<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct ListOrObject;
        impl<'de> Visitor<'de> for ListOrObject {
            type Value = Headers<'de>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list of {\"name\", \"value\"}, or an object of values by name")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
                let mut headers = Vec::new();
                while let Some(header) = list.next_element()? {
                    headers.push(header);
                }
                Ok(Headers(headers))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut headers = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    headers.push(RawHeader { name, value: Some(value), value_hex: None });
                }
                Ok(Headers(headers))
            }
        }
        from.deserialize_any(ListOrObject)
    }
}

/// Headers as a list: names may come twice, and their order counts.
pub fn headers_to_json(headers: &[Header]) -> Value {
    let header = |header: &Header| {
        let mut object = Map::new();
        object.insert("name".to_owned(), header.name.clone().into());
        put_bytes(&mut object, "value", header.value.as_deref());
        Value::from(object)
    };
    headers.iter().map(header).collect()
}

/// A byte-order mark: bytes before the first line that are not part of it.
pub fn byte_order_mark(input: &[u8]) -> Option<Mark> {
    match input {
        [0xef, 0xbb, 0xbf, ..] => Some(Mark::Utf8),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some(Mark::Utf16),
        _ => None,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Says that the file is UTF-8, and is no part of its first line.
    Utf8,
    /// Lines of such a file cannot be told apart byte by byte.
    Utf16,
}

#[cfg(test)]
mod tests {
    use super::super::output::hex;
    use super::*;

    fn value(line: &str) -> Option<String> {
        Line::parse(line.as_bytes()).unwrap().value().unwrap().map(|value| String::from_utf8(value).unwrap())
    }

    fn headers(line: &str) -> Vec<(String, Option<Vec<u8>>)> {
        let headers = Line::parse(line.as_bytes()).unwrap().headers().unwrap();
        headers.into_iter().map(|header| (header.name, header.value)).collect()
    }

    #[test]
    fn a_value_keeps_the_bytes_that_it_is_written_with() {
        for written in [
            "12345678901234567890123",
            "1.10",
            "1e2",
            "-0",
            r#"{"price": 0.10, "price": 1E400}"#,
            r#"{"b":1,"a":2,"b":3}"#,
            "[ 1,2 ]",
            "true",
        ] {
            assert_eq!(value(&format!(r#"{{"value": {written} }}"#)).as_deref(), Some(written));
        }
    }

    #[test]
    fn text_is_the_text_that_it_stands_for_and_null_is_none() {
        assert_eq!(value(r#"{"value": "a\n\u00e9\u0000"}"#).as_deref(), Some("a\né\0"));
        assert_eq!(value(r#"{"value": null}"#), None);
        assert_eq!(value("{}"), None);
    }

    #[test]
    fn headers_keep_their_order_and_equal_ones_stay() {
        let expected = vec![
            ("b".to_owned(), Some(b"1".to_vec())),
            ("a".to_owned(), None),
            ("b".to_owned(), Some(b"2.50".to_vec())),
        ];
        assert_eq!(headers(r#"{"headers": {"b": "1", "a": null, "b": 2.50}}"#), expected);
        let list = r#"{"headers": [{"name": "b", "value": "1"}, {"name": "a"}, {"name": "b", "value": 2.50}]}"#;
        assert_eq!(headers(list), expected);
    }

    #[test]
    fn what_is_printed_is_read_back_the_same() {
        let given = vec![
            Header { name: "a".into(), value: Some(b"1".to_vec()) },
            Header { name: "a".into(), value: Some(vec![0xff, 0]) },
            Header { name: "n".into(), value: None },
        ];
        let line =
            serde_json::json!({"key_hex": hex(&[0, 0xfe]), "value_hex": "FF", "headers": headers_to_json(&given)});
        let line = line.to_string();
        let read = Line::parse(line.as_bytes()).unwrap();
        assert_eq!(read.headers().unwrap(), given);
        assert_eq!((read.key().unwrap(), read.value().unwrap()), (Some(vec![0, 0xfe]), Some(vec![0xff])));
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        for (line, found) in [
            (r#"{"key": 5}"#, "expected a string"),
            (r#"{"key": "a", "key_hex": "61"}"#, "both key and key_hex"),
            (r#"{"value_hex": "6"}"#, "two hex digits"),
            (r#"{"value_hex": "+1"}"#, "two hex digits"),
            (r#"{"value": "\ud800"}"#, "hex escape"),
            (r#"{"value": 1, "value": 2}"#, "duplicate field"),
            (r#"{"values": 1}"#, "unknown field"),
            (r#"{"timestamp_ms": 1.5}"#, "expected i64"),
            (r#"{"headers": "x"}"#, "a list of"),
            ("", "it is empty"),
        ] {
            let read = Line::parse(line.as_bytes()).and_then(|line| {
                line.key()?;
                line.value()?;
                line.headers()
            });
            let why = read.unwrap_err();
            assert!(why.contains(found), "{line}: {why}");
        }
    }
}
