//! An operator of a task's chain, whatever it is made of.
//!
//! Owns nothing: what all have is their [`Head`], and what is done with records and timers is the kind's. The chain asks no
//! operator of which kind it is.

use std::sync::Arc;

use super::Error;
use super::flow::Flow;
use super::head::Head;
use super::migration::Migrations;
use super::module::ModuleRef;
use super::transform::{CallContext, CallLimits, Transform};
use crate::state::DueTimer;
use crate::wasm::contract::Description;

pub enum Operator {
    /// A module's code.
    Transform(Transform),
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
