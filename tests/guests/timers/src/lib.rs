//! Sets timers as the payload says, and tells when they fire and how often the key has set one.
//!
//! In: `{"set": [1000], "unset": [2000]}`, nanoseconds since 1970, both optional; `{"every": 10, "times": 3}` sets a timer 10 ns
//! after the event time that sets itself again twice. Out: `{"key", "time", "fired"}` for every timer.

use forebay_sdk::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Orders {
    #[serde(default)]
    set: Vec<i64>,
    #[serde(default)]
    unset: Vec<i64>,
    #[serde(default)]
    every: i64,
    #[serde(default)]
    times: u32,
}

#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Repeats {
    fired: u64,
    every: i64,
    left: u32,
}

impl State for Repeats {}

#[derive(Serialize)]
struct Rang<'a> {
    key: &'a str,
    time: i64,
    fired: u64,
}

pub struct Timers {
    repeats: Value<Repeats>,
    once: Timer,
    again: Timer,
    fired: Output,
}

impl Transform for Timers {
    const NAME: &'static str = "timers";
    const VERSION: &'static str = "1.0.0";
    const ABOUT: &'static str = "sets timers as the payload says";

    fn define(module: &mut Module) -> Self {
        Self {
            repeats: module.state("repeats"),
            once: module.timer("once"),
            again: module.timer("again"),
            fired: module.output("fired"),
        }
    }

    fn process(&mut self, record: &Record, ctx: &mut Ctx) -> Result<(), Refuse> {
        let orders: Orders = record.json()?;
        orders.set.iter().for_each(|&time| ctx.set_timer(self.once, time));
        orders.unset.iter().for_each(|&time| ctx.unset_timer(self.once, time));
        if orders.times > 0 {
            let repeats = self.repeats.modify(ctx);
            (repeats.every, repeats.left) = (orders.every, orders.times);
            ctx.set_timer(self.again, record.event_time() + orders.every);
        }
        Ok(())
    }

    fn on_timer(&mut self, fired: &Fired, ctx: &mut Ctx) -> Result<(), Refuse> {
        let repeats = self.repeats.modify(ctx);
        repeats.fired += 1;
        if fired.timer() == self.again {
            repeats.left -= 1;
            if repeats.left > 0 {
                ctx.set_timer(self.again, fired.time() + repeats.every);
            }
        }
        ctx.emit(self.fired, &Rang { key: fired.key_text(), time: fired.time(), fired: repeats.fired });
        Ok(())
    }
}

forebay_sdk::transform!(Timers { repeats });

#[cfg(test)]
mod tests {
    use forebay_sdk::testing::check_every_cut;

    use super::*;

    #[test]
    fn timers_fire_once_each_and_again_where_they_are_set_again() {
        check_every_cut::<Timers>(&[], |host| {
            host.push("input", "k", r#"{"set":[30,50,50],"unset":[30]}"#, 1);
            host.push("input", "k", r#"{"every":20,"times":2}"#, 5);
            host.advance(100);
            assert_eq!(
                host.texts("fired"),
                [
                    r#"{"key":"k","time":25,"fired":1}"#,
                    r#"{"key":"k","time":45,"fired":2}"#,
                    r#"{"key":"k","time":50,"fired":3}"#
                ]
            );
        });
    }
}
