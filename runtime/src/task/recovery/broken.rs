//! What a build that breaks a rule of recovery on purpose does in its place; see [`crate::env::Bug`].
//!
//! Each function is called behind a switch that an ordinary build does not have. Nothing here is ever right.

use super::start::header_zero;
use crate::checkpoint::{Header, InputPosition};
use crate::log::{Isolation, Log};
use crate::model::NextOffset;
use crate::task::Error;
use crate::task::plan::TaskPlan;
use crate::task::session::Head;

/// [`crate::env::Bug::PositionsFromGroup`]: puts the group's positions in place of the header's.
pub(super) fn positions_from_group(plan: &TaskPlan, log: &dyn Log, header: &mut Header) -> Result<(), Error> {
    for source in &plan.sources {
        let of_group = log.group_positions(&group(plan), &source.topic.name)?;
        for input in header.inputs.iter_mut().filter(|input| input.source == source.id) {
            let found = of_group.get(input.partition as usize).copied().flatten();
            input.next_offset = found.unwrap_or(input.next_offset);
        }
    }
    Ok(())
}

/// [`crate::env::Bug::ResolveStartTwice`]: where nothing was read yet, the end of now takes the place of the start.
pub(super) fn resolve_start_again(plan: &TaskPlan, log: &dyn Log, header: &mut Header) -> Result<(), Error> {
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

/// [`crate::env::Bug::StartWithoutHeader`].
pub(super) fn start_over(plan: &TaskPlan) -> Result<Head, Error> {
    let header = header_zero(plan);
    let hash = header.hash().map_err(|source| Error::Encode { epoch: 0, source })?;
    Ok(Head { header, hash, offset: 0 })
}

/// The group that mirrors the job's positions.
pub(in crate::task) fn group(plan: &TaskPlan) -> String {
    format!("forebay.{}", plan.job.name)
}
