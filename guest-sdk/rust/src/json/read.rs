//! JSON text to values: the plain case, quickly.
//!
//! Plain is text without escapes, whole numbers, and no mistake. One odd token is handed to serde_json with the visitor that
//! waits for it. Whatever else is met (a mistake above all) ends in [`Odd`], which says nothing, and serde_json reads the
//! payload from its start. So a value that is read here must be the one that serde_json would give; a mistake may be
//! found at any place or not named at all.

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, Visitor};

use super::place::{Number, Odd, Reader, judged};

/// # Errors
/// As `serde_json::from_str`.
pub(crate) fn from_text<'de, T: Deserialize<'de>>(text: &'de str) -> serde_json::Result<T> {
    let mut reader = Reader::new(text);
    let before = Odd::count();
    match T::deserialize(&mut reader) {
        // A type that makes good what it could not read (`.ok()`, a default) has hidden an oddity.
        Ok(value) if reader.is_at_end() && Odd::count() == before => Ok(value),
        _ => serde_json::from_slice(text.as_bytes()),
    }
}

/// What stands at hand, for the visitor that waits for it.
impl<'de> Reader<'de> {
    #[inline]
    fn text_for<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Odd> {
        match self.take_text()? {
            Some(text) => visitor.visit_borrowed_str(text),
            None => judged(self.take_escaped()?, |token| token.deserialize_str(visitor)),
        }
    }

    #[inline]
    fn entries_for<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Odd> {
        self.enter()?;
        let value = visitor.visit_map(Entries { reader: self, first: true })?;
        self.leave(b'}')?;
        Ok(value)
    }

    #[inline]
    fn elements_for<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Odd> {
        self.enter()?;
        let value = visitor.visit_seq(Elements { reader: self, first: true })?;
        self.leave(b']')?;
        Ok(value)
    }

    /// Reads over a value.
    fn skip(&mut self) -> Result<(), Odd> {
        match self.peek()? {
            b'"' => match self.take_text()? {
                Some(_) => Ok(()),
                None => judged(self.take_escaped()?, |token| token.deserialize_ignored_any(IgnoredAny)).map(drop),
            },
            b'n' => self.take_word("null"),
            b't' => self.take_word("true"),
            b'f' => self.take_word("false"),
            b'{' => self.entries_for(IgnoredAny).map(drop),
            b'[' => self.elements_for(IgnoredAny).map(drop),
            b'-' | b'0'..=b'9' => match self.take_number() {
                Some(_) => Ok(()),
                None => judged(self.take_odd_number()?, |token| token.deserialize_ignored_any(IgnoredAny)).map(drop),
            },
            _ => Err(Odd::met()),
        }
    }
}

macro_rules! numbers {
    ($($method:ident),*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
            self.peek()?;
            match self.take_number() {
                Some(Number::Positive(number)) => visitor.visit_u64(number),
                Some(Number::Negative(number)) => visitor.visit_i64(number),
                None => judged(self.take_odd_number()?, |token| token.$method(visitor)),
            }
        }
    )*};
}

/// Always by serde_json.
macro_rules! odd_numbers {
    ($($method:ident),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
            self.peek()?;
            judged(self.take_odd_number()?, |token| token.$method(visitor))
        }
    )*};
}

macro_rules! odd_keys {
    ($($method:ident),*) => {$(
        fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Odd> {
            Err(Odd::met())
        }
    )*};
}

