//! The rules by which a source's records are read. Plain data; knows nothing of records.

use std::fmt;

use super::Error;
use crate::model::{PartitionId, murmur2};

/// What a record's value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Decode {
    #[default]
    Json,
    /// Anything, null too.
    Bytes,
}

/// Where a record's key comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeyRule {
    /// The key that the log holds.
    #[default]
    RecordKey,
    /// A field of the value: a string, or a number as it is written.
    Field(FieldPath),
    /// Records have no key.
    None,
}

/// Where a record's event time comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EventTimeRule {
    /// The timestamp that the log holds, in milliseconds.
    #[default]
    RecordTimestamp,
    Field {
        path: FieldPath,
        unit: TimeUnit,
        /// Text without an offset from UTC is taken for UTC; otherwise it is refused.
        assume_utc: bool,
    },
}

/// How the producers of a topic choose the partition of a key. A record elsewhere would bring its key to another task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partitioner {
    /// Kafka's own, and librdkafka's `murmur2` and `murmur2_random`.
    #[default]
    Murmur2,
    /// librdkafka's own: `consistent`, and its default `consistent_random`.
    Crc32,
    /// Any: nothing can be checked.
    None,
}

impl Partitioner {
    /// Of which the rest by the number of partitions is the partition. `None` where nobody can tell.
    pub fn hash(self, key: &[u8]) -> Option<u32> {
        match self {
            Self::Murmur2 => Some(murmur2::hash(key)),
            Self::Crc32 => Some(crc32fast::hash(key)),
            Self::None => None,
        }
    }

    pub fn partition(self, key: &[u8], partitions: u32) -> Option<PartitionId> {
        Some((self.hash(key)? % partitions.max(1)) as PartitionId)
    }

    /// As a spec writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Murmur2 => "murmur2",
            Self::Crc32 => "crc32",
            Self::None => "none",
        }
    }
}

/// What a number counts. A string in RFC 3339 says it by itself and is taken under every unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    S,
    Ms,
    Us,
    Ns,
    /// Numbers are refused.
    Rfc3339,
}

impl TimeUnit {
    /// Those that a number can count.
    pub(super) const NUMBERS: [Self; 4] = [Self::S, Self::Ms, Self::Us, Self::Ns];

    /// As a spec writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::S => "s",
            Self::Ms => "ms",
            Self::Us => "us",
            Self::Ns => "ns",
            Self::Rfc3339 => "rfc3339",
        }
    }

    /// `None` for RFC 3339.
    pub(super) fn nanos(self) -> Option<u32> {
        match self {
            Self::S => Some(1_000_000_000),
            Self::Ms => Some(1_000_000),
            Self::Us => Some(1_000),
            Self::Ns => Some(1),
            Self::Rfc3339 => None,
        }
    }
}

impl fmt::Display for TimeUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::S => "seconds since 1970 or RFC 3339",
            Self::Ms => "milliseconds since 1970 or RFC 3339",
            Self::Us => "microseconds since 1970 or RFC 3339",
            Self::Ns => "nanoseconds since 1970 or RFC 3339",
            Self::Rfc3339 => "a string in RFC 3339",
        })
    }
}

/// The way to a field through nested objects and arrays: `symbol`, `order.id`, `data[0].t`, `a\.b` for a name with a dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPath {
    segments: Vec<Segment>,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// A field of an object.
    Name(Box<str>),
    /// An item of an array, counted from 0.
    Item(usize),
}

impl FieldPath {
    const MAX_DEPTH: usize = 16;

    /// # Errors
    /// [`Error::FieldPath`]: an empty name, a stray backslash or bracket, too deep.
    pub fn parse(path: &str) -> Result<Self, Error> {
        let refuse = |found| Err(Error::FieldPath { path: path.chars().take(80).collect(), found });
        let mut segments = Vec::new();
        let mut rest = path;
        loop {
            let first_item = rest.starts_with('[');
            if !(first_item && segments.is_empty()) {
                let (name, behind) = match take_name(rest) {
                    Ok(taken) => taken,
                    Err(found) => return refuse(found),
                };
                segments.push(Segment::Name(name.into_boxed_str()));
                rest = behind;
            }
            while let Some(behind) = rest.strip_prefix('[') {
                let Some((item, behind)) = behind.split_once(']') else { return refuse("a `[` is not closed") };
                let is_number = !item.is_empty() && item.bytes().all(|byte| byte.is_ascii_digit());
                match item.parse() {
                    Ok(item) if is_number => segments.push(Segment::Item(item)),
                    _ => return refuse("between `[` and `]` stands no number of an item"),
                }
                rest = behind;
            }
            if segments.len() > Self::MAX_DEPTH {
                return refuse("it is more than 16 names deep");
            }
            if rest.is_empty() {
                return Ok(Self { segments });
            }
            let Some(behind) = rest.strip_prefix('.') else { return refuse("behind a `]` stands neither `.` nor `[`") };
            rest = behind;
        }
    }

    /// Steps from the outermost value inwards; never empty.
    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }
}

/// The name at the beginning of a path, escapes taken off, and what stands behind it.
fn take_name(path: &str) -> Result<(String, &str), &'static str> {
    let mut name = String::new();
    let mut chars = path.char_indices();
    let mut end = path.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '.' | '[' => {
                end = at;
                break;
            }
            '\\' => match chars.next() {
                Some((_, escaped @ ('.' | '\\' | '['))) => name.push(escaped),
                _ => return Err("a backslash stands before none of `.`, `[` and `\\`"),
            },
            c => name.push(c),
        }
    }
    if name.is_empty() { Err("a name is empty") } else { Ok((name, &path[end..])) }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, segment) in self.segments.iter().enumerate() {
            match segment {
                Segment::Name(name) => {
                    let dot = if depth == 0 { "" } else { "." };
                    write!(f, "{dot}{}", name.replace('\\', "\\\\").replace('.', "\\.").replace('[', "\\["))?;
                }
                Segment::Item(item) => write!(f, "[{item}]")?,
            }
        }
        Ok(())
    }
}
