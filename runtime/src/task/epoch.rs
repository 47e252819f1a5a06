//! The epoch that is open, and the last one that was committed.
//!
//! Owns what a header says: made here from the two, and from how far lane and inputs have come. Writes nothing.

use std::collections::BTreeSet;
use std::time::Duration;

use super::inputs::Inputs;
use super::lane::Lane;
use super::plan::{ModuleRef, TaskPlan};
use super::rules::rules;
use crate::checkpoint::{Header, HeaderHash, HeaderKind, InputPosition, OperatorVersion, Owner, StateVersion};
use crate::model::{Digest, EventTime, PartitionId, Uid};
use crate::operator::migration::Migrations;
use crate::state::Marker;

/// The last committed header and what the next one repeats of it.
pub(super) struct Head {
    pub header: Header,
    pub hash: HeaderHash,
    /// Where it stands in the changelog.
    pub offset: i64,
}

/// What the open epoch has done so far.
#[derive(Default)]
pub(super) struct OpenEpoch {
    pub opened: Duration,
    /// Input records; timers are none.
    pub records: u64,
    pub newest: Option<EventTime>,
    /// Source, partition and offset of its first input record.
    pub first: Option<(usize, PartitionId, i64)>,
    /// A transaction is open for it.
    pub writing: bool,
    pub emitted: u64,
    pub late: u64,
    /// Records of the changelog that its delta takes.
    pub chunks: usize,
    /// The reset of event time that it makes.
    pub time_reset: Option<u64>,
    /// The swap that brought the version which runs from this epoch on.
    pub swap: Option<Uid>,
}

impl Head {
    /// The header that the open epoch would commit.
    pub fn next(
        &self,
        kind: HeaderKind,
        session: Uid,
        epoch: &OpenEpoch,
        plan: &TaskPlan,
        lane: &Lane,
        inputs: &Inputs,
    ) -> Header {
        let last = &self.header;
        let number = last.epoch + 1;
        let claim = if kind == HeaderKind::Claim { number } else { last.owner.claim };
        let positions = inputs.iter().zip(lane.watermark.snapshot()).map(|(input, mark)| {
            let source = &plan.sources[input.source];
            InputPosition {
                source: source.id.clone(),
                topic: source.topic.id,
                partition: input.partition,
                next_offset: input.next,
                leader_epoch: input.leader_epoch,
                gap: input.gap,
                watermark: mark.watermark,
                idle: mark.idle,
                upstream: Vec::new(),
            }
        });
        let operators = lane.chain.operators.iter().filter_map(|operator| {
            let migrator = operator.migrations().and_then(Migrations::migrator);
            let migrator = migrator.filter(|_| rules().headers_name_migrators);
            let empty = operator.migrations().map(Migrations::begin_empty);
            Some(operator_version(&operator.head().id, operator.module()?, migrator, empty))
        });
        Header {
            kind,
            task: last.task.clone(),
            owner: Owner { session, claim, generation: 0 },
            epoch: number,
            previous: self.hash,
            inputs: positions.collect(),
            watermark: lane.emitted_watermark,
            processing_time: lane.shown_time,
            base: last.base,
            swap: epoch.swap.or(last.swap),
            time_reset: epoch.time_reset.unwrap_or(last.time_reset),
            operators: operators.collect(),
        }
    }

    /// It is of the first epoch behind its session's claim.
    pub fn is_first_behind_claim(&self) -> bool {
        self.header.epoch == self.header.owner.claim + 1
    }
}

/// What a header says of the module that an operator runs.
pub(super) fn operator_version(
    id: &str,
    module: &ModuleRef,
    migrator: Option<Digest>,
    empty: Option<&BTreeSet<String>>,
) -> OperatorVersion {
    let states = module.description().states.iter().map(|state| StateVersion {
        name: state.name.clone(),
        version: state.version,
        begins_empty: empty.is_some_and(|empty| empty.contains(&state.name)),
    });
    OperatorVersion { id: id.to_owned(), module: module.digest, migrator, states: states.collect() }
}

/// What a store says that has taken in the epoch of a header which stands at this offset.
pub(super) fn marker(header: &Header, header_hash: HeaderHash, header_offset: i64) -> Marker {
    Marker { epoch: header.epoch, header_offset, header_hash, task: header.task.digest() }
}
