//! The one engine of a process: its settings, its tick, and the modules loaded through it.
//!
//! Owns wasmtime's configuration and the thread that moves its epoch. Compiles only in
//! [`Engine::load`], which is for the control plane and for a task's start, never for the record path.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, EngineWeak, OptLevel};

use super::apart::{Apart, Work};
use super::bindings::{Transform, TransformPre};
use super::budget::TICK;
use super::error::Error;
use super::host::State;
use super::inspect::Checked;
use super::instance::Module;
use super::{EngineSettings, cache, inspect};
use crate::model::Digest;

/// Cheap to clone; all clones are one engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    wasm: wasmtime::Engine,
    linker: Linker<State>,
    settings: EngineSettings,
    /// Where uploads are looked over and compiled; none: in this process.
    apart: Option<Apart>,
    /// Ticks since the engine started.
    ticks: Arc<AtomicU64>,
    /// Loaded modules, each behind a lock of its own: a module is compiled once, whoever asks.
    modules: Mutex<HashMap<Digest, Arc<Mutex<Weak<Module>>>>>,
}

impl Engine {
    /// Looks uploads over and compiles them in this process: for modules that are trusted not to harm the compiler.
    ///
    /// # Errors
    /// What the engine has against the settings or the system.
    pub fn new(settings: EngineSettings) -> Result<Self, Error> {
        Self::start(settings, None)
    }

    /// Looks uploads over and compiles them in processes of `program`, which calls [`super::apart::serve`] when its
    /// argument is [`super::apart::ARGUMENT`].
    ///
    /// # Errors
    /// As [`Engine::new`].
    pub fn compiling_apart(settings: EngineSettings, program: PathBuf) -> Result<Self, Error> {
        Self::start(settings, Some(Apart::new(program)))
    }

    fn start(settings: EngineSettings, apart: Option<Apart>) -> Result<Self, Error> {
        let failed = |e: wasmtime::Error| Error::Start(format!("{e:#}"));
        let wasm = wasmtime::Engine::new(&config(&settings)).map_err(failed)?;
        let mut linker = Linker::new(&wasm);
        Transform::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut State| state).map_err(failed)?;
        let ticks = Arc::new(AtomicU64::new(0));
        start_ticking(wasm.weak(), ticks.clone())?;
        let modules = Mutex::default();
        Ok(Self { inner: Arc::new(Inner { wasm, linker, settings, apart, ticks, modules }) })
    }

    pub fn settings(&self) -> &EngineSettings {
        &self.inner.settings
    }

    /// Looks an upload over without compiling it: is it a transform that this host can run? Takes
    /// some hundred milliseconds for a large one: not for an async thread.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its remedy.
    pub fn inspect(&self, bytes: &[u8]) -> Result<Checked, Error> {
        let Inner { settings, apart, .. } = self.inner.as_ref();
        match apart {
            Some(apart) if bytes.len() <= settings.upload_bytes_max => {
                let component = apart.run(Work::Inspect, settings, bytes)?;
                Ok(Checked { digest: Digest::of(&component), component })
            }
            _ => Ok(inspect::inspect(bytes, settings.upload_bytes_max)?),
        }
    }

    /// Makes a component ready to be called: compiled (or found compiled in `cache_dir`), linked, and
    /// asked twice what it is. Takes up to some seconds for a large component that was never seen:
    /// not for an async thread.
    ///
    /// # Errors
    /// What the compiler, the description or the disk had against it; nothing is kept of it then.
    pub fn load(&self, digest: Digest, component: &[u8], cache_dir: &Path) -> Result<Arc<Module>, Error> {
        let slot = lock(&self.inner.modules).entry(digest).or_default().clone();
        let mut slot = lock(&slot);
        if let Some(module) = slot.upgrade() {
            return Ok(module);
        }
        let found = Digest::of(component);
        if found != digest {
            return Err(Error::Digest { expected: digest, found });
        }
        let compile = || self.compile(digest, component);
        let compiled = cache::compiled(&self.inner.wasm, digest, cache_dir, compile)?;
        let pre = self.inner.linker.instantiate_pre(&compiled).and_then(TransformPre::new);
        let pre = pre.map_err(|e| Error::Compile { digest, message: format!("link: {e:#}") })?;
        let module = Arc::new(Module::new(digest, pre, &self.inner.settings, self.inner.ticks.clone())?);
        *slot = Arc::downgrade(&module);
        Ok(module)
    }

    fn compile(&self, digest: Digest, component: &[u8]) -> Result<Vec<u8>, Error> {
        match &self.inner.apart {
            Some(apart) => apart.run(Work::Compile, &self.inner.settings, component),
            None => self.precompile(component).map_err(|message| Error::Compile { digest, message }),
        }
    }

    /// Compiles here and now.
    pub(super) fn precompile(&self, component: &[u8]) -> Result<Vec<u8>, String> {
        let code = catch_unwind(AssertUnwindSafe(|| self.inner.wasm.precompile_component(component)));
        code.map_or_else(|_| Err("the compiler panicked".to_owned()), |code| code.map_err(|e| format!("{e:#}")))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A thread that panicked while it held the lock left a map or an empty slot: both are whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The same call must give the same answer on the same engine, at least cost.
///
/// Instances are allocated on demand: one takes 20 µs and is made after a trap or a swap, never per
/// batch, and memory that was another guest's is never given out. A pool would put fixed caps on what
/// all tenants together may have.
fn config(settings: &EngineSettings) -> Config {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        // Off the record path, with what is left of the CPU: see `apart`.
        .parallel_compilation(false)
        // An export call without it costs a third, an import call less than a half.
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(settings.stack_bytes_max)
        // Determinism: a NaN's bits and relaxed SIMD would otherwise depend on the machine.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .wasm_memory64(false)
        .memory_init_cow(true);
    config
}

/// One thread a process moves the epoch on; it ends with the engine.
fn start_ticking(engine: EngineWeak, ticks: Arc<AtomicU64>) -> Result<(), Error> {
    let tick = move || {
        loop {
            std::thread::sleep(TICK);
            let Some(engine) = engine.upgrade() else { return };
            engine.increment_epoch();
            ticks.fetch_add(1, Ordering::Relaxed);
        }
    };
    let started = std::thread::Builder::new().name("forebay-tick".to_owned()).spawn(tick);
    started.map(drop).map_err(|e| Error::Start(format!("start its clock thread: {e}")))
}