macro_rules! texts {
    ($($method:ident),*) => {$(
        #[inline]
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
            self.peek()?;
            self.text_for(visitor)
        }
    )*};
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Odd;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
        match self.peek()? {
            b'"' => self.text_for(visitor),
            b'{' => self.entries_for(visitor),
            b'[' => self.elements_for(visitor),
            b'n' => self.take_word("null").and_then(|()| visitor.visit_unit()),
            b't' => self.take_word("true").and_then(|()| visitor.visit_bool(true)),
            b'f' => self.take_word("false").and_then(|()| visitor.visit_bool(false)),
            // Here serde_json has a say in how a number is shown (its feature `arbitrary_precision`).
            _ => judged(self.take_odd_number()?, |token| token.deserialize_any(visitor)),
        }
    }

    numbers!(
        deserialize_u8,
        deserialize_u16,
        deserialize_u32,
        deserialize_u64,
        deserialize_i8,
        deserialize_i16,
        deserialize_i32,
        deserialize_i64,
        deserialize_f32,
        deserialize_f64
    );

    odd_numbers!(deserialize_i128, deserialize_u128);

    texts!(deserialize_str, deserialize_string, deserialize_char, deserialize_identifier);

    #[inline]
    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
        match self.peek()? {
            b't' => self.take_word("true").and_then(|()| visitor.visit_bool(true)),
            b'f' => self.take_word("false").and_then(|()| visitor.visit_bool(false)),
            _ => Err(Odd::met()),
        }
    }

    /// Text is not text then, but bytes that may say anything.
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
        match self.peek()? {
            b'[' => self.elements_for(visitor),
            _ => Err(Odd::met()),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
        if self.peek()? == b'n' {
            self.take_word("null")?;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
        self.peek()?;
        self.take_word("null")?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Odd> {
        self.deserialize_unit(visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Odd> {
        no_secret(name)?;
        visitor.visit_newtype_struct(self)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
        if self.peek()? != b'[' {
            return Err(Odd::met());
        }
        self.elements_for(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Odd> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(self, _: &'static str, _: usize, visitor: V) -> Result<V::Value, Odd> {
        self.deserialize_seq(visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
        if self.peek()? != b'{' {
            return Err(Odd::met());
        }
        self.entries_for(visitor)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Odd> {
        match self.peek()? {
            b'{' => self.entries_for(visitor),
            b'[' => self.elements_for(visitor),
            _ => Err(Odd::met()),
        }
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Odd> {
        match self.peek()? {
            b'"' => visitor.visit_enum(UnitVariant(self)),
            b'{' => {
                self.enter()?;
                let value = visitor.visit_enum(Variant(self))?;
                self.leave(b'}')?;
                Ok(value)
            }
            _ => Err(Odd::met()),
        }
    }

    #[inline]
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
        self.skip()?;
        visitor.visit_unit()
    }
}

/// serde_json's own types ask for more than a value by names like these.
#[inline]
fn no_secret(name: &str) -> Result<(), Odd> {
    if name.starts_with("$serde_json") { Err(Odd::met()) } else { Ok(()) }
}

struct Elements<'r, 'de> {
    reader: &'r mut Reader<'de>,
    first: bool,
}

impl<'de> de::SeqAccess<'de> for Elements<'_, 'de> {
    type Error = Odd;

    #[inline]
    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Odd> {
        if self.reader.peek()? == b']' {
            return Ok(None);
        }
        if !std::mem::replace(&mut self.first, false) {
            self.reader.take(b',')?;
        }
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

struct Entries<'r, 'de> {
    reader: &'r mut Reader<'de>,
    first: bool,
}

impl<'de> de::MapAccess<'de> for Entries<'_, 'de> {
    type Error = Odd;

    #[inline]
    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Odd> {
        if self.reader.peek()? == b'}' {
            return Ok(None);
        }
        if !std::mem::replace(&mut self.first, false) {
            self.reader.take(b',')?;
            self.reader.peek()?;
        }
        seed.deserialize(Key(self.reader)).map(Some)
    }

    #[inline]
    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Odd> {
        self.reader.take(b':')?;
        seed.deserialize(&mut *self.reader)
    }
}

/// A map's key, at hand. A number or boolean between quotes is left to serde_json.
struct Key<'r, 'de>(&'r mut Reader<'de>);

impl<'de> Deserializer<'de> for Key<'_, 'de> {
    type Error = Odd;

    #[inline]
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
        self.0.text_for(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Odd> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, name: &'static str, visitor: V) -> Result<V::Value, Odd> {
        no_secret(name)?;
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Odd> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    serde::forward_to_deserialize_any! {
        char str string unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }

    odd_keys!(
        deserialize_bool,
        deserialize_i8,
        deserialize_i16,
        deserialize_i32,
        deserialize_i64,
        deserialize_i128,
        deserialize_u8,
        deserialize_u16,
        deserialize_u32,
        deserialize_u64,
        deserialize_u128,
        deserialize_f32,
        deserialize_f64,
        deserialize_bytes,
        deserialize_byte_buf
    );
}

/// `"variant"`
struct UnitVariant<'r, 'de>(&'r mut Reader<'de>);

impl<'de> de::EnumAccess<'de> for UnitVariant<'_, 'de> {
    type Error = Odd;
    type Variant = Self;

    #[inline]
    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Odd> {
        Ok((seed.deserialize(&mut *self.0)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for UnitVariant<'_, 'de> {
    type Error = Odd;

    #[inline]
    fn unit_variant(self) -> Result<(), Odd> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Odd> {
        Err(Odd::met())
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Odd> {
        Err(Odd::met())
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], _: V) -> Result<V::Value, Odd> {
        Err(Odd::met())
    }
}

/// `{"variant": …}`, behind the brace.
struct Variant<'r, 'de>(&'r mut Reader<'de>);

impl<'de> de::EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Odd;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Odd> {
        self.0.peek()?;
        let variant = seed.deserialize(Key(self.0))?;
        self.0.take(b':')?;
        Ok((variant, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Odd;

    fn unit_variant(self) -> Result<(), Odd> {
        Deserialize::deserialize(self.0)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Odd> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Odd> {
        self.0.deserialize_seq(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, fields: &'static [&'static str], visitor: V) -> Result<V::Value, Odd> {
        self.0.deserialize_struct("", fields, visitor)
    }
}
