//! What a commit does where a rule of it is broken on purpose; see [`crate::env::Bug`]. Nothing here is ever right.

use super::{Committer, Hashed, opened};
use crate::log::{CommitOutcome, GroupPosition, Isolation};
use crate::model::names;
use crate::task::Error;
use crate::task::epoch::{OpenEpoch, marker};
use crate::task::inbox::Inbox;
use crate::task::lane::{Firing, Lane};
use crate::task::plan::TaskPlan;
use crate::task::rules::{WrongDoubt, WrongStep};

pub(super) fn step(
    committer: &mut Committer<'_>,
    step: WrongStep,
    lane: &mut Lane,
    inbox: &Inbox,
    (header, hash): Hashed<'_>,
) -> Result<(), Error> {
    match step {
        WrongStep::CommitOutputAlone => {
            if let CommitOutcome::Indefinite(source) = opened(&mut committer.writer).commit()? {
                return Err(Error::Indefinite { epoch: header.epoch, source });
            }
            Ok(opened(&mut committer.writer).begin()?)
        }
        WrongStep::ApplyEarly => {
            let header_offset = changelog_end(committer)?;
            lane.state.apply(marker(header, hash, header_offset))?;
            Ok(lane.state.flush()?)
        }
        WrongStep::MirrorEarly => {
            let plan = &committer.context.plan;
            let positions = inbox.inputs.iter().map(|input| GroupPosition {
                topic: plan.sources[input.source].topic.name.clone(),
                partition: input.partition,
                next: input.next,
            });
            let group = names::consumer_group(&plan.job.name);
            Ok(committer.context.log.mirror(&group, &positions.collect::<Vec<_>>())?)
        }
    }
}

/// Where the delta stands, if the commit is taken for one that happened.
pub(super) fn in_doubt(
    committer: &mut Committer<'_>,
    wrong: WrongDoubt,
    lane: &mut Lane,
    inbox: &mut Inbox,
    (header, hash): Hashed<'_>,
) -> Result<Option<i64>, Error> {
    match wrong {
        WrongDoubt::Happened => {
            let header_offset = changelog_end(committer)?;
            lane.state.apply(marker(header, hash, header_offset))?;
            lane.state.flush()?;
            let context = committer.context;
            committer.writer = Some(context.log.writer(&context.plan.transactional_id())?);
            Ok(Some(header_offset))
        }
        WrongDoubt::DidNotHappen => {
            abort_and_go_on(committer, lane, inbox)?;
            Ok(None)
        }
    }
}

fn changelog_end(committer: &Committer<'_>) -> Result<i64, Error> {
    let TaskPlan { changelog, task, .. } = &committer.context.plan;
    Ok(committer.context.log.end_offset(&changelog.name, task.changelog_partition(), Isolation::ReadUncommitted)?)
}

/// Aborts, rewinds to the last header known here, and goes on with the same writer.
fn abort_and_go_on(committer: &mut Committer<'_>, lane: &mut Lane, inbox: &mut Inbox) -> Result<(), Error> {
    if let Some(writer) = &mut committer.writer {
        // Whether there was anything left to abort is what it does not know.
        drop(writer.abort());
    }
    let (context, header) = (committer.context, &committer.head.header);
    lane.state.discard();
    lane.chain.take_back();
    lane.firing = Firing::default();
    lane.emitted_watermark = header.watermark;
    committer.epoch = OpenEpoch::default();
    inbox.batch.clear();
    inbox.isolation = None;
    inbox.inputs.rewind();
    inbox.inputs.restore_watermark(&mut lane.watermark, &context.plan, header);
    inbox.assign(context)
}
