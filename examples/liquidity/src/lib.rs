//! Depth, spread and imbalance per key, from order events, with a tick per second of event time; in two versions
//! of one transform, to be swapped while the job runs.
//!
//! `README.md` describes every record, state and refusal. The computation itself is in `book` and `summary`, free of
//! streams; `v1` and `v2` are the modules.

mod book;
mod summary;
mod versions;

use feed::Event;
use forebay_sdk::prelude::*;
use forebay_sdk::{AnyValue, States};

pub use book::{Book, Side};
pub use summary::Summary;
pub use versions::{BookV1, BookV2, Version};

/// Version 1 of the module.
pub type LiquidityV1 = Liquidity<BookV1>;
/// Version 2: keeps and tells the peak depth as well.
pub type LiquidityV2 = Liquidity<BookV2>;

const SECOND: i64 = 1_000_000_000;

/// The transform, over the state of either version.
pub struct Liquidity<V> {
    book: Value<V>,
    tick: Timer,
    summaries: Output,
    ticks: Output,
}

impl<V: Version> Transform for Liquidity<V> {
    const NAME: &'static str = "liquidity";
    const VERSION: &'static str = V::MODULE_VERSION;
    const ABOUT: &'static str = "depth, spread and imbalance per key";

    fn define(module: &mut Module) -> Self {
        module.refusals(&["bad-order", "no-previous-volume", "out-of-range"]);
        module.input("orders");
        Self {
            book: module.state("book"),
            tick: module.timer("tick"),
            summaries: module.output("summaries"),
            ticks: module.output("ticks"),
        }
    }

    fn process(&mut self, record: &Record, ctx: &mut Ctx) -> Result<(), Refuse> {
        let event: Event = record.json()?;
        let state = self.book.modify(ctx);
        state.apply(&event)?;
        let tick_at = next_second(record.event_time());
        if state.book_mut().tick_at.replace(tick_at) != Some(tick_at) {
            ctx.set_timer(self.tick, tick_at);
        }
        let summary = Summary { sequence: Some(event.sequence), ..Summary::of(record.key_text(), state) };
        ctx.emit(self.summaries, &summary);
        Ok(())
    }

    fn on_timer(&mut self, fired: &Fired, ctx: &mut Ctx) -> Result<(), Refuse> {
        if let Some(state) = self.book.get(ctx) {
            let at = Some(fired.time().div_euclid(1_000_000));
            ctx.emit(self.ticks, &Summary { at, ..Summary::of(fired.key_text(), state) });
        }
        Ok(())
    }
}

impl<V: Version> States for Liquidity<V> {
    fn visit_states(&mut self, visit: &mut dyn FnMut(&mut dyn AnyValue)) {
        visit(&mut self.book);
    }
}

/// The next whole second after a time.
fn next_second(time: i64) -> i64 {
    time.div_euclid(SECOND).saturating_add(1).saturating_mul(SECOND)
}

#[cfg(test)]
mod tests;
