//! Types of keyed state: their bytes, their schema versions, and the ways between versions.
//!
//! A type that changes its fields gets a new version and says how to come from the old one and how to go back
//! to it, so that code can be swapped and rolled back with the state kept. The version travels beside the bytes,
//! in the host's hands.

use std::collections::BTreeMap;

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::module::StateDecl;

/// How a state is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Compact. Field order and types are the format.
    Postcard,
    /// Larger and slower; tools can show it without asking the module.
    Json,
}

impl Encoding {
    pub fn name(self) -> &'static str {
        match self {
            Self::Postcard => "postcard",
            Self::Json => "json",
        }
    }
}

/// A type that can be kept per key: one schema version of one state.
///
/// ```
/// use forebay_sdk::prelude::*;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct CountV1 { records: u64 }
/// impl State for CountV1 {}
///
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct Count { records: u64, sum: i64 }
/// impl State for Count {
///     const VERSION: u32 = 2;
///     fn migrations(migrations: &mut Migrations<Self>) {
///         migrations.from(|old: CountV1| Ok(Count { records: old.records, sum: 0 }));
///         migrations.to(|new: Count| Ok(CountV1 { records: new.records }));
///     }
/// }
/// ```
pub trait State: Clone + Serialize + DeserializeOwned + Send + 'static {
    /// Raise it whenever the fields change: a type whose fingerprint changes under one version is refused.
    const VERSION: u32 = 1;
    const ENCODING: Encoding = Encoding::Postcard;

    /// The ways from and to other versions of this state.
    fn migrations(migrations: &mut Migrations<Self>) {
        let _ = migrations;
    }
}

macro_rules! plain {
    ($($state:ty),*) => { $(impl State for $state {})* };
}
plain!(bool, u8, u16, u32, u64, i8, i16, i32, i64, f32, f64, String, Vec<u8>);

/// Turns the bytes of one version into those of another.
type Way = Box<dyn Fn(&[u8]) -> Result<Vec<u8>, String>>;

/// The ways between one version of a state and others, by the other version's number.
pub struct Migrations<T> {
    from: BTreeMap<u32, Way>,
    to: BTreeMap<u32, Way>,
    kind: std::marker::PhantomData<T>,
}

impl<T: State> Migrations<T> {
    pub(crate) fn of_type() -> Self {
        let mut migrations = Self { from: BTreeMap::new(), to: BTreeMap::new(), kind: std::marker::PhantomData };
        T::migrations(&mut migrations);
        migrations
    }

    /// From another version, usually an older one.
    pub fn from<Other: State>(&mut self, way: impl Fn(Other) -> Result<T, String> + 'static) -> &mut Self {
        self.from.insert(Other::VERSION, convert(way));
        self
    }

    /// To another version, so that a rollback to the module that wrote it keeps the state.
    pub fn to<Other: State>(&mut self, way: impl Fn(T) -> Result<Other, String> + 'static) -> &mut Self {
        self.to.insert(Other::VERSION, convert(way));
        self
    }

    pub(crate) fn way(&self, from: u32, to: u32) -> Option<&Way> {
        match (from == T::VERSION, to == T::VERSION) {
            (false, true) => self.from.get(&from),
            (true, false) => self.to.get(&to),
            _ => None,
        }
    }
}

fn convert<From: State, To: State>(way: impl Fn(From) -> Result<To, String> + 'static) -> Way {
    Box::new(move |bytes| {
        let old = decode::<From>(bytes).map_err(|error| format!("decode version {}: {error}", From::VERSION))?;
        let mut new = Vec::new();
        encode(&way(old)?, &mut new).map_err(|error| format!("encode version {}: {error}", To::VERSION))?;
        Ok(new)
    })
}

pub(crate) fn declare<T: State>(name: &str) -> StateDecl {
    let migrations = Migrations::<T>::of_type();
    StateDecl {
        name: name.into(),
        version: T::VERSION,
        reads: migrations.from.into_keys().collect(),
        reverts_to: migrations.to.into_keys().collect(),
        encoding: T::ENCODING,
        fingerprint: crate::fingerprint::<T>(),
    }
}

/// Appends a value's bytes.
///
/// # Errors
/// What the serializer says: the type has something that its encoding cannot write.
pub(crate) fn encode<T: State>(value: &T, bytes: &mut Vec<u8>) -> Result<(), String> {
    match T::ENCODING {
        Encoding::Postcard => postcard::serialize_with_flavor(value, Append(bytes)).map_err(|error| error.to_string()),
        Encoding::Json => serde_json::to_writer(bytes, value).map_err(|error| error.to_string()),
    }
}

/// # Errors
/// What the deserializer says, also where bytes are left over.
pub(crate) fn decode<T: State>(bytes: &[u8]) -> Result<T, String> {
    match T::ENCODING {
        Encoding::Postcard => match postcard::take_from_bytes(bytes) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(format!("{} bytes are left over", rest.len())),
            Err(error) => Err(error.to_string()),
        },
        Encoding::Json => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
    }
}

/// Postcard's output, appended to a column.
struct Append<'a>(&'a mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}
