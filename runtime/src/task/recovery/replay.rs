//! State and last header, from the local store and the changelog behind it.

use super::broken;
use super::start::identity;
use crate::checkpoint::{Chain as HeaderChain, Delta, Header};
use crate::env::{Bug, bug, failpoint};
use crate::error::Kind;
use crate::log::{Isolation, Log};
use crate::state::{Changes, Marker, StateSettings, TaskState};
use crate::task::plan::TaskPlan;
use crate::task::session::Head;
use crate::task::{Error, changelog};

pub(super) type Store = (TaskState, Option<Marker>);

/// State and last header: from the local store and the tail behind it, or from the whole changelog.
pub(super) fn restore(plan: &TaskPlan, log: &dyn Log, (mut state, marker): Store) -> Result<(TaskState, Head), Error> {
    failpoint("recovery-store-opened");
    if let Some(marker) = marker {
        let replayed = match replay_behind(plan, log, &mut state, marker) {
            // Breaks: a store ahead of the changelog means that the changelog lost data, and is a stop.
            Err(Error::ChangelogLost { .. }) if bug(Bug::IgnoreLostTail) => None,
            replayed => replayed?,
        };
        match replayed {
            Some(head) => return Ok((state, head)),
            None => {
                tracing::warn!(dir = %plan.state_dir.display(), epoch = marker.epoch, "local store is not in the chain: rebuilding it");
                drop(state);
                state = fresh_store(plan)?;
            }
        }
    }
    let start = log.start_offset(&plan.changelog.name, plan.task as i32)?;
    let mut chain = HeaderChain::at_start(identity(plan));
    let mut head: Option<Head> = None;
    changelog::read_to_end(log, plan, start, |offset, delta| {
        head = Some(replay(plan, &mut state, &mut chain, offset, delta)?);
        Ok(())
    })?;
    match head {
        Some(head) => Ok((state, head)),
        // Breaks: a task that finds no header stops.
        None if bug(Bug::StartWithoutHeader) => Ok((state, broken::start_over(plan)?)),
        None => Err(Error::NoHeader { topic: plan.changelog.name.clone(), partition: plan.task as i32 }),
    }
}

/// A store that is damaged, or that another build wrote, is only a cache of the changelog.
pub(super) fn open_store(plan: &TaskPlan) -> Result<Store, Error> {
    match TaskState::open(&plan.state_dir, &state_settings(plan)) {
        Err(error) if error.kind() == Kind::Corrupt => {
            tracing::warn!("rebuilding the local store from the changelog: {error}");
            Ok((fresh_store(plan)?, None))
        }
        opened => Ok(opened?),
    }
}

fn fresh_store(plan: &TaskPlan) -> Result<TaskState, Error> {
    TaskState::wipe(&plan.state_dir)?;
    failpoint("recovery-store-wiped");
    Ok(TaskState::open(&plan.state_dir, &state_settings(plan))?.0)
}

fn state_settings(plan: &TaskPlan) -> StateSettings {
    StateSettings { cache_bytes: plan.settings.cache_bytes, ..StateSettings::default() }
}

/// Replays what stands behind the header that the store names. `None` where that header is not the
/// one that stands at its place, or the store is another task's.
fn replay_behind(plan: &TaskPlan, log: &dyn Log, state: &mut TaskState, marker: Marker) -> Result<Option<Head>, Error> {
    let (topic, partition) = (&plan.changelog.name, plan.task as i32);
    if marker.task != identity(plan).digest() {
        return Ok(None);
    }
    let end = log.end_offset(topic, partition, Isolation::ReadUncommitted)?;
    let lost = |last| Error::ChangelogLost { topic: topic.clone(), partition, stored: marker.epoch, last };
    if marker.header_offset >= end {
        return Err(lost(0));
    }
    // What the store stands on was deleted. The store may be all that is left: it is kept.
    if marker.header_offset < log.start_offset(topic, partition)? {
        return Err(lost(0));
    }
    let mut chain = HeaderChain::behind(identity(plan), marker.epoch, marker.header_hash);
    let mut head: Option<Head> = None;
    let (mut foreign, mut last) = (false, 0);
    changelog::read_to_end(log, plan, marker.header_offset, |offset, delta| {
        last = delta.header.epoch;
        if head.is_none() {
            foreign = delta.hash != marker.header_hash;
            if bug(Bug::TrustEpochNumber) {
                // Breaks: the store counts only where exactly the header that it names stands in the chain.
                foreign = delta.header.epoch != marker.epoch;
                chain = HeaderChain::behind(identity(plan), marker.epoch, delta.hash);
            }
            head = Some(Head { hash: delta.hash, header: delta.header, offset });
        // Breaks: after a takeover the changelog is read to its end.
        } else if !foreign && !bug(Bug::TakeoverWithoutReading) {
            head = Some(replay(plan, state, &mut chain, offset, delta)?);
        }
        Ok(())
    })?;
    match head {
        None => Err(lost(0)),
        Some(_) if foreign && last < marker.epoch => Err(lost(last)),
        Some(_) if foreign => Ok(None),
        Some(head) => Ok(Some(head)),
    }
}

/// Checks one delta against the chain and puts its changes into the store.
fn replay(
    plan: &TaskPlan,
    state: &mut TaskState,
    chain: &mut HeaderChain,
    offset: i64,
    delta: Delta,
) -> Result<Head, Error> {
    let Delta { header, hash, keys, values } = delta;
    chain.follow(&header, hash).map_err(|source| changelog::error(&plan.changelog, plan.task, offset, source))?;
    state.replay(&Changes { keys, values }, marker(&header, hash, offset))?;
    failpoint("recovery-delta-replayed");
    Ok(Head { header, hash, offset })
}

/// What a store says that has taken in the epoch of a header which stands at this offset.
pub(in crate::task) fn marker(header: &Header, header_hash: [u8; 32], header_offset: i64) -> Marker {
    Marker { epoch: header.epoch, header_offset, header_hash, task: header.task.digest() }
}
