//! The control topic: where jobs, modules and swaps are kept, and the rules of writing it.
//!
//! Owns the one transactional id that writes it. A change says which revision of each record it was
//! made for; it is committed only if nothing newer stands there, and answered once this server's own
//! view includes it. A server that was fenced by another one reads again and tries again.
//! Read [`Store::commit`] first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::Error;
use super::record::{FORMAT, JobRecord, Key, ModuleRecord, Record, SwapRecord, Unreadable};
use crate::env::failpoint;
use crate::log::read::{Goes, read_to};
use crate::log::{self, Cleanup, CommitOutcome, Isolation, Log, TopicSpec, Writer};
use crate::model::names::Namespace;
use crate::model::{PartitionBatch, Uid};

/// A record holds at most a job spec, which is at most 1 MiB.
const MAX_RECORD_BYTES: u32 = 4 << 20;
/// Names one write, so that a server can tell its own from another's with the same content.
const WRITE_HEADER: &[u8] = b"forebay.write";
const ATTEMPTS: u32 = 5;

/// Where a record stood when a change was made for it: the offset of its newest write.
pub type Revision = i64;

/// What must be there for a change to be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    Absent,
    At(Revision),
    /// Any revision. Only for changes that are right whatever the record holds.
    Any,
}

pub struct Change {
    pub key: Key,
    pub expected: Expected,
    /// `None` removes.
    pub record: Option<Record>,
}

impl Change {
    pub fn put(record: Record, expected: Expected) -> Self {
        Self { key: record.key(), expected, record: Some(record) }
    }

    pub fn remove(key: Key) -> Self {
        Self { key, expected: Expected::Any, record: None }
    }
}

/// All records as they were at one moment. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct View {
    records: Arc<BTreeMap<Key, (Revision, Record)>>,
    /// Keys of kinds that this program does not know: another release keeps its records there.
    foreign: Arc<BTreeSet<Vec<u8>>>,
}

impl View {
    pub fn job(&self, name: &str) -> Option<(Revision, &JobRecord)> {
        match self.records.get(&Key::Job { name: name.to_owned() }) {
            Some((revision, Record::Job(job))) => Some((*revision, job)),
            _ => None,
        }
    }

    pub fn jobs(&self) -> impl Iterator<Item = (Revision, &JobRecord)> {
        self.records.values().filter_map(|(revision, record)| match record {
            Record::Job(job) => Some((*revision, &**job)),
            _ => None,
        })
    }

    pub fn module(&self, name: &str, version: &str) -> Option<&ModuleRecord> {
        match self.records.get(&Key::Module { name: name.to_owned(), version: version.to_owned() }) {
            Some((_, Record::Module(module))) => Some(module),
            _ => None,
        }
    }

    pub fn modules(&self) -> impl Iterator<Item = &ModuleRecord> {
        self.records.values().filter_map(|(_, record)| match record {
            Record::Module(module) => Some(&**module),
            _ => None,
        })
    }

    pub fn swap(&self, job: Uid) -> Option<(Revision, &SwapRecord)> {
        match self.records.get(&Key::Swap { job }) {
            Some((revision, Record::Swap(swap))) => Some((*revision, swap)),
            _ => None,
        }
    }

    /// Records of kinds that this program does not know. They stay as they are.
    pub fn foreign(&self) -> usize {
        self.foreign.len()
    }

    fn revision(&self, key: &Key) -> Option<Revision> {
        self.records.get(key).map(|(revision, _)| *revision)
    }
}

pub struct Store {
    log: Arc<dyn Log>,
    /// The control topic.
    topic: String,
    transactional_id: String,
    /// The view after the last write or take-over. It has a lock of its own, so that readers never wait for a write.
    view: Mutex<View>,
    inner: Mutex<Inner>,
}

