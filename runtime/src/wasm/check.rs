//! Is an answer one that the contract allows for the call that it answers?
//!
//! Pure: looks at columns, changes nothing, knows nothing of wasmtime (native guests are checked by
//! the same code). After [`Answer::check`] every position of an answer may be used as an index, and
//! what it asks for is bounded. It never panics, whatever the columns hold.

use super::contract::{Answer, Description, Emitted, GuestError, Migration, RecordCall, TimerCall};
use crate::model::{Blobs, Headers};

/// Longest refusal code: a metric's label.
const CODE_BYTES_MAX: usize = 64;

/// What one answer may hold, whatever came in: the bound on amplification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Records emitted, and as many state writes and timer writes.
    pub entries_max: usize,
    /// Bytes of values, keys and headers emitted (those taken over from the origin counted once for
    /// each record that takes them), and as many bytes of state.
    pub bytes_max: usize,
}

impl Default for Limits {
    /// Sixteen times a full batch of 1,024 records and 1 MiB, and room for one-to-many on top.
    fn default() -> Self {
        Self { entries_max: 65_536, bytes_max: 16 << 20 }
    }
}

impl Limits {
    /// Bytes that may cross the boundary for one answer: what it may hold, and its number columns.
    pub(super) fn lifted_bytes_max(&self) -> usize {
        const NUMBER_BYTES_PER_ENTRY: usize = 96;
        2 * self.bytes_max + NUMBER_BYTES_PER_ENTRY * self.entries_max
    }
}

/// The call that an answer answers, and what its module declared.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// Records or timers of the call.
    pub records: usize,
    /// Per record its key's slot, `u32::MAX` = none; empty = not keyed.
    pub slots: &'a [u32],
    /// The distinct keys.
    pub keys: &'a Blobs,
    /// Keys of the records where they are not those of the slots.
    pub record_keys: Option<&'a Blobs>,
    /// What a record without a value of its own takes over. None = the origins have none (timers).
    pub values: Option<&'a Blobs>,
    /// What a record without headers of its own takes over.
    pub headers: Option<&'a Headers>,
    /// How many of each the module declared.
    pub outputs: usize,
    pub states: usize,
    pub timers: usize,
    /// Per output: it feeds a keyed operator, so its records go by key. Shorter = the others do not.
    pub keyed_outputs: &'a [bool],
    pub limits: Limits,
}

impl<'a> Shape<'a> {
    pub fn of_records(declared: &Description, call: &'a RecordCall, limits: Limits) -> Self {
        Self {
            records: call.values.len(),
            slots: &call.slots,
            keys: &call.keyed.keys,
            record_keys: call.record_keys.as_ref(),
            values: Some(&call.values),
            headers: call.headers.as_ref(),
            outputs: declared.outputs.len(),
            states: declared.states.len(),
            timers: declared.timers.len(),
            keyed_outputs: &[],
            limits,
        }
    }

    pub fn of_timers(declared: &Description, call: &'a TimerCall, limits: Limits) -> Self {
        Self {
            records: call.timers.len(),
            slots: &call.slots,
            keys: &call.keyed.keys,
            record_keys: None,
            values: None,
            headers: None,
            outputs: declared.outputs.len(),
            states: declared.states.len(),
            timers: declared.timers.len(),
            keyed_outputs: &[],
            limits,
        }
    }

    fn slot_key_len(&self, origin: usize) -> usize {
        self.slots.get(origin).map_or(0, |slot| entry_len(self.keys, *slot as usize))
    }
}

impl Answer {
    /// # Errors
    /// [`GuestError::Answer`] with the column, the position in it and what is wrong there.
    pub fn check(&self, shape: &Shape) -> Result<(), GuestError> {
        self.drafts()?;
        self.emitted_columns(shape)?;
        self.emitted_headers()?;
        self.emitted_bytes(shape)?;
        self.state_writes(shape)?;
        self.timer_writes(shape)?;
        self.refusals(shape)?;
        if self.filtered as usize > shape.records {
            let (filtered, records) = (self.filtered, shape.records);
            return wrong(format!("filtered: {filtered} of {records} records are said to be left out"));
        }
        Ok(())
    }

