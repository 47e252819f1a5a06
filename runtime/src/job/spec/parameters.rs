//! Parameters that are written as something else than single values: which one, what was found, what is allowed.
//!
//! Reads a spec that was refused once more, and loosely: only how parameters look, and where. Never takes a value of it.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_saphyr::{Location, Spanned};

/// What is wrong with the parameters that stand at `at`; none where it is something else that stands there.
pub(super) fn what_is_wrong(yaml: &str, at: Location) -> Option<String> {
    let spec: Loose = serde_saphyr::from_str(yaml).ok()?;
    spec.operators.iter().find_map(|operator| operator.what_is_wrong(at))
}

#[derive(Deserialize)]
struct Loose {
    operators: Vec<Operator>,
}

#[derive(Deserialize)]
struct Operator {
    #[serde(default)]
    id: String,
    parameters: Option<Spanned<Shape>>,
}

/// How something is written.
enum Shape {
    Single,
    List,
    Map(Vec<(String, Spanned<Within>)>),
}

/// The same, of what stands in a map.
enum Within {
    Single,
    List,
    Map,
}

impl Operator {
    fn what_is_wrong(&self, at: Location) -> Option<String> {
        let parameters = self.parameters.as_ref()?;
        let id = &self.id;
        let found = match &parameters.value {
            Shape::Map(named) => {
                let (name, value) = named.iter().find(|(_, value)| is_at(value, at))?;
                let found = match value.value {
                    Within::Single => return None,
                    Within::List => "a list",
                    Within::Map => "a map",
                };
                return Some(format!(
                    "parameter `{name}` of operator `{id}` is {found}: a module is given text, so write one value \
                     (`{name}: 10`), or put what you mean in quotes, in a form that the module reads"
                ));
            }
            Shape::Single => "a single value",
            Shape::List => "a list",
        };
        is_at(parameters, at).then(|| {
            format!("`parameters` of operator `{id}` is {found}: write a map, `{{name: value, other: value}}`")
        })
    }
}

fn is_at<T>(found: &Spanned<T>, at: Location) -> bool {
    (found.referenced.line(), found.referenced.column()) == (at.line(), at.column())
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Shape;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("anything")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
                let mut named = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    named.push(entry);
                }
                Ok(Shape::Map(named))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Shape, A::Error> {
                drain(list).map(|()| Shape::List)
            }
            fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
                Ok(Shape::Single)
            }
            fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
                Ok(Shape::Single)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
                Ok(Shape::Single)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
                Ok(Shape::Single)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
                Ok(Shape::Single)
            }
            fn visit_unit<E>(self) -> Result<Shape, E> {
                Ok(Shape::Single)
            }
        }
        from.deserialize_any(Any)
    }
}

impl<'de> Deserialize<'de> for Within {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(match Shape::deserialize(from)? {
            Shape::Single => Self::Single,
            Shape::List => Self::List,
            Shape::Map(_) => Self::Map,
        })
    }
}

fn drain<'de, A: SeqAccess<'de>>(mut list: A) -> Result<(), A::Error> {
    while list.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}