/// Locked during a write, which may take as long as the log is unreachable.
struct Inner {
    writer: Option<Box<dyn Writer>>,
    view: View,
    /// The next offset to read.
    next: i64,
    /// The newest write ids seen, per key, since the last attempt to write began.
    writes: BTreeMap<Key, Vec<u8>>,
    /// The log has been told once that there are records of unknown kinds.
    has_told: bool,
}

impl Store {
    /// Creates the control topic where there is none, takes it over and reads it to its end. A namespace has a
    /// control topic of its own: it keeps the jobs of one server apart from those of another on the same cluster.
    pub fn open(log: Arc<dyn Log>, namespace: &Namespace) -> Result<Self, Error> {
        let (topic, transactional_id) = (namespace.control_topic(), namespace.control_transactional_id());
        let spec = TopicSpec {
            name: topic.clone(),
            partitions: 1,
            cleanup: Cleanup::Compact,
            max_record_bytes: MAX_RECORD_BYTES,
        };
        log.ensure_internal(&spec)?;
        let next = log.start_offset(&topic, 0)?;
        let inner =
            Mutex::new(Inner { writer: None, view: View::default(), next, writes: BTreeMap::new(), has_told: false });
        let store = Self { log, topic, transactional_id, view: Mutex::default(), inner };
        let mut inner = store.lock();
        store.take_over(&mut inner)?;
        drop(inner);
        Ok(store)
    }

