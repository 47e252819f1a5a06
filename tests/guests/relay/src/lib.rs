//! Passes every record on untouched: a link of a chain, and the cheapest guest there is.

use forebay_sdk::prelude::*;

pub struct Relay {
    out: Output,
}

impl Transform for Relay {
    const NAME: &'static str = "relay";
    const VERSION: &'static str = "1.0.0";
    const ABOUT: &'static str = "passes records on untouched";

    fn define(module: &mut Module) -> Self {
        Self { out: module.output("out") }
    }

    fn process(&mut self, _record: &Record, ctx: &mut Ctx) -> Result<(), Refuse> {
        ctx.pass(self.out);
        Ok(())
    }
}

forebay_sdk::transform!(Relay);
