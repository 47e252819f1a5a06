//! How enums of the API are shown in JSON and tables: `JOB_STATE_RUNNING` is `running`.

use serde::Serializer;

use super::proto::{JobState, PlanAction, StateFate, SwapPhase, TaskPhase};

/// An enum of the API with its name as the proto file has it.
pub trait Named: TryFrom<i32> + Copy {
    /// What all its names begin with.
    const PREFIX: &'static str;
    fn full_name(self) -> &'static str;

    /// The name without the prefix, in lower case.
    fn name(self) -> String {
        self.full_name().strip_prefix(Self::PREFIX).unwrap_or_default().to_ascii_lowercase().replace('_', "-")
    }
}

macro_rules! named {
    ($($kind:ty, $prefix:literal;)*) => {$(
        impl Named for $kind {
            const PREFIX: &'static str = $prefix;
            fn full_name(self) -> &'static str {
                self.as_str_name()
            }
        }
    )*};
}
named! {
    JobState, "JOB_STATE_";
    PlanAction, "PLAN_ACTION_";
    StateFate, "STATE_FATE_";
    SwapPhase, "SWAP_PHASE_";
    TaskPhase, "TASK_PHASE_";
}

/// For `#[serde(serialize_with)]` on fields of generated messages.
pub fn name_of<E: Named, S: Serializer>(value: &i32, to: S) -> Result<S::Ok, S::Error> {
    match E::try_from(*value) {
        Ok(known) => to.serialize_str(&known.name()),
        Err(_) => to.serialize_i32(*value),
    }
}
