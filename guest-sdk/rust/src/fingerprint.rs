//! A type's fingerprint: a hash of its shape as serde sees it, which changes when its fields do.
//!
//! The shape is traced by deserializing from nothing: whatever the type asks for is written down and answered
//! with an empty value. Names of structs do not count, names and order of fields do. Enums are traced variant
//! by variant, in as many passes as that takes.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use crate::{Encoding, State};

/// 16 hexadecimal digits.
pub fn fingerprint<T: State>() -> String {
    let shape = shape::<T>(T::ENCODING == Encoding::Json);
    format!("{:016x}", fnv1a(format!("{}:{shape}", T::ENCODING.name()).as_bytes()))
}

/// The shape of a type, as text: one pass, and more while there are variants that no pass has been in.
fn shape<T: de::DeserializeOwned>(human_readable: bool) -> String {
    let trace = Trace::default();
    for _ in 0..MAX_PASSES {
        let before = trace.variants_seen();
        // A type that refuses the empty values still has a shape as far as it was traced.
        if let Err(error) = T::deserialize(Tracer { trace: &trace, depth: 0, human_readable }) {
            let _ = write!(trace.text.borrow_mut(), "!{error}");
        }
        if trace.variants_seen() == before || !trace.variants_are_left() {
            break;
        }
        trace.text.borrow_mut().push(';');
    }
    trace.text.into_inner()
}

/// FNV-1a, 64 bits: no secret is kept here, only accidents are to be noticed.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Below this depth options and sequences are answered as empty, so that a recursive type ends.
const MAX_DEPTH: usize = 12;

/// More variants than any enum of a state has.
const MAX_PASSES: usize = 256;

#[derive(Default)]
struct Trace {
    text: RefCell<String>,
    /// By enum: how many of its variants have been traced, and how many it has.
    variants: RefCell<BTreeMap<&'static str, (usize, usize)>>,
}

impl Trace {
    fn variants_seen(&self) -> usize {
        self.variants.borrow().values().map(|(seen, _)| seen).sum()
    }

    fn variants_are_left(&self) -> bool {
        self.variants.borrow().values().any(|(seen, all)| seen < all)
    }

    /// The first variant of an enum that has not been traced; its first one once all have.
    fn next_variant(&self, name: &'static str, variants: &'static [&'static str]) -> Option<&'static str> {
        let mut known = self.variants.borrow_mut();
        let (seen, _) = known.entry(name).or_insert((0, variants.len()));
        let next = variants.get(*seen).or(variants.first());
        *seen = variants.len().min(*seen + 1);
        next.copied()
    }
}

#[derive(Clone, Copy)]
struct Tracer<'t> {
    trace: &'t Trace,
    depth: usize,
    /// Some types write themselves as text in JSON and as numbers in postcard.
    human_readable: bool,
}

impl<'t> Tracer<'t> {
    fn note(&self, text: &str) {
        self.trace.text.borrow_mut().push_str(text);
    }

    fn deeper(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }

    fn too_deep(self) -> bool {
        self.depth > MAX_DEPTH
    }
}

macro_rules! plain {
    ($($method:ident $visit:ident $name:literal $empty:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            self.note($name);
            visitor.$visit($empty)
        }
    )*};
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = de::value::Error;

    fn is_human_readable(&self) -> bool {
        self.human_readable
    }

    plain! {
        deserialize_bool visit_bool "bool" false;
        deserialize_i8 visit_i8 "i8" 0;
        deserialize_i16 visit_i16 "i16" 0;
        deserialize_i32 visit_i32 "i32" 0;
        deserialize_i64 visit_i64 "i64" 0;
        deserialize_i128 visit_i128 "i128" 0;
        deserialize_u8 visit_u8 "u8" 0;
        deserialize_u16 visit_u16 "u16" 0;
        deserialize_u32 visit_u32 "u32" 0;
        deserialize_u64 visit_u64 "u64" 0;
        deserialize_u128 visit_u128 "u128" 0;
        deserialize_f32 visit_f32 "f32" 0.0;
        deserialize_f64 visit_f64 "f64" 0.0;
        deserialize_char visit_char "char" '0';
        deserialize_str visit_str "str" "0";
        deserialize_string visit_str "str" "0";
        deserialize_bytes visit_bytes "bytes" b"";
        deserialize_byte_buf visit_bytes "bytes" b"";
        deserialize_identifier visit_str "name" "0";
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.note("any");
        visitor.visit_unit()
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.note("ignored");
        visitor.visit_unit()
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.note("()");
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Self::Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.note("?");
        if self.too_deep() { visitor.visit_none() } else { visitor.visit_some(self.deeper()) }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.note("[");
        let value = visitor.visit_seq(Elements { tracer: self, left: usize::from(!self.too_deep()) })?;
        self.note("]");
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Self::Error> {
        self.note("(");
        let value = visitor.visit_seq(Elements { tracer: self, left: length })?;
        self.note(")");
        Ok(value)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        length: usize,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.deserialize_tuple(length, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        self.note("map{");
        let value = visitor.visit_map(Entries { tracer: self, left: usize::from(!self.too_deep()) })?;
        self.note("}");
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        if self.too_deep() {
            return Err(de::Error::custom("too deep"));
        }
        self.note("{");
        let value = visitor.visit_map(Fields { tracer: self, fields: fields.iter() })?;
        self.note("}");
        Ok(value)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let next = self.trace.next_variant(name, variants).ok_or_else(|| de::Error::custom("no variants"))?;
        self.note("<");
        self.note(&variants.join("|"));
        self.note(":");
        self.note(next);
        let value = visitor.visit_enum(Variant { tracer: self, name: next })?;
        self.note(">");
        Ok(value)
    }
}

struct Elements<'t> {
    tracer: Tracer<'t>,
    left: usize,
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = de::value::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Self::Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let element = seed.deserialize(self.tracer.deeper())?;
        self.tracer.note(",");
        Ok(Some(element))
    }
}

