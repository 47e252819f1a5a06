//! Tests of the embedded log: the conformance suite as it is and in the test mode, damage, compaction.

mod conform;
mod harsh;
mod kill;
mod trouble;

use std::path::Path;

use rocksdb::DB;
use tempfile::TempDir;

use super::*;
use crate::env::ManualClock;
use crate::log::{Assignment, Budget, CommitOutcome};

const PLENTY: Budget = Budget { max_records: 100_000, max_bytes: 1 << 30 };

fn open(dir: &Path) -> Arc<Embedded> {
    Embedded::open(dir, Settings::default()).unwrap()
}

fn spec(name: &str, partitions: u32, cleanup: Cleanup) -> TopicSpec {
    TopicSpec { name: name.to_owned(), partitions, cleanup, max_record_bytes: 2 << 20 }
}

fn one(topic: &str, partition: PartitionId, key: &str, value: Option<&str>) -> PartitionBatch {
    let mut batch = PartitionBatch::new(topic, partition);
    batch.push(-1, 5, Some(key.as_bytes()), value.map(str::as_bytes));
    batch
}

/// What a reader sees of a partition now: offset and value (a tombstone as `-`).
fn shown(log: &Embedded, topic: &str, partition: PartitionId) -> Vec<(i64, String)> {
    try_shown(log, topic, partition).unwrap()
}

fn try_shown(log: &Embedded, topic: &str, partition: PartitionId) -> Result<Vec<(i64, String)>, Error> {
    let (id, offset) = (log.topic(topic)?.id, log.start_offset(topic, partition)?);
    let mut reader = log.reader(Isolation::ReadCommitted)?;
    reader.assign(&[Assignment::new(topic, id, partition, offset)])?;
    let (mut batch, mut seen) = (PartitionBatch::default(), Vec::new());
    while reader.poll(PLENTY, Duration::ZERO, &mut batch)? {
        let text = |i| batch.values.get(i).map_or("-".into(), |v| String::from_utf8_lossy(v).into_owned());
        seen.extend((0..batch.len()).map(|i| (batch.offsets[i], text(i))));
    }
    Ok(seen)
}

#[test]
fn a_second_process_is_refused() {
    let dir = TempDir::new().unwrap();
    let _first = open(dir.path());
    let refused = Embedded::open(dir.path(), Settings::default()).map(drop).unwrap_err();
    assert_eq!(refused.kind(), crate::error::Kind::Retry);
    assert!(refused.to_string().contains(&dir.path().display().to_string()), "{refused}");
}

#[test]
fn the_producer_epoch_of_an_id_rises_across_restarts() {
    let dir = TempDir::new().unwrap();
    for expected in 1..4 {
        let log = open(dir.path());
        drop(log.writer("id").unwrap());
        let stored = log.shared.store().get(&keys::owner("id"), &String::new).unwrap().unwrap().to_vec();
        assert_eq!(keys::number_from_bytes(&stored), Ok(expected));
    }
}

/// Every entry of a small log in turn gets a flipped bit, at its start, in its middle and at its end.
#[test]
fn damaged_entries_are_named_and_never_a_panic() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    log.create_topic(&spec("t", 1, Cleanup::Delete)).unwrap();
    log.produce(&one("t", 0, "k", Some("v"))).unwrap();
    drop(log);
    let db = DB::open_default(dir.path()).unwrap();
    let entries: Vec<_> = db.iterator(rocksdb::IteratorMode::Start).map(Result::unwrap).collect();
    drop(db);
    assert_eq!(entries.len(), 5, "store, topic, bounds, index, batch");
    for (key, value) in entries {
        for place in [0, value.len() / 2, value.len() - 1] {
            let mut damaged = value.to_vec();
            damaged[place] ^= 0x10;
            let db = DB::open_default(dir.path()).unwrap();
            db.put(&key, &damaged).unwrap();
            drop(db);
            let read = Embedded::open(dir.path(), Settings::default()).and_then(|log| try_shown(&log, "t", 0));
            assert!(matches!(read, Err(Error::Corrupt { .. })), "{:?} at {place}: {read:?}", key[0] as char);
        }
        DB::open_default(dir.path()).unwrap().put(&key, &value).unwrap();
    }
    assert_eq!(shown(&open(dir.path()), "t", 0), [(0, "v".to_owned())]);
}

#[test]
fn a_store_of_a_newer_version_is_refused() {
    let dir = TempDir::new().unwrap();
    drop(open(dir.path()));
    let newer = keys::number_to_bytes(u64::from(keys::STORE_VERSION) + 1);
    DB::open_default(dir.path()).unwrap().put(keys::STORE, newer).unwrap();
    let refused = Embedded::open(dir.path(), Settings::default()).map(drop).unwrap_err();
    assert!(refused.to_string().contains("format"), "{refused}");
}

