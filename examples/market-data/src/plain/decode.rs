//! What the source of a job must make of a record before any module sees it.

use serde_json::Value;

use crate::input::partitioned::{Record, partition_of};

/// The part of a job spec that decides about single records.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Field with the event time, milliseconds.
    pub time_field: &'static str,
    pub max_value_bytes: usize,
    pub max_ahead_ms: i64,
    pub max_behind_ms: i64,
}

pub struct Decoded {
    pub key: String,
    pub value: Value,
    pub event_time_ms: i64,
}

/// # Errors
/// The code under which the record must have been dead-lettered.
pub fn decode(record: &Record, partition: usize, partitions: usize, rules: &Rules) -> Result<Decoded, &'static str> {
    let bytes = record.value.as_ref().ok_or("null-value")?;
    if bytes.len() > rules.max_value_bytes {
        return Err("oversized");
    }
    let key = record.key.as_ref().ok_or("missing-key")?;
    if partition_of(key, partitions) != partition {
        return Err("wrong-partition");
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|_| "malformed-json")?;
    let event_time_ms = value.get(rules.time_field).and_then(Value::as_i64).ok_or("missing-time")?;
    let ahead = event_time_ms - record.timestamp_ms;
    if ahead > rules.max_ahead_ms || -ahead > rules.max_behind_ms {
        return Err("time-out-of-range");
    }
    let key = String::from_utf8_lossy(key).into_owned();
    Ok(Decoded { key, value, event_time_ms })
}

/// The fields of an order event that both examples read.
pub struct Event<'a> {
    pub id: u64,
    pub action: &'a str,
    pub bid: bool,
    pub price: i64,
    pub volume: i64,
    pub previous_volume: Option<i64>,
    pub sequence: Option<u64>,
}

/// # Errors
/// `bad-payload` where the value is no order event.
pub fn event(value: &Value) -> Result<Event<'_>, &'static str> {
    let text = |field: &str| value.get(field).and_then(Value::as_str);
    let units = |field: &str| text(field).and_then(crate::decimal::parse);
    let event = || {
        Some(Event {
            id: value.get("id")?.as_u64()?,
            action: text("action").filter(|action| ["created", "changed", "deleted"].contains(action))?,
            bid: match text("direction")? {
                "bid" => true,
                "ask" => false,
                _ => return None,
            },
            price: units("price")?,
            volume: units("volume")?,
            previous_volume: units("previous_volume"),
            sequence: value.get("sequence").and_then(Value::as_u64),
        })
    };
    event().ok_or("bad-payload")
}
