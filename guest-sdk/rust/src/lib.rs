//! Write Forebay transforms in Rust.
//!
//! A transform is a struct with typed states and a [`process`](Transform::process) method over one record at
//! a time. Records are borrowed from the columns in which they came; what the method does is gathered in
//! columns again. A record that is refused leaves nothing behind.
//!
//! ```
//! use forebay_sdk::prelude::*;
//!
//! /// Counts the records of each key.
//! struct Count {
//!     seen: Value<u64>,
//!     counts: Output,
//! }
//!
//! impl Transform for Count {
//!     const NAME: &'static str = "count";
//!     const VERSION: &'static str = "1.0.0";
//!
//!     fn define(module: &mut Module) -> Self {
//!         Self { seen: module.state("seen"), counts: module.output("counts") }
//!     }
//!
//!     fn process(&mut self, _record: &Record, ctx: &mut Ctx) -> Result<(), Refuse> {
//!         let seen = self.seen.modify(ctx);
//!         *seen += 1;
//!         ctx.emit(self.counts, seen);
//!         Ok(())
//!     }
//! }
//!
//! forebay_sdk::transform!(Count { seen });
//!
//! let mut host = forebay_sdk::testing::Host::<Count>::new();
//! host.push("input", "a", "{}", 1);
//! host.push("input", "a", "{}", 2);
//! assert_eq!(host.texts("counts"), ["1", "2"]);
//! ```
//!
//! Three rules keep a transform repeatable:
//! - Nothing that matters lives in the struct but [`Value`]s and what `open` made of the parameters: an instance may be
//!   thrown away between any two calls.
//! - No clock, no random numbers, no environment: event time, [`Ctx::processing_time`] and [`Record::seed`] stand in.
//! - No iteration over `std::collections::HashMap`, whose order differs from run to run: `BTreeMap` does the same everywhere.
//!
//! Read [`Transform`] first, then [`Value`], [`Ctx`] and [`testing::Host`]. The modules in reading order:
//! `transform` (what an author writes), `module` (declarations), `record`, `ctx`, `value`, `state`, then what lies
//! underneath: `runner`, `effects`, `json`, `columns`, `host`, `guest`.

mod transform;

mod ctx;
mod module;
mod record;
mod refuse;
mod state;
mod value;

pub mod columns;
mod effects;
mod fingerprint;
pub mod host;
mod json;
mod runner;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
#[cfg(test)]
mod tests;

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod guest;

pub use ctx::{Ctx, Emit};
pub use effects::Header;
pub use fingerprint::fingerprint;
pub use module::{Context, Description, Input, Metric, MetricKind, Module, Output, Parameter, Parameters, Timer};
pub use record::{Coordinates, Fired, Record};
pub use refuse::{Failure, Refuse};
pub use runner::{MigrationFailure, Runner};
pub use state::{Encoding, Migrations, State};
pub use transform::{States, Transform};
pub use value::{AnyValue, Value};

/// What a transform's file needs.
pub mod prelude {
    pub use crate::host::Level;
    pub use crate::{
        Ctx, Emit, Encoding, Fired, Input, Metric, MetricKind, Migrations, Module, Output, Parameter, Parameters,
        Record, Refuse, State, Timer, Transform, Value,
    };
}
