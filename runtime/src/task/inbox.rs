//! What a task reads: records of its inputs, and the target that it compares itself to.
//!
//! Owns the reader, the positions of the open epoch, and the batch that was polled last with how far it has been worked
//! through. Records and another target end the same wait.

use std::ops::Range;
use std::time::Duration;

use super::Error;
use super::context::TaskContext;
use super::inputs::{self, Inputs};
use super::isolation::Isolation;
use super::plan::TaskPlan;
use super::rules::rules;
use super::target::Target;
use crate::log::{self, Budget, Reader};
use crate::model::{NextOffset, PartitionBatch};
use crate::operator::Lineage;

/// No target has this generation: a new session looks at it at once.
const NEVER_HEARD: u64 = u64::MAX;

pub(super) struct Inbox {
    reader: Box<dyn Reader>,
    pub inputs: Inputs,
    pub batch: PartitionBatch,
    /// Which input the batch is of, and of which source.
    pub input: usize,
    pub source: usize,
    /// Where the batch is taken apart.
    pub isolation: Option<Isolation>,
    /// The generation of the target that was looked at last.
    pub heard: u64,
}

impl Inbox {
    /// Nothing is read before the inputs are assigned.
    pub fn open(context: &TaskContext, inputs: Inputs) -> Result<Self, Error> {
        let reader = context.log.reader(log::Isolation::ReadCommitted)?;
        context.target.wakes(reader.waker());
        let heard =
            if rules().recovered_tasks_look_at_their_target { NEVER_HEARD } else { context.target.generation() };
        let batch = PartitionBatch::default();
        Ok(Self { reader, inputs, batch, input: 0, source: 0, isolation: None, heard })
    }

    /// Reads from the positions on.
    pub fn assign(&mut self, context: &TaskContext) -> Result<(), Error> {
        let assignments = self.inputs.assignments(&context.plan, context.log.as_ref())?;
        self.reader.assign(&assignments).map_err(inputs::explain)
    }

    /// The target, where it is another one than was heard last; `anyway`, whatever it is.
    pub fn hear(&mut self, context: &TaskContext, anyway: bool) -> Option<Target> {
        let generation = context.target.generation();
        if generation == self.heard && !anyway {
            return None;
        }
        self.heard = generation;
        Some(context.target.get())
    }

    /// Waits for records, another target, or the time. False where there are no records.
    pub fn poll(&mut self, plan: &TaskPlan, budget: Budget, wait: Duration) -> Result<bool, Error> {
        if !self.reader.poll(budget, wait, &mut self.batch).map_err(inputs::explain)? {
            return Ok(false);
        }
        (self.input, self.source) = self.inputs.find(plan, &self.batch)?;
        Ok(true)
    }

    /// A stretch of the batch is in the epoch: the position moves behind it.
    pub fn pass(&mut self, range: &Range<usize>) {
        let Self { batch, reader, inputs, .. } = self;
        let end = if rules().only_what_was_processed_counts { range.end } else { batch.len() };
        let last = batch.offsets[end - 1];
        let next = if rules().position_is_the_next_offset { NextOffset::after(last) } else { NextOffset(last) };
        inputs.pass(self.input, next, reader.leader_epoch(&batch.topic, batch.partition));
    }

    /// Positions move over gaps. Not while a batch is taken apart: the reader stands behind all of it.
    pub fn skip_gaps(&mut self, plan: &TaskPlan, now: Duration) {
        if self.isolation.is_none() || !rules().gaps_wait_for_the_batch {
            self.inputs.skip_gaps(plan, self.reader.as_ref(), now);
        }
    }

    /// Which record of the batch this is, if it is one.
    pub fn find(&self, at: &Lineage) -> Option<usize> {
        let is_ours = at.source == Some(self.source as u16) && at.partition == self.batch.partition;
        is_ours.then(|| self.batch.offsets.binary_search(&at.offset).ok())?
    }

    pub fn is_read(&self, plan: &TaskPlan, input: usize) -> bool {
        self.inputs.is_read(input, plan, self.reader.as_ref())
    }

    pub fn lag(&self, plan: &TaskPlan, worked: bool) -> u64 {
        self.inputs.lag(plan, self.reader.as_ref(), worked)
    }
}
