//! The checker on a real Kafka: a model of a job writes with transactions that commit and abort, rightly and wrongly.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use checker::judge::Kind;
use checker::model::{Bug, Spec};
use checker::third_opinion;
use checker::verify::verify;
use common::{Bed, outgoing};
use kafka_cluster::Target;

fn bed(input: &str, records: u64) -> Option<(tokio::runtime::Runtime, Bed, Target)> {
    let target = Target::for_tests()?;
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // A named cluster may have been used before.
    let input = format!("{input}-{}", std::process::id());
    let bed = runtime.block_on(Bed::make(target.bootstrap(), &input, records));
    Some((runtime, bed, target))
}

#[test]
fn a_job_that_is_killed_is_good_and_so_say_all_three_readers() {
    let Some((runtime, bed, target)) = bed("good-in", 3_000) else { return };
    let output = format!("{}-out", bed.input);
    runtime.block_on(bed.run(&bed.spec(None), &output));
    let report = runtime.block_on(verify(&bed.verifying(&output))).unwrap();
    assert!(report.is_good, "{report:#?}");
    assert_eq!(report.verdict.inputs, 3_000);
    assert!(report.aborted > 100 && report.verdict.ticks > 500, "{report:?}");

    let arguments = third_opinion::arguments(&output);
    let printed = target.tool("ConsoleConsumer", &arguments.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
    let file = std::env::temp_dir().join(format!("{output}.coordinates"));
    std::fs::write(&file, printed).unwrap();
    let command = format!("cat {} #", file.display());
    let done = bed.verify_by_binary(&output, &["--require-aborted", "--third-opinion", &command]);
    let told = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && told.contains("good: nothing lost"), "{done:?}");
    assert!(told.contains(&format!("console consumer reads {} records", report.verdict.outputs)), "{told}");

    std::fs::write(&file, "Partition:0\tOffset:0\n").unwrap();
    let done = bed.verify_by_binary(&output, &["--third-opinion", &command, "-o", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert!(report["findings"]["third-opinion"]["count"].as_u64().unwrap() > 1_000, "{report}");
    std::fs::remove_file(file).unwrap();
}

#[test]
fn every_mistake_of_a_runtime_is_found_in_its_log() {
    let Some((runtime, bed, _)) = bed("wrong-in", 1_500) else { return };
    for bug in Bug::ALL {
        let output = format!("{}-{bug:?}", bed.input);
        let is_reset = bug == Bug::ResetRepeated;
        let spec = Spec { reset_behind: is_reset.then_some(3), ..bed.spec(Some(bug)) };
        runtime.block_on(bed.run(&spec, &output));
        let mut settings = checker::verify::Settings { wait: Duration::from_secs(1), ..bed.verifying(&output) };
        settings.job.time_resets = u32::from(is_reset);
        let report = runtime.block_on(verify(&settings)).unwrap();
        assert!(!report.is_good, "{bug:?}: {report:?}");
        println!("{bug:?}: {:?}", report.verdict.kinds());
    }
}

#[test]
fn a_test_that_aborted_nothing_and_an_open_transaction_are_told() {
    let Some((runtime, bed, _)) = bed("open-in", 300) else { return };
    let output = format!("{}-out", bed.input);
    let spec = Spec { kills_per_mille: 0, ..bed.spec(None) };
    runtime.block_on(bed.run(&spec, &output));
    let done = bed.verify_by_binary(&output, &["--require-aborted", "-o", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((done.status.code(), &report["aborted"]), (Some(1), &serde_json::json!(0)), "{done:?}");
    assert_eq!(report["findings"].as_object().unwrap().len(), 1, "{report}");
    assert!(bed.verify_by_binary(&output, &[]).status.success());

    let open = runtime.block_on(async {
        let producer = bed.transaction(&format!("{output}-open")).await;
        producer.begin().unwrap();
        producer.send(outgoing(&output, checker::record::Record::default())).await.map(drop).unwrap();
        producer
    });
    let done = bed.verify_by_binary(&output, &["--wait", "2"]);
    let told = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(2), "{done:?}");
    assert!(told.contains("an open transaction holds its readers back"), "{told}");
    runtime.block_on(open.abort()).unwrap();
    assert!(bed.verify_by_binary(&output, &["--require-aborted"]).status.success());
}

#[test]
fn outputs_that_are_not_there_yet_are_waited_for_and_an_incomplete_input_is_not_judged() {
    let Some((runtime, bed, _)) = bed("late-in", 300) else { return };
    let output = format!("{}-out", bed.input);
    let settings =
        checker::verify::Settings { expect_records: Some(301), wait: Duration::from_secs(1), ..bed.verifying(&output) };
    let told = runtime.block_on(verify(&settings)).unwrap_err().to_string();
    assert!(told.contains("found 300 records, expected 301 within 1 s"), "{told}");
    let spec = bed.spec(None);
    runtime.block_on(bed.run(&Spec { batch: 1, batches: 1, ..spec }, &output));
    let report = runtime.block_on(verify(&bed.verifying(&output))).unwrap();
    assert!(report.is_good, "{report:#?}");
    assert_eq!(report.verdict.count(Kind::Lost), 0);
}
