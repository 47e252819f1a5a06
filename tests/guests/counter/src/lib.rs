//! Counts the records of each key and sums their `amount`, and says for each where it came from: what a checker
//! needs to prove that nothing was lost and nothing was counted twice.
//!
//! In: `{"amount": 5}`, `amount` optional. Out: `{"key", "partition", "offset", "count", "sum"}`.

use forebay_sdk::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
pub struct Amount {
    #[serde(default)]
    pub amount: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub count: u64,
    pub sum: i64,
}

impl State for Tally {}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted<'a> {
    pub key: &'a str,
    pub partition: i32,
    pub offset: i64,
    pub count: u64,
    pub sum: i64,
}

pub struct Counter {
    tally: Value<Tally>,
    counts: Output,
}

impl Transform for Counter {
    const NAME: &'static str = "counter";
    const VERSION: &'static str = "1.0.0";
    const ABOUT: &'static str = "counts and sums per key";

    fn define(module: &mut Module) -> Self {
        module.needs_coordinates();
        Self { tally: module.state("tally"), counts: module.output("counts") }
    }

    fn process(&mut self, record: &Record, ctx: &mut Ctx) -> Result<(), Refuse> {
        let Amount { amount } = record.json()?;
        let tally = self.tally.modify(ctx);
        tally.count += 1;
        tally.sum = tally.sum.wrapping_add(amount);
        let at = record.coordinates().unwrap_or(forebay_sdk::Coordinates { partition: -1, offset: -1 });
        let Tally { count, sum } = *tally;
        let (key, partition, offset) = (record.key_text(), at.partition, at.offset);
        ctx.emit(self.counts, &Counted { key, partition, offset, count, sum });
        Ok(())
    }
}

forebay_sdk::transform!(Counter { tally });
