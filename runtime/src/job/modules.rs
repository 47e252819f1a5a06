//! Modules by name: the index in the control topic over the bytes in the registry.
//!
//! Owns the rule that a name and version stand for the same bytes for ever. A module is looked over,
//! compiled and asked what it is before anything is kept.

use std::sync::Arc;

use super::error::Error;
use super::record::{FORMAT, ModuleId, ModuleRecord, Record};
use super::spec::nearest;
use super::store::{Change, Expected, Store, View};
use super::unknown::Unknown;
use crate::env::{Clock, failpoint};
use crate::model::Digest;
use crate::wasm::contract::GuestFactory;

/// Bytes and engine: real (registry and Wasm) or made up by tests.
pub trait ModuleHost: Send + Sync {
    /// Looks an upload over, makes it ready and keeps its bytes.
    fn admit(&self, bytes: &[u8]) -> Result<Admitted, Error>;
    /// A module that was admitted before, also by an earlier process.
    fn load(&self, digest: Digest) -> Result<Arc<dyn GuestFactory>, Error>;
}

pub struct Admitted {
    pub digest: Digest,
    pub size_bytes: u64,
    /// The bytes were kept already.
    pub existed: bool,
    pub factory: Arc<dyn GuestFactory>,
}

pub struct Modules {
    host: Box<dyn ModuleHost>,
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
}

pub struct Pushed {
    pub module: ModuleRecord,
    /// Name, version and bytes were there already.
    pub existed: bool,
}

impl Modules {
    pub fn new(host: Box<dyn ModuleHost>, store: Arc<Store>, clock: Arc<dyn Clock>) -> Self {
        Self { host, store, clock }
    }

    /// Takes a module in under the name and version that it gives itself.
    ///
    /// # Errors
    /// [`Error::Taken`] where these stand for other bytes already.
    pub fn push(&self, bytes: &[u8]) -> Result<Pushed, Error> {
        let admitted = self.host.admit(bytes)?;
        failpoint("module-stored");
        let description = admitted.factory.description().as_ref().clone();
        let id =
            ModuleId { name: description.name.clone(), version: description.version.clone(), digest: admitted.digest };
        check_names(&id)?;
        if let Some(module) = self.existing(&id)? {
            return Ok(Pushed { module, existed: admitted.existed });
        }
        let pushed_at_ms = self.clock.now() / 1_000_000;
        let (size_bytes, unknown) = (admitted.size_bytes, Unknown::default());
        let module = ModuleRecord { format: FORMAT, id, size_bytes, pushed_at_ms, description, unknown };
        let change = Change::put(Record::Module(Box::new(module.clone())), Expected::Absent);
        match self.store.commit(&[change]) {
            Ok(_) => Ok(Pushed { module, existed: false }),
            // Somebody pushed the same name and version meanwhile: the same bytes are fine.
            Err(Error::Conflict { .. }) if self.existing(&module.id)?.is_some() => Ok(Pushed { module, existed: true }),
            Err(error) => Err(error),
        }
    }

    fn existing(&self, id: &ModuleId) -> Result<Option<ModuleRecord>, Error> {
        match self.store.view().module(&id.name, &id.version) {
            Some(found) if found.id.digest == id.digest => Ok(Some(found.clone())),
            Some(found) => Err(Error::Taken {
                doing: format!("push module {}@{} with digest {}", id.name, id.version, id.digest),
                found: format!("it exists with digest {}", found.id.digest),
                remedy: "raise the module's version: jobs pin a version, so its bytes never change",
            }),
            None => Ok(None),
        }
    }

    pub fn list(&self) -> Vec<ModuleRecord> {
        self.store.view().modules().cloned().collect()
    }

    /// The module that `name@version` or a digest stands for.
    pub fn find(&self, reference: &str) -> Result<ModuleRecord, Error> {
        find(&self.store.view(), reference).map_err(Error::UnknownModule)
    }

    pub fn load(&self, digest: Digest) -> Result<Arc<dyn GuestFactory>, Error> {
        self.host.load(digest)
    }
}

/// # Errors
/// A sentence that names the reference, and the versions or the similar name that exist instead.
pub fn find(view: &View, reference: &str) -> Result<ModuleRecord, String> {
    if let Some(digest) = Digest::parse(reference) {
        let found = view.modules().find(|module| module.id.digest == digest);
        return found.cloned().ok_or_else(|| format!("has digest {digest}"));
    }
    let Some((name, version)) = reference.split_once('@') else {
        return Err(format!("is called {reference}: write name@version{}", versions_of(view, reference)));
    };
    if let Some(module) = view.module(name, version) {
        return Ok(module.clone());
    }
    let versions = versions_of(view, name);
    if !versions.is_empty() {
        return Err(format!("is called {reference}{versions}"));
    }
    let names = view.modules().map(|module| module.id.name.as_str());
    let hint = nearest(name, names).map_or(String::new(), |near| format!("; did you mean {near}?"));
    Err(format!("is called {reference}{hint}"))
}

fn versions_of(view: &View, name: &str) -> String {
    let versions: Vec<_> =
        view.modules().filter(|module| module.id.name == name).map(|module| module.id.version.as_str()).collect();
    if versions.is_empty() { String::new() } else { format!(" ({name} has {})", versions.join(", ")) }
}

/// Names become keys of the control topic and parts of paths and labels.
fn check_names(id: &ModuleId) -> Result<(), Error> {
    let plain = |text: &str, more: &str| {
        !text.is_empty() && text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    if plain(&id.name, "-_") && plain(&id.version, "-_.+") {
        return Ok(());
    }
    Err(Error::Invalid {
        doing: "push module".to_owned(),
        found: format!("it calls itself {:?}, version {:?}", id.name, id.version),
        remedy: "a name has up to 64 letters, digits, - and _; a version also . and +",
    })
}
