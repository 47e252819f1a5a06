//! Fields that this program does not know: put aside where JSON is read, put back where it is written again.
//!
//! A record of the control topic may be of a neighbouring release, which knows more. Types stay strict: a field that
//! reading refuses as unknown is taken out, wherever it lies, and reading begins anew. Nothing else is forgiven.
//! Read [`read`] first, then [`Unknown::put_back`].

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use serde_json::{Map, Value};

/// Objects of one value that may hold unknown fields. Each costs a reading of the whole.
const OBJECTS_MAX: usize = 4_096;

/// The unknown fields of a value, each with its place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unknown {
    /// Those of the object itself.
    fields: Map<String, Value>,
    /// Those of what lies in it.
    inside: BTreeMap<Step, Unknown>,
}

/// From a value to one that lies in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Field(String),
    Item(usize),
}

impl Step {
    fn enter<'a>(&self, json: &'a mut Value) -> Option<&'a mut Value> {
        match self {
            Self::Field(name) => json.get_mut(name),
            Self::Item(index) => json.get_mut(index),
        }
    }
}

/// The value, and what of the JSON it has no place for.
///
/// # Errors
/// A sentence: what else is wrong with the JSON, and where.
pub fn read<T: DeserializeOwned>(mut json: Value) -> Result<(T, Unknown), String> {
    let mut unknown = Unknown::default();
    for _ in 0..OBJECTS_MAX {
        match T::deserialize(Strict(&json)) {
            Ok(value) => return Ok((value, unknown)),
            Err(Error { found: Found::UnknownField { known, .. }, path }) if unknown.take(&mut json, &path, known) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err(format!("more than {OBJECTS_MAX} of its objects have fields that this program does not know"))
}

impl Unknown {
    /// Adds the fields to the JSON of the same value, which may have changed since. What lay in something that is no
    /// longer there is dropped with it.
    pub fn put_back(&self, json: &mut Value) {
        for (step, unknown) in &self.inside {
            step.enter(json).into_iter().for_each(|inside| unknown.put_back(inside));
        }
        if let Value::Object(object) = json {
            for (name, value) in &self.fields {
                object.entry(name.as_str()).or_insert_with(|| value.clone());
            }
        }
    }

    /// Drops what lies under these fields: something else has taken their place.
    pub fn forget(&mut self, path: &[&str]) {
        let Some((first, rest)) = path.split_first() else {
            *self = Self::default();
            return;
        };
        if let Some(inside) = self.inside.get_mut(&Step::Field((*first).to_owned())) {
            inside.forget(rest);
        }
    }

    /// Moves the fields of the object at `path` (the last step first) that are not among `known` from the JSON to here.
    /// False where there is none.
    fn take(&mut self, json: &mut Value, path: &[Step], known: &[&str]) -> bool {
        match (path.split_last(), json) {
            (None, Value::Object(object)) => {
                let unknown: Vec<String> =
                    object.keys().filter(|name| !known.contains(&name.as_str())).cloned().collect();
                let before = self.fields.len();
                self.fields.extend(unknown.into_iter().filter_map(|name| object.shift_remove_entry(&name)));
                self.fields.len() > before
            }
            (None, _) => false,
            (Some((step, rest)), json) => step
                .enter(json)
                .is_some_and(|inside| self.inside.entry(step.clone()).or_default().take(inside, rest, known)),
        }
    }
}

/// Why a reading ended, and where: the steps to that place, the last one first.
#[derive(Debug)]
struct Error {
    found: Found,
    path: Vec<Step>,
}

#[derive(Debug)]
enum Found {
    UnknownField { field: String, known: &'static [&'static str] },
    Other(String),
}

impl Error {
    fn within(mut self, step: impl FnOnce() -> Step) -> Self {
        self.path.push(step());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.path.iter().rev().enumerate() {
            match step {
                Step::Field(name) if i == 0 => write!(f, "{}", name.escape_debug())?,
                Step::Field(name) => write!(f, ".{}", name.escape_debug())?,
                Step::Item(index) => write!(f, "[{index}]")?,
            }
        }
        if !self.path.is_empty() {
            f.write_str(": ")?;
        }
        match &self.found {
            Found::UnknownField { field, .. } => write!(f, "unknown field `{}`", field.escape_debug()),
            Found::Other(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for Error {}

impl serde::de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { found: Found::Other(message.to_string()), path: Vec::new() }
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> Self {
        Self { found: Found::UnknownField { field: field.to_owned(), known }, path: Vec::new() }
    }
}

/// Reads JSON as `serde_json` does, with errors that know their place.
#[derive(Clone, Copy)]
struct Strict<'a>(&'a Value);

impl<'de> Deserializer<'de> for Strict<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), _, _) => visitor.visit_u64(number),
                (_, Some(number), _) => visitor.visit_i64(number),
                (_, _, number) => visitor.visit_f64(number.unwrap_or(f64::NAN)),
            },
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(items) => visitor.visit_seq(Items { items: items.iter(), next: 0 }),
            Value::Object(object) => visitor.visit_map(Fields { fields: object.iter(), value: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    /// A word, or an object of one field: the variant's name and its content.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::String(name) => visitor.visit_enum(IntoDeserializer::<Error>::into_deserializer(name.as_str())),
            Value::Object(object) => match (object.iter().next(), object.len()) {
                (Some((name, content)), 1) => visitor.visit_enum(Variant { name, content }),
                _ => Err(serde::de::Error::custom("an object of one field was expected here")),
            },
            _ => Err(serde::de::Error::custom("a word, or an object of one field, was expected here")),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

struct Items<'a> {
    items: std::slice::Iter<'a, Value>,
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(item) = self.items.next() else { return Ok(None) };
        let index = self.next;
        self.next += 1;
        seed.deserialize(Strict(item)).map(Some).map_err(|error| error.within(|| Step::Item(index)))
    }
}

