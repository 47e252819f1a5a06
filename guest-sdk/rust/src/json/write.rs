//! Values to JSON text, byte for byte as `serde_json::to_writer` does it.

use std::fmt::{self, Display, Write};

use serde::Serialize;
use serde::ser::{self, Serializer};

use super::scratch::Scratch;

/// Appends a value to what `out` holds.
///
/// # Errors
/// What the value's own `Serialize` says; a map's key that is no text.
pub(crate) fn write(value: &(impl Serialize + ?Sized), out: &mut Scratch) -> Result<(), Error> {
    value.serialize(Writer { out, is_key: false })
}

#[derive(Debug)]
pub(crate) struct Error(String);

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

impl ser::Error for Error {
    fn custom<T: Display>(message: T) -> Self {
        Self(message.to_string())
    }
}

/// Writes one value, or one key of a map: that is text, or a number or boolean between quotes.
struct Writer<'s> {
    out: &'s mut Scratch,
    is_key: bool,
}

impl Writer<'_> {
    #[inline]
    fn scalar(self, write: impl FnOnce(&mut Scratch)) -> Result<(), Error> {
        if self.is_key {
            self.out.push(b'"');
            write(self.out);
            self.out.push(b'"');
        } else {
            write(self.out);
        }
        Ok(())
    }

    #[inline]
    fn not_as_key(&self) -> Result<(), Error> {
        if self.is_key { Err(Error("key must be a string".to_owned())) } else { Ok(()) }
    }

    fn float(self, is_finite: bool, text: serde_json::Result<String>) -> Result<(), Error> {
        match text {
            _ if self.is_key && !is_finite => Err(Error("float key must be finite (got NaN or +/-inf)".to_owned())),
            Ok(text) => self.scalar(|out| out.extend(text.as_bytes())),
            Err(error) => Err(Error(error.to_string())),
        }
    }

    /// `{"variant":`
    fn variant(&mut self, variant: &str) -> Result<(), Error> {
        self.not_as_key()?;
        self.out.push(b'{');
        self.out.text(variant);
        self.out.push(b':');
        Ok(())
    }
}

impl<'s> Writer<'s> {
    #[inline]
    fn elements(self, open: u8, close: &'static [u8]) -> Result<Elements<'s>, Error> {
        self.not_as_key()?;
        self.out.push(open);
        Ok(Elements { out: self.out, first: true, close, verbatim: false })
    }
}

/// Numbers of up to 64 bits.
macro_rules! integers {
    ($($method:ident $kind:ty => $write:ident $wide:ty),*) => {$(
        #[inline]
        fn $method(self, value: $kind) -> Result<(), Error> {
            self.scalar(|out| out.$write(<$wide>::from(value)))
        }
    )*};
}

impl<'s> Serializer for Writer<'s> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Elements<'s>;
    type SerializeTuple = Elements<'s>;
    type SerializeTupleStruct = Elements<'s>;
    type SerializeTupleVariant = Elements<'s>;
    type SerializeMap = Elements<'s>;
    type SerializeStruct = Elements<'s>;
    type SerializeStructVariant = Elements<'s>;

    integers!(
        serialize_u8 u8 => number u64, serialize_u16 u16 => number u64, serialize_u32 u32 => number u64,
        serialize_u64 u64 => number u64, serialize_i8 i8 => signed i64, serialize_i16 i16 => signed i64,
        serialize_i32 i32 => signed i64, serialize_i64 i64 => signed i64
    );

    fn serialize_i128(self, value: i128) -> Result<(), Error> {
        self.scalar(|out| out.extend(value.to_string().as_bytes()))
    }

    fn serialize_u128(self, value: u128) -> Result<(), Error> {
        self.scalar(|out| out.extend(value.to_string().as_bytes()))
    }

