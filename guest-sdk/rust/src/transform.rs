//! What an author writes: a struct, this trait, and one line of macro.

use crate::{AnyValue, Ctx, Fired, Module, Parameters, Record, Refuse};

/// A transform. See the crate's first page for a whole one.
pub trait Transform: States + Sized {
    /// Name of the module.
    const NAME: &'static str;
    /// Its version, as people count it.
    const VERSION: &'static str;
    /// One line for lists.
    const ABOUT: &'static str = "";

    /// Declares inputs, outputs, states, timers and parameters, and puts their handles into the struct. The
    /// same every time: the host calls it for the module's description, and once for every instance.
    fn define(module: &mut Module) -> Self;

    /// Reads the parameters. Called before the first record, and at deploy, so that a bad one is refused there.
    ///
    /// # Errors
    /// What is wrong with a parameter, for people.
    fn open(&mut self, parameters: &Parameters) -> Result<(), String> {
        let _ = parameters;
        Ok(())
    }

    /// One record. What it did before it returned an error is undone.
    ///
    /// # Errors
    /// Why this record cannot be processed; what becomes of it is the job's policy.
    fn process(&mut self, record: &Record, ctx: &mut Ctx) -> Result<(), Refuse>;

    /// One timer that came due. Undone as a record is.
    ///
    /// # Errors
    /// Why it cannot be processed.
    fn on_timer(&mut self, fired: &Fired, ctx: &mut Ctx) -> Result<(), Refuse> {
        let _ = (fired, ctx);
        Ok(())
    }
}

/// Shows the states of a transform to the SDK, in declared order. Written by [`transform!`](crate::transform) and
/// [`states!`](crate::states).
pub trait States {
    fn visit_states(&mut self, visit: &mut dyn FnMut(&mut dyn AnyValue));
}

/// Makes a struct the transform of its crate: names its states, in the order in which `define` declares them, and exports
/// it where the crate is built for WebAssembly. `transform!(Relay)` where there is no state.
#[macro_export]
macro_rules! transform {
    ($transform:ident $({ $($state:ident),* $(,)? })?) => {
        $crate::states!($transform $({ $($state),* })?);
        $crate::export!($transform);
    };
}

/// The first half of [`transform!`](crate::transform): names the states. For a library whose transforms other
/// crates export.
#[macro_export]
macro_rules! states {
    ($transform:ident $({ $($state:ident),* $(,)? })?) => {
        impl $crate::States for $transform {
            fn visit_states(&mut self, visit: &mut dyn FnMut(&mut dyn $crate::AnyValue)) {
                let _ = &visit;
                $($(visit(&mut self.$state);)*)?
            }
        }
    };
}

/// The second half of [`transform!`](crate::transform): exports a transform; one per module.
#[macro_export]
macro_rules! export {
    ($transform:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            $crate::__export_guest!($transform);
        };
    };
}
