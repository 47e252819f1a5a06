//! Random correct logs pass, whatever the cut and the kills; with one change they do not.

use proptest::prelude::*;

use super::tests::{MUTATIONS, mutate, spec, world};
use crate::model::Spec;
use crate::random::Random;

/// Jobs of many shapes: tasks, partitions, cuts, kills, lateness, timers.
fn specs() -> impl Strategy<Value = (Spec, i32)> {
    let tasks = prop_oneof![Just((1, 1)), Just((1, 3)), Just((2, 2)), Just((2, 4)), Just((3, 3)), Just((4, 4))];
    let cut = (1..40_u64, 1..8_u64, 0..500_u32);
    let time = (0..200_i64, prop_oneof![Just(7_i64), Just(50), Just(1_000)]);
    (any::<u64>(), tasks, cut, time).prop_map(
        |(seed, (parallelism, partitions), (batch, batches, kills), (late, every))| {
            let spec = Spec {
                parallelism,
                batch,
                batches,
                kills_per_mille: kills,
                out_of_orderness_ms: late,
                tick_every_ms: every,
                ..spec(seed)
            };
            (spec, partitions)
        },
    )
}

proptest! {
    #[test]
    fn a_correct_job_passes((spec, partitions) in specs(), records in 1..400_u64) {
        let verdict = world(&spec, records, partitions).judge();
        prop_assert!(verdict.is_good(), "{verdict:#?}");
    }

    #[test]
    fn one_change_is_found((spec, partitions) in specs(), kind in proptest::sample::select(&MUTATIONS[..]), seed: u64) {
        let mut world = world(&spec, 200, partitions);
        // Some logs have no place for some changes.
        let is_changed = mutate(kind, &mut world, &mut Random::new(seed));
        prop_assert!(!is_changed || !world.judge().is_good(), "{kind:?}");
    }
}
