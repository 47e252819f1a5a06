//! A correct log passes; every way to be wrong is found in a log that was right before.

use serde_json::{Value, json};

use super::{Judge, Kind, Settings, Verdict};
use crate::input::{Guest, Inputs};
use crate::model::{Bug, Laid, Source, Spec, lay, run};
use crate::produce::plan::Plan;
use crate::random::Random;
use crate::record::{Record, partition_of};

/// An input, what a job made of it, and what the judge is told of the job.
pub(super) struct World {
    pub inputs: Inputs,
    pub laid: Laid,
    pub settings: Settings,
    partitions: i32,
}

pub(super) fn spec(seed: u64) -> Spec {
    Spec {
        topic: "in".to_owned(),
        guest: Guest::Checked,
        parallelism: 2,
        out_of_orderness_ms: 20,
        tick_every_ms: 100,
        batch: 12,
        batches: 4,
        kills_per_mille: 200,
        reset_behind: None,
        seed,
        bug: None,
    }
}

/// Two producers at once, the second a little behind, so that some records are late.
pub(super) fn logs(seed: u64, records: u64, partitions: i32) -> Vec<Vec<Source>> {
    let plan = |producer: &str, start_ms| Plan {
        producer: producer.to_owned(),
        seed,
        keys: 15,
        key_bytes: 0,
        payload_bytes: 0,
        poison_per_mille: 100,
        start_ms,
        step_us: 5_000,
    };
    let plans = [plan("p1", 1_000_000), plan("p2", 999_990)];
    let mut random = Random::of(seed, "interleave", 0);
    let mut logs: Vec<Vec<Source>> = vec![Vec::new(); partitions as usize];
    let mut sent = [0, 0];
    while sent.iter().sum::<u64>() < records {
        let producer = random.below(2) as usize;
        let planned = plans[producer].record(sent[producer], partitions);
        sent[producer] += 1;
        let log = &mut logs[planned.partition as usize];
        // Offsets of an input are not dense either.
        let offset = log.last().map_or(0, |last| last.offset + 1 + random.below(2) as i64);
        log.push(Source { offset, planned });
    }
    logs
}

pub(super) fn world(spec: &Spec, records: u64, partitions: i32) -> World {
    let logs = logs(spec.seed, records, partitions);
    let mut inputs = Inputs::new(&spec.topic, partitions, spec.guest);
    for source in logs.iter().flatten().cloned() {
        let Source { offset, planned } = source;
        let headers = planned.headers.into_iter().map(|(name, value)| (name, Some(value))).collect();
        let (partition, timestamp_ms, key, value) =
            (planned.partition, planned.timestamp_ms, planned.key, planned.value);
        inputs.add(Record { partition, offset, timestamp_ms, key, value, headers }).unwrap();
    }
    inputs.check_senders().unwrap();
    let settings = Settings {
        out_of_orderness_ms: spec.out_of_orderness_ms,
        tick_every_ms: spec.tick_every_ms,
        parallelism: Some(spec.parallelism),
        idle: false,
        time_resets: u32::from(spec.reset_behind.is_some()),
    };
    World { inputs, laid: lay(&run(spec, &logs)), settings, partitions }
}

impl World {
    pub fn judge(&self) -> Verdict {
        let mut judge = Judge::new(&self.inputs, self.settings.clone(), self.partitions);
        self.laid.outputs.iter().for_each(|record| judge.output(record));
        self.laid.letters.iter().for_each(|record| judge.letter(record));
        judge.finish()
    }
}

fn value(record: &Record) -> Value {
    serde_json::from_slice(record.value.as_deref().unwrap()).unwrap()
}

fn change(record: &mut Record, field: &str, to: Value) {
    let mut fields = value(record);
    fields[field] = to;
    record.value = Some(fields.to_string().into_bytes());
}

/// Puts a record behind another one of the same partition.
fn insert(outputs: &mut Vec<Record>, at: usize, record: Record) {
    outputs.insert(at, record);
}

