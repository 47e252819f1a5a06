use super::super::fakes;
use super::super::record::{FORMAT, ModuleId};
use super::*;
use crate::model::Digest;
use crate::model::names::Namespace;
use crate::wasm::contract::Description;

const CONTROL: &str = "__forebay.control";

fn module(version: &str, bytes: &[u8]) -> Record {
    Record::Module(Box::new(ModuleRecord {
        format: FORMAT,
        id: ModuleId { name: "m".into(), version: version.into(), digest: Digest::of(bytes) },
        size_bytes: 3,
        pushed_at_ms: 1,
        description: Description::default(),
    }))
}

#[test]
fn what_was_committed_is_in_the_answer_and_there_after_a_reopening() {
    let (_dir, log) = fakes::log();
    let store = Store::open(Arc::clone(&log), &Namespace::default()).unwrap();
    let view = store.commit(&[Change::put(module("1", b"a"), Expected::Absent)]).unwrap();
    assert_eq!(view.module("m", "1").unwrap().id.digest, Digest::of(b"a"));
    drop(store);
    let again = Store::open(log, &Namespace::default()).unwrap();
    assert_eq!(again.view().modules().count(), 1);
}

#[test]
fn a_change_made_for_another_revision_is_a_conflict_and_writes_nothing() {
    let (_dir, log) = fakes::log();
    let store = Store::open(log, &Namespace::default()).unwrap();
    let view = store.commit(&[Change::put(module("1", b"a"), Expected::Absent)]).unwrap();
    let revision = view.revision(&module("1", b"a").key()).unwrap();
    let changes =
        [Change::put(module("2", b"b"), Expected::Absent), Change::put(module("1", b"c"), Expected::At(revision + 1))];
    assert_eq!(store.commit(&changes).unwrap_err().kind(), crate::error::Kind::Conflict);
    assert!(store.view().module("m", "2").is_none());
    store.commit(&[Change::put(module("1", b"c"), Expected::At(revision))]).unwrap();
}

#[test]
fn a_server_that_was_fenced_reads_what_the_other_wrote_and_tries_again() {
    let (_dir, log) = fakes::log();
    let first = Store::open(Arc::clone(&log), &Namespace::default()).unwrap();
    let second = Store::open(log, &Namespace::default()).unwrap();
    second.commit(&[Change::put(module("1", b"a"), Expected::Absent)]).unwrap();
    let view = first.commit(&[Change::put(module("2", b"b"), Expected::Absent)]).unwrap();
    assert_eq!(view.modules().count(), 2);
    let refused = second.commit(&[Change::put(module("2", b"x"), Expected::Absent)]).unwrap_err();
    assert_eq!(refused.kind(), crate::error::Kind::Conflict);
}

#[test]
fn a_removed_record_is_gone() {
    let (_dir, log) = fakes::log();
    let store = Store::open(log, &Namespace::default()).unwrap();
    store.commit(&[Change::put(module("1", b"a"), Expected::Absent)]).unwrap();
    let view = store.commit(&[Change::remove(module("1", b"a").key())]).unwrap();
    assert_eq!(view.modules().count(), 0);
}

#[test]
fn a_control_topic_that_was_deleted_is_named_as_the_reason_of_a_write_that_fails() {
    let (_dir, log) = fakes::log();
    let store = Store::open(Arc::clone(&log), &Namespace::default()).unwrap();
    store.commit(&[Change::put(module("1", b"a"), Expected::Absent)]).unwrap();
    log.delete_topic(CONTROL).unwrap();
    let error = store.commit(&[Change::put(module("2", b"b"), Expected::Absent)]).err().unwrap();
    assert!(matches!(error, Error::ControlGone { .. }), "{error}");
    assert_eq!(store.view().modules().count(), 1, "what is known stays known");
}

#[test]
fn records_of_another_format_or_kind_are_refused_by_name() {
    let (_dir, log) = fakes::log();
    drop(Store::open(Arc::clone(&log), &Namespace::default()).unwrap());
    let mut batch = PartitionBatch::new(CONTROL, 0);
    batch.push(-1, -1, Some(b"job/a"), Some(br#"{"format": 99}"#));
    log.produce(&batch).unwrap();
    let error = Store::open(log, &Namespace::default()).err().unwrap().to_string();
    assert!(error.contains("job/a") && error.contains("format 99"), "{error}");
}

/// The bytes of every kind of record: a change of format shows here, and needs a new `FORMAT`.
#[test]
fn records_are_written_as_the_golden_file_has_them() {
    let swap = Record::from_json(
        &Key::parse("swap/00000000000000000000000000000001").unwrap(),
        include_bytes!("golden/swap.json"),
    );
    let job = Record::from_json(&Key::parse("job/counts").unwrap(), include_bytes!("golden/job.json"));
    let module = Record::from_json(&Key::parse("module/counter/1.0.0").unwrap(), include_bytes!("golden/module.json"));
    for (record, golden) in [
        (swap, &include_bytes!("golden/swap.json")[..]),
        (job, include_bytes!("golden/job.json")),
        (module, include_bytes!("golden/module.json")),
    ] {
        let written: serde_json::Value = serde_json::from_slice(&record.unwrap().to_json()).unwrap();
        let golden: serde_json::Value = serde_json::from_slice(golden).unwrap();
        assert_eq!(written, golden);
    }
}
