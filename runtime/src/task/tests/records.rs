//! What a record keeps on its way through a task: its own key beside that of the operator, and its neighbours' time.

use std::sync::Arc;

use super::guests::Counter;
use super::harness::Bench;
use crate::codec::{Decode, EventTimeRule, FieldPath, KeyRule, SourceCodec};
use crate::log::{Cleanup, Log, TopicSpec};
use crate::model::{Blobs, Digest, PartitionBatch};
use crate::operator::ModuleRef;
use crate::task::plan::*;
use crate::wasm::contract::*;

/// Passes every record on; `stating` writes their keys down, as an SDK does once one of a call has a key of its own.
struct Pass {
    stating: bool,
    description: Arc<Description>,
}

impl Pass {
    fn module(keyed: bool, stating: bool) -> ModuleRef {
        let description = Arc::new(Description {
            name: "pass".into(),
            version: "1".into(),
            keyed,
            inputs: vec!["in".into()],
            outputs: vec!["out".into()],
            ..Description::default()
        });
        let digest = Digest::of(format!("pass {keyed} {stating}").as_bytes());
        let factory = Arc::new(Self { stating, description });
        ModuleRef { name: "pass".into(), version: "1".into(), digest, factory, parameters: vec![] }
    }
}

impl GuestFactory for Pass {
    fn description(&self) -> &Arc<Description> {
        &self.description
    }
    fn instantiate(&self, _: &Context) -> Result<Box<dyn Guest>, GuestError> {
        Ok(Box::new(Self { stating: self.stating, description: Arc::clone(&self.description) }))
    }
}

impl Guest for Pass {
    fn process(&mut self, _: Moment, batch: &RecordCall) -> Result<Answer, GuestError> {
        let of_slot = |i: usize| batch.slots.get(i).and_then(|slot| batch.keyed.keys.get(*slot as usize));
        let key = |i: usize| batch.record_keys.as_ref().map_or_else(|| of_slot(i), |keys| keys.get(i));
        let keys = self.stating.then(|| (0..batch.values.len()).map(key).collect());
        let origins = (0..batch.values.len() as u32).collect();
        Ok(Answer { emitted: Emitted { origins, keys, ..Emitted::default() }, ..Answer::default() })
    }
    fn on_timer(&mut self, _: Moment, _: &TimerCall) -> Result<Answer, GuestError> {
        Ok(Answer::default())
    }
    fn migrate(&mut self, migration: &Migration) -> Result<Blobs, GuestError> {
        Ok(migration.values.clone())
    }
}

fn by_field(name: &str) -> SourceCodec {
    let key = KeyRule::Field(FieldPath::parse(name).unwrap());
    SourceCodec { decode: Decode::Json, key, max_ahead: None, ..SourceCodec::default() }
}