#[test]
fn deletion_leaves_nothing_in_the_store() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    log.create_topic(&spec("kept", 1, Cleanup::Delete)).unwrap();
    log.produce(&one("kept", 0, "k", Some("v"))).unwrap();
    log.create_topic(&spec("gone", 4, Cleanup::Delete)).unwrap();
    for partition in 0..4 {
        log.produce(&one("gone", partition, "k", Some("v"))).unwrap();
    }
    log.delete_topic("gone").unwrap();
    drop(log);
    let db = DB::open_default(dir.path()).unwrap();
    assert_eq!(db.iterator(rocksdb::IteratorMode::Start).count(), 5, "store, and what `kept` has");
}

#[test]
fn a_commit_into_a_topic_that_was_deleted_meanwhile_surely_did_not_happen() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    log.create_topic(&spec("kept", 1, Cleanup::Delete)).unwrap();
    log.create_topic(&spec("gone", 1, Cleanup::Delete)).unwrap();
    let mut writer = log.writer("id").unwrap();
    writer.begin().unwrap();
    writer.append(&one("kept", 0, "k", Some("never"))).unwrap();
    writer.append(&one("gone", 0, "k", Some("never"))).unwrap();
    log.delete_topic("gone").unwrap();
    assert!(matches!(writer.commit(), Err(Error::UnknownTopic(name)) if name == "gone"));
    writer.begin().unwrap();
    writer.append(&one("kept", 0, "k", Some("next"))).unwrap();
    assert!(matches!(writer.commit().unwrap(), CommitOutcome::Committed));
    assert_eq!(shown(&log, "kept", 0), [(2, "next".to_owned())]);
}

#[test]
fn a_tombstone_goes_when_its_grace_is_over() {
    let dir = TempDir::new().unwrap();
    let clock = Arc::new(ManualClock::default());
    let settings = Settings { clock: clock.clone(), tombstone_grace: Duration::from_secs(60), ..Settings::default() };
    let log = Embedded::open(dir.path(), settings).unwrap();
    log.create_topic(&spec("t", 1, Cleanup::Compact)).unwrap();
    for (key, value) in [("a", Some("1")), ("b", Some("2")), ("a", None)] {
        log.produce(&one("t", 0, key, value)).unwrap();
    }
    let compact = |seconds| {
        clock.advance(Duration::from_secs(seconds));
        log.compact("t").unwrap();
        shown(&log, "t", 0)
    };
    assert_eq!(compact(1_000), [(1, "2".to_owned()), (2, "-".to_owned())]);
    assert_eq!(compact(59), [(1, "2".to_owned()), (2, "-".to_owned())]);
    assert_eq!(compact(1), [(1, "2".to_owned())]);
}

#[test]
fn a_compacted_topic_is_compacted_when_enough_has_gathered() {
    let dir = TempDir::new().unwrap();
    let log = Embedded::open(dir.path(), Settings { compact_after_bytes: 10_000, ..Settings::default() }).unwrap();
    log.create_topic(&spec("t", 1, Cleanup::Compact)).unwrap();
    for i in 0..1_000 {
        log.produce(&one("t", 0, "key", Some(&i.to_string()))).unwrap();
    }
    // Joins the thread, so that what was asked for has been done.
    let shared = log.shared.clone();
    drop(log);
    let store = shared.store();
    let left = store.scan(shared.topics.get("t").unwrap().place(0), 0, 1_000).unwrap();
    let (_, first) = left.current().unwrap().unwrap();
    assert_eq!(first.records, 1, "nothing was merged");
    assert!(shared.topics.get("t").unwrap().clean_bytes.load(Ordering::Relaxed) > 0);
}

#[test]
fn compacting_a_topic_that_keeps_everything_is_refused() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    log.create_topic(&spec("t", 1, Cleanup::Delete)).unwrap();
    assert!(matches!(log.compact("t"), Err(Error::InvalidTopic { .. })));
}

#[test]
fn records_larger_than_a_stored_batch_are_stored_alone() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path());
    log.create_topic(&spec("t", 1, Cleanup::Delete)).unwrap();
    let large = "x".repeat(batch::FULL.max_bytes + 5);
    let mut writer = log.writer("id").unwrap();
    writer.begin().unwrap();
    for value in ["a", &large, &large, "b"] {
        writer.append(&one("t", 0, "k", Some(value))).unwrap();
    }
    assert!(matches!(writer.commit().unwrap(), CommitOutcome::Committed));
    let lengths: Vec<_> = shown(&log, "t", 0).iter().map(|(offset, value)| (*offset, value.len())).collect();
    assert_eq!(lengths, [(0, 1), (1, large.len()), (2, large.len()), (3, 1)]);
}
