//! Ten builds that break a rule, each caught by the checker, so that its verdict keeps its worth. All of them:
//! `forebay-faults --bugs`.

#![allow(clippy::unwrap_used, reason = "a test")]

use faults::bugs::{self, Outcome};
use faults::ground::Ground;
use kafka_cluster::Cluster;

/// Those that a single attempt shows, as a rule, within seconds.
const QUICK: [&str; 10] = [
    "last-offset",
    "start-without-header",
    "delta-apart",
    "positions-from-group",
    "forget-watermark",
    "takeover-without-reading",
    "read-before-takeover",
    "keep-failed-state",
    "keep-failed-output",
    "ignore-lost-tail",
];

#[tokio::test(flavor = "multi_thread")]
async fn builds_that_break_a_rule_are_caught_by_the_checker() {
    let Some(cluster) = tokio::task::block_in_place(|| Cluster::for_tests(Ground::options(1))) else { return };
    let ground = Ground::on(cluster).await.unwrap();
    for name in QUICK {
        let trial = bugs::TRIALS.iter().find(|trial| trial.bug == name).unwrap();
        match bugs::put_to_trial(&ground, trial, 1).await {
            Outcome::Caught { verdict, .. } => println!("{name}: {}", verdict.told.join("; ")),
            Outcome::Stopped(why) => panic!("{name} stopped before the checker could judge it: {why}"),
            Outcome::Missed => panic!("{name} was not found"),
        }
    }
}
