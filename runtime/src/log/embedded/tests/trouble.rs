//! Writes that fail: what the log says meanwhile, and that it goes on by itself with what is on the disk.

use super::super::store::Sick;
use super::*;

fn open_with_clock(dir: &Path) -> (Arc<Embedded>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    let log = Embedded::open(dir, Settings { clock: clock.clone(), ..Settings::default() }).unwrap();
    (log, clock)
}

fn fail_next(log: &Embedded, sick: Sick) {
    log.shared.store().sick.lock().unwrap().push_back(sick);
}

fn set_room(log: &Embedded, is_there: bool) {
    log.shared.store().no_room.store(!is_there, Ordering::SeqCst);
}

fn commit(log: &Embedded, value: &str) -> CommitOutcome {
    let mut writer = log.writer("id").unwrap();
    writer.begin().unwrap();
    writer.append(&one("t", 0, "k", Some(value))).unwrap();
    writer.commit().unwrap()
}

fn values(log: &Embedded) -> Vec<String> {
    shown(log, "t", 0).into_iter().map(|(_, value)| value).collect()
}

#[test]
fn after_a_commit_that_failed_the_log_goes_on_with_what_is_on_the_disk() {
    for (sick, found) in [(Sick::Lost, vec!["1", "3"]), (Sick::Written, vec!["1", "2", "3"])] {
        let dir = TempDir::new().unwrap();
        let (log, _clock) = open_with_clock(dir.path());
        log.create_topic(&spec("t", 1, Cleanup::Delete)).unwrap();
        assert!(matches!(commit(&log, "1"), CommitOutcome::Committed));
        let mut writer = log.writer("id").unwrap();
        writer.begin().unwrap();
        writer.append(&one("t", 0, "k", Some("2"))).unwrap();
        fail_next(&log, sick);
        assert!(matches!(writer.commit().unwrap(), CommitOutcome::Indefinite(_)));
        assert!(writer.begin().is_err(), "nobody knows what happened: the writer is spent");
        assert!(matches!(commit(&log, "3"), CommitOutcome::Committed), "{sick:?}");
        assert_eq!(values(&log), found, "{sick:?}");
        drop((writer, log));
        assert_eq!(values(&open(dir.path())), found, "{sick:?}: the next process sees the same");
    }
}

#[test]
fn while_the_disk_is_full_the_log_is_read_and_says_why_it_takes_nothing_until_there_is_room() {
    let dir = TempDir::new().unwrap();
    let (log, clock) = open_with_clock(dir.path());
    log.create_topic(&spec("t", 1, Cleanup::Delete)).unwrap();
    assert!(matches!(commit(&log, "1"), CommitOutcome::Committed));
    fail_next(&log, Sick::Lost);
    set_room(&log, false);
    log.produce(&one("t", 0, "k", Some("2"))).unwrap_err();
    for _ in 0..3 {
        let trouble = log.writer("id").map(drop).unwrap_err();
        assert_eq!(trouble.kind(), Kind::Retry);
        assert!(trouble.to_string().contains("bytes free"), "{trouble}");
        assert_eq!(values(&log), ["1"], "what is there is read on");
        clock.advance(Duration::from_secs(2));
    }
    set_room(&log, true);
    clock.advance(Duration::from_secs(2));
    log.produce(&one("t", 0, "k", Some("3"))).unwrap();
    assert_eq!(values(&log), ["1", "3"]);
}

#[test]
fn opening_again_is_not_tried_at_every_write() {
    let dir = TempDir::new().unwrap();
    let (log, clock) = open_with_clock(dir.path());
    log.create_topic(&spec("t", 1, Cleanup::Delete)).unwrap();
    fail_next(&log, Sick::Lost);
    set_room(&log, false);
    log.produce(&one("t", 0, "k", Some("1"))).unwrap_err();
    log.produce(&one("t", 0, "k", Some("1"))).unwrap_err();
    set_room(&log, true);
    let early = log.produce(&one("t", 0, "k", Some("1"))).unwrap_err();
    assert!(early.to_string().contains("bytes free"), "{early}");
    clock.advance(Duration::from_secs(1));
    log.produce(&one("t", 0, "k", Some("1"))).unwrap();
}

#[test]
fn topics_whose_making_or_deletion_failed_are_as_the_disk_has_them() {
    let dir = TempDir::new().unwrap();
    let (log, _clock) = open_with_clock(dir.path());
    for name in ["stays", "goes"] {
        log.create_topic(&spec(name, 1, Cleanup::Delete)).unwrap();
    }
    let (mut reader, id) = (log.reader(Isolation::ReadCommitted).unwrap(), log.topic("goes").unwrap().id);
    reader.assign(&[Assignment::new("goes", id, 0, 0)]).unwrap();
    fail_next(&log, Sick::Written);
    log.delete_topic("goes").unwrap_err();
    drop(log.writer("id").unwrap());
    assert!(reader.poll(PLENTY, Duration::ZERO, &mut PartitionBatch::default()).is_err());
    for (name, sick) in [("made", Sick::Written), ("never", Sick::Lost)] {
        fail_next(&log, sick);
        log.create_topic(&spec(name, 1, Cleanup::Delete)).unwrap_err();
        drop(log.writer("id").unwrap());
    }
    fail_next(&log, Sick::Lost);
    log.delete_topic("stays").unwrap_err();
    drop(log.writer("id").unwrap());
    let names = |log: &Embedded| log.topics().unwrap().into_iter().map(|topic| topic.spec.name).collect::<Vec<_>>();
    assert_eq!(names(&log), ["made", "stays"]);
    drop((reader, log));
    assert_eq!(names(&open(dir.path())), ["made", "stays"]);
}

#[test]
fn a_log_that_has_lost_what_it_took_is_not_gone_on_with() {
    let dir = TempDir::new().unwrap();
    let (log, clock) = open_with_clock(dir.path());
    log.create_topic(&spec("t", 1, Cleanup::Delete)).unwrap();
    log.produce(&one("t", 0, "k", Some("1"))).unwrap();
    // As if a second record had been acknowledged that the disk does not have.
    log.shared.topics.get("t").unwrap().partition(0).unwrap().end.store(2, Ordering::Release);
    fail_next(&log, Sick::Lost);
    log.produce(&one("t", 0, "k", Some("3"))).unwrap_err();
    for _ in 0..2 {
        let lost = log.produce(&one("t", 0, "k", Some("3"))).unwrap_err();
        assert!(lost.to_string().contains("restart this process"), "{lost}");
        clock.advance(Duration::from_secs(60));
    }
}
