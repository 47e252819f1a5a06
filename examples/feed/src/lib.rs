//! The order feed that the examples read: decimals and order events, as `enrichment/README.md` describes them.

mod decimal;
mod order;

pub use decimal::{Decimal, NotADecimal};
pub use order::{Action, Direction, Event, Order};
