//! Answers as they cross back: flat bytes into the columns of `contract`.
//!
//! Refuses here what cannot even be written down as columns (torn numbers, ends that descend); what
//! the columns say is judged by `check`.

use super::bindings::types;
use super::contract::{Answer, Emitted, GuestError, Refusal, StateWrites, TimerWrites};
use super::host::{MESSAGE_BYTES_MAX, printable};
use crate::model::{Blobs, Headers};

pub(super) fn answer(answer: types::Answer) -> Result<Answer, GuestError> {
    Ok(Answer {
        emitted: emitted(answer.emitted)?,
        writes: state_writes(answer.writes)?,
        timers: timer_writes(answer.timers)?,
        refusals: answer.refusals.into_iter().map(refusal).collect(),
        filtered: answer.filtered,
    })
}

pub(super) fn failure(failure: types::Failure) -> GuestError {
    match failure {
        types::Failure::Broken(message) => GuestError::Broken(printable(&message)),
        types::Failure::Retry(message) => GuestError::Retry(printable(&message)),
    }
}

fn emitted(emitted: types::Emitted) -> Result<Emitted, GuestError> {
    Ok(Emitted {
        origins: numbers("emitted.origins", &emitted.origins, u32::from_le_bytes)?,
        outputs: emitted.outputs,
        values: emitted.values.map(|b| blobs("emitted.values", b)).transpose()?,
        keys: emitted.keys.map(|b| blobs("emitted.keys", b)).transpose()?,
        event_times: numbers("emitted.event-times", &emitted.event_times, i64::from_le_bytes)?,
        headers: emitted.headers.map(headers).transpose()?,
        partitions: numbers("emitted.partitions", &emitted.partitions, i32::from_le_bytes)?,
        typed_columns: emitted.columns.len(),
    })
}

fn headers(headers: types::HeadersResult) -> Result<Headers, GuestError> {
    Ok(Headers {
        ends: numbers("emitted.headers.ends", &headers.ends, u32::from_le_bytes)?,
        names: blobs("emitted.headers.names", headers.names)?,
        values: blobs("emitted.headers.values", headers.values)?,
    })
}

fn state_writes(writes: types::StateWrites) -> Result<StateWrites, GuestError> {
    Ok(StateWrites {
        states: writes.states,
        slots: numbers("writes.slots", &writes.slots, u32::from_le_bytes)?,
        ops: writes.ops,
        entry_keys: blobs("writes.entry-keys", writes.entry_keys)?,
        values: blobs("writes.values", writes.values)?,
        expires: numbers("writes.expires", &writes.expires, i64::from_le_bytes)?,
    })
}

fn timer_writes(timers: types::TimerWrites) -> Result<TimerWrites, GuestError> {
    Ok(TimerWrites {
        timers: timers.timers,
        slots: numbers("timers.slots", &timers.slots, u32::from_le_bytes)?,
        times: numbers("timers.times", &timers.times, i64::from_le_bytes)?,
        ops: timers.ops,
    })
}

/// The message is for people: cut and made printable. The code is judged by `check` as it came.
fn refusal(refusal: types::Refusal) -> Refusal {
    let mut code = refusal.code;
    code.truncate(code.floor_char_boundary(MESSAGE_BYTES_MAX));
    Refusal { record_index: refusal.record_index, code, message: printable(&refusal.message) }
}

pub(super) fn blobs(column: &str, blobs: types::BlobsResult) -> Result<Blobs, GuestError> {
    let ends = numbers(column, &blobs.ends, u32::from_le_bytes)?;
    Blobs::from_parts(blobs.data, ends, blobs.present).map_err(|e| GuestError::Answer(format!("{column}: {e}")))
}

fn numbers<T, const WIDTH: usize>(
    column: &str,
    bytes: &[u8],
    read: fn([u8; WIDTH]) -> T,
) -> Result<Vec<T>, GuestError> {
    let (numbers, torn) = bytes.as_chunks::<WIDTH>();
    if !torn.is_empty() {
        let message = format!("{column}: {} bytes are no whole number of entries of {WIDTH} bytes", bytes.len());
        return Err(GuestError::Answer(message));
    }
    Ok(numbers.iter().map(|number| read(*number)).collect())
}
