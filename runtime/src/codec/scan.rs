//! One pass over a JSON text: is it well-formed, and where are the few fields that the host needs?
//!
//! Owns nothing and builds no tree: what it returns are pieces of the text. The grammar is serde_json's;
//! values that nobody asked for are skipped without recursion, so depth cannot exhaust the stack.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::rules::Segment;

/// How many fields one pass looks for.
const FIELDS: usize = 2;

/// Per field the steps that lead to it; empty = not wanted.
pub(super) type Wanted<'p> = [&'p [Segment]; FIELDS];

/// The raw JSON of each wanted field that is there. Of fields named twice the last one counts, as it
/// does in a tree.
///
/// # Errors
/// Where the text is not one JSON value.
pub(super) fn pick<'v>(text: &'v str, wanted: Wanted<'_>) -> Result<[Option<&'v str>; FIELDS], serde_json::Error> {
    let mut found = [None; FIELDS];
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let first = text.trim_start_matches([' ', '\n', '\t', '\r']).as_bytes().first();
    let leads = |into: fn(&Segment) -> bool| wanted.iter().any(|path| path.first().is_some_and(into));
    match first {
        Some(b'{') if leads(|step| matches!(step, Segment::Name(_))) => {
            deserializer.deserialize_map(Object { wanted, found: &mut found })?;
        }
        Some(b'[') if leads(|step| matches!(step, Segment::Item(_))) => {
            deserializer.deserialize_seq(Array { wanted, found: &mut found })?;
        }
        _ => {
            IgnoredAny::deserialize(&mut deserializer)?;
        }
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
                self.found[field] = inside(value, &self.wanted, field)?;
            }
        }
        Ok(())
    }
}

struct Array<'p, 'f, 'v> {
    wanted: Wanted<'p>,
    found: &'f mut [Option<&'v str>; FIELDS],
}

impl<'v> Visitor<'v> for Array<'_, '_, 'v> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'v>>(self, mut items: A) -> Result<(), A::Error> {
        let mut number = 0;
        let is_wanted =
            |field: usize, number| matches!(self.wanted[field].first(), Some(Segment::Item(item)) if *item == number);
        loop {
            if !(0..FIELDS).any(|field| is_wanted(field, number)) {
                if items.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(());
                }
            } else if let Some(value) = items.next_element::<&'v RawValue>()? {
                for field in (0..FIELDS).filter(|&field| is_wanted(field, number)) {
                    self.found[field] = inside(value.get(), &self.wanted, field)?;
                }
            } else {
                return Ok(());
            }
            number += 1;
        }
    }
}

/// What the rest of a field's path leads to, inside the value that its first step led to.
fn inside<'v, E: serde::de::Error>(value: &'v str, wanted: &Wanted<'_>, field: usize) -> Result<Option<&'v str>, E> {
    match &wanted[field][1..] {
        [] => Ok(Some(value)),
        inner => {
            let wanted = std::array::from_fn(|f| if f == field { inner } else { &[] });
            Ok(pick(value, wanted).map_err(E::custom)?[field])
        }
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
        let is_wanted = |step: &Segment| matches!(step, Segment::Name(wanted) if **wanted == *name);
        Ok(std::array::from_fn(|field| self.wanted[field].first().is_some_and(is_wanted)))
    }
}
