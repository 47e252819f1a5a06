//! What can be seen of a task's past before anything is changed: what the local store says of itself, and what stands
//! in the changelog where the store says it stands.
//!
//! Decides nothing: see [`foundation`](super::foundation). The changelog behind the store may be gigabytes, so it is not
//! read here and then a second time: in the usual case only the first delta is looked at, and [`Tail`] hands the rest on
//! to be replayed as it is read.

use super::foundation::{Facts, Standing, is_named};
use super::start::identity;
use crate::log::{Isolation, Log};
use crate::state::Marker;
use crate::task::Error;
use crate::task::changelog::Deltas;
use crate::task::epoch::Head;
use crate::task::plan::TaskPlan;

pub(super) struct Scan<'a> {
    pub facts: Facts,
    /// Only where the store's own header stands in its place.
    pub tail: Option<Tail<'a>>,
}

/// The header that the store names, and what stands behind it, not read yet.
pub(super) struct Tail<'a> {
    pub head: Head,
    pub behind: Deltas<'a>,
}

/// Looks at the changelog as far as the choice of a foundation needs it. Whoever calls owns the task: the changelog's
/// end is its end.
pub(super) fn scan<'a>(plan: &'a TaskPlan, log: &'a dyn Log, store: Option<Marker>) -> Result<Scan<'a>, Error> {
    let (topic, partition) = (&plan.changelog.name, plan.task.changelog_partition());
    let end = log.end_offset(topic, partition, Isolation::ReadUncommitted)?;
    let start = log.start_offset(topic, partition)?;
    let mut facts = Facts { task: identity(plan).digest(), store, start, end, standing: None, last: None };
    let Some(place) = facts.place_of_store() else { return Ok(Scan { facts, tail: None }) };
    let mut behind = Deltas::open(log, plan, place, end)?;
    let Some((offset, delta)) = behind.next()? else { return Ok(Scan { facts, tail: None }) };
    let standing = Standing { epoch: delta.header.epoch, hash: delta.hash };
    (facts.standing, facts.last) = (Some(standing), Some(standing.epoch));
    if store.is_some_and(|marker| is_named(&marker, &standing)) {
        let head = Head { hash: delta.hash, header: delta.header, offset };
        return Ok(Scan { facts, tail: Some(Tail { head, behind }) });
    }
    while let Some((_, delta)) = behind.next()? {
        facts.last = Some(delta.header.epoch);
    }
    Ok(Scan { facts, tail: None })
}
