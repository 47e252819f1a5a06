//! The real things behind the seams of this layer: modules out of the log, run by the Wasm engine, and tasks on
//! threads.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::error::Error;
use super::module_log::{Kept, ModuleLog};
use super::modules::{Admitted, ModuleHost};
use super::running::Runner;
use crate::env::Clock;
use crate::log::clusters::Clusters;
use crate::model::Digest;
use crate::task;
use crate::task::handle::TaskHandle;
use crate::task::plan::{ModuleSource, TaskPlan};
use crate::wasm::contract::GuestFactory;
use crate::wasm::{self, Engine};

pub struct WasmHost {
    pub engine: Engine,
    pub modules: ModuleLog,
    /// Where compiled code is kept.
    pub cache_dir: PathBuf,
    pub loaded: Loaded,
}

/// Modules that some job has in use: a thousand jobs of one module read and check its bytes once.
#[derive(Default)]
pub struct Loaded(Mutex<BTreeMap<Digest, Weak<dyn GuestFactory>>>);

impl Loaded {
    fn get(&self, digest: Digest) -> Option<Arc<dyn GuestFactory>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&digest)?.upgrade()
    }

    fn keep(&self, digest: Digest, factory: &Arc<dyn GuestFactory>) {
        let mut loaded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.retain(|_, known| known.strong_count() > 0);
        loaded.insert(digest, Arc::downgrade(factory));
    }
}

impl ModuleHost for WasmHost {
    /// Kept only when it compiles and describes itself: what is stored can run.
    fn admit(&self, bytes: &[u8]) -> Result<Admitted, Error> {
        let checked = self.engine.inspect(bytes).map_err(rejected)?;
        let factory = self.engine.load(checked.digest, &checked.component, &self.cache_dir).map_err(rejected)?;
        let Kept { digest, existed } = self.modules.put(&checked.component)?;
        Ok(Admitted { digest, size_bytes: checked.component.len() as u64, existed, factory })
    }

    fn load(&self, digest: Digest) -> Result<Arc<dyn GuestFactory>, Error> {
        if let Some(factory) = self.loaded.get(digest) {
            return Ok(factory);
        }
        let component = self.modules.get(digest)?;
        let factory: Arc<dyn GuestFactory> = self.engine.load(digest, &component, &self.cache_dir)?;
        self.loaded.keep(digest, &factory);
        Ok(factory)
    }
}

fn rejected(error: wasm::Error) -> Error {
    match error {
        wasm::Error::Rejected(rejected) => Error::Rejected { reasons: rejected.reasons },
        error => error.into(),
    }
}

pub struct Threads {
    pub clusters: Clusters,
    pub clock: Arc<dyn Clock>,
}

/// Tries of committing header 0 while nobody knows whether the last commit happened.
const DEPLOY_ATTEMPTS: u32 = 5;

impl Runner for Threads {
    fn deploy(&self, plan: &TaskPlan) -> Result<(), Error> {
        let mut attempts = 1;
        loop {
            match task::deploy(plan, self.clusters.home().as_ref()) {
                // A header that did get in is found by the next attempt.
                Err(task::Error::Indefinite { .. }) if attempts < DEPLOY_ATTEMPTS => attempts += 1,
                deployed => return Ok(deployed?),
            }
        }
    }

    fn spawn(&self, plan: TaskPlan, modules: Arc<dyn ModuleSource>) -> Result<TaskHandle, Error> {
        let doing = format!("start task {} of job {}", plan.task, plan.job.name);
        task::spawn(plan, self.clusters.clone(), modules, Arc::clone(&self.clock))
            .map_err(|source| Error::Io { doing, source })
    }
}
