//! Watches the changelog from beside the cluster, as soon as an epoch's outcome stands, and every local store.
//!
//! Owns the chain of committed headers and the state that their deltas add up to. Trusts no word of the runtime: what
//! it asserts are the invariants of the commit.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::checkpoint::{Assembler, Chain, Delta, Header, HeaderKind, InputPosition, TaskIdentity};
use crate::env::with_bug;
use crate::log::sim::Cluster;
use crate::model::{Digest, EventTime};
use crate::state::simulated::{self, Content};

/// One committed epoch.
pub struct Epoch {
    pub header: Header,
    pub offset: i64,
    hash: [u8; 32],
    /// Of all state after it.
    digest: u64,
    transaction: Option<u64>,
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
    /// To when each reset of event time that was asked for takes it back, by their numbers from 1 on.
    pub resets: Vec<EventTime>,
    /// Versions that the task was told to run.
    pub decided: HashSet<Digest>,
}

impl Oracle {
    /// Of a task that was deployed with this module.
    pub fn new(topic: &str, task: TaskIdentity, module: Digest) -> Self {
        Self {
            topic: topic.to_owned(),
            next: 0,
            assembler: Assembler::new(),
            first_chunk: 0,
            chain: Chain::at_start(task),
            state: HashMap::new(),
            digest: 0,
            epochs: Vec::new(),
            resets: Vec::new(),
            decided: HashSet::from([module]),
        }
    }

    pub fn last(&self) -> &Epoch {
        self.epochs.last().expect("the task was deployed")
    }

    /// Follows what was committed since. I2: one chain of headers, each naming the one before. I3: what they point to is
    /// whole. I4: one owner at a time, each from its claim on. I6: nothing goes back, but for event time where a header
    /// names another reset: each reset is made once, and takes back what it says and no more. And nothing
    /// is committed under a version that nobody has decided.
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
                self.follow(delta, record.transaction)?;
            }
        }
        Ok(())
    }

    fn follow(&mut self, delta: Delta, transaction: Option<u64>) -> Result<(), String> {
        let Delta { header, hash, keys, values } = delta;
        self.chain.follow(&header, hash).map_err(|e| format!("I2: {e}"))?;
        if let Some(last) = self.epochs.last() {
            owned(&last.header, &header)?;
            goes_on(&last.header, &header, &self.resets)?;
        }
        if let Some(other) = header.operators.iter().find(|operator| !self.decided.contains(&operator.module)) {
            return Err(format!("epoch {} runs module {}, which nobody has decided", header.epoch, other.module));
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
        self.epochs.push(Epoch { header, offset: self.first_chunk, hash, digest: self.digest, transaction });
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

    /// Behind which reset of event time each transaction's output stands.
    pub fn resets_of_transactions(&self) -> BTreeMap<u64, u64> {
        let epochs = self.epochs.iter();
        epochs.filter_map(|epoch| Some((epoch.transaction?, epoch.header.time_reset))).collect()
    }

    /// The newest reset of event time was made, whoever was told of it and however often.
    pub fn is_reset(&self) -> Result<(), String> {
        let (made, asked) = (self.last().header.time_reset, self.resets.len() as u64);
        if made == asked { Ok(()) } else { Err(format!("I6: the last header names reset {made}, asked was {asked}")) }
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

fn goes_on(last: &Header, header: &Header, resets: &[EventTime]) -> Result<(), String> {
    let epoch = header.epoch;
    let back = |what: &str, from: i64, to: i64| Err(format!("I6: epoch {epoch} takes {what} back from {from} to {to}"));
    let reset = reset_of(last, header, resets)?;
    let least = |before: EventTime| reset.map_or(before, |to| before.min(to));
    let is_wrong = |before: EventTime, now: EventTime| match reset {
        // Nothing is read in the epoch of a reset.
        Some(_) => now != least(before),
        None => now < before,
    };
    if is_wrong(last.watermark, header.watermark) {
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
        if is_wrong(before.watermark, now.watermark) {
            return back(&format!("the watermark of {input}"), before.watermark, now.watermark);
        }
    }
    Ok(())
}

/// To when the reset that an epoch makes takes event time back; none where it makes none.
fn reset_of(last: &Header, header: &Header, resets: &[EventTime]) -> Result<Option<EventTime>, String> {
    let (epoch, before, now) = (header.epoch, last.time_reset, header.time_reset);
    if now == before {
        return Ok(None);
    }
    if now < before || header.kind != HeaderKind::Epoch {
        return Err(format!("I6: epoch {epoch} ({:?}) names reset {now} behind reset {before}", header.kind));
    }
    let to = resets.get(now as usize - 1).copied();
    to.map(Some).ok_or_else(|| format!("I6: epoch {epoch} names reset {now}, and nobody asked for it"))
}

fn entry_digest(key: &[u8], value: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (key, value).hash(&mut hasher);
    hasher.finish()
}