struct Fields<'a> {
    fields: serde_json::map::Iter<'a>,
    value: Option<(&'a String, &'a Value)>,
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        self.value = self.fields.next();
        self.value.map(|(name, _)| seed.deserialize(Name(name))).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (name, value) = self.value.take().ok_or_else(|| serde::de::Error::custom("a value without its name"))?;
        seed.deserialize(Strict(value)).map_err(|error| error.within(|| Step::Field(name.clone())))
    }
}

/// The name of a field, which may stand for a number.
struct Name<'a>(&'a str);

macro_rules! as_number {
    ($($method:ident, $number:ty, $visit:ident;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.0.parse::<$number>() {
                Ok(number) => visitor.$visit(number),
                Err(_) => visitor.visit_borrowed_str(self.0),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Name<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.0)
    }

    as_number! {
        deserialize_i32, i32, visit_i32;
        deserialize_i64, i64, visit_i64;
        deserialize_u32, u32, visit_u32;
        deserialize_u64, u64, visit_u64;
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        StrDeserializer::<Error>::new(self.0).deserialize_enum(name, variants, visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i128 u8 u16 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

struct Variant<'a> {
    name: &'a str,
    content: &'a Value,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Error;
    type Variant = Content<'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Content<'de>), Error> {
        let variant = seed.deserialize(Name(self.name))?;
        Ok((variant, Content { name: self.name, content: Strict(self.content) }))
    }
}

struct Content<'a> {
    name: &'a str,
    content: Strict<'a>,
}

impl<'de> VariantAccess<'de> for Content<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        match self.content.0 {
            Value::Null => Ok(()),
            _ => Err(serde::de::Error::custom(format!("`{}` has no content", self.name.escape_debug()))),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.content).map_err(|error| error.within(|| Step::Field(self.name.to_owned())))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.content.deserialize_any(visitor).map_err(|error| error.within(|| Step::Field(self.name.to_owned())))
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.content.deserialize_any(visitor).map_err(|error| error.within(|| Step::Field(self.name.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        name: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<i64>,
        items: Vec<Item>,
        by_number: BTreeMap<i32, Item>,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Item {
        kind: Kind,
    }

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    enum Kind {
        Word,
        Number(u8),
        Pair(i8, bool),
        Fields { a: f64 },
    }

    fn written<T: Serialize>(value: &T, unknown: &Unknown) -> Value {
        let mut json = serde_json::to_value(value).unwrap();
        unknown.put_back(&mut json);
        json
    }

    fn rich() -> Value {
        json!({
            "name": "n", "limit": -7, "new": {"deep": [1, null]},
            "items": [{"kind": "word"}, {"kind": {"number": 3}, "extra": "text"}, {"kind": {"pair": [-1, true]}}],
            "by_number": {"-4": {"kind": {"fields": {"a": 0.5, "b": null}}, "more": 1e300}},
        })
    }

    #[test]
    fn unknown_fields_at_any_depth_come_back_where_they_were() {
        let (outer, unknown) = read::<Outer>(rich()).unwrap();
        assert_eq!(outer.by_number[&-4].kind, Kind::Fields { a: 0.5 });
        assert_eq!(written(&outer, &unknown), rich());
    }

    #[test]
    fn a_changed_value_keeps_the_unknown_fields_of_what_is_left() {
        let (mut outer, unknown) = read::<Outer>(rich()).unwrap();
        outer.limit = None;
        outer.items[1].kind = Kind::Word;
        outer.by_number.clear();
        let expected = json!({
            "name": "n", "new": {"deep": [1, null]},
            "items": [{"kind": "word"}, {"kind": "word", "extra": "text"}, {"kind": {"pair": [-1, true]}}],
            "by_number": {},
        });
        assert_eq!(written(&outer, &unknown), expected);
    }

    #[test]
    fn what_takes_a_place_does_not_inherit_its_unknown_fields() {
        let (outer, mut unknown) = read::<Outer>(rich()).unwrap();
        unknown.forget(&["by_number", "-4"]);
        unknown.forget(&["nothing", "here"]);
        let mut expected = rich();
        expected["by_number"]["-4"] = json!({"kind": {"fields": {"a": 0.5}}});
        assert_eq!(written(&outer, &unknown), expected);
    }

    #[test]
    fn everything_else_that_is_wrong_is_refused_with_its_place() {
        let refused = |json: Value| read::<Outer>(json).unwrap_err();
        let with = |item: Value| refused(json!({"name": "n", "items": [item], "by_number": {}}));
        assert!(refused(json!({"items": [], "by_number": {}, "nmae": "n"})).contains("missing field `name`"));
        assert!(with(json!({"kind": {"number": 300}})).starts_with("items[0].kind.number: "));
        assert!(with(json!({"kind": "verb"})).contains("unknown variant `verb`"));
        assert!(with(json!({"kind": {"number": 1, "fields": {}}})).starts_with("items[0].kind: "));
        assert!(refused(json!({"name": "n", "items": [], "by_number": {"x": {}}})).starts_with("by_number: "));
        assert!(refused(json!([])).contains("expected struct Outer"));
    }

    #[test]
    fn more_unknown_fields_than_a_release_would_add_are_refused() {
        let items = vec![json!({"kind": "word", "x": 1}); OBJECTS_MAX + 1];
        let error = read::<Outer>(json!({"name": "n", "items": items, "by_number": {}})).unwrap_err();
        assert!(error.contains("more than 4096"), "{error}");
    }
}
