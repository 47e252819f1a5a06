//! Columns for the in-memory host's calls, and the checks of what comes back.

use super::{Host, NO_POSITION, Out, Waiting, fail};
use crate::columns::{Answer, Blobs, Headers, Keyed, RecordBatch, TimerBatch, U32s};
use crate::record::Origins;
use crate::{Coordinates, Description, Transform};

pub(super) fn records<T: Transform>(host: &mut Host<T>, records: &[Waiting]) -> RecordBatch {
    let needs = host.description().needs;
    let keyed = host.description().keyed;
    let keys = records.iter().map(|waiting| waiting.record.key.as_deref());
    let (keyed, slots, record_keys) = if keyed {
        let (keyed, slots) = gather(host, keys);
        (keyed, slots, None)
    } else {
        (Keyed::default(), U32s::default(), Some(keys.collect()))
    };
    let at = |waiting: &Waiting| {
        waiting.record.coordinates.unwrap_or(Coordinates { partition: 0, offset: waiting.number as i64 })
    };
    RecordBatch {
        keyed,
        slots,
        inputs: records.iter().map(|waiting| waiting.input).collect(),
        values: records.iter().map(|waiting| waiting.record.value.as_deref()).collect(),
        event_times: records.iter().map(|waiting| waiting.record.event_time).collect(),
        record_keys,
        headers: needs.headers.then(|| headers(records)),
        coordinates: needs.coordinates.then(|| {
            let partitions = records.iter().map(|waiting| at(waiting).partition).collect();
            (partitions, records.iter().map(|waiting| at(waiting).offset).collect())
        }),
        seeds: if needs.seeds {
            records.iter().map(|waiting| seed(waiting.number)).collect()
        } else {
            Default::default()
        },
    }
}

pub(super) fn timers<T: Transform>(host: &mut Host<T>, due: &[(i64, u8, Vec<u8>)]) -> TimerBatch {
    let needs = host.description().needs;
    let (keyed, slots) = gather(host, due.iter().map(|timer| Some(timer.2.as_slice())));
    TimerBatch {
        keyed,
        slots,
        timers: due.iter().map(|timer| timer.1).collect(),
        times: due.iter().map(|timer| timer.0).collect(),
        seeds: if needs.seeds { due.iter().map(timer_seed).collect() } else { Default::default() },
    }
}

/// The distinct keys in order of appearance, and the values of all states for them, migrated and written back at once.
fn gather<'a, T: Transform>(host: &mut Host<T>, keys: impl Iterator<Item = Option<&'a [u8]>>) -> (Keyed, U32s) {
    let mut distinct: Vec<&[u8]> = Vec::new();
    let slots = keys.map(|key| {
        let Some(key) = key else { return NO_POSITION };
        let slot = distinct.iter().position(|known| *known == key).unwrap_or_else(|| {
            distinct.push(key);
            distinct.len() - 1
        });
        slot as u32
    });
    let slots: U32s = slots.collect();
    let mut values = Blobs::default();
    for state in 0..host.states.len() {
        for key in &distinct {
            values.push(value(host, state, key).as_deref());
        }
    }
    (Keyed { keys: distinct.into_iter().map(Some).collect(), values }, slots)
}

fn value<T: Transform>(host: &mut Host<T>, state: usize, key: &[u8]) -> Option<Vec<u8>> {
    let (version, bytes) = host.states[state].get(key).cloned()?;
    let migrated = match host.migrated(state, version, bytes) {
        Ok(migrated) => migrated,
        Err(message) => fail(format_args!("migrate key {}: {message}", String::from_utf8_lossy(key))),
    };
    let version = host.description().states[state].version;
    host.states[state].insert(key.to_vec(), (version, migrated.clone()));
    Some(migrated)
}

/// As the host does: nothing at all where no record of the call has a header.
fn headers(records: &[Waiting]) -> Headers {
    let mut column = Headers::default();
    if records.iter().all(|waiting| waiting.record.headers.is_empty()) {
        return column;
    }
    for Waiting { record, .. } in records {
        for (name, value) in &record.headers {
            column.names.push(Some(name.as_bytes()));
            column.values.push(value.as_deref());
        }
        column.ends.push(column.names.len() as u32);
    }
    column
}

/// The same in every cut: made from nothing but the timer.
fn timer_seed((time, timer, key): &(i64, u8, Vec<u8>)) -> u64 {
    key.iter().fold(seed(*time as u64 ^ u64::from(*timer)), |mixed, byte| seed(mixed ^ u64::from(*byte)))
}

/// Some mixing of the record's number: the same in every cut.
fn seed(number: u64) -> u64 {
    let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 31)
}

pub(super) fn emitted<'a>(answer: &'a Answer, origins: Origins<'a>) -> impl Iterator<Item = Out> + 'a {
    let emitted = &answer.emitted;
    (0..emitted.origins.len()).map(move |i| {
        let origin = emitted.origins.at(i) as usize;
        let value = emitted.values.as_ref().map_or_else(|| origins.value(origin), |values| values.get(i));
        let key = emitted.keys.as_ref().map_or_else(|| origins.key(origin), |keys| keys.get(i));
        let owned = |(name, value): (&str, Option<&[u8]>)| (name.to_owned(), value.map(<[u8]>::to_vec));
        Out {
            key: key.map(<[u8]>::to_vec),
            value: value.map(<[u8]>::to_vec),
            event_time: if emitted.event_times.is_empty() {
                origins.event_time(origin)
            } else {
                emitted.event_times.at(i)
            },
            headers: match &emitted.headers {
                Some(headers) => headers.of(i).map(owned).collect(),
                None => origins.headers(origin).map(owned).collect(),
            },
            partition: if emitted.partitions.is_empty() { -1 } else { emitted.partitions.at(i) },
        }
    })
}

/// What a real host would call a fault of the module.
pub(super) fn check(description: &Description, answer: &Answer, count: usize) {
    let emitted = &answer.emitted;
    for refusal in &answer.refusals {
        if !description.refusal_codes.contains(&refusal.code) {
            fail(format_args!("refusal code `{}` is not declared: add it to `module.refusals`", refusal.code));
        }
        assert!(emitted.origins.iter().all(|origin| origin != refusal.record_index), "a refused record emits");
    }
    assert!(emitted.origins.iter().all(|origin| (origin as usize) < count), "an origin is out of range");
    let full = |column: usize| column == 0 || column == emitted.origins.len();
    assert!(full(emitted.outputs.len()) && full(emitted.event_times.len()) && full(emitted.partitions.len()));
    for column in [&emitted.values, &emitted.keys].into_iter().flatten() {
        assert_eq!(column.len(), emitted.origins.len(), "one entry for each emission");
    }
    if let Some(output) = emitted.outputs.iter().find(|output| usize::from(**output) >= description.outputs.len()) {
        fail(format_args!("output {output} is not declared"));
    }
    if description.outputs.is_empty() && !emitted.origins.is_empty() {
        fail(format_args!("a module without outputs emits"));
    }
}
