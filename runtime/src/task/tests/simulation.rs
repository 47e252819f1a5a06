//! A task under everything that may befall it, decided by one seed: deaths between any two steps, lost
//! stores, commits whose outcome nobody knows, poison, swaps. Judged by a plain computation.
//!
//! `FOREBAY_SEED=n` runs one seed again; `FOREBAY_SEEDS=n` runs so many.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::guests::Counter;
use super::harness::Bench;
use crate::error::Kind;
use crate::log::embedded::Embedded;
use crate::log::*;
use crate::model::{NextOffset, PartitionBatch, PartitionId, Uid};
use crate::state::TaskState;
use crate::task::session::Session;

const KEYS: [&str; 6] = ["a", "b", "c", "d", "f", "g"];

/// The log with commits of unknown outcome: some happened, some did not, and the writer is spent.
struct Unsure {
    log: Arc<Embedded>,
    dice: Arc<Mutex<StdRng>>,
}

struct UnsureWriter {
    writer: Box<dyn Writer>,
    dice: Arc<Mutex<StdRng>>,
    spent: bool,
}

impl Writer for UnsureWriter {
    fn begin(&mut self) -> Result<(), Error> {
        assert!(!self.spent, "a writer was used again after a commit of unknown outcome");
        self.writer.begin()
    }

    fn append(&mut self, records: &PartitionBatch) -> Result<(), Error> {
        self.writer.append(records)
    }

    fn commit(&mut self) -> Result<CommitOutcome, Error> {
        let fate = self.dice.lock().unwrap().random_range(0..20);
        let lost = || CommitOutcome::Indefinite(Error::Storage { doing: "commit".into(), found: "no answer".into() });
        self.spent = fate < 2;
        match fate {
            0 => self.writer.commit().map(|_| lost()),
            1 => self.writer.abort().map(|()| lost()),
            _ => self.writer.commit(),
        }
    }

    fn abort(&mut self) -> Result<(), Error> {
        self.writer.abort()
    }

    fn first_offset(&self, topic: &str, partition: PartitionId) -> Option<i64> {
        self.writer.first_offset(topic, partition)
    }
}

impl Log for Unsure {
    fn create_topic(&self, spec: &TopicSpec) -> Result<TopicInfo, Error> {
        self.log.create_topic(spec)
    }
    fn delete_topic(&self, name: &str) -> Result<(), Error> {
        self.log.delete_topic(name)
    }
    fn topic(&self, name: &str) -> Result<TopicInfo, Error> {
        self.log.topic(name)
    }
    fn topics(&self) -> Result<Vec<TopicInfo>, Error> {
        self.log.topics()
    }
    fn start_offset(&self, topic: &str, partition: PartitionId) -> Result<i64, Error> {
        self.log.start_offset(topic, partition)
    }
    fn end_offset(&self, topic: &str, partition: PartitionId, isolation: Isolation) -> Result<i64, Error> {
        self.log.end_offset(topic, partition, isolation)
    }
    fn offset_for_timestamp(&self, topic: &str, partition: PartitionId, timestamp_ms: i64) -> Result<i64, Error> {
        self.log.offset_for_timestamp(topic, partition, timestamp_ms)
    }
    fn delete_records(&self, topic: &str, partition: PartitionId, offset: i64) -> Result<(), Error> {
        self.log.delete_records(topic, partition, offset)
    }
    fn reader(&self, isolation: Isolation) -> Result<Box<dyn Reader>, Error> {
        self.log.reader(isolation)
    }
    fn writer(&self, transactional_id: &str) -> Result<Box<dyn Writer>, Error> {
        let (writer, dice) = (self.log.writer(transactional_id)?, Arc::clone(&self.dice));
        Ok(Box::new(UnsureWriter { writer, dice, spent: false }))
    }
    fn produce(&self, records: &PartitionBatch) -> Result<i64, Error> {
        self.log.produce(records)
    }
    fn mirror(&self, group: &str, positions: &[GroupPosition]) -> Result<(), Error> {
        self.log.mirror(group, positions)
    }
    fn group_positions(&self, group: &str, topic: &str) -> Result<Vec<Option<NextOffset>>, Error> {
        self.log.group_positions(group, topic)
    }
}

/// Records sent so far, per key and in order.
type Sent = BTreeMap<&'static str, Vec<String>>;

#[test]
fn nothing_is_lost_and_nothing_counts_twice_whatever_happens() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let seeds = match number("FOREBAY_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("FOREBAY_SEEDS").unwrap_or(25),
    };
    for seed in seeds {
        println!("seed {seed}");
        simulate(seed);
    }
}