    /// Everything that this server knows.
    pub fn view(&self) -> View {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes all changes or none, and returns the view that includes them.
    ///
    /// # Errors
    /// [`Error::Conflict`] where a record is not at the revision that a change was made for.
    pub fn commit(&self, changes: &[Change]) -> Result<View, Error> {
        self.write(changes).map_err(|error| match error {
            // Whatever the error says, a topic that was deleted is the cause of it, and only restoring it helps.
            Error::Log(_) if matches!(self.log.topic(&self.topic), Err(log::Error::UnknownTopic(_))) => {
                Error::ControlGone { topic: self.topic.clone() }
            }
            error => error,
        })
    }

    fn write(&self, changes: &[Change]) -> Result<View, Error> {
        let mut inner = self.lock();
        let write_id = Uid::random().to_string().into_bytes();
        for _ in 0..ATTEMPTS {
            self.take_over(&mut inner)?;
            check_expected(&inner.view, changes)?;
            if self.attempt(&mut inner, changes, &write_id)? {
                return Ok(inner.view.clone());
            }
        }
        Err(Error::Contended { topic: self.topic.clone(), attempts: ATTEMPTS })
    }

    /// One epoch with all changes. False where another server came in between: nothing was written.
    fn attempt(&self, inner: &mut Inner, changes: &[Change], write_id: &[u8]) -> Result<bool, Error> {
        failpoint("control-write-begins");
        // Needed for this attempt only; kept longer it would grow with every name that was ever used.
        inner.writes.clear();
        let writer = inner.writer.as_mut().ok_or(Error::ShuttingDown)?;
        let written = writer
            .begin()
            .and_then(|()| writer.append(&batch(&self.topic, changes, write_id)))
            .and_then(|()| writer.commit());
        match written {
            Ok(CommitOutcome::Committed) => {
                failpoint("control-after-commit");
                self.read_to_end(inner)?;
                Ok(true)
            }
            // Nobody knows whether the commit happened. After taking over, the topic itself says so.
            Ok(CommitOutcome::Indefinite(_)) => {
                inner.writer = None;
                self.take_over(inner)?;
                Ok(changes.iter().any(|change| inner.writes.get(&change.key).is_some_and(|id| id == write_id)))
            }
            Err(log::Error::Fenced { .. }) => {
                inner.writer = None;
                Ok(false)
            }
            Err(error) => {
                // A writer that failed half way is not used again.
                inner.writer = None;
                Err(error.into())
            }
        }
    }

    /// Owns the transactional id and has read all that was committed before.
    fn take_over(&self, inner: &mut Inner) -> Result<(), Error> {
        if inner.writer.is_none() {
            inner.writer = Some(self.log.writer(&self.transactional_id)?);
            self.read_to_end(inner)?;
            failpoint("control-taken-over");
        }
        Ok(())
    }

    fn read_to_end(&self, inner: &mut Inner) -> Result<(), Error> {
        let end = self.log.end_offset(&self.topic, 0, Isolation::ReadUncommitted)?;
        let from = inner.next;
        let next = read_to(self.log.as_ref(), (&self.topic, 0), from, end, |batch| {
            apply(inner, &self.topic, batch)?;
            Ok::<_, Error>(Goes::On)
        })?;
        if next > from {
            inner.next = next;
            self.tell_of_foreign(inner);
            *self.view.lock().unwrap_or_else(PoisonError::into_inner) = inner.view.clone();
        }
        Ok(())
    }

    /// Logs once that there are such records. They are no fault, but somebody who went back to an older release may
    /// look for them.
    fn tell_of_foreign(&self, inner: &mut Inner) {
        let foreign = &inner.view.foreign;
        let Some(first) = foreign.first().filter(|_| !std::mem::replace(&mut inner.has_told, !foreign.is_empty()))
        else {
            return;
        };
        tracing::warn!(
            "the control topic {} has {} records of kinds that this release does not know, the first is {}: another release \
             keeps something there; they stay as they are",
            self.topic,
            foreign.len(),
            first.escape_ascii(),
        );
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A thread that panicked left nothing half-done: the view is replaced as a whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn check_expected(view: &View, changes: &[Change]) -> Result<(), Error> {
    for change in changes {
        let found = view.revision(&change.key);
        let holds = match change.expected {
            Expected::Any => true,
            Expected::Absent => found.is_none(),
            Expected::At(revision) => found == Some(revision),
        };
        if !holds {
            return Err(Error::Conflict {
                doing: format!("write {}", change.key),
                found: match found {
                    Some(revision) => format!("it has changed meanwhile and is at revision {revision}"),
                    None => "it has been removed meanwhile".to_owned(),
                },
                remedy: "look at it as it is now and try again",
            });
        }
    }
    Ok(())
}

fn batch(topic: &str, changes: &[Change], write_id: &[u8]) -> PartitionBatch {
    let mut batch = PartitionBatch::new(topic, 0);
    for change in changes {
        let value = change.record.as_ref().map(Record::to_json);
        let header = [(WRITE_HEADER, Some(write_id))];
        batch.push_with_headers(-1, -1, Some(change.key.to_string().as_bytes()), value.as_deref(), header.into_iter());
    }
    batch
}

fn apply(inner: &mut Inner, topic: &str, batch: &PartitionBatch) -> Result<(), Error> {
    let mut records = BTreeMap::clone(&inner.view.records);
    for i in 0..batch.len() {
        let (bytes, value) = (batch.keys.bytes(i), batch.values.get(i));
        let Some(key) = std::str::from_utf8(bytes).ok().and_then(Key::parse) else {
            let foreign = Arc::make_mut(&mut inner.view.foreign);
            match value {
                Some(_) => foreign.insert(bytes.to_vec()),
                None => foreign.remove(bytes),
            };
            continue;
        };
        if let Some((_, Some(id))) = batch.headers.of(i).find(|(name, _)| *name == WRITE_HEADER) {
            inner.writes.insert(key.clone(), id.to_vec());
        }
        match value {
            Some(json) => {
                let record = Record::from_json(&key, json).map_err(|found| unreadable(topic, &key, found))?;
                records.insert(key, (batch.offsets[i], record));
            }
            None => drop(records.remove(&key)),
        }
    }
    inner.view.records = Arc::new(records);
    Ok(())
}

fn unreadable(topic: &str, key: &Key, found: Unreadable) -> Error {
    let (topic, key) = (topic.to_owned(), key.to_string());
    match found {
        Unreadable::Format(found) => Error::OtherFormat { topic, key, found, major: FORMAT.major },
        Unreadable::Damaged(found) => Error::Damaged { topic, key, found },
    }
}

#[cfg(test)]
mod tests;
