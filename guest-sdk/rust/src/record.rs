//! A record and a fired timer, borrowed from their batch.

use std::cell::OnceCell;

use serde::Deserialize;

use crate::columns::{Blobs, NO_POSITION, RecordBatch, TimerBatch, U32s};
use crate::{Input, Refuse, Timer, json};

/// Where a record came from; further down a chain: the source record that led to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coordinates {
    pub partition: i32,
    pub offset: i64,
}

/// One record, borrowed from the columns of its batch.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub(crate) batch: &'a RecordBatch,
    pub(crate) index: usize,
    pub(crate) texts: &'a Texts<'a>,
}

/// Columns of a batch as text, where they are text from end to end: looked at once for all records, and only if one asks.
#[derive(Debug, Default)]
pub(crate) struct Texts<'a> {
    values: OnceCell<Option<&'a str>>,
    keys: OnceCell<Option<&'a str>>,
}

/// Entry `i` of a column as text.
#[inline]
fn text_of<'a>(column: &'a Blobs, whole: &OnceCell<Option<&'a str>>, i: usize) -> Option<&'a str> {
    // The bytes of an entry can be no text on their own although they are part of one: its ends then cut a character.
    match whole.get_or_init(|| json::text(&column.data)) {
        Some(text) => text.get(column.range(i)),
        None => json::text(&column.data[column.range(i)]),
    }
}

impl<'a> Record<'a> {
    /// The operator's key where it is keyed, else the record's own.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        match slot_of(&self.batch.slots, self.index) {
            Some(slot) => self.batch.keyed.keys.get(slot),
            None => self.record_key(),
        }
    }

    /// [`key`](Self::key) as text; empty where there is none or it is not UTF-8.
    #[inline]
    pub fn key_text(&self) -> &'a str {
        let text = match slot_of(&self.batch.slots, self.index) {
            Some(slot) => text_of(&self.batch.keyed.keys, &self.texts.keys, slot),
            None => self.record_key().and_then(json::text),
        };
        text.unwrap_or_default()
    }

    /// The Kafka key, also where the operator is keyed by something else.
    #[inline]
    pub fn record_key(&self) -> Option<&'a [u8]> {
        record_key(self.batch, self.index)
    }

    /// The payload; `None` is a tombstone.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.batch.values.get(self.index)
    }

    /// The payload as JSON; strings can be borrowed from it.
    ///
    /// # Errors
    /// Refuses the record as [`Refuse::BAD_PAYLOAD`].
    #[inline]
    pub fn json<T: Deserialize<'a>>(&self) -> Result<T, Refuse> {
        let Some(value) = self.value() else {
            return Err(Refuse::new(Refuse::BAD_PAYLOAD, "the value is null"));
        };
        let read = match text_of(&self.batch.values, &self.texts.values, self.index) {
            Some(text) => json::from_text(text),
            None => serde_json::from_slice(value),
        };
        read.map_err(|error| Refuse::new(Refuse::BAD_PAYLOAD, error))
    }

    /// Nanoseconds since 1970.
    #[inline]
    pub fn event_time(&self) -> i64 {
        self.batch.event_times.at(self.index)
    }

    #[inline]
    pub fn input(&self) -> Input {
        Input(self.batch.inputs.get(self.index).copied().unwrap_or(0))
    }

    /// Name and value of each header. Empty unless [`needs_headers`](crate::Module::needs_headers).
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        let index = self.index;
        self.batch.headers.iter().flat_map(move |headers| headers.of(index))
    }

    /// `None` unless [`needs_coordinates`](crate::Module::needs_coordinates).
    pub fn coordinates(&self) -> Option<Coordinates> {
        let (partitions, offsets) = self.batch.coordinates.as_ref()?;
        Some(Coordinates { partition: partitions.at(self.index), offset: offsets.at(self.index) })
    }

    /// A random number, the same in every repetition. `None` unless [`needs_seeds`](crate::Module::needs_seeds).
    pub fn seed(&self) -> Option<u64> {
        (!self.batch.seeds.is_empty()).then(|| self.batch.seeds.at(self.index))
    }
}

