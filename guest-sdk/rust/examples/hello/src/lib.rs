//! Greets every name, and says how often it has met it.

use forebay_sdk::prelude::*;

pub struct Hello {
    met: Value<u64>,
    greetings: Output,
}

impl Transform for Hello {
    const NAME: &'static str = "hello";
    const VERSION: &'static str = "1.0.0";

    fn define(module: &mut Module) -> Self {
        Self { met: module.state("met"), greetings: module.output("greetings") }
    }

    fn process(&mut self, record: &Record, ctx: &mut Ctx) -> Result<(), Refuse> {
        let met = self.met.modify(ctx);
        *met += 1;
        ctx.emit(self.greetings, &format!("Hello {}, for time {met}", record.key_text()));
        Ok(())
    }
}

forebay_sdk::transform!(Hello { met });
