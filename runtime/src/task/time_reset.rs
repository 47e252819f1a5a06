//! Taking event time back, once, where the job's record asks for it: a clock that was ahead had driven it to where no
//! record follows for long.
//!
//! Keeps state, positions and timers. The header of the epoch that does it names the reset, in the same commit, so that
//! whatever ends a session, and however often, the reset is made exactly once: the next one compares itself to the target
//! anew. Nothing is read or fired in that epoch.

use super::Error;
use super::rules::rules;
use super::session::Session;
use super::target::TimeReset;
use crate::checkpoint::HeaderKind;
use crate::env::failpoint;

impl Session<'_> {
    /// Makes the reset, unless a header has named it: between two epochs, by one of its own. Timers up to the watermark
    /// have fired and are gone; those behind it stay, and fire when event time comes to them again.
    pub(super) fn reset_time(&mut self, reset: TimeReset) -> Result<(), Error> {
        if !self.is_reset_to_come(reset) {
            return Ok(());
        }
        self.commit_if_changed()?;
        failpoint("time-reset-begun");
        let before = self.lane.emitted_watermark;
        self.lane.take_time_back(reset.to);
        self.committer.epoch.time_reset = Some(reset.number);
        self.commit(HeaderKind::Epoch)?;
        failpoint("time-reset-committed");
        let (job, task) = (&self.context.plan.job.name, &self.context.plan.task);
        tracing::info!(%job, %task, reset = reset.number, from = before, to = self.lane.emitted_watermark, "event time reset");
        Ok(())
    }

    fn is_reset_to_come(&self, reset: TimeReset) -> bool {
        let header = &self.committer.head.header;
        let is_made = rules().resets_are_made_once || header.kind != HeaderKind::Claim;
        reset.number > header.time_reset || !is_made
    }
}