    fn drafts(&self) -> Result<(), GuestError> {
        let draft = |column: &str, what: &str| {
            wrong(format!("{column}: {what} are a draft that this host does not run yet: leave the column empty"))
        };
        if self.emitted.typed_columns > 0 {
            return draft("emitted.columns", "typed columns");
        }
        if !self.writes.entry_keys.is_empty() {
            return draft("writes.entry-keys", "map states");
        }
        if !self.writes.expires.is_empty() {
            return draft("writes.expires", "times to live");
        }
        if let Some(at) = self.writes.ops.iter().position(|op| matches!(op, 2 | 3)) {
            return draft(&format!("writes.ops: entry {at}"), "append and remove");
        }
        Ok(())
    }

    fn emitted_columns(&self, shape: &Shape) -> Result<(), GuestError> {
        let emitted = &self.emitted;
        let count = emitted.origins.len();
        at_most("emitted.origins", count, shape.limits.entries_max)?;
        below("emitted.origins", &emitted.origins, shape.records, "records came")?;
        empty_or("emitted.outputs", emitted.outputs.len(), count)?;
        if emitted.outputs.is_empty() && count > 0 && shape.outputs == 0 {
            return wrong("emitted.origins: records are emitted but no output is declared".to_owned());
        }
        below_u8("emitted.outputs", &emitted.outputs, shape.outputs, "outputs are declared")?;
        match &emitted.values {
            Some(values) => exactly("emitted.values", values.len(), count)?,
            None if shape.values.is_none() && count > 0 => {
                return wrong("emitted.values: there are none, and a timer has no value to take over".to_owned());
            }
            None => {}
        }
        if let Some(keys) = &emitted.keys {
            exactly("emitted.keys", keys.len(), count)?;
        }
        empty_or("emitted.event-times", emitted.event_times.len(), count)?;
        empty_or("emitted.partitions", emitted.partitions.len(), count)?;
        self.emitted_partitions(shape)
    }

    fn emitted_partitions(&self, shape: &Shape) -> Result<(), GuestError> {
        for (at, &partition) in self.emitted.partitions.iter().enumerate().filter(|(_, p)| **p != -1) {
            if partition < -1 {
                return wrong(format!("emitted.partitions: entry {at} is {partition}: use -1 for by key"));
            }
            let output = self.emitted.outputs.get(at).copied().unwrap_or(0);
            if shape.keyed_outputs.get(usize::from(output)) == Some(&true) {
                let why = "feeds a keyed operator, which finds its records by key";
                return wrong(format!(
                    "emitted.partitions: entry {at} is {partition}, but output {output} {why}: use -1"
                ));
            }
        }
        Ok(())
    }

    fn emitted_headers(&self) -> Result<(), GuestError> {
        let Some(headers) = &self.emitted.headers else { return Ok(()) };
        exactly("emitted.headers.values", headers.values.len(), headers.names.len())?;
        if headers.ends.is_empty() {
            return exactly("emitted.headers.names", headers.names.len(), 0);
        }
        exactly("emitted.headers.ends", headers.ends.len(), self.emitted.origins.len())?;
        let mut start = 0;
        for (at, &end) in headers.ends.iter().enumerate() {
            if end < start || end as usize > headers.names.len() {
                let (count, column) = (headers.names.len(), "emitted.headers.ends");
                return wrong(format!("{column}: entry {at} is {end}, after {start} and with {count} headers"));
            }
            start = end;
        }
        if start as usize != headers.names.len() {
            return wrong("emitted.headers.names: there are headers behind the last record's".to_owned());
        }
        let bad_name = |name: Option<&[u8]>| name.is_none_or(|name| std::str::from_utf8(name).is_err());
        match headers.names.iter().position(bad_name) {
            Some(at) => wrong(format!("emitted.headers.names: entry {at} is null or no UTF-8")),
            None => Ok(()),
        }
    }

