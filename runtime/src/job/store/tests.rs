use super::super::fakes;
use super::super::record::{Desired, FORMAT, ModuleId};
use super::super::unknown::Unknown;
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
        unknown: Unknown::default(),
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

/// Puts a record into the control topic as another release would.
fn write(log: &Arc<dyn Log>, key: &str, value: Option<&str>) {
    let mut batch = PartitionBatch::new(CONTROL, 0);
    batch.push(-1, -1, Some(key.as_bytes()), value.map(str::as_bytes));
    log.produce(&batch).unwrap();
}

/// The newest value of a key, as it stands in the topic.
fn newest(log: &Arc<dyn Log>, key: &str) -> Option<String> {
    let mut newest = None;
    let end = log.end_offset(CONTROL, 0, Isolation::ReadCommitted).unwrap();
    read_to(log.as_ref(), (CONTROL, 0), log.start_offset(CONTROL, 0).unwrap(), end, |batch| {
        for i in (0..batch.len()).filter(|i| batch.keys.bytes(*i) == key.as_bytes()) {
            newest = batch.values.get(i).map(|value| String::from_utf8(value.to_vec()).unwrap());
        }
        Ok::<_, Error>(Goes::On)
    })
    .unwrap();
    newest
}

/// A job as a later release of the same major format may have written it.
fn later_job() -> serde_json::Value {
    let mut job: serde_json::Value = serde_json::from_slice(include_bytes!("golden/job-v2.json")).unwrap();
    job["format"] = "2.7".into();
    job["tenant"] = "blue".into();
    job["modules"]["count"]["signed_by"] = "ada".into();
    job["sources"]["in"]["stage"] = serde_json::json!({"name": "main"});
    job["spec"]["operators"][0]["retries"] = 3.into();
    job["spec"]["sources"][0]["event_time"]["leap"] = "smear".into();
    job
}

#[test]
fn a_record_of_a_later_minor_format_keeps_what_this_program_does_not_know_when_it_is_changed() {
    let (_dir, log) = fakes::log();
    drop(Store::open(Arc::clone(&log), &Namespace::default()).unwrap());
    write(&log, "job/counts", Some(&later_job().to_string()));
    let store = Store::open(Arc::clone(&log), &Namespace::default()).unwrap();
    let view = store.view();
    let (revision, job) = view.job("counts").unwrap();
    let stopped = JobRecord { desired: Desired::Stopped, ..job.clone() };
    store.commit(&[Change::put(Record::Job(Box::new(stopped)), Expected::At(revision))]).unwrap();
    let mut expected = later_job();
    expected["desired"] = "stopped".into();
    let written: serde_json::Value = serde_json::from_str(&newest(&log, "job/counts").unwrap()).unwrap();
    assert_eq!(written, expected);
}

#[test]
fn what_takes_the_place_of_a_module_or_a_spec_does_not_inherit_its_unknown_fields() {
    let key = Key::Job { name: "counts".to_owned() };
    let Ok(Record::Job(job)) = Record::from_json(&key, later_job().to_string().as_bytes()) else { panic!("a job") };
    let json = |job: JobRecord| -> serde_json::Value {
        serde_json::from_slice(&Record::Job(Box::new(job)).to_json()).unwrap()
    };
    let mut swapped = JobRecord::clone(&job);
    let module = ModuleId { version: "2.0.0".to_owned(), ..job.modules["count"].clone() };
    swapped.put_module("count", &module);
    let swapped = json(swapped);
    assert_eq!(swapped["modules"]["count"].get("signed_by"), None);
    let operator = &swapped["spec"]["operators"][0];
    assert_eq!((&operator["module"], &operator["retries"]), (&"counter@2.0.0".into(), &3.into()));
    let mut applied = JobRecord::clone(&job);
    applied.put_spec(job.spec.clone());
    let applied = json(applied);
    assert_eq!(applied["spec"]["operators"][0].get("retries"), None);
    assert_eq!((&applied["tenant"], &applied["format"]), (&"blue".into(), &"2.7".into()));
}

#[test]
fn records_of_unknown_kinds_stay_as_they_are_and_are_counted() {
    let (_dir, log) = fakes::log();
    drop(Store::open(Arc::clone(&log), &Namespace::default()).unwrap());
    let foreign = ["tenant/blue", "job/blue/counts", "module/a", "swap/7", "\u{7f}"];
    for key in foreign {
        write(&log, key, Some("neither format nor JSON"));
    }
    let store = Store::open(Arc::clone(&log), &Namespace::default()).unwrap();
    assert_eq!(store.view().foreign(), 5);
    store.commit(&[Change::put(module("1", b"a"), Expected::Absent)]).unwrap();
    for key in foreign {
        assert_eq!(newest(&log, key).as_deref(), Some("neither format nor JSON"), "{key}");
    }
    write(&log, "tenant/blue", None);
    let view = store.commit(&[Change::put(module("2", b"b"), Expected::Absent)]).unwrap();
    assert_eq!((view.foreign(), view.modules().count()), (4, 2));
}

#[test]
fn a_record_of_another_major_format_is_refused_with_its_name_and_the_way_on() {
    for (value, found) in [(r#"{"format": "3.0"}"#, "format 3.0"), (r#"{"format": 1}"#, "format 1")] {
        let (_dir, log) = fakes::log();
        drop(Store::open(Arc::clone(&log), &Namespace::default()).unwrap());
        write(&log, "job/a", Some(value));
        let error = Store::open(log, &Namespace::default()).err().unwrap();
        assert_eq!(error.kind(), crate::error::Kind::Corrupt);
        let error = error.to_string();
        for part in
            ["job/a", CONTROL, found, "reads 2.0 and every 2.x", "start a release that reads it", "to come back"]
        {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}

#[test]
fn a_record_that_is_damaged_is_refused_with_its_name_and_the_place() {
    let (_dir, log) = fakes::log();
    drop(Store::open(Arc::clone(&log), &Namespace::default()).unwrap());
    let mut job = later_job();
    job["desired"] = "paused".into();
    write(&log, "job/counts", Some(&job.to_string()));
    let error = Store::open(log, &Namespace::default()).err().unwrap().to_string();
    assert!(error.contains("job/counts") && error.contains("desired: unknown variant `paused`"), "{error}");
}
