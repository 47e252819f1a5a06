//! Copies key, value and headers of every record and keeps 64 bytes of figures per key: what state costs on top.

use forebay_sdk::prelude::*;
use serde::{Deserialize, Serialize};

/// Eight numbers of eight bytes each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub count: f64,
    pub sum: f64,
    pub least: f64,
    pub greatest: f64,
    pub first: f64,
    pub last: f64,
    pub mean: f64,
    pub squares: f64,
}

impl State for Figures {}

pub struct Ledger {
    figures: Value<Figures>,
    out: Output,
}

impl Transform for Ledger {
    const NAME: &'static str = "ledger";
    const VERSION: &'static str = "1.0.0";
    const ABOUT: &'static str = "copies every part of a record and keeps figures per key";

    fn define(module: &mut Module) -> Self {
        module.needs_headers();
        Self { figures: module.state("figures"), out: module.output("out") }
    }

    fn process(&mut self, record: &Record, ctx: &mut Ctx) -> Result<(), Refuse> {
        let amount = record.value().map_or(0.0, |value| value.len() as f64);
        let figures = self.figures.modify(ctx);
        figures.count += 1.0;
        figures.sum += amount;
        figures.least = figures.least.min(amount);
        figures.greatest = figures.greatest.max(amount);
        figures.last = amount;
        figures.mean = figures.sum / figures.count;
        figures.squares += amount * amount;
        let mut headers = [("", None); 2];
        headers.iter_mut().zip(record.headers()).for_each(|(to, from)| *to = from);
        ctx.emission(self.out).key(record.key()).headers(&headers).bytes(record.value());
        Ok(())
    }
}

forebay_sdk::transform!(Ledger { figures });
