//! The quick tier: a few rounds of the harms that tell most, on one broker. All of them, and more rounds:
//! `forebay-faults --tier nightly`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use faults::course::{self, Tier};
use faults::ground::Ground;
use faults::scenario::Scenario;
use kafka_cluster::Cluster;

const QUICK: [Scenario; 9] = [
    Scenario::KillAtRandom,
    Scenario::Zombie,
    Scenario::ConnectionsCut,
    Scenario::EndUnanswered,
    Scenario::GroupOffsets,
    Scenario::StoreWiped,
    Scenario::StoreOlder,
    Scenario::InputTruncated,
    Scenario::ChangelogEmptied,
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_doubled_whatever_is_done_to_a_job() {
    let Some(cluster) = tokio::task::block_in_place(|| Cluster::for_tests(Ground::options(1))) else { return };
    let ground = Ground::on(cluster).await.unwrap();
    let mut aborted = 0;
    for scenario in QUICK {
        let report = course::run(&ground, scenario, Tier::Quick.rounds(scenario), 1, |_| {}).await;
        let report = report.unwrap_or_else(|why| panic!("{}: {why}", scenario.name()));
        let verdict = &report.verdict;
        assert!(verdict.is_good, "{}: {:#?}", scenario.name(), verdict.told);
        aborted += verdict.aborted;
        println!(
            "{}: {} inputs, {} aborted, back after {} ms (p50)",
            scenario.name(),
            verdict.inputs,
            verdict.aborted,
            report.recovery_ms(0.5)
        );
    }
    assert!(aborted > 0, "no epoch was ever open when harm was done: this has shown nothing");
}
