//! What the checker judges (`tests/checker`): per record the count and sum of its key, with the coordinates of the input
//! and the watermark that the call saw; per key a timer at the next multiple of `tick-every` behind each record, which
//! tells the state that it finds. All go to one output, so that their order can be seen.
//!
//! In: `{"amount": 5}`, `amount` optional; `"refuse": true` and `"trap": true` do so after everything else was done, so
//! that all of it has to be undone.
//! Out: `{"key", "partition", "offset", "count", "sum", "watermark"}` per record, `{"key", "tick", "count", "sum", "watermark"}`
//! per timer; times in nanoseconds since 1970.

use forebay_sdk::prelude::*;
use serde::{Deserialize, Serialize};

const NS_PER_MS: i64 = 1_000_000;

#[derive(Deserialize)]
struct Given {
    #[serde(default)]
    amount: i64,
    #[serde(default)]
    refuse: bool,
    #[serde(default)]
    trap: bool,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub struct Tally {
    count: u64,
    sum: i64,
}

impl State for Tally {}

#[derive(Serialize)]
struct Counted<'a> {
    key: &'a str,
    partition: i32,
    offset: i64,
    count: u64,
    sum: i64,
    watermark: i64,
}

#[derive(Serialize)]
struct Ticked<'a> {
    key: &'a str,
    tick: i64,
    count: u64,
    sum: i64,
    watermark: i64,
}

pub struct Checked {
    tally: Value<Tally>,
    tick: Timer,
    results: Output,
    tick_every: i64,
}

impl Transform for Checked {
    const NAME: &'static str = "checked";
    const VERSION: &'static str = "1.0.0";
    const ABOUT: &'static str = "counts, sums and ticks per key, for the checker";

    fn define(module: &mut Module) -> Self {
        module.needs_coordinates().refusals(&["refused"]);
        module
            .parameter(Parameter::new("tick-every", "milliseconds between two ticks of a key; 0 = none").preset(1_000));
        Self {
            tally: module.state("tally"),
            tick: module.timer("tick"),
            results: module.output("results"),
            tick_every: 0,
        }
    }

    fn open(&mut self, parameters: &Parameters) -> Result<(), String> {
        self.tick_every = parameters.parse::<i64>("tick-every")?.saturating_mul(NS_PER_MS);
        Ok(())
    }

    fn process(&mut self, record: &Record, ctx: &mut Ctx) -> Result<(), Refuse> {
        let given: Given = record.json()?;
        let tally = self.tally.modify(ctx);
        tally.count += 1;
        tally.sum = tally.sum.wrapping_add(given.amount);
        let Tally { count, sum } = *tally;
        if self.tick_every > 0 {
            let tick =
                record.event_time().div_euclid(self.tick_every).saturating_add(1).saturating_mul(self.tick_every);
            ctx.set_timer(self.tick, tick);
        }
        let at = record.coordinates().unwrap_or(forebay_sdk::Coordinates { partition: -1, offset: -1 });
        let (key, partition, offset, watermark) = (record.key_text(), at.partition, at.offset, ctx.watermark());
        ctx.emit(self.results, &Counted { key, partition, offset, count, sum, watermark });
        assert!(!given.trap, "a trap on request");
        if given.refuse { Err(Refuse::new("refused", "as the record asks")) } else { Ok(()) }
    }

    fn on_timer(&mut self, fired: &Fired, ctx: &mut Ctx) -> Result<(), Refuse> {
        let Tally { count, sum } = self.tally.get(ctx).copied().unwrap_or_default();
        let (key, tick, watermark) = (fired.key_text(), fired.time(), ctx.watermark());
        ctx.emit(self.results, &Ticked { key, tick, count, sum, watermark });
        Ok(())
    }
}

forebay_sdk::transform!(Checked { tally });

#[cfg(test)]
mod tests {
    use forebay_sdk::testing::check_every_cut;

    use super::*;

    #[test]
    fn counts_and_ticks_tell_the_state_and_a_refusal_leaves_no_trace() {
        check_every_cut::<Checked>(&[("tick-every", "1")], |host| {
            host.push("input", "k", r#"{"amount":5}"#, 1_000_000);
            host.push("input", "k", r#"{"amount":9,"refuse":true}"#, 7_000_000);
            host.push("input", "k", r#"{"amount":-2}"#, 1_500_000);
            host.advance(2_000_000);
            host.push("input", "k", "{}", 3_000_000);
            host.advance(9_000_000);
            let before = i64::MIN;
            assert_eq!(
                host.texts("results"),
                [
                    format!(r#"{{"key":"k","partition":0,"offset":0,"count":1,"sum":5,"watermark":{before}}}"#),
                    format!(r#"{{"key":"k","partition":0,"offset":2,"count":2,"sum":3,"watermark":{before}}}"#),
                    format!(r#"{{"key":"k","tick":2000000,"count":2,"sum":3,"watermark":{before}}}"#),
                    r#"{"key":"k","partition":0,"offset":3,"count":3,"sum":3,"watermark":2000000}"#.to_owned(),
                    r#"{"key":"k","tick":4000000,"count":3,"sum":3,"watermark":2000000}"#.to_owned(),
                ]
            );
            assert_eq!(host.refused().len(), 1);
        });
    }
}
