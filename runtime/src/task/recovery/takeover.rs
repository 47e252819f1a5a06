//! Before anything is read: the task is taken over, and its topics are looked at.
//!
//! Taking the writer over fences any predecessor and ends what it left open, so that nobody can add to what is read
//! then. Owns nothing, and never touches an input, the changelog's content or the local store's.

use std::collections::{BTreeMap, BTreeSet};

use crate::log::{self, Cleanup, Log, TopicRules};
use crate::task::Error;
use crate::task::context::TaskContext;
use crate::task::plan::{TaskPlan, TopicRef};
use crate::task::rules::rules;

/// Takes the task over, and does beside it what needs no ownership: the cluster may let a takeover wait.
pub(super) fn beside<A: Send, B>(
    overlap: bool,
    take_over: impl FnOnce() -> Result<A, log::Error> + Send,
    prepare: impl FnOnce() -> Result<B, Error>,
) -> Result<(A, B), Error> {
    if !overlap {
        let prepared = prepare()?;
        return Ok((take_over()?, prepared));
    }
    std::thread::scope(|scope| {
        let taking = scope.spawn(take_over);
        let prepared = prepare();
        let taken = taking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // What is wrong with the topics says more than that the takeover came to nothing.
        let prepared = prepared?;
        Ok((taken?, prepared))
    })
}

/// The rules of topics as they are now (they may have changed since the plan was made), by other cluster and name.
pub(super) type TopicRulesNow<'a> = BTreeMap<(Option<&'a str>, &'a str), TopicRules>;

/// A topic that was made again under its name is another topic. Each is asked for where it is.
pub(super) fn check_topics(context: &TaskContext) -> Result<TopicRulesNow<'_>, Error> {
    let TaskContext { plan, log, clusters, .. } = context;
    let mut known = TopicRulesNow::new();
    let sources = plan.sources.iter().map(|source| &source.topic);
    let at_home = sources.chain(sinks_on(plan, None)).chain([&plan.changelog, &plan.dead_letters]).collect();
    check_same(log.as_ref(), None, at_home, &mut known)?;
    let elsewhere: BTreeSet<&str> = plan.sinks.iter().filter_map(|sink| sink.cluster.as_deref()).collect();
    for cluster in elsewhere {
        check_same(clusters.other(cluster)?.as_ref(), Some(cluster), sinks_on(plan, Some(cluster)), &mut known)?;
    }
    log.check_internal(&plan.changelog.name, plan.changelog.partitions, Cleanup::Delete)?;
    Ok(known)
}

fn sinks_on<'a>(plan: &'a TaskPlan, cluster: Option<&str>) -> Vec<&'a TopicRef> {
    plan.sinks.iter().filter(|sink| sink.cluster.as_deref() == cluster).map(|sink| &sink.topic).collect()
}

fn check_same<'a>(
    log: &dyn Log,
    cluster: Option<&'a str>,
    needed: Vec<&'a TopicRef>,
    known: &mut TopicRulesNow<'a>,
) -> Result<(), Error> {
    let names: Vec<_> = needed.iter().map(|topic| topic.name.as_str()).collect();
    let there = log.topics_named(&names)?;
    for TopicRef { name, id, .. } in needed {
        let found = there.iter().find(|topic| topic.spec.name == *name);
        let found = found.ok_or_else(|| Error::TopicGone { topic: name.clone() })?;
        if found.id != *id && rules().topics_are_known_by_id {
            return Err(Error::TopicChanged { topic: name.clone(), expected: *id, found: found.id });
        }
        known.insert((cluster, name), found.rules());
    }
    Ok(())
}
