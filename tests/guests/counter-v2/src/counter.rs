//! Counts, sums, and keeps the greatest amount since it took over.
//!
//! In: `{"amount": 5}`, `amount` optional. Out: `{"key", "partition", "offset", "count", "sum", "max"}`.

use forebay_sdk::prelude::*;
use serde::{Deserialize, Serialize};

use crate::TRAPS;

#[derive(Deserialize)]
struct Amount {
    #[serde(default)]
    amount: i64,
}

/// What version 1 left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TallyV1 {
    pub count: u64,
    pub sum: i64,
}

impl State for TallyV1 {}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub count: u64,
    pub sum: i64,
    pub max: Option<i64>,
}

impl State for Tally {
    const VERSION: u32 = 2;

    fn migrations(migrations: &mut Migrations<Self>) {
        migrations.from(|TallyV1 { count, sum }| Ok(Self { count, sum, max: None }));
        migrations.to(|Self { count, sum, .. }| Ok(TallyV1 { count, sum }));
    }
}

#[derive(Serialize)]
struct Counted<'a> {
    key: &'a str,
    partition: i32,
    offset: i64,
    count: u64,
    sum: i64,
    max: Option<i64>,
}

pub struct Counter {
    tally: Value<Tally>,
    counts: Output,
}

impl Transform for Counter {
    const NAME: &'static str = "counter";
    const VERSION: &'static str = crate::VERSION;
    const ABOUT: &'static str = "counts, sums and keeps the greatest per key";

    fn define(module: &mut Module) -> Self {
        module.needs_coordinates();
        Self { tally: module.state("tally"), counts: module.output("counts") }
    }

    fn process(&mut self, record: &Record, ctx: &mut Ctx) -> Result<(), Refuse> {
        let amount = record.json();
        assert!(amount.is_ok() || !TRAPS, "this version traps");
        let Amount { amount } = amount?;
        let tally = self.tally.modify(ctx);
        tally.count += 1;
        tally.sum = tally.sum.wrapping_add(amount);
        tally.max = tally.max.max(Some(amount));
        let at = record.coordinates().unwrap_or(forebay_sdk::Coordinates { partition: -1, offset: -1 });
        let Tally { count, sum, max } = *tally;
        let (key, partition, offset) = (record.key_text(), at.partition, at.offset);
        ctx.emit(self.counts, &Counted { key, partition, offset, count, sum, max });
        Ok(())
    }
}

forebay_sdk::states!(Counter { tally });

#[cfg(test)]
mod tests {
    use forebay_sdk::testing::Host;

    use super::*;

    #[test]
    fn a_tally_of_version_1_goes_on() {
        let mut host = Host::<Counter>::new();
        host.put_state("tally", "k", &TallyV1 { count: 2, sum: 5 });
        host.push("input", "k", r#"{"amount":4}"#, 1);
        assert_eq!(host.texts("counts"), [r#"{"key":"k","partition":0,"offset":0,"count":3,"sum":9,"max":4}"#]);
    }
}
