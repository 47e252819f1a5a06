//! Guests as the runtime loads them: from components on disk, compiled into a cache.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use forebay::error::Kind;
use forebay::model::Digest;
use forebay::operator::ModuleRef;
use forebay::task::plan::{ModuleSource, Parameter, Unavailable};
use forebay::wasm::contract::GuestFactory;
use forebay::wasm::{Engine, EngineSettings};

use crate::{Outcome, Setup};

/// Where `cargo xtask guests` puts what it builds.
pub fn default_dir() -> PathBuf {
    let home = || std::env::home_dir().unwrap_or_default().join(".cache/forebay");
    std::env::var_os("FOREBAY_CACHE").map_or_else(home, PathBuf::from).join("guests")
}

/// Loads components by the names of their files.
pub struct Loader<'a> {
    engine: Engine,
    guests: &'a Path,
}

impl<'a> Loader<'a> {
    pub fn new(setup: &'a Setup) -> Outcome<Self> {
        Ok(Self { engine: Engine::new(EngineSettings::default())?, guests: &setup.guests })
    }

    /// `<guests>/<name>.wasm` as an operator runs it, with the presets of its parameters.
    pub fn module(&self, name: &str) -> Outcome<ModuleRef> {
        self.module_in(self.guests, name)
    }

    /// The same of another folder.
    pub fn module_in(&self, dir: &Path, name: &str) -> Outcome<ModuleRef> {
        let file = dir.join(format!("{name}.wasm"));
        let bytes = std::fs::read(&file)
            .map_err(|error| format!("read {}: {error}; build the guests: cargo xtask guests", file.display()))?;
        let checked = self.engine.inspect(&bytes)?;
        let module = self.engine.load(checked.digest, &checked.component, &dir.join("compiled"))?;
        Ok(reference(checked.digest, module))
    }
}

/// A module as an operator runs it, with the presets of its parameters.
pub fn reference(digest: Digest, factory: Arc<dyn GuestFactory>) -> ModuleRef {
    let description = factory.description();
    let (name, version) = (description.name.clone(), description.version.clone());
    let parameters = description.parameters.iter();
    let parameters =
        parameters.map(|p| (p.name.clone(), Parameter::Text(p.preset.clone().unwrap_or_default()))).collect();
    ModuleRef { name, version, digest, factory, parameters }
}

/// The modules that a task may be asked to run.
pub struct Known(pub Vec<ModuleRef>);

impl ModuleSource for Known {
    fn module(&self, operator: &str, digest: Digest) -> Result<ModuleRef, Unavailable> {
        let found = self.0.iter().find(|module| module.digest == digest).cloned();
        let why = || format!("operator {operator}: module {digest} is not part of this measurement");
        found.ok_or_else(|| Unavailable { why: why(), kind: Kind::NotFound })
    }
}
