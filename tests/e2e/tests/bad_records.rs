//! Poison: records that a module refuses or dies of, wherever they stand, alone and in a chain of two modules.
//! All others are processed, in order, once; each bad one is a dead letter with its place and its own bytes.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod common;

use std::sync::Arc;

use common::{Bench, read_of, until};
use market_data::api::{Client, Seen};
use market_data::feed::{Pace, feed};
use market_data::input::partitioned::{Partitioned, Record, partition_of};
use serde_json::Value;

/// What each record asks of the module: `None` = nothing bad.
type Wish = Option<&'static str>;

/// Where the bad records stand: a name, and whether the `i`th is one.
type Place = (&'static str, fn(usize) -> bool);

const ALONE: &str = "
name: poison
sources: [{id: numbers, topic: numbers, decode: json}]
operators: [{id: count, module: poison@1.0.0, inputs: {input: numbers}}]
sinks: [{id: out, topic: counted, from: count.out, timestamp: now}]
";

const CHAIN: &str = "
name: poison
sources: [{id: numbers, topic: numbers, decode: json}]
operators:
  - {id: pass, module: relay@1.0.0, inputs: {input: numbers}}
  - {id: count, module: poison@1.0.0, inputs: {input: pass.out}}
sinks: [{id: out, topic: counted, from: count.out, timestamp: now}]
";

#[tokio::test(flavor = "multi_thread")]
async fn poison_at_any_place_costs_its_neighbours_nothing() {
    let places: [Place; 5] = [
        ("first", |i| i == 0),
        ("middle", |i| i == 500),
        ("last", |i| i == 999),
        ("adjacent", |i| (500..503).contains(&i)),
        // Keys take turns: every third record of each key is bad, so each stands between two of its own.
        ("between two of one key", |i| i % 15 / 5 == 1),
    ];
    let mut bench = Bench::new();
    let client = bench.server.start(None).await.unwrap();
    client.push(&e2e::guest("poison")).await.unwrap();
    for (at, (name, is_bad)) in places.into_iter().enumerate() {
        for what in ["panic", "refuse"] {
            let wishes = (0..1_000).map(|i| is_bad(i).then_some(what));
            check(&client, ALONE, &format!("{what}-{at}"), &wishes.collect::<Vec<_>>()).await;
            println!("{name}: {what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_loop_or_hoard_behind_a_backlog_are_dead_letters_and_a_stop_is_heard_meanwhile() {
    let mut bench = Bench::new();
    let client = bench.server.start(None).await.unwrap();
    client.push(&e2e::guest("poison")).await.unwrap();
    let wish =
        |i: usize| [(700, "loop"), (1_205, "allocate"), (1_206, "loop")].iter().find(|(at, _)| *at == i).map(|at| at.1);
    let wishes: Vec<Wish> = (0..3_000).map(wish).collect();
    let input = deploy(&client, ALONE, "slow", &wishes).await;
    feed(client.clone(), Arc::clone(&input), Pace::at_once()).await.unwrap();
    // While a record loops for a second, and is looked for in several calls.
    until(&client, "poison-slow", |job| job.tasks.iter().any(|task| task.traps > 0)).await;
    let asked = std::time::Instant::now();
    client.stop_job("poison-slow").await.unwrap();
    assert!(asked.elapsed() < std::time::Duration::from_secs(5), "{:?}", asked.elapsed());
    client.apply(&spec_of(ALONE, "slow")).await.unwrap();
    judge(&client, "slow", &input, &wishes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_chain_the_dead_letter_is_what_the_failing_module_was_given() {
    let mut bench = Bench::new();
    let client = bench.server.start(None).await.unwrap();
    for module in ["relay", "poison"] {
        client.push(&e2e::guest(module)).await.unwrap();
    }
    let wishes: Vec<Wish> = (0..300).map(|i| [None, None, Some("panic"), None, Some("refuse")][i % 5]).collect();
    check(&client, CHAIN, "chain", &wishes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_dies_while_it_isolates_poison_begins_again() {
    let mut bench = Bench::new();
    let failpoint = market_data::server::Failpoint::counted("before-commit", 4);
    let client = bench.server.start(Some(&failpoint)).await.unwrap();
    client.push(&e2e::guest("poison")).await.unwrap();
    let wishes: Vec<Wish> = (0..2_000).map(|i| (i % 97 == 3).then_some("panic")).collect();
    let input = deploy(&client, ALONE, "crash", &wishes).await;
    let feeding = tokio::spawn(feed(client, Arc::clone(&input), Pace::at_once()));
    assert!(bench.server.died(std::time::Duration::from_secs(20)).await, "the failpoint was never passed");
    feeding.abort();
    let client = bench.server.start(None).await.unwrap();
    feed(client.clone(), Arc::clone(&input), Pace::at_once()).await.unwrap();
    judge(&client, "crash", &input, &wishes).await;
}

async fn check(client: &Client, spec: &str, name: &str, wishes: &[Wish]) {
    let input = deploy(client, spec, name, wishes).await;
    feed(client.clone(), Arc::clone(&input), Pace::at_once()).await.unwrap();
    judge(client, name, &input, wishes).await;
}

/// Topics and a job of their own names, and the input that the wishes make.
async fn deploy(client: &Client, spec: &str, name: &str, wishes: &[Wish]) -> Arc<Partitioned> {
    let topic = |base: &str| format!("{base}-{name}");
    for base in ["numbers", "counted"] {
        client.create_topic(&topic(base), 2).await.unwrap();
    }
    client.apply(&spec_of(spec, name)).await.unwrap();

    let mut input = Partitioned::new(&topic("numbers"), 2);
    for (n, wish) in wishes.iter().enumerate() {
        let wish = wish.map_or(String::new(), |wish| format!(r#","do":"{wish}""#));
        let value = Some(format!(r#"{{"n":{n}{wish}}}"#).into_bytes());
        input.push(Record { key: Some(key_of(n).into_bytes()), value, timestamp_ms: 1_000 });
    }
    Arc::new(input)
}

fn spec_of(spec: &str, name: &str) -> String {
    let spec = spec.replace("name: poison", &format!("name: poison-{name}"));
    let spec = spec.replace("topic: numbers", &format!("topic: numbers-{name}"));
    spec.replace("topic: counted", &format!("topic: counted-{name}"))
}

fn key_of(n: usize) -> String {
    format!("key-{}", n % 5)
}

async fn judge(client: &Client, name: &str, input: &Partitioned, wishes: &[Wish]) {
    let job = format!("poison-{name}");
    until(client, &job, |job| read_of(job, "numbers") == input.len() as i64).await;

    let mut counts = std::collections::HashMap::new();
    let mut expected: Vec<(String, u64)> = Vec::new();
    let mut expected_letters: Vec<(usize, i64, &str, Vec<u8>)> = Vec::new();
    let mut offsets = [0_i64; 2];
    for (n, wish) in wishes.iter().enumerate() {
        let key = key_of(n);
        let partition = partition_of(key.as_bytes(), 2);
        let offset = offsets[partition];
        offsets[partition] += 1;
        if let Some(wish) = wish {
            let code = match *wish {
                "panic" => "trap",
                "loop" => "deadline",
                "allocate" => "memory",
                _ => "told-so",
            };
            let value = input.partitions[partition][offset as usize].value.clone().unwrap();
            expected_letters.push((partition, offset, code, value));
        } else {
            let count = counts.entry(key.clone()).or_insert(0);
            *count += 1;
            expected.push((key, *count));
        }
    }
    expected.sort();
    expected_letters.sort();
    assert_eq!(outputs(&client.consume(&format!("counted-{name}")).await.unwrap()), expected, "{job}");
    assert_eq!(letters(&client.consume(&format!("{job}.dead-letters")).await.unwrap()), expected_letters, "{job}");
}

/// Per output key and count. The order of a key shows in its counts, which no refused record may have moved.
fn outputs(seen: &[Seen]) -> Vec<(String, u64)> {
    let told = |record: &Seen| {
        let value: Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
        let key = String::from_utf8(record.key.clone().unwrap()).unwrap();
        assert_eq!(value["key"], key.as_str());
        (key, value["count"].as_u64().unwrap())
    };
    let mut outputs: Vec<_> = seen.iter().map(told).collect();
    outputs.sort();
    outputs
}

/// Per dead letter its source's place, its code and its bytes.
fn letters(seen: &[Seen]) -> Vec<(usize, i64, &str, Vec<u8>)> {
    let mut letters: Vec<_> = seen
        .iter()
        .map(|letter| {
            let header = |name: &str| {
                let found = letter.headers.iter().find(|(found, _)| found == name);
                found.map(|(_, value)| value.as_str()).unwrap()
            };
            assert_eq!(header("forebay.operator"), "count");
            let (partition, offset) =
                (header("forebay.partition").parse().unwrap(), header("forebay.offset").parse().unwrap());
            (partition, offset, header("forebay.code"), letter.value.clone().unwrap())
        })
        .collect();
    letters.sort();
    letters
}