/// Makes a correct log wrong in one way, at random; false where the log has no place for it.
pub(super) fn mutate(kind: Kind, world: &mut World, random: &mut Random) -> bool {
    let World { inputs, laid: Laid { outputs, letters, .. }, settings, partitions } = world;
    let is_tick = |record: &Record| value(record).get("tick").is_some();
    let counts: Vec<usize> = (0..outputs.len()).filter(|at| !is_tick(&outputs[*at])).collect();
    let ticks: Vec<usize> = (0..outputs.len()).filter(|at| is_tick(&outputs[*at])).collect();
    let mut pick = |from: &[usize]| from.get(random.below(from.len() as u64) as usize).copied();
    let later = |outputs: &[Record], at: usize, is: &dyn Fn(&Record) -> bool| {
        (at + 1..outputs.len()).find(|other| outputs[*other].partition == outputs[at].partition && is(&outputs[*other]))
    };
    let all_letters: Vec<usize> = (0..letters.len()).collect();
    let Some(at) = pick(&counts) else { return false };
    match kind {
        Kind::Lost => drop(outputs.remove(at)),
        Kind::Doubled => insert(outputs, at + 1, outputs[at].clone()),
        Kind::Foreign => {
            let mut foreign = outputs[at].clone();
            change(&mut foreign, "offset", json!(1_000_000));
            insert(outputs, at + 1, foreign);
        }
        Kind::NotRefused => {
            let Some(letter) = pick(&all_letters) else { return false };
            let offset: i64 = letters[letter].header("forebay.offset").unwrap().parse().unwrap();
            let partition: i64 = letters[letter].header("forebay.partition").unwrap().parse().unwrap();
            let mut output = outputs[at].clone();
            change(&mut output, "offset", json!(offset));
            change(&mut output, "partition", json!(partition));
            insert(outputs, at + 1, output);
        }
        Kind::WrongKey => {
            let key = value(&outputs[at])["key"].clone();
            let Some(other) = counts.iter().find(|other| value(&outputs[**other])["key"] != key) else { return false };
            let other = value(&outputs[*other])["key"].clone();
            change(&mut outputs[at], "key", other);
        }
        Kind::WrongPartition if *partitions == 1 => return false,
        Kind::WrongPartition => outputs[at].partition = (outputs[at].partition + 1) % *partitions,
        Kind::OutOfOrder => {
            let key = outputs[at].key.clone();
            let Some(other) = later(outputs, at, &|record| record.key == key && !is_tick(record)) else { return false };
            let first = outputs[at].value.clone();
            outputs[at].value = outputs[other].value.clone();
            outputs[other].value = first;
        }
        Kind::WrongCount => {
            let count = value(&outputs[at])["count"].as_u64().unwrap();
            change(&mut outputs[at], "count", json!(count + 1));
        }
        Kind::WrongSum => {
            let sum = value(&outputs[at])["sum"].as_i64().unwrap();
            change(&mut outputs[at], "sum", json!(sum - 1));
        }
        Kind::Unreadable => outputs[at].value = Some(b"{\"key\":\"k\"".to_vec()),
        Kind::LetterLost
        | Kind::LetterDoubled
        | Kind::LetterForeign
        | Kind::LetterWrongCode
        | Kind::LetterWrongBytes => {
            let Some(at) = pick(&all_letters) else { return false };
            match kind {
                Kind::LetterLost => drop(letters.remove(at)),
                Kind::LetterDoubled => letters.push(letters[at].clone()),
                Kind::LetterForeign => {
                    let mut foreign = letters[at].clone();
                    foreign.headers[3].1 = Some(b"1000000".to_vec());
                    letters.push(foreign);
                }
                Kind::LetterWrongCode => letters[at].headers[4].1 = Some(b"deadline".to_vec()),
                _ => letters[at].value = Some(b"something else".to_vec()),
            }
        }
        Kind::WatermarkBack => {
            let Some(next) = later(outputs, at, &|_| true) else { return false };
            let Some(before) = value(&outputs[at])["watermark"].as_i64().filter(|before| *before > i64::MIN) else {
                return false;
            };
            change(&mut outputs[next], "watermark", json!(before - 1));
        }
        Kind::WatermarkAhead => {
            let time = outputs[at].timestamp_ms * 1_000_000;
            change(&mut outputs[at], "watermark", json!(time + 1_000_000_000_000));
        }
        Kind::TimerLost => {
            let Some(at) = pick(&ticks) else { return false };
            outputs.remove(at);
        }
        Kind::TimerDoubled => {
            let Some(at) = pick(&ticks) else { return false };
            insert(outputs, at + 1, outputs[at].clone());
        }
        Kind::TimerUnset => {
            let Some(at) = pick(&ticks) else { return false };
            let mut unset = outputs[at].clone();
            let time = value(&unset)["tick"].as_i64().unwrap();
            change(&mut unset, "tick", json!(time + 1));
            insert(outputs, at + 1, unset);
        }
        Kind::TimerEarly => {
            // Its time is behind all of the input.
            let Some(last) = counts.iter().rev().find(|at| later(outputs, **at, &|_| true).is_none()) else {
                return false;
            };
            let last = outputs[*last].clone();
            let mut tick = last.clone();
            let every = settings.tick_every_ms;
            let time = (last.timestamp_ms.div_euclid(every) + 1) * every;
            let fields = value(&last);
            let fields = json!({"key": fields["key"], "tick": time * 1_000_000, "count": fields["count"],
                "sum": fields["sum"], "watermark": fields["watermark"]});
            tick.value = Some(fields.to_string().into_bytes());
            if inputs.partitions[last.partition as usize].newest_ms - settings.out_of_orderness_ms > time {
                return false;
            }
            outputs.push(tick);
        }
        Kind::TimerOvertaken => {
            let Some(at) = pick(&ticks) else { return false };
            let (time, saw) = (value(&outputs[at])["tick"].as_i64(), value(&outputs[at])["watermark"].as_i64());
            // Under one watermark nobody can tell one batch from the next.
            let passed = |record: &Record| {
                let watermark = value(record)["watermark"].as_i64();
                !is_tick(record) && watermark >= time && watermark > saw
            };
            let Some(passing) = later(outputs, at, &passed) else { return false };
            let tick = outputs.remove(at);
            insert(outputs, passing, tick);
        }
        Kind::TimerOutOfOrder => {
            let next_tick = |at: usize| later(outputs, at, &|_| true).filter(|next| is_tick(&outputs[*next]));
            let time = |at: usize| value(&outputs[at])["tick"].as_i64();
            let pairs: Vec<_> = ticks.iter().filter_map(|at| Some((*at, next_tick(*at)?))).collect();
            let pairs: Vec<_> = pairs.into_iter().filter(|(a, b)| time(*a) != time(*b)).collect();
            let Some((a, b)) = pairs.get(random.below(pairs.len() as u64) as usize).copied() else { return false };
            outputs.swap(a, b);
        }
        Kind::TimerWrongState => {
            let Some(at) = pick(&ticks) else { return false };
            change(&mut outputs[at], "count", json!(0));
        }
        Kind::NothingAborted | Kind::ThirdOpinion => return false,
    }
    true
}