struct Entries<'t> {
    tracer: Tracer<'t>,
    left: usize,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = de::value::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Self::Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        seed.deserialize(self.tracer.deeper()).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Self::Error> {
        self.tracer.note("=>");
        seed.deserialize(self.tracer.deeper())
    }
}

struct Fields<'t> {
    tracer: Tracer<'t>,
    fields: std::slice::Iter<'static, &'static str>,
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = de::value::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Self::Error> {
        let Some(&field) = self.fields.next() else { return Ok(None) };
        self.tracer.note(field);
        let name: StrDeserializer<'_, Self::Error> = field.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Self::Error> {
        self.tracer.note(":");
        let value = seed.deserialize(self.tracer.deeper())?;
        self.tracer.note(",");
        Ok(value)
    }
}

struct Variant<'t> {
    tracer: Tracer<'t>,
    name: &'static str,
}

impl<'de, 't> EnumAccess<'de> for Variant<'t> {
    type Error = de::value::Error;
    type Variant = Content<'t>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), Self::Error> {
        let name: StrDeserializer<'_, Self::Error> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, Content { tracer: self.tracer }))
    }
}

struct Content<'t> {
    tracer: Tracer<'t>,
}

impl<'de> VariantAccess<'de> for Content<'_> {
    type Error = de::value::Error;

    fn unit_variant(self) -> Result<(), Self::Error> {
        Ok(())
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Self::Error> {
        seed.deserialize(self.tracer.deeper())
    }

    fn tuple_variant<V: Visitor<'de>>(self, length: usize, visitor: V) -> Result<V::Value, Self::Error> {
        self.tracer.deserialize_tuple(length, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.tracer.deserialize_struct("", fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    use super::shape;

    #[derive(Serialize, Deserialize)]
    struct Book {
        bid: i64,
        name: Option<String>,
        levels: Vec<(u32, bool)>,
    }

    #[derive(Serialize, Deserialize)]
    enum Side {
        Bid { depth: u8 },
        Ask,
    }

    #[derive(Serialize, Deserialize)]
    struct Tree {
        children: Vec<Tree>,
        parent: Option<Box<Tree>>,
    }

    #[test]
    fn a_shape_has_every_field_with_its_name_and_type() {
        assert_eq!(shape::<Book>(false), "{bid:i64,name:?str,levels:[(u32,bool,),],}");
        assert_eq!(
            shape::<BTreeMap<String, Side>>(false),
            "map{str=><Bid|Ask:Bid{depth:u8,}>};map{str=><Bid|Ask:Ask>}"
        );
    }

    #[test]
    fn fields_that_change_in_name_type_or_order_change_the_fingerprint() {
        macro_rules! shapes {
            ($({ $($field:ident: $kind:ty),* })*) => {
                [$({
                    #[derive(Deserialize)]
                    #[allow(dead_code)]
                    struct Shaped { $($field: $kind),* }
                    shape::<Shaped>(false)
                }),*]
            };
        }
        let shapes = shapes! { { a: u8, b: u16 } { b: u16, a: u8 } { a: u8, c: u16 } { a: u8, b: u32 } { a: u8 } { a: u8, b: Option<u16> } };
        for (i, shape) in shapes.iter().enumerate() {
            assert!(!shapes[..i].contains(shape), "{shape}");
        }
    }

    #[test]
    fn a_recursive_type_has_a_shape() {
        assert!(!shape::<Tree>(false).is_empty());
    }
}
