//! What a build that breaks a rule on purpose does in its place; see [`crate::env::Bug`].
//!
//! Each function is called behind a switch that an ordinary build does not have. Nothing here is ever right.

use super::plan::TaskPlan;
use super::session::{Firing, Intake, OpenEpoch, Session};
use super::{Error, recovery};
use crate::checkpoint::Header;
use crate::log::{GroupPosition, Isolation};

/// [`crate::env::Bug::ApplyBeforeCommit`].
pub(super) fn apply_before_commit(session: &mut Session<'_>, header: &Header, hash: [u8; 32]) -> Result<(), Error> {
    let header_offset = changelog_end(session)?;
    session.state.apply(recovery::marker(header, hash, header_offset))?;
    Ok(session.state.flush()?)
}

/// [`crate::env::Bug::ApplyIndefinite`]: applies the epoch, and goes on with a new writer as if all were well.
pub(super) fn apply_indefinite(session: &mut Session<'_>, header: &Header, hash: [u8; 32]) -> Result<i64, Error> {
    let header_offset = changelog_end(session)?;
    session.state.apply(recovery::marker(header, hash, header_offset))?;
    session.state.flush()?;
    let plan = session.plan();
    session.writer = Some(session.context.log.writer(&plan.transactional_id())?);
    Ok(header_offset)
}

fn changelog_end(session: &Session<'_>) -> Result<i64, Error> {
    let TaskPlan { changelog, task, .. } = session.plan();
    Ok(session.context.log.end_offset(&changelog.name, task.changelog_partition(), Isolation::ReadUncommitted)?)
}

/// [`crate::env::Bug::ReuseWriter`]: aborts, rewinds to the last header known here, and goes on with the same writer.
pub(super) fn abort_and_go_on(session: &mut Session<'_>) -> Result<(), Error> {
    if let Some(writer) = &mut session.writer {
        // Whether there was anything left to abort is what it does not know.
        drop(writer.abort());
    }
    let context = session.context;
    session.state.discard();
    session.chain.take_back();
    session.intake = Intake::default();
    session.firing = Firing::default();
    session.epoch = OpenEpoch::default();
    session.inputs.rewind();
    session.emitted_watermark = session.head.header.watermark;
    recovery::restore_watermark(&mut session.watermark, &context.plan, &session.inputs, &session.head.header);
    Ok(session.reader.assign(&session.inputs.assignments(&context.plan, context.log.as_ref())?)?)
}

/// [`crate::env::Bug::PositionsFromGroup`]: the positions of the open epoch.
pub(super) fn mirror_open_positions(session: &Session<'_>) -> Result<(), Error> {
    let plan = session.plan();
    let positions = session.inputs.iter().map(|input| GroupPosition {
        topic: plan.sources[input.source].topic.name.clone(),
        partition: input.partition,
        next: input.next,
    });
    Ok(session.context.log.mirror(&recovery::group(plan), &positions.collect::<Vec<_>>())?)
}
