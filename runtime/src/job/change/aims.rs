//! What the tasks of a job are to be, as its records say. Pure.
//!
//! One rule: the job's record names what is decided, and the swap's record what is on trial. [`in_force`] is how the
//! first follows from the second.

use std::collections::BTreeSet;

use super::super::record::{JobRecord, ModuleId, SwapPhase, SwapRecord};
use crate::model::{BEFORE_ALL_TIME, Uid};
use crate::task::target::TimeReset;

/// What every task of a job is to be: the target that each compares itself with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aims {
    pub trial: Option<Aim>,
    /// One per operator, but for the one that has a version on trial.
    pub modules: Vec<Aim>,
    pub time_reset: Option<TimeReset>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aim {
    /// What asks for it: the swap, or the job itself where no swap is open.
    pub swap: Uid,
    pub operator: String,
    pub module: ModuleId,
    /// States that begin empty with it.
    pub empty: BTreeSet<String>,
}

impl Aims {
    pub fn of(job: &JobRecord, swap: Option<&SwapRecord>) -> Self {
        let on_trial = swap.filter(|swap| swap.phase == SwapPhase::Preparing);
        // The operator of the trial is left out: each task keeps what it runs there, and one that has not come to the
        // version that was decided before does not go on trying that one.
        let named = job.modules.iter().filter(|(operator, _)| on_trial.is_none_or(|swap| swap.operator != **operator));
        let modules = named.map(|(operator, module)| {
            let by = swap.filter(|swap| swap.operator == *operator && in_force(swap) == Some(module));
            Aim {
                swap: by.map_or(job.uid, |swap| swap.swap),
                operator: operator.clone(),
                module: module.clone(),
                // Going back to the old version makes no state empty.
                empty: by.filter(|swap| swap.to == *module).map(|swap| swap.empty.clone()).unwrap_or_default(),
            }
        });
        let trial = on_trial.map(|swap| Aim {
            swap: swap.swap,
            operator: swap.operator.clone(),
            module: swap.to.clone(),
            empty: swap.empty.clone(),
        });
        let time_reset = job.time_reset.map(|reset| {
            let to = reset.to_ns.unwrap_or(BEFORE_ALL_TIME);
            TimeReset { number: reset.number, to }
        });
        Self { trial, modules: modules.collect(), time_reset }
    }
}

/// Which version a swap has brought into force at its operator; none before it is decided.
pub fn in_force(swap: &SwapRecord) -> Option<&ModuleId> {
    match swap.phase {
        SwapPhase::Switching | SwapPhase::Probation | SwapPhase::Done => Some(&swap.to),
        SwapPhase::RollingBack | SwapPhase::RolledBack => Some(&swap.from),
        SwapPhase::Preparing | SwapPhase::Abandoned => None,
    }
}
