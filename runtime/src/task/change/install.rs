//! Putting another version in the place of the one that runs.
//!
//! Owns nothing. Called between two epochs, so that no value of the old version is on its way.

use std::sync::Arc;

use super::trial::Ready;
use crate::operator::kind::Operator;
use crate::operator::migration::Migrations;
use crate::operator::transform::Transform;
use crate::task::Error;
use crate::task::lane::Lane;
use crate::task::plan::{ModuleRef, Origin, TaskPlan};
use crate::task::wiring::{bindings, routes_from, routes_of};

/// Installs the module at an operator, and leads every route to it by name.
pub(super) fn install(
    plan: &TaskPlan,
    lane: &mut Lane,
    operator: usize,
    module: ModuleRef,
    ready: Ready,
) -> Result<(), Error> {
    let mut now = lane.descriptions();
    now[operator] = Arc::clone(module.description());
    let migrations = Migrations::new(operator, &module.description().states, ready.migrator, ready.empty);
    let chain = &mut lane.chain;
    let before = chain.operators[operator].head();
    let mut transform = Transform::new(&plan.job.name, &before.id, operator, module, migrations);
    transform.head.faults = before.faults;
    transform.adopt(ready.guest);
    chain.operators[operator] = Operator::Transform(transform);
    let keyed: Vec<_> = now.iter().map(|description| description.keyed).collect();
    for (other, operator) in chain.operators.iter_mut().enumerate() {
        operator.head_mut().reroute(routes_of(plan, &now, other), &keyed);
    }
    let sources = (0..plan.sources.len()).map(|s| routes_from(plan, &now, Origin::Source(s)));
    chain.reroute_sources(sources.collect());
    Ok(lane.state.bind(&bindings(plan, &now))?)
}