    #[inline]
    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.scalar(|out| if value { out.literal(b"true") } else { out.literal(b"false") })
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        self.float(value.is_finite(), serde_json::to_string(&value))
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        self.float(value.is_finite(), serde_json::to_string(&value))
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<(), Error> {
        self.out.text(value);
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        let mut elements = self.elements(b'[', b"]")?;
        value.iter().try_for_each(|byte| elements.element(byte))?;
        elements.close()
    }

    #[inline]
    fn serialize_unit(self) -> Result<(), Error> {
        self.not_as_key()?;
        self.out.literal(b"null");
        Ok(())
    }

    #[inline]
    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        mut self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.variant(variant)?;
        write(value, self.out)?;
        self.out.push(b'}');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Elements<'s>, Error> {
        self.elements(b'[', b"]")
    }

    fn serialize_tuple(self, _: usize) -> Result<Elements<'s>, Error> {
        self.elements(b'[', b"]")
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Elements<'s>, Error> {
        self.elements(b'[', b"]")
    }

    fn serialize_tuple_variant(
        mut self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Elements<'s>, Error> {
        self.variant(variant)?;
        self.elements(b'[', b"]}")
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Elements<'s>, Error> {
        self.elements(b'{', b"}")
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Elements<'s>, Error> {
        self.not_as_key()?;
        // By these names serde_json's own types ask for their text as it is.
        if matches!(name, "$serde_json::private::RawValue" | "$serde_json::private::Number") {
            return Ok(Elements { out: self.out, first: true, close: b"", verbatim: true });
        }
        self.elements(b'{', b"}")
    }

    fn serialize_struct_variant(
        mut self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Elements<'s>, Error> {
        self.variant(variant)?;
        self.elements(b'{', b"}}")
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        struct Escaping<'s>(&'s mut Scratch);
        impl fmt::Write for Escaping<'_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.escaped(text.as_bytes());
                Ok(())
            }
        }
        self.out.push(b'"');
        write!(Escaping(self.out), "{value}").map_err(ser::Error::custom)?;
        self.out.push(b'"');
        Ok(())
    }
}

/// What stands between brackets or braces.
struct Elements<'s> {
    out: &'s mut Scratch,
    first: bool,
    close: &'static [u8],
    verbatim: bool,
}

impl Elements<'_> {
    #[inline]
    fn separate(&mut self) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
    }

    #[inline]
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.separate();
        write(value, self.out)
    }

    #[inline(always)]
    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        if self.verbatim {
            return self.verbatim(value);
        }
        self.separate();
        self.out.name(name);
        write(value, self.out)
    }

    #[cold]
    fn verbatim<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let text = serde_json::to_string(value).and_then(|quoted| serde_json::from_str::<String>(&quoted));
        self.out.extend(text.map_err(ser::Error::custom)?.as_bytes());
        Ok(())
    }

    #[inline]
    fn close(self) -> Result<(), Error> {
        self.close.iter().for_each(|&byte| self.out.push(byte));
        Ok(())
    }
}

/// The traits of elements differ in their names only.
macro_rules! elements {
    ($($kind:ident :: $method:ident),*) => {$(
        impl ser::$kind for Elements<'_> {
            type Ok = ();
            type Error = Error;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.element(value)
            }

            #[inline]
            fn end(self) -> Result<(), Error> {
                self.close()
            }
        }
    )*};
}
elements!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

macro_rules! fields {
    ($($kind:ident),*) => {$(
        impl ser::$kind for Elements<'_> {
            type Ok = ();
            type Error = Error;

            #[inline(always)]
            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
                self.field(name, value)
            }

            #[inline]
            fn end(self) -> Result<(), Error> {
                self.close()
            }
        }
    )*};
}
fields!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Elements<'_> {
    type Ok = ();
    type Error = Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.separate();
        key.serialize(Writer { out: self.out, is_key: true })
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.out.push(b':');
        write(value, self.out)
    }

    #[inline]
    fn end(self) -> Result<(), Error> {
        self.close()
    }
}
