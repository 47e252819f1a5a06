//! The rules by which a source's records are read. Plain data; knows nothing of records.

use std::fmt;

use super::Error;

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
    },
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

/// The way to a field through nested objects: `symbol`, `order.id`, `a\.b` for a name with a dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPath {
    segments: Vec<Box<str>>,
}

impl FieldPath {
    const MAX_DEPTH: usize = 16;

    /// # Errors
    /// [`Error::FieldPath`]: an empty name, a stray backslash, too deep.
    pub fn parse(path: &str) -> Result<Self, Error> {
        let refuse = |found| Err(Error::FieldPath { path: path.chars().take(80).collect(), found });
        let mut segments = vec![String::new()];
        let mut chars = path.chars();
        while let Some(c) = chars.next() {
            let name = segments.last_mut().expect("there is always a segment being written");
            match c {
                '.' => segments.push(String::new()),
                '\\' => match chars.next() {
                    Some(escaped @ ('.' | '\\')) => name.push(escaped),
                    _ => return refuse("a backslash stands before neither a dot nor a backslash"),
                },
                c => name.push(c),
            }
        }
        if segments.iter().any(String::is_empty) {
            return refuse("a name is empty");
        }
        if segments.len() > Self::MAX_DEPTH {
            return refuse("it is more than 16 names deep");
        }
        Ok(Self { segments: segments.into_iter().map(String::into_boxed_str).collect() })
    }

    /// Names from the outermost object inwards; never empty.
    pub(super) fn segments(&self) -> &[Box<str>] {
        &self.segments
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, name) in self.segments.iter().enumerate() {
            let dot = if depth == 0 { "" } else { "." };
            write!(f, "{dot}{}", name.replace('\\', "\\\\").replace('.', "\\."))?;
        }
        Ok(())
    }
}
