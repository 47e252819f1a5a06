//! A module as an operator runs it: which code, under which parameters.

use std::sync::Arc;

use crate::model::Digest;
use crate::wasm::contract::{Context, Description, Guest, GuestError, GuestFactory};

/// A module with the parameters it runs under.
#[derive(Clone)]
pub struct ModuleRef {
    pub name: String,
    pub version: String,
    pub digest: Digest,
    pub factory: Arc<dyn GuestFactory>,
    /// Declared parameters with presets filled in, in declared order.
    pub parameters: Vec<(String, String)>,
}

impl ModuleRef {
    pub fn description(&self) -> &Arc<Description> {
        self.factory.description()
    }

    /// A fresh, opened instance for the operator `operator_id` of `job`.
    pub fn instantiate(&self, job: &str, operator_id: &str, connected: &[u8]) -> Result<Box<dyn Guest>, GuestError> {
        self.factory.instantiate(&Context {
            job: job.to_owned(),
            operator_id: operator_id.to_owned(),
            parameters: self.parameters.clone(),
            connected_outputs: connected.to_owned(),
        })
    }
}

impl std::fmt::Display for ModuleRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{} ({})", self.name, self.version, self.digest.short())
    }
}
