//! The types of `wit/transform.wit` as wasmtime sees them, and the way into them.
//!
//! Arguments are borrowed: every column of a call is lowered straight from the host's own buffers,
//! number columns as the bytes that they already are. Results are owned; `convert` turns them round.

use super::contract::{self, Migration, Moment, RecordCall, TimerCall};
use crate::model::{Blobs, Headers};

// Number columns are little endian by contract and lent out as they lie in memory.
#[cfg(not(target_endian = "little"))]
compile_error!("the guest contract's number columns are lent out as bytes: little-endian hosts only");

#[allow(dead_code, reason = "generated: one item per type and function of the contract, used or not")]
mod generated {
    wasmtime::component::bindgen!({
        world: "transform",
        path: "../wit/transform.wit",
        ownership: Borrowing { duplicate_if_necessary: true },
        imports: { default: trappable },
    });
}

pub(super) use generated::exports::forebay::transform::lifecycle as lifecycle_types;
pub(super) use generated::forebay::transform::{description, host, types};
pub(super) use generated::{Transform, TransformPre};

pub(super) fn moment(moment: Moment) -> types::Moment {
    types::Moment { watermark: moment.watermark, now: moment.now }
}

pub(super) fn record_batch(call: &RecordCall) -> types::RecordBatch<'_> {
    types::RecordBatch {
        keyed: keyed(&call.keyed),
        slots: bytemuck::cast_slice(&call.slots),
        inputs: &call.inputs,
        values: blobs(&call.values),
        event_times: bytemuck::cast_slice(&call.event_times),
        record_keys: call.record_keys.as_ref().map(blobs),
        headers: call.headers.as_ref().map(headers),
        coordinates: call.coordinates.as_ref().map(|at| types::Coordinates {
            partitions: bytemuck::cast_slice(&at.partitions),
            offsets: bytemuck::cast_slice(&at.offsets),
        }),
        seeds: bytemuck::cast_slice(&call.seeds),
        columns: &[],
        joined: &[],
    }
}

pub(super) fn timer_batch(call: &TimerCall) -> types::TimerBatch<'_> {
    types::TimerBatch {
        keyed: keyed(&call.keyed),
        slots: bytemuck::cast_slice(&call.slots),
        timers: &call.timers,
        times: bytemuck::cast_slice(&call.times),
        seeds: bytemuck::cast_slice(&call.seeds),
        joined: &[],
    }
}

pub(super) fn migration<'a>(migration: &'a Migration, no_entries: &'a Blobs) -> lifecycle_types::Migration<'a> {
    lifecycle_types::Migration {
        state: migration.state,
        from_version: migration.from_version,
        to_version: migration.to_version,
        keys: blobs(&migration.keys),
        entry_keys: blobs(no_entries),
        values: blobs(&migration.values),
    }
}

fn keyed(keyed: &contract::Keyed) -> types::Keyed<'_> {
    types::Keyed { keys: blobs(&keyed.keys), values: blobs(&keyed.values) }
}

fn blobs(blobs: &Blobs) -> types::BlobsParam<'_> {
    types::BlobsParam { data: blobs.data(), ends: bytemuck::cast_slice(blobs.ends()), present: blobs.present() }
}

fn headers(headers: &Headers) -> types::HeadersParam<'_> {
    types::HeadersParam {
        ends: bytemuck::cast_slice(&headers.ends),
        names: blobs(&headers.names),
        values: blobs(&headers.values),
    }
}
