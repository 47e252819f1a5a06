//! The bytes of modules, kept where the jobs are kept: in a topic of the home log. A server that has lost its disk gets
//! them from there, and nobody has to push them again.
//!
//! Owns the modules topic and the one transactional id that writes it; the registry's directory is a cache in front of
//! it. Bytes are committed here before any record names them. Reads the topic only when the cache lacks a module, and
//! remembers where each module begins. The records are `registry::chunks`. Read [`ModuleLog::put`] first, then
//! [`ModuleLog::get`].

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::Error;
use crate::env::failpoint;
use crate::error::Kind;
use crate::log::read::{Goes, read_to};
use crate::log::{self, Cleanup, CommitOutcome, Isolation, Log, TopicSpec};
use crate::model::names::Namespace;
use crate::model::{Digest, PartitionBatch};
use crate::registry::ModuleStore;
use crate::registry::chunks::{self, Assembly, ChunkRecord};

/// Room for one chunk, its key and the overhead of a record.
const MAX_RECORD_BYTES: u32 = 1 << 20;
/// Tries of one write: another server may take the transactional id over at the same moment.
const ATTEMPTS: u32 = 5;

pub struct ModuleLog {
    log: Arc<dyn Log>,
    topic: String,
    transactional_id: String,
    cache: ModuleStore,
    /// Held while the topic is read or written; what the cache has is given out without it.
    known: Mutex<Known>,
}

/// The topic as far as this server has read it.
#[derive(Default)]
struct Known {
    /// The next offset to read; `None` before the first reading, which begins at the topic's start.
    next: Option<i64>,
    /// Where the first chunk of each module stands.
    firsts: BTreeMap<Digest, i64>,
    assembly: Assembly,
    /// Where the module that is being put together began.
    begun: i64,
    /// The log has been told once that the topic holds keys of another kind, which another release must have written.
    has_told: bool,
}

/// The result of [`ModuleLog::put`].
pub struct Kept {
    pub digest: Digest,
    /// They were in the topic already.
    pub existed: bool,
}

impl ModuleLog {
    /// Creates the topic where there is none. Reads nothing of it.
    pub fn open(log: Arc<dyn Log>, namespace: &Namespace, cache: ModuleStore) -> Result<Self, Error> {
        let spec = TopicSpec {
            name: namespace.modules_topic(),
            partitions: 1,
            cleanup: Cleanup::Compact,
            max_record_bytes: MAX_RECORD_BYTES,
        };
        log.ensure_internal(&spec)?;
        let (topic, transactional_id) = (spec.name, namespace.modules_transactional_id());
        Ok(Self { log, topic, transactional_id, cache, known: Mutex::default() })
    }

    /// Commits the bytes to the topic, unless it has them. Then the cache is filled; a disk that cannot take them is no
    /// reason to refuse the module.
    pub fn put(&self, module: &[u8]) -> Result<Kept, Error> {
        let digest = Digest::of(module);
        let mut known = self.lock();
        self.read_on(&mut known)?;
        let existed = known.firsts.contains_key(&digest);
        if !existed {
            self.commit(&mut known, digest, module)?;
        }
        failpoint("module-committed");
        self.fill_cache(module);
        Ok(Kept { digest, existed })
    }

    /// The bytes with this digest, whole, from the cache or from the topic.
    ///
    /// # Errors
    /// [`Error::NoBytes`] where neither has them: waiting helps once somebody has pushed the module again.
    pub fn get(&self, digest: Digest) -> Result<Vec<u8>, Error> {
        let why = match self.cache.get(digest) {
            Ok(module) => return Ok(module),
            Err(why) => why,
        };
        let mut known = self.lock();
        self.read_on(&mut known)?;
        // `read_on` has put modules that were new in the topic into the cache.
        if let Ok(module) = self.cache.get(digest) {
            return Ok(module);
        }
        let fetched = match known.firsts.get(&digest) {
            Some(&first) => self.fetch(&known, digest, first)?,
            None => None,
        };
        match fetched {
            Some(module) => {
                tracing::info!(module = %digest.short(), "module is fetched from topic {}: {why}", self.topic);
                self.fill_cache(&module);
                Ok(module)
            }
            // The file may be readable in a moment: report that, and do not ask a person to push the module again.
            None if why.kind() == Kind::Retry => Err(why.into()),
            None => Err(Error::NoBytes { digest, topic: self.topic.clone(), found: why.to_string() }),
        }
    }

