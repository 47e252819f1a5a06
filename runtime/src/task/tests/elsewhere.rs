//! Output to another cluster: at least once, whenever the task dies, and never missing once its epoch is committed.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::harness::{Bench, PARTITIONS, settle};
use crate::env::simulated::Dice;
use crate::error::Kind;
use crate::log::clusters::{Clusters, Connect};
use crate::log::sim::{Hardship, Simulated};
use crate::log::{Cleanup, Log, TopicSpec};
use crate::model::murmur2;
use crate::task::Error;
use crate::task::session::Session;

/// The bench's task, with its sink on a simulated cluster that is called `lake`.
fn bench(seed: u64, hardship: Hardship) -> (Bench, Simulated) {
    let mut bench = Bench::counting();
    let lake = Simulated::new(seed, hardship, bench.clock.clone(), false);
    let quiet = std::mem::take(&mut lake.cluster().hardship);
    let spec = TopicSpec { name: "counts".into(), partitions: 1, cleanup: Cleanup::Delete, max_record_bytes: 1 << 20 };
    let topic = lake.create_topic(&spec).unwrap();
    lake.cluster().hardship = quiet;
    bench.plan.sinks[0].cluster = Some("lake".into());
    bench.plan.sinks[0].topic = topic.into();
    let connected = lake.clone();
    let connect: Connect = Box::new(move || Ok(Arc::new(connected.clone())));
    bench.clusters = Clusters::new(bench.log.clone(), BTreeMap::from([("lake".to_owned(), connect)]));
    (bench, lake)
}

/// What has come out there, but for its watermark: that may be another when the same is computed again.
fn there(lake: &Simulated) -> Vec<String> {
    let committed = lake.cluster().committed("counts", 0, 0);
    let text = |value: &[u8]| String::from_utf8_lossy(value).split(' ').take(3).collect::<Vec<_>>().join(" ");
    committed.iter().map(|record| text(record.value.as_deref().unwrap_or_default())).collect()
}

/// The input of the test, and what it comes to.
#[derive(Default)]
struct Sent {
    /// Per partition the outputs of its records, in order.
    outputs: Vec<Vec<String>>,
    counts: BTreeMap<String, u64>,
}

impl Sent {
    fn send(&mut self, bench: &Bench, key: &str, at_ms: i64) {
        bench.send(key, "1", at_ms);
        let count = self.counts.entry(key.to_owned()).or_default();
        *count += 1;
        self.outputs.resize(PARTITIONS as usize, Vec::new());
        self.outputs[murmur2::partition(key.as_bytes(), PARTITIONS) as usize].push(format!("{key} v1 {count},{count}"));
    }

    /// Of the records that the last committed header calls done.
    fn done(&self, session: &Session<'_>) -> Vec<String> {
        let inputs = session.committer.head.header.inputs.iter();
        let done = inputs.flat_map(|input| &self.outputs[input.partition as usize][..input.next_offset.0 as usize]);
        done.cloned().collect()
    }
}

#[track_caller]
fn assert_complete(lake: &Simulated, expected: &[String]) {
    let found: HashSet<String> = there(lake).into_iter().collect();
    for output in expected {
        assert!(found.contains(output), "{output} is missing of {} that are done: {found:?}", expected.len());
    }
}

