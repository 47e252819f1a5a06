//! One partition: records and markers at their offsets, and which transactions they are of.

use std::collections::{BTreeMap, BTreeSet};

use crate::log::{Cleanup, Isolation};
use crate::model::PartitionBatch;

#[derive(Clone)]
pub struct Entry {
    pub offset: i64,
    pub leader_epoch: i32,
    /// None: a marker.
    pub record: Option<Record>,
}

#[derive(Clone)]
pub struct Record {
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub transaction: Option<u64>,
}

/// A record that readers of committed data are shown, now or soon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// None: it was written outside of any.
    pub transaction: Option<u64>,
}

#[derive(Default)]
pub struct Partition {
    pub start: i64,
    pub end: i64,
    pub entries: Vec<Entry>,
    /// Transactions without a marker here yet, by where they begin.
    open: BTreeMap<u64, i64>,
    aborted: BTreeSet<u64>,
    pub leader_epoch: i32,
    /// Where each leader epoch after the first begins.
    elections: Vec<(i32, i64)>,
}

impl Partition {
    pub fn append(&mut self, records: &PartitionBatch, transaction: Option<u64>, now_ms: i64) -> i64 {
        let first = self.end;
        for i in 0..records.len() {
            let time = records.timestamps_ms[i];
            let owned = |bytes: &[u8]| bytes.to_vec();
            let record = Record {
                timestamp_ms: if time < 0 { now_ms } else { time },
                key: records.keys.get(i).map(owned),
                value: records.values.get(i).map(owned),
                headers: records.headers.of(i).map(|(name, value)| (name.to_vec(), value.map(owned))).collect(),
                transaction,
            };
            self.push(Some(record));
        }
        if let Some(transaction) = transaction.filter(|_| !records.is_empty()) {
            self.open.entry(transaction).or_insert(first);
        }
        first
    }

    fn push(&mut self, record: Option<Record>) {
        self.entries.push(Entry { offset: self.end, leader_epoch: self.leader_epoch, record });
        self.end += 1;
    }

    /// Writes the marker that ends a transaction here.
    pub fn mark(&mut self, transaction: u64, commit: bool) {
        self.push(None);
        self.open.remove(&transaction);
        if !commit {
            self.aborted.insert(transaction);
        }
    }

    /// Behind everything that is decided.
    pub fn stable(&self) -> i64 {
        self.open.values().copied().min().unwrap_or(self.end)
    }

    pub fn end_for(&self, isolation: Isolation) -> i64 {
        match isolation {
            Isolation::ReadCommitted => self.stable(),
            Isolation::ReadUncommitted => self.end,
        }
    }

    pub fn is_shown(&self, record: &Record, isolation: Isolation) -> bool {
        isolation == Isolation::ReadUncommitted || record.transaction.is_none_or(|t| !self.aborted.contains(&t))
    }

    /// The entries at `offset` and behind it.
    pub fn from(&self, offset: i64) -> &[Entry] {
        &self.entries[self.entries.partition_point(|entry| entry.offset < offset)..]
    }

    /// Records from `offset` on that are committed, or will be because `will(transaction)` says so; ends before the
    /// first one that is not decided.
    pub fn committed(&self, offset: i64, will: impl Fn(u64) -> Option<bool>) -> Vec<Committed> {
        let mut found = Vec::new();
        for entry in self.from(offset) {
            let Some(record) = &entry.record else { continue };
            let commits = match record.transaction {
                None => true,
                Some(t) if !self.open.contains_key(&t) => !self.aborted.contains(&t),
                Some(t) => match will(t) {
                    Some(commits) => commits,
                    None => break,
                },
            };
            if commits {
                let Record { key, value, headers, transaction, .. } = record.clone();
                found.push(Committed { offset: entry.offset, key, value, headers, transaction });
            }
        }
        found
    }

    pub fn find_time(&self, timestamp_ms: i64) -> i64 {
        let late = |entry: &&Entry| entry.record.as_ref().is_some_and(|record| record.timestamp_ms >= timestamp_ms);
        self.entries.iter().find(late).map_or(self.end, |entry| entry.offset)
    }

    /// Removes what stands before `offset`.
    pub fn truncate(&mut self, offset: i64) {
        if offset > self.start {
            self.start = offset;
            self.entries.retain(|entry| entry.offset >= offset);
        }
    }

    /// An election: from here on records are of a newer leader.
    pub fn elect(&mut self) {
        self.leader_epoch += 1;
        self.elections.push((self.leader_epoch, self.end));
    }

    /// An unclean election: what stood at `offset` and behind it is lost.
    pub fn cut_back(&mut self, offset: i64) {
        self.entries.retain(|entry| entry.offset < offset);
        self.open.retain(|_, first| *first < offset);
        self.elections.retain(|(_, first)| *first < offset);
        self.end = self.end.min(offset);
        self.start = self.start.min(self.end);
        self.elect();
    }

    /// Whether the record before `offset` may be one of `leader_epoch`: else the log was cut back since it was read.
    pub fn continues(&self, offset: i64, leader_epoch: i32) -> bool {
        let next = self.elections.iter().find(|(epoch, _)| *epoch > leader_epoch);
        offset <= next.map_or(self.end, |(_, first)| *first)
    }

    pub fn compact(&mut self, cleanup: Cleanup) {
        if cleanup != Cleanup::Compact {
            return;
        }
        let stable = self.stable();
        let mut newest = BTreeMap::new();
        let decided = |entry: &&Entry| entry.offset < stable;
        for entry in self.entries.iter().filter(decided) {
            if let Some(record) = &entry.record
                && self.is_shown(record, Isolation::ReadCommitted)
            {
                newest.insert(record.key.clone(), entry.offset);
            }
        }
        self.entries.retain(|entry| {
            let key = entry.record.as_ref().map(|record| &record.key);
            entry.offset >= stable || key.is_some_and(|key| newest.get(key) == Some(&entry.offset))
        });
    }
}
