//! What leads where inside a task, as its operators are now.
//!
//! Owns nothing. The plan's numbers of inputs and outputs are those of the plan's own modules; another version may declare
//! them in another order, so all is matched by name.

use std::sync::Arc;

use super::plan::{Origin, TaskPlan};
use crate::operator::outlet::Route;
use crate::state::OperatorStates;
use crate::wasm::contract::Description;

/// Per operator the names under which its state is kept.
pub(super) fn bindings(plan: &TaskPlan, now: &[Arc<Description>]) -> Vec<OperatorStates> {
    let of = plan.operators.iter().zip(now);
    of.map(|(operator, description)| OperatorStates {
        id: operator.id.clone(),
        states: description.states.iter().map(|state| state.name.clone()).collect(),
        timers: description.timers.iter().map(|timer| timer.name.clone()).collect(),
    })
    .collect()
}

/// Per output of operator `index`, in its running module's order, where it leads.
pub(super) fn routes_of(plan: &TaskPlan, now: &[Arc<Description>], index: usize) -> Vec<Vec<Route>> {
    let planned = plan.operators[index].module.description();
    let outputs = now[index].outputs.iter();
    outputs
        .map(|name| match planned.outputs.iter().position(|output| output == name) {
            Some(output) => routes_from(plan, now, Origin::Output { operator: index, output: output as u8 }),
            None => Vec::new(),
        })
        .collect()
}

pub(super) fn routes_from(plan: &TaskPlan, now: &[Arc<Description>], from: Origin) -> Vec<Route> {
    let sinks = plan.sinks.iter().enumerate().filter(|(_, sink)| sink.from == from).map(|(s, _)| Route::Sink(s));
    let operators = plan.operators.iter().enumerate().flat_map(|(operator, planned)| {
        let inputs = planned.inputs.iter().filter(move |(origin, _)| *origin == from);
        inputs.map(move |&(_, input)| {
            let input = renumber(planned.module.description(), &now[operator], input);
            Route::Operator { operator, input }
        })
    });
    operators.chain(sinks).collect()
}

fn renumber(planned: &Arc<Description>, running: &Arc<Description>, input: u8) -> u8 {
    let name = planned.inputs.get(input as usize);
    let position = name.and_then(|name| running.inputs.iter().position(|input| input == name));
    position.map_or(input, |position| position as u8)
}