    /// One epoch with all chunks: nobody ever sees a part of a module.
    fn commit(&self, known: &mut Known, digest: Digest, module: &[u8]) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            match self.attempt(digest, module) {
                Ok(CommitOutcome::Committed) => {}
                // Taking the transactional id over settles the commit; the topic then says whether it happened.
                Ok(CommitOutcome::Indefinite(error)) => {
                    tracing::warn!(module = %digest.short(), "nobody knows whether the module was written: {error}");
                    drop(self.log.writer(&self.transactional_id)?);
                }
                Err(log::Error::Fenced { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            self.read_on(known)?;
            if known.firsts.contains_key(&digest) {
                return Ok(());
            }
        }
        Err(Error::Contended { topic: self.topic.clone(), attempts: ATTEMPTS })
    }

    fn attempt(&self, digest: Digest, module: &[u8]) -> Result<CommitOutcome, log::Error> {
        let mut writer = self.log.writer(&self.transactional_id)?;
        writer.begin()?;
        let mut batch = PartitionBatch::new(&self.topic, 0);
        for ChunkRecord { key, value } in chunks::records(digest, module) {
            batch.clear();
            batch.push(-1, -1, Some(&key), Some(&value));
            writer.append(&batch)?;
        }
        writer.commit()
    }

    /// Reads what has been added to the topic since the last reading, and puts modules that the cache lacks into it.
    fn read_on(&self, known: &mut Known) -> Result<(), Error> {
        let start = self.log.start_offset(&self.topic, 0)?;
        let end = self.log.end_offset(&self.topic, 0, Isolation::ReadUncommitted)?;
        let from = known.next.unwrap_or(start).max(start);
        let mut at = from;
        let read = read_to(self.log.as_ref(), (&self.topic, 0), from, end, |batch| {
            for i in 0..batch.len() {
                at = batch.offsets[i] + 1;
                if let Some((digest, module)) = self.take(known, batch, i) {
                    known.firsts.insert(digest, known.begun);
                    if !self.cache.has(digest) {
                        self.fill_cache(&module);
                    }
                }
            }
            Ok::<_, Error>(Goes::On)
        });
        // Also after an error: the next reading goes on behind the last record that was taken.
        known.next = Some(*read.as_ref().unwrap_or(&at));
        read.map(drop)
    }

    /// Takes one record, and returns the module that it completes. A damaged record is left out: its module then counts
    /// as missing, and pushing it again mends that.
    fn take(&self, known: &mut Known, batch: &PartitionBatch, i: usize) -> Option<(Digest, Vec<u8>)> {
        let offset = batch.offsets[i];
        // Removed.
        let value = batch.values.get(i)?;
        if !chunks::is_chunk(batch.keys.bytes(i)) {
            if !std::mem::replace(&mut known.has_told, true) {
                let key = batch.keys.bytes(i).escape_ascii();
                tracing::warn!("topic {} holds {key}, which is no part of a module: it is left as it is", self.topic);
            }
            return None;
        }
        let added = chunks::read(batch.keys.bytes(i), value).and_then(|chunk| {
            if chunk.index == 0 {
                known.begun = offset;
            }
            known.assembly.add(&chunk)
        });
        added.unwrap_or_else(|found| {
            tracing::error!(
                "read topic {} at offset {offset}: {found}; its module counts as not there until it is pushed again",
                self.topic
            );
            known.assembly.forget();
            None
        })
    }

    /// Reads one module whose first chunk is known to stand at `first`.
    fn fetch(&self, known: &Known, digest: Digest, first: i64) -> Result<Option<Vec<u8>>, Error> {
        let Some(end) = known.next else { return Ok(None) };
        let (mut reading, mut found) = (Known::default(), None);
        let start = self.log.start_offset(&self.topic, 0)?;
        read_to(self.log.as_ref(), (&self.topic, 0), first.max(start), end, |batch| {
            for i in 0..batch.len() {
                found = self.take(&mut reading, batch, i).filter(|(of, _)| *of == digest).map(|(_, module)| module);
                if found.is_some() {
                    return Ok(Goes::Enough);
                }
            }
            Ok::<_, Error>(Goes::On)
        })?;
        Ok(found)
    }

    fn fill_cache(&self, module: &[u8]) {
        if let Err(error) = self.cache.put(module) {
            tracing::warn!("keep a module on this disk as well: {error}; it is read from topic {}", self.topic);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // A thread that panicked left nothing half-done: the map is whole, and a module with missing chunks is read
        // again.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::fakes;
    use super::*;

    fn open(log: &Arc<dyn Log>, disk: &Path) -> ModuleLog {
        let cache = ModuleStore::open(disk).unwrap();
        ModuleLog::open(Arc::clone(log), &Namespace::default(), cache).unwrap()
    }

    fn module(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 7 % 253) as u8).collect()
    }

    #[test]
    fn a_server_on_a_fresh_disk_has_the_modules_that_were_pushed_before() {
        let (dir, log) = fakes::log();
        let modules = [module(3), module(2 * chunks::CHUNK_BYTES + 9)];
        let digests = modules.each_ref().map(|bytes| {
            let kept = open(&log, &dir.path().join("lost")).put(bytes).unwrap();
            assert!(!kept.existed);
            kept.digest
        });
        let fresh = open(&log, &dir.path().join("fresh"));
        for (digest, bytes) in digests.iter().zip(&modules) {
            assert_eq!(fresh.get(*digest).unwrap(), *bytes);
            assert_eq!(fresh.cache.get(*digest).unwrap(), *bytes, "it is not read from the topic each time");
        }
        assert!(fresh.put(&modules[0]).unwrap().existed);
    }

    #[test]
    fn files_that_are_damaged_or_gone_are_fetched_again() {
        let (dir, log) = fakes::log();
        let disk = dir.path().join("disk");
        let modules = open(&log, &disk);
        let bytes = module(100);
        let digest = modules.put(&bytes).unwrap().digest;
        let file = std::fs::read_dir(&disk).unwrap().next().unwrap().unwrap().path();
        std::fs::write(&file, b"rot").unwrap();
        assert_eq!(modules.get(digest).unwrap(), bytes);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(modules.get(digest).unwrap(), bytes);
        // One that cannot be read at all is no trouble where the topic has it.
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert_eq!(modules.get(digest).unwrap(), bytes);
    }

    #[test]
    fn bytes_that_nobody_has_are_waited_for_and_found_once_another_server_has_pushed_them() {
        let (dir, log) = fakes::log();
        let (waits, pushes) = (open(&log, &dir.path().join("a")), open(&log, &dir.path().join("b")));
        let bytes = module(100);
        let missing = waits.get(Digest::of(&bytes)).unwrap_err();
        assert_eq!(missing.kind(), Kind::Retry);
        assert!(missing.to_string().contains("push the module again"), "{missing}");
        assert!(!pushes.put(&bytes).unwrap().existed);
        assert_eq!(waits.get(Digest::of(&bytes)).unwrap(), bytes);
    }

    #[test]
    fn a_damaged_record_hides_its_module_only_until_it_is_pushed_again() {
        let (dir, log) = fakes::log();
        let (bytes, other) = (module(100), module(200));
        let lost = open(&log, &dir.path().join("a"));
        let digest = lost.put(&bytes).unwrap().digest;
        let mut damaged = PartitionBatch::new("__forebay.modules", 0);
        let record = chunks::records(digest, &bytes).next().unwrap();
        damaged.push(-1, -1, Some(&record.key), Some(b"rot"));
        log.produce(&damaged).unwrap();
        lost.put(&other).unwrap();
        let fresh = open(&log, &dir.path().join("b"));
        assert_eq!(fresh.get(Digest::of(&other)).unwrap(), other);
        assert_eq!(fresh.get(digest).unwrap(), bytes, "the whole one before it is still there");
    }

    #[test]
    fn a_record_of_another_kind_amid_the_chunks_is_left_alone() {
        let (dir, log) = fakes::log();
        drop(open(&log, &dir.path().join("a")));
        let bytes = module(2 * chunks::CHUNK_BYTES);
        let digest = Digest::of(&bytes);
        let mut batch = PartitionBatch::new("__forebay.modules", 0);
        for record in chunks::records(digest, &bytes) {
            batch.push(-1, -1, Some(&record.key), Some(&record.value));
            batch.push(-1, -1, Some(b"signature/7"), Some(b"of another release"));
        }
        log.produce(&batch).unwrap();
        assert_eq!(open(&log, &dir.path().join("b")).get(digest).unwrap(), bytes);
    }

    /// Whatever a commit's fate is: when `put` has answered, the topic has the module, once and whole.
    #[test]
    fn a_module_is_there_whatever_became_of_the_commits() {
        use crate::log::embedded::{Embedded, Harsh, Settings, Show};
        for seed in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            let harsh = Some(Harsh { seed, indefinite_per_mille: 400, show: Show::ByChance });
            let log: Arc<dyn Log> =
                Embedded::open(&dir.path().join("log"), Settings { harsh, ..Settings::default() }).unwrap();
            let server = open(&log, &dir.path().join("a"));
            let all: Vec<_> = (1..6).map(|i| module(i * chunks::CHUNK_BYTES / 2)).collect();
            // Where five commits in a row were in doubt and did not happen it says so, and is asked again.
            all.iter().for_each(|bytes| while server.put(bytes).is_err() {});
            let fresh = open(&log, &dir.path().join("b"));
            all.iter().for_each(|bytes| assert_eq!(fresh.get(Digest::of(bytes)).unwrap(), *bytes, "seed {seed}"));
        }
    }
}
