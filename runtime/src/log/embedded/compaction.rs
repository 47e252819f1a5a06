//! Compaction: the newest record of every key stays, with its offset; the rest leaves gaps.

use std::collections::HashMap;

use rocksdb::{DB, WriteBatch};

use super::catalog::Topic;
use super::{Error, keys, stored};
use crate::model::{PartitionBatch, PartitionId};

/// Tombstones stay so long, for readers that have not come by yet.
const TOMBSTONE_MS: i64 = 24 * 3_600 * 1_000;

pub fn compact(
    db: &DB,
    topic: &mut Topic,
    now_ms: i64,
    write: impl Fn(WriteBatch) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut kept = 0;
    for partition in 0..topic.partition_count() {
        let mut changes = WriteBatch::default();
        kept += compact_partition(db, topic, partition, now_ms, &mut changes)?;
        write(changes)?;
    }
    topic.dirty = 0;
    topic.clean = kept;
    Ok(())
}

fn compact_partition(
    db: &DB,
    topic: &Topic,
    partition: PartitionId,
    now_ms: i64,
    changes: &mut WriteBatch,
) -> Result<u64, Error> {
    let (id, start) = (topic.info.id, topic.partition(partition)?.start);
    let mut newest: HashMap<Vec<u8>, i64> = HashMap::new();
    let mut batch = PartitionBatch::new(&topic.info.spec.name, partition);
    for entry in stored::scan(db, id, partition, start) {
        let (base, bytes) = entry?;
        batch.clear();
        stored::decode(&bytes, base, &mut batch)?;
        for i in 0..batch.len() {
            if let Some(key) = batch.keys.get(i) {
                newest.insert(key.to_vec(), batch.offsets[i]);
            }
        }
    }
    let mut kept = 0;
    for entry in stored::scan(db, id, partition, start) {
        let (base, bytes) = entry?;
        batch.clear();
        stored::decode(&bytes, base, &mut batch)?;
        let stays = |i: usize| {
            let is_newest = batch.keys.get(i).is_none_or(|key| newest.get(key) == Some(&batch.offsets[i]));
            let expired = batch.values.is_null(i) && batch.timestamps_ms[i] + TOMBSTONE_MS < now_ms;
            is_newest && !expired
        };
        let staying: Vec<usize> = (0..batch.len()).filter(|&i| stays(i)).collect();
        kept += staying.len() as u64;
        if staying.len() == batch.len() {
            continue;
        }
        let key = keys::batch(id, partition, base);
        if staying.is_empty() {
            changes.delete(key);
            continue;
        }
        let mut rest = PartitionBatch::new(&batch.topic, partition);
        staying.iter().for_each(|&i| rest.append_range(&batch, i..i + 1));
        changes.put(key, stored::seal(&stored::encode(&rest, 0..rest.len(), true), now_ms));
    }
    Ok(kept)
}