    /// Counts what is taken over from the origins too: one large record emitted ten thousand times
    /// costs the guest nothing and the host everything.
    fn emitted_bytes(&self, shape: &Shape) -> Result<(), GuestError> {
        let emitted = &self.emitted;
        let values = match (&emitted.values, shape.values) {
            (Some(values), _) => values.byte_len(),
            (None, Some(values)) => emitted.taken_over(|origin| entry_len(values, origin)),
            (None, None) => 0,
        };
        let keys = match (&emitted.keys, shape.record_keys) {
            (Some(keys), _) => keys.byte_len(),
            (None, Some(keys)) => emitted.taken_over(|origin| entry_len(keys, origin)),
            (None, None) => emitted.taken_over(|origin| shape.slot_key_len(origin)),
        };
        let headers = match (&emitted.headers, shape.headers) {
            (Some(headers), _) => headers.names.byte_len() + headers.values.byte_len(),
            (None, Some(headers)) => emitted.taken_over(|origin| headers_len(headers, origin)),
            (None, None) => 0,
        };
        let (bytes, max) = (values + keys + headers, shape.limits.bytes_max);
        if bytes > max {
            return too_much(format!("emitted: {bytes} bytes in one call, at most {max} are allowed: emit less"));
        }
        Ok(())
    }

    fn state_writes(&self, shape: &Shape) -> Result<(), GuestError> {
        let writes = &self.writes;
        let count = writes.states.len();
        at_most("writes.states", count, shape.limits.entries_max)?;
        below_u8("writes.states", &writes.states, shape.states, "states are declared")?;
        exactly("writes.slots", writes.slots.len(), count)?;
        below("writes.slots", &writes.slots, shape.keys.len(), "keys came")?;
        empty_or("writes.ops", writes.ops.len(), count)?;
        exactly("writes.values", writes.values.len(), count)?;
        for at in 0..count {
            match (writes.ops.get(at).copied().unwrap_or(0), writes.values.is_null(at)) {
                (0, false) | (1, _) => {}
                (0, true) => return wrong(format!("writes.values: entry {at} puts a null value: use op 1 to clear")),
                (op, _) => return wrong(format!("writes.ops: entry {at} is {op}: use 0 to put, 1 to clear")),
            }
        }
        let (bytes, max) = (writes.values.byte_len(), shape.limits.bytes_max);
        if bytes > max {
            return too_much(format!("writes.values: {bytes} bytes in one call, at most {max} are allowed"));
        }
        Ok(())
    }

    fn timer_writes(&self, shape: &Shape) -> Result<(), GuestError> {
        let timers = &self.timers;
        let count = timers.timers.len();
        at_most("timers.timers", count, shape.limits.entries_max)?;
        below_u8("timers.timers", &timers.timers, shape.timers, "timers are declared")?;
        exactly("timers.slots", timers.slots.len(), count)?;
        below("timers.slots", &timers.slots, shape.keys.len(), "keys came")?;
        exactly("timers.times", timers.times.len(), count)?;
        empty_or("timers.ops", timers.ops.len(), count)?;
        match timers.ops.iter().position(|op| *op > 1) {
            Some(at) => wrong(format!("timers.ops: entry {at} is {}: use 1 to set, 0 to unset", timers.ops[at])),
            None => Ok(()),
        }
    }

    /// A refused record has no effects. Emissions name their record; writes and timers name a slot,
    /// so they are refused where every record of the slot was.
    fn refusals(&self, shape: &Shape) -> Result<(), GuestError> {
        if self.refusals.is_empty() {
            return Ok(());
        }
        let refused = self.refused(shape.records)?;
        if let Some(at) = self.emitted.origins.iter().position(|origin| refused[*origin as usize]) {
            let origin = self.emitted.origins[at];
            return wrong(format!("emitted.origins: entry {at} is record {origin}, which the answer refuses"));
        }
        let mut alive = vec![false; shape.keys.len()];
        for (slot, _) in shape.slots.iter().zip(&refused).filter(|(_, refused)| !**refused) {
            if let Some(alive) = alive.get_mut(*slot as usize) {
                *alive = true;
            }
        }
        for (column, slots) in [("writes.slots", &self.writes.slots), ("timers.slots", &self.timers.slots)] {
            if let Some(at) = slots.iter().position(|slot| !alive[*slot as usize]) {
                let slot = slots[at];
                return wrong(format!("{column}: entry {at} is slot {slot}, of which every record was refused"));
            }
        }
        Ok(())
    }

