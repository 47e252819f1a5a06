//! How single values of a spec are written: durations, event times that are a word or a map.

use std::fmt;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::spec::{AssumeSpec, EventTimeField, EventTimeSpec, UnitSpec};
use crate::codec::MAX_AHEAD;

const UNITS: [(&str, u64); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads `100ms`, `2s`, `1h`.
///
/// # Errors
/// A sentence that shows how a duration is written.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = (&text[..digits], text[digits..].trim());
    let nanos = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, nanos)| *nanos);
    match (number.parse::<u64>(), nanos) {
        (Ok(number), Some(nanos)) if number.checked_mul(nanos).is_some() => Ok(Duration::from_nanos(number * nanos)),
        _ => Err(format!("`{text}` is no duration: write a whole number and a unit, like 100ms, 2s, 5m or 1h")),
    }
}

/// Writes what `parse_duration` reads, in the largest unit that leaves no rest.
pub fn show_duration(duration: Duration) -> String {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let (name, unit) =
        UNITS.iter().rev().find(|(_, unit)| nanos.is_multiple_of(*unit) && nanos >= *unit).unwrap_or(&("s", u64::MAX));
    format!("{}{name}", nanos / unit)
}

pub mod duration {
    use super::{Deserialize, Deserializer, Duration, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::show_duration(*duration))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        super::parse_duration(&String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

pub mod optional_duration {
    use super::{Deserializer, Duration, Serializer, duration};

    pub fn serialize<S: Serializer>(value: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => duration::serialize(value, to),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        duration::deserialize(from).map(Some)
    }
}

/// An event time as a map: with `field` and `unit`, or only a bound for the record's timestamp.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventTimeMap {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unit: Option<UnitSpec>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    assume: Option<AssumeSpec>,
    #[serde(with = "duration", default = "max_ahead")]
    max_ahead: Duration,
    #[serde(default, with = "optional_duration", skip_serializing_if = "Option::is_none")]
    max_behind: Option<Duration>,
}

fn max_ahead() -> Duration {
    MAX_AHEAD
}

impl TryFrom<EventTimeMap> for EventTimeSpec {
    type Error = &'static str;

    fn try_from(map: EventTimeMap) -> Result<Self, &'static str> {
        let EventTimeMap { field, unit, assume, max_ahead, max_behind } = map;
        match (field, unit) {
            (Some(field), Some(unit)) => Ok(Self::Field(EventTimeField { field, unit, assume, max_ahead, max_behind })),
            (Some(_), None) => Err("missing field `unit`: what a number in the field counts (s, ms, us, ns, rfc3339)"),
            (None, Some(_)) => Err("missing field `field`: `unit` says what a number in it counts"),
            (None, None) if assume.is_some() => Err("missing field `field`: `assume` says what text in it means"),
            (None, None) if max_behind.is_some() => {
                Err("missing field `field`: `max_behind` compares a field with the record's timestamp")
            }
            (None, None) => Ok(Self::RecordTimestamp { max_ahead }),
        }
    }
}

impl From<&EventTimeSpec> for EventTimeMap {
    fn from(spec: &EventTimeSpec) -> Self {
        match spec.clone() {
            EventTimeSpec::RecordTimestamp { max_ahead } => {
                Self { field: None, unit: None, assume: None, max_ahead, max_behind: None }
            }
            EventTimeSpec::Field(EventTimeField { field, unit, assume, max_ahead, max_behind }) => {
                Self { field: Some(field), unit: Some(unit), assume, max_ahead, max_behind }
            }
        }
    }
}

impl<'de> Deserialize<'de> for EventTimeSpec {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct WordOrMap;
        impl<'de> Visitor<'de> for WordOrMap {
            type Value = EventTimeSpec;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("`record-timestamp`, or a map with `field` and `unit`, or with `max_ahead`")
            }
            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<EventTimeSpec, E> {
                match word {
                    "record-timestamp" => Ok(EventTimeSpec::default()),
                    other => Err(E::unknown_variant(other, &["record-timestamp"])),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<EventTimeSpec, A::Error> {
                let map = EventTimeMap::deserialize(MapAccessDeserializer::new(map))?;
                map.try_into().map_err(serde::de::Error::custom)
            }
        }
        from.deserialize_any(WordOrMap)
    }
}

impl Serialize for EventTimeSpec {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        EventTimeMap::from(self).serialize(to)
    }
}
