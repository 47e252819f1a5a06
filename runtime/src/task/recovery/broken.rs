//! What a takeover does where a rule of it is broken on purpose; see [`crate::env::Bug`]. Nothing here is ever right.

use crate::checkpoint::{Header, InputPosition};
use crate::log::{Isolation, Log};
use crate::model::{NextOffset, names};
use crate::task::Error;
use crate::task::plan::TaskPlan;
use crate::task::rules::WrongAct;

/// Changes what recovery has read of positions.
pub(super) fn act(act: WrongAct, plan: &TaskPlan, log: &dyn Log, header: &mut Header) -> Result<(), Error> {
    match act {
        WrongAct::PositionsFromGroup => positions_from_group(plan, log, header),
        WrongAct::ResolveStartAgain => resolve_start_again(plan, log, header),
    }
}

fn positions_from_group(plan: &TaskPlan, log: &dyn Log, header: &mut Header) -> Result<(), Error> {
    for source in &plan.sources {
        let of_group = log.group_positions(&names::consumer_group(&plan.job.name), &source.topic.name)?;
        for input in header.inputs.iter_mut().filter(|input| input.source == source.id) {
            let found = of_group.get(input.partition as usize).copied().flatten();
            input.next_offset = found.unwrap_or(input.next_offset);
        }
    }
    Ok(())
}

/// Where nothing was read yet, the end of now takes the place of the start.
fn resolve_start_again(plan: &TaskPlan, log: &dyn Log, header: &mut Header) -> Result<(), Error> {
    for source in &plan.sources {
        for (&partition, &start) in source.partitions.iter().zip(&source.start) {
            let end = log.end_offset(&source.topic.name, partition, Isolation::ReadUncommitted)?;
            let of = |input: &&mut InputPosition| {
                input.source == source.id && input.partition == partition && input.next_offset == start
            };
            header.inputs.iter_mut().filter(of).for_each(|input| input.next_offset = NextOffset(end));
        }
    }
    Ok(())
}