#[inline]
fn record_key(batch: &RecordBatch, i: usize) -> Option<&[u8]> {
    match &batch.record_keys {
        Some(keys) => keys.get(i),
        None => batch.keyed.keys.get(slot_of(&batch.slots, i)?),
    }
}

/// One timer that came due, borrowed from the columns of its batch.
#[derive(Clone, Copy, Debug)]
pub struct Fired<'a> {
    pub(crate) batch: &'a TimerBatch,
    pub(crate) index: usize,
}

impl<'a> Fired<'a> {
    pub fn key(&self) -> &'a [u8] {
        slot_of(&self.batch.slots, self.index).and_then(|slot| self.batch.keyed.keys.get(slot)).unwrap_or_default()
    }

    /// [`key`](Self::key) as text; empty where it is not UTF-8.
    pub fn key_text(&self) -> &'a str {
        std::str::from_utf8(self.key()).unwrap_or_default()
    }

    /// Which of the declared timers.
    pub fn timer(&self) -> Timer {
        Timer(self.batch.timers[self.index])
    }

    /// The time for which it was set, nanoseconds since 1970.
    pub fn time(&self) -> i64 {
        self.batch.times.at(self.index)
    }

    /// As [`Record::seed`].
    pub fn seed(&self) -> Option<u64> {
        (!self.batch.seeds.is_empty()).then(|| self.batch.seeds.at(self.index))
    }
}

/// The slot of entry `i`: none where there is no key, or no column because the operator is not keyed.
#[inline]
pub(crate) fn slot_of(slots: &U32s, i: usize) -> Option<usize> {
    if slots.is_empty() {
        return None;
    }
    let slot = slots.at(i);
    (slot != NO_POSITION).then_some(slot as usize)
}

/// What emissions inherit from the record or timer that they come from.
#[derive(Clone, Copy)]
pub(crate) enum Origins<'a> {
    Records(&'a RecordBatch),
    Timers(&'a TimerBatch),
}

impl<'a> Origins<'a> {
    pub(crate) fn value(self, i: usize) -> Option<&'a [u8]> {
        match self {
            Self::Records(batch) => batch.values.get(i),
            Self::Timers(_) => None,
        }
    }

    pub(crate) fn key(self, i: usize) -> Option<&'a [u8]> {
        match self {
            Self::Records(batch) => record_key(batch, i),
            Self::Timers(batch) => Some(Fired { batch, index: i }.key()),
        }
    }

    pub(crate) fn event_time(self, i: usize) -> i64 {
        match self {
            Self::Records(batch) => batch.event_times.at(i),
            Self::Timers(batch) => batch.times.at(i),
        }
    }

    pub(crate) fn headers(self, i: usize) -> impl Iterator<Item = (&'a str, Option<&'a [u8]>)> {
        let headers = match self {
            Self::Records(batch) => batch.headers.as_ref(),
            Self::Timers(_) => None,
        };
        headers.into_iter().flat_map(move |headers| headers.of(i))
    }

    pub(crate) fn slot(self, i: usize) -> Option<usize> {
        match self {
            Self::Records(batch) => slot_of(&batch.slots, i),
            Self::Timers(batch) => slot_of(&batch.slots, i),
        }
    }

    /// The gathered value of a state.
    #[inline]
    pub(crate) fn state(self, state: usize, slot: usize) -> Option<&'a [u8]> {
        let keyed = match self {
            Self::Records(batch) => &batch.keyed,
            Self::Timers(batch) => &batch.keyed,
        };
        keyed.values.get(state * keyed.keys.len() + slot)
    }

    pub(crate) fn keys(self) -> &'a Blobs {
        match self {
            Self::Records(batch) => &batch.keyed.keys,
            Self::Timers(batch) => &batch.keyed.keys,
        }
    }
}
