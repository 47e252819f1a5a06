//! The local store brought to the changelog's end: opened, thrown away where it is no use, and given the deltas that it
//! lacks, each checked against the chain of headers.
//!
//! Owns how the store is opened. Never holds more than one delta. Where it ends early, by an error or a death, the store
//! stands at some committed epoch and says at which; the next recovery goes on from there.

use super::foundation::Foundation;
use super::scan::Scan;
use super::start::{identity, start_over};
use crate::checkpoint::{Chain as HeaderChain, Delta, HeaderHash};
use crate::env::failpoint;
use crate::error::Kind;
use crate::log::Log;
use crate::state::{Changes, Marker, StateSettings, TaskState};
use crate::task::Error;
use crate::task::changelog::{self, Deltas};
use crate::task::epoch::{Head, marker};
use crate::task::plan::TaskPlan;
use crate::task::rules::rules;

/// The store, and what it says of itself.
pub(super) type Store = (TaskState, Option<Marker>);

/// Where a replay has come to.
pub(super) struct Replayed {
    pub state: TaskState,
    /// The last header.
    pub head: Head,
    /// Of the header at the epoch that was asked for, where it was passed.
    pub at_noted: Option<HeaderHash>,
}

/// Brings the state to the changelog's end, from its foundation on. Looks out for the header at the epoch `noted`.
pub(super) fn replay<'a>(
    plan: &'a TaskPlan,
    log: &'a dyn Log,
    mut state: TaskState,
    foundation: Foundation,
    Scan { facts, tail }: Scan<'a>,
    noted: Option<u64>,
) -> Result<Replayed, Error> {
    let (mut chain, mut head, mut deltas) = match (foundation, tail) {
        (Foundation::Store(standing), Some(tail)) => {
            let chain = HeaderChain::behind(identity(plan), standing.epoch, standing.hash);
            (chain, Some(tail.head), tail.behind)
        }
        (foundation, _) => {
            if let Foundation::ChangelogInPlaceOf(marker) = foundation {
                tracing::warn!(dir = %plan.state_dir.display(), epoch = marker.epoch, "local store is not in the chain: rebuilding it");
                drop(state);
                state = fresh_store(plan)?;
            }
            (HeaderChain::at_start(identity(plan)), None, Deltas::open(log, plan, facts.start, facts.end)?)
        }
    };
    let is_read = head.is_some() && !rules().tail_is_replayed;
    let is_noted = |head: &Head| Some(head.header.epoch) == noted;
    let mut at_noted = head.as_ref().filter(|head| is_noted(head)).map(|head| head.hash);
    while let Some((offset, delta)) = if is_read { None } else { deltas.next()? } {
        let passed = apply(plan, &mut state, &mut chain, offset, delta)?;
        at_noted = if is_noted(&passed) { Some(passed.hash) } else { at_noted };
        head = Some(passed);
    }
    let head = match head {
        Some(head) => head,
        None if !rules().no_header_is_a_stop => start_over(plan)?,
        None => {
            return Err(Error::NoHeader {
                topic: plan.changelog.name.clone(),
                partition: plan.task.changelog_partition(),
            });
        }
    };
    Ok(Replayed { state, head, at_noted })
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

/// Checks one delta against the chain and puts its changes into the store.
fn apply(
    plan: &TaskPlan,
    state: &mut TaskState,
    chain: &mut HeaderChain,
    offset: i64,
    delta: Delta,
) -> Result<Head, Error> {
    let Delta { header, hash, keys, values } = delta;
    chain
        .follow(&header, hash)
        .map_err(|source| changelog::error(&plan.changelog, plan.task.changelog_partition(), offset, source))?;
    state.replay(&Changes { keys, values }, marker(&header, hash, offset))?;
    failpoint("recovery-delta-replayed");
    Ok(Head { header, hash, offset })
}
