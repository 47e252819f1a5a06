//! One pass over a JSON value: is it well-formed, and what stands at two paths.
//!
//! Builds no tree; a value that nobody asked for is skipped. A field that appears twice counts as it
//! appears last, as it does for serde and most parsers.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Names of fields from the outermost object inwards, written with dots (`trade.price`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPath(Vec<String>);

impl FieldPath {
    /// # Errors
    /// A sentence where a name is empty.
    pub fn parse(text: &str) -> Result<Self, String> {
        let names: Vec<_> = text.split('.').map(str::to_owned).collect();
        if names.iter().any(String::is_empty) {
            return Err(format!("{text:?} is no field: write names with dots between them, as in `trade.price`"));
        }
        Ok(Self(names))
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// The content of a string, or the literal text of a number.
pub type Text<'v> = Cow<'v, str>;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Fields<'v> {
    pub key: Option<Text<'v>>,
    pub time: Option<Text<'v>>,
}

/// Reads `value` to its end.
///
/// # Errors
/// What is malformed, and where.
pub fn scan<'v>(value: &'v [u8], key: Option<&FieldPath>, time: Option<&FieldPath>) -> Result<Fields<'v>, String> {
    let mut fields = Fields::default();
    let wanted = Wanted { key: key.map(|path| &path.0[..]), time: time.map(|path| &path.0[..]), fields: &mut fields };
    let mut deserializer = serde_json::Deserializer::from_slice(value);
    wanted.deserialize(&mut deserializer).map_err(|error| error.to_string())?;
    deserializer.end().map_err(|error| error.to_string())?;
    Ok(fields)
}

/// What is looked for from here inwards.
struct Wanted<'p, 'f, 'v> {
    key: Option<&'p [String]>,
    time: Option<&'p [String]>,
    fields: &'f mut Fields<'v>,
}

impl<'v> DeserializeSeed<'v> for Wanted<'_, '_, 'v> {
    type Value = ();

    fn deserialize<D: Deserializer<'v>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'v> Visitor<'v> for Wanted<'_, '_, 'v> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'v>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = map.next_key()? {
            let key = self.key.and_then(|path| inwards(path, &name));
            let time = self.time.and_then(|path| inwards(path, &name));
            match (key, time) {
                (None, None) => drop(map.next_value::<IgnoredAny>()?),
                (key, time) if key.is_none_or(<[_]>::is_empty) && time.is_none_or(<[_]>::is_empty) => {
                    let text = text(map.next_value::<&'v RawValue>()?);
                    if key.is_some() {
                        self.fields.key.clone_from(&text);
                    }
                    if time.is_some() {
                        self.fields.time = text;
                    }
                }
                (key, time) => map.next_value_seed(Wanted {
                    key: key.filter(|path| !path.is_empty()),
                    time: time.filter(|path| !path.is_empty()),
                    fields: &mut *self.fields,
                })?,
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'v>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

/// A field's name, borrowed where it has no escapes.
struct Name<'v>(Cow<'v, str>);

impl<'v> serde::Deserialize<'v> for Name<'v> {
    fn deserialize<D: Deserializer<'v>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'v> Visitor<'v> for NameVisitor {
            type Value = Name<'v>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field's name")
            }
            fn visit_borrowed_str<E>(self, name: &'v str) -> Result<Name<'v>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<Name<'v>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

/// What is left of `path` behind the field `name`.
fn inwards<'p>(path: &'p [String], name: &str) -> Option<&'p [String]> {
    path.split_first().filter(|(first, _)| *first == name).map(|(_, rest)| rest)
}

fn text(raw: &RawValue) -> Option<Text<'_>> {
    let raw = raw.get();
    match raw.as_bytes().first() {
        Some(b'"') if !raw.contains('\\') => Some(Cow::Borrowed(&raw[1..raw.len() - 1])),
        Some(b'"') => serde_json::from_str(raw).ok().map(Cow::Owned),
        Some(b'-' | b'0'..=b'9') => Some(Cow::Borrowed(raw)),
        _ => None,
    }
}