    /// Per record whether the answer refuses it: each at most once, with a code that may be a label.
    fn refused(&self, records: usize) -> Result<Vec<bool>, GuestError> {
        let mut refused = vec![false; records];
        for (at, refusal) in self.refusals.iter().enumerate() {
            let index = refusal.record_index;
            match refused.get_mut(index as usize) {
                Some(seen) if !*seen => *seen = true,
                Some(_) => wrong(format!("refusals: entry {at} refuses record {index} a second time"))?,
                None => wrong(format!("refusals: entry {at} is record {index}, {records} came"))?,
            }
            if !is_code(&refusal.code) {
                let rule = format!("letters, digits, `-`, `_` and `.`, at most {CODE_BYTES_MAX}");
                wrong(format!("refusals: entry {at} has a code that is none: use {rule}"))?;
            }
        }
        Ok(refused)
    }
}

impl Emitted {
    /// Bytes taken over from the origins of all emitted records.
    fn taken_over(&self, len: impl Fn(usize) -> usize) -> usize {
        self.origins.iter().map(|origin| len(*origin as usize)).sum()
    }
}

/// What `migrate` brought: as many values as came and no more bytes than state may take in one call,
/// or a failure that names one of the values.
///
/// # Errors
/// The module's own failure, or [`GuestError::Answer`] where it may not be believed.
pub fn check_migration(
    told: Result<Blobs, GuestError>,
    migration: &Migration,
    limits: &Limits,
) -> Result<Blobs, GuestError> {
    let sent = migration.values.len();
    match told {
        Ok(migrated) => {
            exactly("migrated values", migrated.len(), sent)?;
            let max = limits.bytes_max.max(4 * migration.values.byte_len());
            at_most("migrated values, bytes", migrated.byte_len(), max)?;
            Ok(migrated)
        }
        Err(GuestError::Migration { value_index, message }) if value_index as usize >= sent => Err(GuestError::Answer(
            format!("migration-failure.value-index: it is {value_index}, only {sent} values came (it says: {message})"),
        )),
        Err(error) => Err(error),
    }
}

fn is_code(code: &str) -> bool {
    !code.is_empty()
        && code.len() <= CODE_BYTES_MAX
        && code.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Bytes of an entry, 0 where there is none (`u32::MAX` is no key).
fn entry_len(blobs: &Blobs, entry: usize) -> usize {
    let Some(&end) = blobs.ends().get(entry) else { return 0 };
    let start = if entry == 0 { 0 } else { blobs.ends()[entry - 1] };
    end.saturating_sub(start) as usize
}

fn headers_len(headers: &Headers, record: usize) -> usize {
    headers.of(record).map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len)).sum()
}

fn wrong(message: String) -> Result<(), GuestError> {
    Err(GuestError::Answer(message))
}

fn exactly(column: &str, found: usize, expected: usize) -> Result<(), GuestError> {
    if found == expected {
        return Ok(());
    }
    wrong(format!("{column}: there are {found} entries where {expected} belong"))
}

fn too_much(found: String) -> Result<(), GuestError> {
    Err(GuestError::TooMuch(found))
}

fn empty_or(column: &str, found: usize, expected: usize) -> Result<(), GuestError> {
    if found == 0 { Ok(()) } else { exactly(column, found, expected) }
}

fn at_most(column: &str, found: usize, max: usize) -> Result<(), GuestError> {
    if found <= max {
        return Ok(());
    }
    too_much(format!("{column}: there are {found} in one call, at most {max} are allowed"))
}

/// Positions must be below `end`; the common case is one pass that the compiler vectorises.
fn below(column: &str, positions: &[u32], end: usize, what: &str) -> Result<(), GuestError> {
    let highest = positions.iter().fold(0, |highest, p| highest.max(*p));
    if positions.is_empty() || (highest as usize) < end {
        return Ok(());
    }
    let at = positions.iter().position(|p| *p as usize >= end).unwrap_or_default();
    wrong(format!("{column}: entry {at} is {}, only {end} {what}", positions[at]))
}

fn below_u8(column: &str, positions: &[u8], end: usize, what: &str) -> Result<(), GuestError> {
    let highest = positions.iter().fold(0, |highest, p| highest.max(*p));
    if positions.is_empty() || usize::from(highest) < end {
        return Ok(());
    }
    let at = positions.iter().position(|p| usize::from(*p) >= end).unwrap_or_default();
    wrong(format!("{column}: entry {at} is {}, only {end} {what}", positions[at]))
}

#[cfg(test)]
mod tests;
