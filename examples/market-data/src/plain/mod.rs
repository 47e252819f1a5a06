//! The plain computation: what the jobs must have written, worked out from the input without streaming.
//!
//! Knows the written rules (README files of the examples, the job specs), no code of the runtime. One loop over
//! the input, a map per state, integers throughout. The runtime is judged by it, so it is kept simple enough to
//! be checked by reading.

pub mod decode;
pub mod enrichment;
pub mod liquidity;

use std::collections::{BTreeMap, HashMap};

use decode::{Decoded, Rules};

use crate::input::partitioned::Partitioned;

/// What a job must have made of one topic of orders.
#[derive(Default)]
pub struct Expected<T> {
    /// Per key what its records led to, in their order.
    pub outputs: HashMap<String, Vec<T>>,
    /// Per partition and offset of a refused record the code of its refusal.
    pub refusals: BTreeMap<(usize, i64), &'static str>,
}

impl<T> Expected<T> {
    pub fn len(&self) -> usize {
        self.outputs.values().map(Vec::len).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }
}

/// Runs every record of a topic that decodes through `step`, partition by partition: keys never cross partitions.
pub fn over<T>(
    input: &Partitioned,
    rules: &Rules,
    mut step: impl FnMut(usize, i64, &Decoded) -> Result<T, &'static str>,
) -> Expected<T> {
    let mut expected = Expected { outputs: HashMap::new(), refusals: BTreeMap::new() };
    for (partition, records) in input.partitions.iter().enumerate() {
        for (offset, record) in records.iter().enumerate() {
            let offset = offset as i64;
            let decoded = decode::decode(record, partition, input.partitions.len(), rules);
            match decoded.and_then(|decoded| step(partition, offset, &decoded).map(|output| (decoded.key, output))) {
                Ok((key, output)) => expected.outputs.entry(key).or_default().push(output),
                Err(code) => {
                    expected.refusals.insert((partition, offset), code);
                }
            }
        }
    }
    expected
}