fn simulate(seed: u64) {
    let dice = Arc::new(Mutex::new(StdRng::seed_from_u64(seed)));
    let roll = |sides: u32| dice.lock().unwrap().random_range(0..sides);
    let mut bench = Bench::counting();
    for version in [1, 2] {
        let module = Counter::module(version);
        bench.modules.insert(module.digest, module);
    }
    bench.plan.settings.poll_max_records = 1 + roll(20) as usize;
    bench.plan.settings.batch_max_records = 1 + roll(7) as usize;
    let mut sent = Sent::new();
    let mut time = 1_000;
    for _ in 0..12 {
        for _ in 0..roll(30) {
            time += i64::from(roll(3));
            send(&bench, &mut sent, KEYS[roll(6) as usize], &value(roll(12), time), time);
        }
        if roll(8) == 0 {
            TaskState::wipe(&bench.plan.state_dir).unwrap();
        }
        live(&bench, &dice, roll(40));
    }
    while !live(&bench, &dice, 10_000) {}
    judge(&bench, &sent, seed);
}

fn value(kind: u32, time: i64) -> String {
    match kind {
        0 => "trap".to_owned(),
        1 => "refuse".to_owned(),
        2 => format!("timer:{}", (time + 2) * 1_000_000),
        number => number.to_string(),
    }
}

fn send(bench: &Bench, sent: &mut Sent, key: &'static str, value: &str, time: i64) {
    bench.send(key, value, time);
    sent.entry(key).or_default().push(value.to_owned());
}

/// One life of the task, at most so many steps long. True where it died a natural death, with nothing
/// left to do.
fn live(bench: &Bench, dice: &Arc<Mutex<StdRng>>, steps: u32) -> bool {
    let mut around = bench.around();
    around.log = Arc::new(Unsure { log: Arc::clone(&bench.log), dice: Arc::clone(dice) });
    let roll = |sides: u32| dice.lock().unwrap().random_range(0..sides);
    let lived = Session::recover(&around, false).and_then(|mut session| {
        for _ in 0..steps {
            session.step()?;
            if session.is_caught_up() {
                bench.clock.advance(Duration::from_secs(1));
                session.step()?;
                return Ok(session.is_caught_up());
            }
            match roll(12) {
                0 => bench.clock.advance(Duration::from_millis(60)),
                1 => swap(&mut session, 1 + roll(2))?,
                _ => {}
            }
        }
        Ok(false)
    });
    lived.unwrap_or_else(|error| {
        assert_eq!(error.kind(), Kind::Retry, "{error}");
        false
    })
}

fn swap(session: &mut Session<'_>, version: u32) -> Result<(), crate::task::Error> {
    let id = Uid::random();
    let (reply, answer) = mpsc::channel();
    session.prepare_swap(id, 0, Counter::module(version), reply);
    if answer.recv().unwrap().is_ok() {
        session.switch_swap(id, &mpsc::channel().0)?;
    }
    Ok(())
}

/// Every good record once and in order per key, every bad one in a dead letter, every timer once.
fn judge(bench: &Bench, sent: &Sent, seed: u64) {
    let lines = bench.counts();
    let mut letters = BTreeMap::<String, Vec<String>>::new();
    for (value, _) in bench.dead_letters() {
        letters.entry(value).or_default().push(String::new());
    }
    for (key, values) in sent {
        let (mut count, mut sum) = (0, 0);
        let good: Vec<_> = values.iter().filter(|value| !matches!(value.as_str(), "trap" | "refuse")).collect();
        let expected: Vec<_> = good
            .iter()
            .map(|value| {
                count += 1;
                sum += value.parse::<i64>().unwrap_or(0);
                (count, sum)
            })
            .collect();
        let mine = lines.iter().filter(|line| line.starts_with(key));
        let (ticks, records): (Vec<_>, Vec<_>) = mine.partition(|line| line.contains(" tick@"));
        let found: Vec<(i64, i64)> = records
            .iter()
            .map(|line| {
                let mut numbers = line.split(' ').nth(2).unwrap().split(',').map(|n| n.parse().unwrap());
                (numbers.next().unwrap(), numbers.next().unwrap())
            })
            .collect();
        assert_eq!(found, expected, "key {key}, seed {seed}");
        let mut fired: Vec<_> = ticks.iter().map(|line| line.split([' ', '@']).nth(2).unwrap()).collect();
        let all = fired.len();
        fired.sort_unstable();
        fired.dedup();
        assert_eq!(fired.len(), all, "a timer of {key} fired twice, seed {seed}");
    }
    let bad = |kind: &str| sent.values().flatten().filter(|value| *value == kind).count();
    for kind in ["trap", "refuse"] {
        assert_eq!(letters.get(kind).map_or(0, Vec::len), bad(kind), "{kind}, seed {seed}");
    }
}