pub(super) const MUTATIONS: [Kind; 24] = [
    Kind::Lost,
    Kind::Doubled,
    Kind::Foreign,
    Kind::NotRefused,
    Kind::WrongKey,
    Kind::WrongPartition,
    Kind::OutOfOrder,
    Kind::WrongCount,
    Kind::WrongSum,
    Kind::Unreadable,
    Kind::LetterLost,
    Kind::LetterDoubled,
    Kind::LetterForeign,
    Kind::LetterWrongCode,
    Kind::LetterWrongBytes,
    Kind::WatermarkBack,
    Kind::WatermarkAhead,
    Kind::TimerLost,
    Kind::TimerDoubled,
    Kind::TimerUnset,
    Kind::TimerEarly,
    Kind::TimerOvertaken,
    Kind::TimerOutOfOrder,
    Kind::TimerWrongState,
];

#[test]
fn a_correct_job_that_is_killed_passes_and_the_test_is_not_vacuous() {
    let world = world(&spec(1), 2_000, 4);
    let verdict = world.judge();
    assert!(verdict.is_good(), "{verdict:#?}");
    assert!(world.laid.aborted > 100, "{} aborted", world.laid.aborted);
    assert!(verdict.ticks > 200 && verdict.dead_letters > 100, "{verdict:?}");
    assert_eq!(verdict.outputs - verdict.ticks + verdict.dead_letters, 2_000);
}

