//! An operator of a task's chain, whatever it is made of.
//!
//! Owns what all have: a name, a place, where their output goes, and counters. What is done with records and timers is the
//! kind's; the chain asks no kind which one it is.

use std::sync::Arc;

use super::Error;
use super::flow::Flow;
use super::migration::Migrations;
use super::module::ModuleRef;
use super::outlet::Route;
use super::transform::{CallContext, CallLimits, Transform};
use crate::state::DueTimer;
use crate::wasm::contract::Description;

pub enum Operator {
    /// A module's code.
    Transform(Transform),
}

/// What every operator has.
pub struct Head {
    pub id: String,
    /// Position among the task's operators and their states.
    pub index: usize,
    pub(super) routes: Vec<Vec<Route>>,
    /// Per output whether it feeds a keyed operator.
    pub(super) keyed_outputs: Vec<bool>,
    /// Calls that trapped, ran out of time or memory, or answered wrongly.
    pub faults: u64,
}

impl Head {
    pub fn new(id: &str, index: usize) -> Self {
        Self { id: id.to_owned(), index, routes: Vec::new(), keyed_outputs: Vec::new(), faults: 0 }
    }

    /// The places that an output leads to.
    pub(super) fn routes_of(&self, output: u8) -> &[Route] {
        self.routes.get(output as usize).map_or(&[], Vec::as_slice)
    }

    /// Where each output leads; `keyed` says of every operator of the task whether it is keyed.
    pub fn reroute(&mut self, routes: Vec<Vec<Route>>, keyed: &[bool]) {
        let is_keyed = |route: &Route| matches!(*route, Route::Operator { operator, .. } if keyed[operator]);
        self.keyed_outputs = routes.iter().map(|routes| routes.iter().any(is_keyed)).collect();
        self.routes = routes;
    }
}

impl Operator {
    pub fn head(&self) -> &Head {
        match self {
            Self::Transform(transform) => &transform.head,
        }
    }

    pub fn head_mut(&mut self) -> &mut Head {
        match self {
            Self::Transform(transform) => &mut transform.head,
        }
    }

    /// Inputs, outputs, states and timers, by name.
    pub fn description(&self) -> &Arc<Description> {
        match self {
            Self::Transform(transform) => transform.module().description(),
        }
    }

    /// The module that runs, where there is one.
    pub fn module(&self) -> Option<&ModuleRef> {
        match self {
            Self::Transform(transform) => Some(transform.module()),
        }
    }

    /// What brings values of an older version to the one that is read; none where values have no versions.
    pub fn migrations(&self) -> Option<&Migrations> {
        match self {
            Self::Transform(transform) => Some(&transform.migrations),
        }
    }

    pub fn migrations_mut(&mut self) -> Option<&mut Migrations> {
        match self {
            Self::Transform(transform) => Some(&mut transform.migrations),
        }
    }

    /// Values of an older version may be left.
    pub fn is_migrating(&self) -> bool {
        self.migrations().is_some_and(Migrations::pending)
    }

    /// Works through all of `flow`, in order.
    pub fn process(&mut self, flow: &Flow, limits: CallLimits, context: &mut CallContext<'_>) -> Result<(), Error> {
        match self {
            Self::Transform(transform) => transform.process(flow, limits, context),
        }
    }

    /// Fires timers, in the order given: all, or the first few. True for the latter.
    pub fn fire(&mut self, due: &[DueTimer], limits: CallLimits, context: &mut CallContext<'_>) -> Result<bool, Error> {
        match self {
            Self::Transform(transform) => transform.fire(due, limits, context),
        }
    }
}