/// Two records of key `own` and none of their own, both of field `b`.
fn send(bench: &Bench) {
    let mut batch = PartitionBatch::new("numbers", 0);
    for (key, at) in [(Some(&b"own"[..]), 1_000), (None, 1_001)] {
        batch.push(-1, at, key, Some(br#"{"k":"b"}"#));
    }
    bench.log.produce(&batch).unwrap();
}

fn keys(bench: &Bench, topic: &str) -> Vec<Option<String>> {
    let key = |key: Option<&[u8]>| key.map(|key| String::from_utf8(key.to_vec()).unwrap());
    bench.batches(topic).iter().flat_map(|batch| batch.keys.iter().map(key).collect::<Vec<_>>()).collect()
}

#[test]
fn a_sink_straight_from_a_source_gets_the_records_own_keys() {
    let none = SourceCodec { decode: Decode::Bytes, key: KeyRule::None, max_ahead: None, ..SourceCodec::default() };
    for codec in [none, by_field("k")] {
        let mut bench = Bench::counting();
        bench.plan.operators.clear();
        bench.plan.sinks[0].from = Origin::Source(0);
        bench.plan.sources[0].keyed = false;
        bench.plan.sources[0].codec = codec;
        bench.deploy_again();
        send(&bench);
        bench.run().unwrap();
        assert_eq!(keys(&bench, "counts"), [Some("own".to_owned()), None]);
    }
}

#[test]
fn an_operator_that_says_no_key_leaves_the_records_own() {
    for keyed in [true, false] {
        for stating in [true, false] {
            let mut bench = Bench::new(&[("pass", Pass::module(keyed, stating))]);
            bench.plan.sources[0].codec = by_field("k");
            send(&bench);
            bench.run().unwrap();
            assert_eq!(keys(&bench, "counts"), [Some("own".to_owned()), None], "{keyed} {stating}");
        }
    }
}

#[test]
fn what_is_passed_on_reaches_a_keyed_operator_under_the_key_of_its_source() {
    for keyed in [true, false] {
        for stating in [true, false] {
            let bench = Bench::new(&[("pass", Pass::module(keyed, stating)), ("count", Counter::module(1))]);
            let mut bench = bench;
            bench.plan.sources[0].codec = by_field("k");
            send(&bench);
            bench.run().unwrap();
            let counts: Vec<_> =
                bench.counts().iter().map(|line| line.split(" w=").next().unwrap().to_owned()).collect();
            assert_eq!(counts, ["b v1 1,0", "b v1 2,0"], "{keyed} {stating}");
        }
    }
}

#[test]
fn a_record_that_is_a_year_ahead_leaves_alone_and_takes_no_time_with_it() {
    let mut bench = Bench::counting();
    bench.plan.sources[0].codec = SourceCodec { decode: Decode::Bytes, ..SourceCodec::default() };
    assert_eq!(bench.plan.sources[0].codec.event_time, EventTimeRule::RecordTimestamp);
    let year_ms = 365 * 86_400_000;
    bench.send("a", "1", 1_000);
    bench.send("a", "2", year_ms);
    bench.run().unwrap();
    bench.send("a", "3", 1_002);
    let status = bench.run().unwrap();
    assert_eq!((status.late, status.watermark < 1_003 * 1_000_000), (0, true));
    assert_eq!(bench.counts().len(), 2);
    let (value, headers) = bench.dead_letters().remove(0);
    assert_eq!((value.as_str(), headers["forebay.code"].as_str()), ("2", "time-out-of-range"));
}

#[test]
fn a_dead_letter_topic_that_changed_since_the_plan_does_not_stop_the_task() {
    for (cleanup, max_record_bytes) in [(Cleanup::Compact, 1 << 20), (Cleanup::Delete, 300), (Cleanup::Compact, 300)] {
        let mut bench = Bench::counting();
        let spec = TopicSpec { name: "letters".into(), partitions: 1, cleanup, max_record_bytes };
        let topic = TopicRef::from(bench.log.create_topic(&spec).unwrap());
        let rules = bench.plan.dead_letters.rules;
        bench.plan.dead_letters = TopicRef { rules, ..topic };
        let mut batch = PartitionBatch::new("numbers", 0);
        batch.push(-1, 1_000, None, Some(b"without a key"));
        bench.log.produce(&batch).unwrap();
        bench.send_all(&[("a", "1"), ("a", "trap"), ("a", "2")]);
        let status = bench.run().unwrap();
        assert_eq!((bench.counts().len(), status.dead_letters), (2, 2));
        assert_eq!(status.bad_records, [("missing-key".to_owned(), 1), ("trap".to_owned(), 1)].into());
        assert_eq!(bench.read("letters").len(), 2, "{cleanup:?} {max_record_bytes}");
    }
}

#[test]
fn a_cause_with_a_policy_of_its_own_is_skipped_where_others_are_kept() {
    let mut bench = Bench::counting();
    bench.plan.bad_records.by_code.insert("asked".to_owned(), BadRecordPolicy::Skip);
    bench.send_all(&[("a", "refuse"), ("a", "trap"), ("a", "1")]);
    let status = bench.run().unwrap();
    assert_eq!((status.dead_letters, status.skipped, bench.counts().len()), (1, 1, 1));
    assert_eq!(bench.dead_letters()[0].0, "trap");
}
