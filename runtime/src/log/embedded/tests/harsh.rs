//! Tests of the test mode itself: it must be as bad as it claims, and no worse.

use std::collections::HashSet;

use tempfile::TempDir;

use super::*;

fn open(dir: &Path, seed: u64, indefinite_per_mille: u32, show: Show) -> Arc<Embedded> {
    let harsh = Some(Harsh { seed, indefinite_per_mille, show });
    Embedded::open(dir, Settings { harsh, ..Settings::default() }).unwrap()
}

fn stable_ends(log: &Embedded) -> [i64; 2] {
    [0, 1].map(|partition| log.end_offset("t", partition, Isolation::ReadCommitted).unwrap())
}

#[test]
fn a_commit_is_shown_partition_by_partition() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 1, 0, Show::ByHand);
    log.create_topic(&spec("t", 2, Cleanup::Delete)).unwrap();
    let mut writer = log.writer("id").unwrap();
    writer.begin().unwrap();
    (0..2).for_each(|partition| writer.append(&one("t", partition, "k", Some("v"))).unwrap());
    assert!(matches!(writer.commit().unwrap(), CommitOutcome::Committed));
    assert_eq!(log.end_offset("t", 0, Isolation::ReadUncommitted).unwrap(), 2);
    assert_eq!(stable_ends(&log), [0, 0]);
    assert!(log.show_next());
    assert!(matches!(stable_ends(&log), [2, 0] | [0, 2]));
    let seen = [0, 1].map(|partition| shown(&log, "t", partition).len());
    assert!(matches!(seen, [1, 0] | [0, 1]), "{seen:?}");
    assert!(log.show_next());
    assert_eq!(stable_ends(&log), [2, 2]);
    assert!(!log.show_next());
}

#[test]
fn commits_to_one_partition_are_shown_in_their_order() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 3, 0, Show::ByHand);
    log.create_topic(&spec("t", 2, Cleanup::Delete)).unwrap();
    for value in ["a", "b", "c"] {
        log.produce(&one("t", 0, "k", Some(value))).unwrap();
    }
    for expected in 1..=3 {
        assert_eq!(stable_ends(&log), [expected - 1, 0]);
        assert!(log.show_next());
        assert_eq!(stable_ends(&log), [expected, 0]);
    }
}

#[test]
fn a_takeover_waits_for_what_its_id_committed_and_for_nothing_else() {
    let dir = TempDir::new().unwrap();
    let log = open(dir.path(), 1, 0, Show::ByHand);
    log.create_topic(&spec("t", 2, Cleanup::Delete)).unwrap();
    for (id, partition) in [("mine", 0), ("other", 1)] {
        let mut writer = log.writer(id).unwrap();
        writer.begin().unwrap();
        writer.append(&one("t", partition, "k", Some("v"))).unwrap();
        assert!(matches!(writer.commit().unwrap(), CommitOutcome::Committed));
    }
    let _mine = log.writer("mine").unwrap();
    assert_eq!(stable_ends(&log), [2, 0]);
}

#[test]
fn after_an_indefinite_commit_the_writer_is_spent_and_the_log_knows() {
    let mut fates = HashSet::new();
    for seed in 0..40 {
        let dir = TempDir::new().unwrap();
        let log = open(dir.path(), seed, 1_000, Show::ByChance);
        log.create_topic(&spec("t", 1, Cleanup::Delete)).unwrap();
        let mut writer = log.writer("id").unwrap();
        writer.begin().unwrap();
        writer.append(&one("t", 0, "k", Some("v"))).unwrap();
        assert!(matches!(writer.commit().unwrap(), CommitOutcome::Indefinite(_)));
        assert!(writer.begin().is_err());
        let before = log.end_offset("t", 0, Isolation::ReadUncommitted).unwrap();
        let _next = log.writer("id").unwrap();
        let happened = shown(&log, "t", 0).len();
        // Nothing may change any more once the takeover has returned.
        assert_eq!(log.end_offset("t", 0, Isolation::ReadCommitted).unwrap(), 2);
        assert_eq!(shown(&log, "t", 0).len(), happened);
        fates.insert((before, happened));
    }
    // Done before the takeover; completed by it; dropped.
    assert_eq!(fates, HashSet::from([(2, 1), (0, 1), (0, 0)]));
}

/// The recovery that every task does, in small: whatever the seed, each value is there once, in order.
#[test]
fn taking_over_and_reading_gives_exactly_once_under_any_seed() {
    for seed in 0..60 {
        let dir = TempDir::new().unwrap();
        let log = open(dir.path(), seed, 400, Show::ByChance);
        log.create_topic(&spec("t", 2, Cleanup::Delete)).unwrap();
        let mut writer = log.writer("id").unwrap();
        let mut next = 0;
        while next < 12 {
            writer.begin().unwrap();
            for partition in 0..2 {
                writer.append(&one("t", partition, "k", Some(&next.to_string()))).unwrap();
            }
            match writer.commit().unwrap() {
                CommitOutcome::Committed => next += 1,
                CommitOutcome::Indefinite(_) => {
                    writer = log.writer("id").unwrap();
                    let seen = [0, 1].map(|partition| shown(&log, "t", partition).len());
                    assert_eq!(seen[0], seen[1], "a torn epoch, seed {seed}");
                    next = seen[0];
                }
            }
        }
        drop(log.writer("id").unwrap());
        for partition in 0..2 {
            let values: Vec<_> = shown(&log, "t", partition).into_iter().map(|(_, value)| value).collect();
            assert_eq!(values, (0..12).map(|i| i.to_string()).collect::<Vec<_>>(), "seed {seed}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_fate() {
    let run = || {
        let dir = TempDir::new().unwrap();
        let log = open(dir.path(), 99, 500, Show::ByChance);
        log.create_topic(&spec("t", 1, Cleanup::Delete)).unwrap();
        (0..30)
            .map(|_| {
                let mut writer = log.writer("id").unwrap();
                writer.begin().unwrap();
                writer.append(&one("t", 0, "k", Some("v"))).unwrap();
                let sure = matches!(writer.commit().unwrap(), CommitOutcome::Committed);
                (sure, stable_of(&log))
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

fn stable_of(log: &Embedded) -> i64 {
    log.end_offset("t", 0, Isolation::ReadCommitted).unwrap()
}
