use super::guests::Counter;
use super::harness::Bench;
use crate::error::Kind;
use crate::task::plan::BadRecordPolicy;

/// Values of key `a` as a plain computation would leave them: `count,sum` per good record.
fn expected(records: &[&str]) -> Vec<String> {
    let (mut count, mut sum) = (0, 0);
    let good = records.iter().filter_map(|value| value.parse::<i64>().ok());
    good.map(|number| {
        count += 1;
        sum += number;
        format!("{count},{sum}")
    })
    .collect()
}

fn check(bench: &Bench, records: &[&str]) {
    records.iter().enumerate().for_each(|(i, value)| bench.send("a", value, 1_000 + i as i64));
    bench.run().unwrap();
    let found: Vec<_> = bench.counts().iter().map(|line| line.split(' ').nth(2).unwrap().to_owned()).collect();
    assert_eq!(found, expected(records), "{records:?}");
    let bad: Vec<_> = records.iter().filter(|value| value.parse::<i64>().is_err()).collect();
    let letters = bench.dead_letters();
    assert_eq!(letters.iter().map(|(value, _)| value).collect::<Vec<_>>(), bad, "in their order");
}

#[test]
fn poison_is_isolated_wherever_it_stands() {
    for hints in [true, false] {
        for bad in ["trap", "refuse", "huge"] {
            for records in [
                &[bad, "1", "2", "3"][..],
                &["1", bad, "2", "3"],
                &["1", "2", "3", bad],
                &["1", bad, bad, "2", bad, "3"],
                &[bad],
                &[bad, bad],
            ] {
                let bench = Bench::new(&[("count", Counter::build(1, hints, None))]);
                check(&bench, records);
            }
        }
    }
}

#[test]
fn a_dead_letter_says_where_from_and_why() {
    let bench = Bench::counting();
    check(&bench, &["1", "trap", "2"]);
    let (_, headers) = bench.dead_letters().remove(0);
    for (name, value) in [
        ("forebay.operator", "count"),
        ("forebay.input", "numbers"),
        ("forebay.code", "trap"),
        ("forebay.topic", "numbers"),
        ("forebay.offset", "1"),
        ("forebay.event-time", "1001000000"),
    ] {
        assert_eq!(headers.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(headers["forebay.message"].contains("the record asked for it"));
}

#[test]
fn in_a_chain_the_dead_letter_is_the_input_of_the_operator_that_failed() {
    // The first operator emits lines that the second cannot parse as numbers and counts as 0; the
    // record `huge` becomes two MiB there, which only the sink behind the second would refuse.
    let bench = Bench::new(&[("first", Counter::module(1)), ("second", Counter::module(1))]);
    bench.send_all(&[("a", "1"), ("a", "trap"), ("a", "2")]);
    bench.run().unwrap();
    let lines = bench.counts();
    assert_eq!(lines.len(), 2);
    assert!(lines[1].starts_with("a v1 2,0"), "{lines:?}");
    let (value, headers) = bench.dead_letters().remove(0);
    assert_eq!((value.as_str(), headers["forebay.operator"].as_str()), ("trap", "first"));
}

#[test]
fn a_new_key_for_a_keyed_operator_needs_a_repartition() {
    let mut bench = Bench::new(&[("first", Counter::module(1)), ("second", Counter::module(1))]);
    bench.plan.parallelism = 2;
    bench.plan.sources[0].partitions = vec![0];
    bench.plan.sources[0].start.truncate(1);
    bench.deploy_again();
    let owned = |key: &&str| crate::model::murmur2::partition(key.as_bytes(), 2) == 0;
    let keys = ["a", "b", "c", "d", "e", "f"];
    let mine = *keys.iter().find(|key| owned(key)).unwrap();
    let foreign = *keys.iter().find(|key| !owned(key)).unwrap();
    bench.send_all(&[(mine, "1"), (mine, &format!("key:{foreign}")), (mine, "2")]);
    bench.run().unwrap();
    assert_eq!(bench.counts().len(), 2);
    let (_, headers) = bench.dead_letters().remove(0);
    assert_eq!((headers["forebay.code"].as_str(), headers["forebay.operator"].as_str()), ("foreign-key", "first"));
}

#[test]
fn under_the_policy_fail_the_task_stops_at_the_record_and_commits_nothing_of_its_epoch() {
    let mut bench = Bench::counting();
    bench.plan.bad_records = BadRecordPolicy::Fail.into();
    bench.send_all(&[("a", "1"), ("a", "refuse")]);
    let error = bench.run().unwrap_err();
    assert_eq!(error.kind(), Kind::Guest);
    assert!(error.to_string().contains("@1"), "{error}");
    assert!(bench.counts().is_empty());
}

#[test]
fn a_guest_that_asks_to_be_tried_again_costs_the_epoch_and_no_record() {
    let bench = Bench::counting();
    bench.send_all(&[("a", "1"), ("a", "retry")]);
    assert_eq!(bench.run().unwrap_err().kind(), Kind::Retry);
    assert!(bench.counts().is_empty() && bench.dead_letters().is_empty());
}
