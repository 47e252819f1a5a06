//! What a call has done so far, in the columns of its answer, and how to take a record's part back.
//!
//! Owns records out, timers and metrics; states keep their own changes ([`crate::Value`]). A column that
//! says nothing is left empty until the first entry that does.

use crate::columns::{Answer, Blobs, Emitted, Headers, Refusal, TimerWrites};
use crate::json::Scratch;
use crate::record::Origins;
use crate::{Output, Refuse};

#[derive(Default)]
pub(crate) struct Effects {
    /// `values` is `None` while everything passes through.
    pub(crate) emitted: Emitted,
    pub(crate) timers: TimerWrites,
    pub(crate) refusals: Vec<Refusal>,
    pub(crate) filtered: u32,
    pub(crate) metric_ids: Vec<u8>,
    pub(crate) metric_amounts: Vec<f64>,
    /// Where a value's JSON is written before it goes to the column whole.
    pub(crate) scratch: Scratch,
}

/// Lengths before a record, to cut back to.
#[derive(Clone, Copy)]
pub(crate) struct Mark {
    emitted: usize,
    timers: usize,
    filtered: u32,
    metrics: usize,
}

/// A header's name and value.
pub type Header<'h> = (&'h str, Option<&'h [u8]>);

/// What an emission says of its own; the rest it inherits.
#[derive(Default)]
pub(crate) struct Stated<'e> {
    pub(crate) key: Option<Option<&'e [u8]>>,
    pub(crate) event_time: Option<i64>,
    pub(crate) headers: Option<&'e [Header<'e>]>,
    pub(crate) partition: Option<i32>,
}

impl Effects {
    /// Room for as much as the call before had.
    pub(crate) fn sized_like(records: usize, bytes: usize, scratch: Scratch) -> Self {
        let mut effects = Self { scratch, ..Self::default() };
        if bytes > 0 {
            effects.emitted.values = Some(Blobs::with_capacity(records, bytes));
        }
        effects.emitted.origins = crate::columns::U32s::with_capacity(records);
        effects
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark {
            emitted: self.emitted.origins.len(),
            timers: self.timers.timers.len(),
            filtered: self.filtered,
            metrics: self.metric_ids.len(),
        }
    }

    pub(crate) fn undo(&mut self, mark: Mark) {
        let emitted = &mut self.emitted;
        emitted.origins.truncate(mark.emitted);
        emitted.outputs.truncate(mark.emitted);
        emitted.event_times.truncate(mark.emitted);
        emitted.partitions.truncate(mark.emitted);
        if let Some(values) = &mut emitted.values {
            values.truncate(mark.emitted);
        }
        if let Some(keys) = &mut emitted.keys {
            keys.truncate(mark.emitted);
        }
        if let Some(headers) = &mut emitted.headers {
            headers.truncate(mark.emitted);
        }
        self.timers.timers.truncate(mark.timers);
        self.timers.slots.truncate(mark.timers);
        self.timers.times.truncate(mark.timers);
        self.timers.ops.truncate(mark.timers);
        self.metric_ids.truncate(mark.metrics);
        self.metric_amounts.truncate(mark.metrics);
        self.filtered = mark.filtered;
    }

    pub(crate) fn refuse(&mut self, index: usize, refuse: Refuse) {
        let Refuse { code, message } = refuse;
        self.refusals.push(Refusal { record_index: index as u32, code: code.into_owned(), message });
    }

    /// The column of values, for the bytes of the next emission: append, then [`emit`](Self::emit).
    #[inline]
    pub(crate) fn value(&mut self, origins: Origins<'_>) -> &mut Blobs {
        let Emitted { origins: earlier, values, .. } = &mut self.emitted;
        values.get_or_insert_with(|| earlier.iter().map(|origin| origins.value(origin as usize)).collect())
    }

    /// The value of the next emission is what stands in the scratch.
    #[inline]
    pub(crate) fn value_of_scratch(&mut self, origins: Origins<'_>) {
        let scratch = std::mem::take(&mut self.scratch);
        self.value(origins).push(Some(scratch.written()));
        self.scratch = scratch;
    }

    /// An emission whose value is already in the column of values.
    #[inline]
    pub(crate) fn emit(&mut self, origins: Origins<'_>, origin: usize, output: Output, stated: &Stated<'_>) {
        let emitted = &mut self.emitted;
        let earlier = emitted.origins.len();
        if output.0 != 0 || !emitted.outputs.is_empty() {
            emitted.outputs.resize(earlier, 0);
            emitted.outputs.push(output.0);
        }
        if stated.key.is_some() || emitted.keys.is_some() {
            let Emitted { origins: froms, keys, .. } = &mut *emitted;
            let keys = keys.get_or_insert_with(|| froms.iter().map(|from| origins.key(from as usize)).collect());
            keys.push(stated.key.unwrap_or_else(|| origins.key(origin)));
        }
        if stated.event_time.is_some() || !emitted.event_times.is_empty() {
            for i in emitted.event_times.len()..earlier {
                emitted.event_times.push(origins.event_time(emitted.origins.at(i) as usize));
            }
            emitted.event_times.push(stated.event_time.unwrap_or_else(|| origins.event_time(origin)));
        }
        if stated.headers.is_some() || emitted.headers.is_some() {
            let Emitted { origins: froms, headers, .. } = &mut *emitted;
            let headers = headers.get_or_insert_with(|| inherited_headers(origins, froms.iter()));
            match stated.headers {
                Some(stated) => push_headers(headers, stated.iter().copied()),
                None => push_headers(headers, origins.headers(origin)),
            }
        }
        if stated.partition.is_some() || !emitted.partitions.is_empty() {
            for _ in emitted.partitions.len()..earlier {
                emitted.partitions.push(-1);
            }
            emitted.partitions.push(stated.partition.unwrap_or(-1));
        }
        emitted.origins.push(origin as u32);
    }

    pub(crate) fn timer(&mut self, timer: u8, slot: usize, time: i64, set: bool) {
        let timers = &mut self.timers;
        if !set || !timers.ops.is_empty() {
            timers.ops.resize(timers.timers.len(), 1);
            timers.ops.push(u8::from(set));
        }
        timers.timers.push(timer);
        timers.slots.push(slot as u32);
        timers.times.push(time);
    }

    /// The answer but for the states' writes, and the scratch for the next call.
    pub(crate) fn into_answer(self) -> (Answer, Scratch) {
        let Self { mut emitted, timers, refusals, filtered, scratch, .. } = self;
        if emitted.origins.is_empty() {
            emitted = Emitted::default();
        }
        (Answer { emitted, writes: Default::default(), timers, refusals, filtered }, scratch)
    }
}

fn inherited_headers(origins: Origins<'_>, froms: impl Iterator<Item = u32>) -> Headers {
    let mut headers = Headers::default();
    froms.for_each(|from| push_headers(&mut headers, origins.headers(from as usize)));
    headers
}

fn push_headers<'h>(column: &mut Headers, headers: impl Iterator<Item = Header<'h>>) {
    for (name, value) in headers {
        column.names.push(Some(name.as_bytes()));
        column.values.push(value);
    }
    column.ends.push(column.names.len() as u32);
}