#[test]
fn output_elsewhere_is_never_missing_once_its_epoch_is_committed() {
    let (mut repeated, mut failed) = (0, 0);
    for seed in 0..20 {
        let mut dice = Dice::new(seed);
        let hardship = Hardship { lingers: 700, fails: 30, unanswered: 10, ..Hardship::default() };
        let (bench, lake) = bench(seed, hardship);
        let mut sent = Sent::default();
        for round in 0..15 {
            (0..dice.roll(20)).for_each(|i| sent.send(&bench, ["a", "b", "c"][dice.index(3)], 1_000 + i as i64));
            let context = bench.context();
            let mut session = match Session::recover(&context) {
                Ok(session) => session,
                Err(error) => {
                    assert_eq!(error.kind(), Kind::Retry, "seed {seed}, round {round}: {error}");
                    continue;
                }
            };
            for i in 0..dice.roll(12) {
                // Some of it is open when the session ends: only its first epoch ends with its first batch.
                sent.send(&bench, ["a", "b", "c"][dice.index(3)], 2_000 + i as i64);
                bench.clock.advance(Duration::from_millis(dice.roll(80)));
                if let Err(error) = session.step() {
                    assert_eq!(error.kind(), Kind::Retry, "seed {seed}, round {round}: {error}");
                    failed += 1;
                    break;
                }
                assert_complete(&lake, &sent.done(&session));
            }
            assert_complete(&lake, &sent.done(&session));
        }
        lake.cluster().hardship = Hardship::default();
        bench.run().unwrap();
        let all: Vec<String> = sent.outputs.concat();
        assert_complete(&lake, &all);
        let distinct: HashSet<String> = there(&lake).into_iter().collect();
        assert_eq!(distinct.len(), all.len(), "nothing but the job's output, each of it once or more");
        repeated += there(&lake).len() - distinct.len();
        assert!(bench.counts().is_empty(), "nothing of it is at home");
    }
    assert!(repeated > 0 && failed > 0, "{repeated} {failed}: the test met no hardship");
}

#[test]
fn an_epoch_waits_for_a_cluster_that_is_away_and_is_written_again() {
    let (bench, lake) = bench(1, Hardship { lingers: 1_000, ..Hardship::default() });
    let context = bench.context();
    let mut session = Session::recover(&context).unwrap();
    let epoch = session.committer.head.header.epoch;
    bench.send_all(&[("a", "1"), ("b", "2")]);
    lake.cluster().away = true;
    let error = settle(&mut session, &bench).unwrap_err();
    assert_eq!((error.kind(), session.committer.head.header.epoch), (Kind::Retry, epoch), "{error}");
    drop(session);
    assert!(there(&lake).is_empty());
    assert_eq!(bench.run().unwrap_err().kind(), Kind::Retry, "its topics cannot be looked at");
    lake.cluster().away = false;
    bench.run().unwrap();
    assert_eq!(there(&lake).len(), 2);
}

#[test]
fn a_topic_that_was_made_again_elsewhere_stops_the_task() {
    let (bench, lake) = bench(1, Hardship::default());
    let spec = lake.topic("counts").unwrap().spec;
    lake.delete_topic("counts").unwrap();
    lake.create_topic(&spec).unwrap();
    assert!(matches!(bench.run().unwrap_err(), Error::TopicChanged { .. }));
}

#[test]
fn a_cluster_that_no_sink_names_is_never_connected_to() {
    let mut bench = Bench::counting();
    let connect: Connect = Box::new(|| panic!("nobody asked for it"));
    bench.clusters = Clusters::new(bench.log.clone(), BTreeMap::from([("lake".to_owned(), connect)]));
    bench.send_all(&[("a", "1")]);
    bench.run().unwrap();
    assert_eq!(bench.counts().len(), 1);
}

#[test]
fn a_record_that_only_the_other_cluster_refuses_is_dead_lettered_alone() {
    let (bench, lake) = bench(1, Hardship { lingers: 1_000, ..Hardship::default() });
    lake.cluster().refuses = Some(("counts".to_owned(), b"b v1".to_vec()));
    bench.send_all(&[("a", "1"), ("b", "2"), ("c", "3")]);
    let context = bench.context();
    let refused = (0..20).find_map(|_| {
        let mut session = Session::recover(&context).unwrap();
        match settle(&mut session, &bench).map_err(|error| session.committer.after_refusal(error)) {
            Ok(()) => Some(()),
            Err(error) => {
                assert!(matches!(error, Error::Refused { .. }), "{error}");
                None
            }
        }
    });
    assert!(refused.is_some(), "it never got past the record");
    assert_complete(&lake, &["a v1 1,1".to_owned(), "c v1 1,3".to_owned()]);
    let letters = bench.dead_letters();
    assert_eq!(letters.iter().map(|(value, _)| value.as_str()).collect::<Vec<_>>(), ["2"]);
}
