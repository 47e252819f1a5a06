//! Watches the changelog from beside the cluster, as soon as an epoch's outcome stands, and every local store.
//!
//! Owns the chain of committed headers and the state that their deltas add up to. Trusts no word of the runtime: what
//! it asserts are the invariants of the commit.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::checkpoint::{Assembler, Chain, Delta, Header, HeaderKind, InputPosition, TaskIdentity};
use crate::env::with_bug;
use crate::log::sim::Cluster;
use crate::state::simulated::{self, Content};

/// One committed epoch.
pub struct Epoch {
    pub header: Header,
    pub offset: i64,
    hash: [u8; 32],
    /// Of all state after it.
    digest: u64,
}

pub struct Oracle {
    topic: String,
    next: i64,
    assembler: Assembler,
    first_chunk: i64,
    chain: Chain,
    state: HashMap<Vec<u8>, Vec<u8>>,
    digest: u64,
    pub epochs: Vec<Epoch>,
}

impl Oracle {
    pub fn new(topic: &str, task: TaskIdentity) -> Self {
        Self {
            topic: topic.to_owned(),
            next: 0,
            assembler: Assembler::new(),
            first_chunk: 0,
            chain: Chain::at_start(task),
            state: HashMap::new(),
            digest: 0,
            epochs: Vec::new(),
        }
    }

    pub fn last(&self) -> &Epoch {
        self.epochs.last().expect("the task was deployed")
    }

    /// Follows what was committed since. I2: one chain of headers, each naming the one before. I3: what they point to is
    /// whole. I4: one owner at a time, each from its claim on. I6: nothing goes back.
    pub fn watch(&mut self, cluster: &Cluster) -> Result<(), String> {
        let new = cluster.committed(&self.topic, 0, self.next);
        for record in new {
            self.next = record.offset + 1;
            let value = record.value.unwrap_or_default();
            if Assembler::starts(&value) {
                self.first_chunk = record.offset;
            }
            // The watcher keeps the rules that the runtime may be breaking.
            let delta = with_bug(None, || self.assembler.push(&value));
            if let Some(delta) = delta.map_err(|e| format!("I3: at changelog offset {}: {e}", record.offset))? {
                self.follow(delta)?;
            }
        }
        Ok(())
    }

    fn follow(&mut self, delta: Delta) -> Result<(), String> {
        let Delta { header, hash, keys, values } = delta;
        self.chain.follow(&header, hash).map_err(|e| format!("I2: {e}"))?;
        if let Some(last) = self.epochs.last() {
            owned(&last.header, &header)?;
            goes_on(&last.header, &header)?;
        }
        for (key, value) in keys.iter().zip(values.iter()) {
            let key = key.unwrap_or_default().to_vec();
            let before = match value {
                Some(value) => self.state.insert(key.clone(), value.to_vec()),
                None => self.state.remove(&key),
            };
            if let Some(before) = before {
                self.digest = self.digest.wrapping_sub(entry_digest(&key, &before));
            }
            if let Some(value) = value {
                self.digest = self.digest.wrapping_add(entry_digest(&key, value));
            }
        }
        self.epochs.push(Epoch { header, offset: self.first_chunk, hash, digest: self.digest });
        Ok(())
    }

    /// I5: a store holds what some committed epoch left, and nothing else.
    pub fn check_store(&self, content: &Content) -> Result<(), String> {
        let Some(marker) = simulated::marker(content) else { return Ok(()) };
        let found = self.epochs.get(marker.epoch as usize);
        let epoch = found.filter(|epoch| epoch.hash == marker.header_hash && epoch.offset == marker.header_offset);
        let Some(epoch) = epoch else {
            return Err(format!("I5: a store stands at {marker:?}, which no committed header is"));
        };
        let entries = content.iter().filter(|(key, _)| !simulated::is_own(key));
        let digest = entries.fold(0_u64, |sum, (key, value)| sum.wrapping_add(entry_digest(key, value)));
        if digest != epoch.digest {
            return Err(format!("I5: a store at epoch {} holds other state than its deltas add up to", marker.epoch));
        }
        Ok(())
    }

    /// Where a source's partition stands by the last header.
    pub fn position(&self, source: &str, partition: i32) -> &InputPosition {
        let mut inputs = self.last().header.inputs.iter();
        inputs.find(|input| input.source == source && input.partition == partition).unwrap()
    }
}

fn owned(last: &Header, header: &Header) -> Result<(), String> {
    let epoch = header.epoch;
    let claims = header.kind == HeaderKind::Claim;
    if header.owner.session != last.owner.session && !claims {
        return Err(format!("I4: epoch {epoch} is of a session that has claimed nothing"));
    }
    let claim = if claims { epoch } else { last.owner.claim };
    if header.owner.claim != claim {
        return Err(format!("I4: epoch {epoch} names the claim of epoch {}, not {claim}", header.owner.claim));
    }
    Ok(())
}

fn goes_on(last: &Header, header: &Header) -> Result<(), String> {
    let epoch = header.epoch;
    let back = |what: &str, from: i64, to: i64| Err(format!("I6: epoch {epoch} takes {what} back from {from} to {to}"));
    if header.watermark < last.watermark {
        return back("the emitted watermark", last.watermark, header.watermark);
    }
    if header.processing_time < last.processing_time {
        return back("processing time", last.processing_time, header.processing_time);
    }
    for (before, now) in last.inputs.iter().zip(&header.inputs) {
        if (&before.source, before.partition, before.topic) != (&now.source, now.partition, now.topic) {
            return Err(format!("I2: epoch {epoch} has other inputs than the one before"));
        }
        let input = format!("{}/{}", now.source, now.partition);
        if now.next_offset < before.next_offset {
            return back(&input, before.next_offset.0, now.next_offset.0);
        }
        if now.watermark < before.watermark {
            return back(&format!("the watermark of {input}"), before.watermark, now.watermark);
        }
    }
    Ok(())
}

fn entry_digest(key: &[u8], value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, value).hash(&mut hasher);
    hasher.finish()
}
