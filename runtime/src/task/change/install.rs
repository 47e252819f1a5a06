//! Putting another version in the place of the one that runs.
//!
//! Owns nothing. Called between two epochs, so that no value of the old version is on its way.

use super::trial::Ready;
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
    let chain = &mut lane.chain;
    let mut modules: Vec<_> = chain.transforms.iter().map(|t| t.module().clone()).collect();
    modules[operator] = module.clone();
    let migrations = Migrations::new(operator, &module.description().states, ready.migrator);
    let id = chain.transforms[operator].id.clone();
    let mut transform = Transform::new(&plan.job.name, &id, operator, module, migrations);
    transform.adopt(ready.guest);
    transform.faults = chain.transforms[operator].faults;
    chain.transforms[operator] = transform;
    let keyed: Vec<_> = modules.iter().map(|module| module.description().keyed).collect();
    for (other, transform) in chain.transforms.iter_mut().enumerate() {
        transform.reroute(routes_of(plan, &modules, other), &keyed);
    }
    let sources = (0..plan.sources.len()).map(|s| routes_from(plan, &modules, Origin::Source(s)));
    chain.reroute_sources(sources.collect());
    Ok(lane.state.bind(&bindings(plan, &modules))?)
}