#[test]
fn every_way_to_be_wrong_is_found_in_a_log_that_was_right() {
    let mut random = Random::new(3);
    for kind in MUTATIONS {
        let mut found = 0;
        for seed in 0..5 {
            let mut world = world(&spec(seed), 600, 4);
            if mutate(kind, &mut world, &mut random) {
                let verdict = world.judge();
                assert!(verdict.count(kind) > 0, "{kind:?}, seed {seed}: {verdict:#?}");
                assert!(!verdict.findings[&kind].told.is_empty());
                found += 1;
            }
        }
        assert!(found > 0, "{kind:?} was never tried");
    }
}

#[test]
fn every_mistake_of_a_runtime_is_found() {
    for bug in Bug::ALL {
        for seed in 0..10 {
            let reset_behind = (bug == Bug::ResetRepeated).then_some(10);
            let spec = Spec { bug: Some(bug), reset_behind, ..spec(seed) };
            let verdict = world(&spec, 2_000, 4).judge();
            assert!(!verdict.is_good(), "{bug:?}, seed {seed}: {verdict:?}");
        }
    }
}

#[test]
fn findings_name_coordinates_and_only_the_first_are_told() {
    let mut world = world(&spec(1), 600, 4);
    world.laid.outputs.retain(|record| partition_of(record.key.as_deref().unwrap(), 4) != 0);
    let verdict = world.judge();
    let lost = &verdict.findings[&Kind::Lost];
    assert!(lost.count > 20 && lost.told.len() == 5, "{lost:?}");
    let first = &world.inputs.partitions[0].entries;
    let named = first.iter().any(|entry| lost.told[0].starts_with(&format!("input 0@{} (key k", entry.offset)));
    assert!(named, "{lost:?}");
}

#[test]
fn a_job_without_event_time_is_judged_by_its_counts_alone() {
    let spec = Spec { guest: Guest::Counter, ..spec(1) };
    let verdict = world(&spec, 600, 4).judge();
    assert!(verdict.is_good(), "{verdict:#?}");
    assert_eq!(verdict.ticks, 0);
}

#[test]
fn without_the_number_of_tasks_fewer_timers_are_demanded() {
    let mut known = world(&spec(1), 600, 4);
    let open = known.judge().timers_open;
    known.settings.parallelism = None;
    let verdict = known.judge();
    assert!(verdict.is_good() && verdict.timers_open >= open, "{verdict:?}");
}

#[test]
fn event_time_may_go_back_as_often_as_it_was_taken_back_and_no_more() {
    for seed in 0..20 {
        let mut world = world(&Spec { reset_behind: Some(10), ..spec(seed) }, 2_000, 4);
        let verdict = world.judge();
        assert!(verdict.is_good(), "seed {seed}: {verdict:#?}");
        assert!(verdict.ticks > 200, "seed {seed}: {verdict:?}");
        world.settings.time_resets = 0;
        assert!(world.judge().count(Kind::WatermarkBack) > 0, "seed {seed}: nothing went back");
    }
}

#[test]
fn nothing_is_complete_before_everything_has_come() {
    let world = world(&spec(1), 600, 4);
    let mut judge = Judge::new(&world.inputs, world.settings.clone(), 4);
    let (last, others) = world.laid.outputs.split_last().unwrap();
    world.laid.letters.iter().for_each(|record| judge.letter(record));
    let mut due = 0;
    for record in others {
        judge.output(record);
        due += u64::from(judge.is_complete());
    }
    // What stands behind may be ticks that need not have come yet.
    assert!(due < 60, "{due}");
    judge.output(last);
    assert!(judge.is_complete(), "{}", judge.awaited());
}
