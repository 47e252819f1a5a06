//! One pass over a JSON text: is it well-formed, and where are the few fields that the host needs?
//!
//! Owns nothing and builds no tree: what it returns are pieces of the text. The grammar is serde_json's;
//! values that nobody asked for are skipped without recursion, so depth cannot exhaust the stack.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// How many fields one pass looks for.
const FIELDS: usize = 2;

/// Per field the names that lead to it; empty = not wanted.
pub(super) type Wanted<'p> = [&'p [Box<str>]; FIELDS];

/// The raw JSON of each wanted field that is there. Of fields named twice the last one counts, as it
/// does in a tree.
///
/// # Errors
/// Where the text is not one JSON value.
pub(super) fn pick<'v>(text: &'v str, wanted: Wanted<'_>) -> Result<[Option<&'v str>; FIELDS], serde_json::Error> {
    let mut found = [None; FIELDS];
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let is_object = text.trim_start_matches([' ', '\n', '\t', '\r']).starts_with('{');
    if is_object && wanted.iter().any(|path| !path.is_empty()) {
        deserializer.deserialize_map(Object { wanted, found: &mut found })?;
    } else {
        IgnoredAny::deserialize(&mut deserializer)?;
    }
    deserializer.end()?;
    Ok(found)
}

/// The text of a JSON string or number; `None` for anything else, and for a string that is not Unicode.
pub(super) fn scalar(json: &str) -> Option<Cow<'_, str>> {
    match json.as_bytes() {
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => Some(Cow::Borrowed(&json[1..json.len() - 1])),
        [b'"', ..] => serde_json::from_str(json).ok().map(Cow::Owned),
        [b'-' | b'0'..=b'9', ..] => Some(Cow::Borrowed(json)),
        _ => None,
    }
}

/// What a piece of JSON is, for messages.
pub(super) fn shape(json: &str) -> &'static str {
    match json.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string that is not Unicode",
        Some(b'n') => "null",
        Some(b't' | b'f') => "a boolean",
        _ => "a number",
    }
}

struct Object<'p, 'f, 'v> {
    wanted: Wanted<'p>,
    found: &'f mut [Option<&'v str>; FIELDS],
}

impl<'v> Visitor<'v> for Object<'_, '_, 'v> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'v>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(leads_to) = map.next_key_seed(Name { wanted: &self.wanted })? {
            if leads_to == [false; FIELDS] {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = map.next_value::<&'v RawValue>()?.get();
            for field in (0..FIELDS).filter(|&field| leads_to[field]) {
                self.found[field] = match &self.wanted[field][1..] {
                    [] => Some(value),
                    inner => pick(value, std::array::from_fn(|f| if f == field { inner } else { &[] }))
                        .map_err(serde::de::Error::custom)?[field],
                };
            }
        }
        Ok(())
    }
}

/// To which wanted fields a name leads.
struct Name<'a, 'p> {
    wanted: &'a Wanted<'p>,
}

impl<'v> DeserializeSeed<'v> for Name<'_, '_> {
    type Value = [bool; FIELDS];

    fn deserialize<D: Deserializer<'v>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_, '_> {
    type Value = [bool; FIELDS];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field's name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(std::array::from_fn(|field| self.wanted[field].first().is_some_and(|wanted| **wanted == *name)))
    }
}
