//! Counts the records of each key, and fails as a record asks: `{"do": "die"}` panics, `{"do": "refuse"}` is refused
//! after the count was changed and an output was emitted, both of which must be undone.
//!
//! In: `{"n": 7}`, `do` optional. Out: `{"key", "n", "count"}`.

use forebay_sdk::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
struct Asked {
    n: u64,
    #[serde(default, rename = "do")]
    what: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Count {
    count: u64,
}

impl State for Count {}

#[derive(Serialize)]
struct Counted<'a> {
    key: &'a str,
    n: u64,
    count: u64,
}

pub struct Brittle {
    count: Value<Count>,
    out: Output,
}

impl Transform for Brittle {
    const NAME: &'static str = "brittle";
    const VERSION: &'static str = "1.0.0";
    const ABOUT: &'static str = "counts per key, and fails on request";

    fn define(module: &mut Module) -> Self {
        module.refusals(&["asked-to"]);
        Self { count: module.state("count"), out: module.output("out") }
    }

    fn process(&mut self, record: &Record, ctx: &mut Ctx) -> Result<(), Refuse> {
        let Asked { n, what } = record.json()?;
        let count = self.count.modify(ctx);
        count.count += 1;
        let count = count.count;
        ctx.emit(self.out, &Counted { key: record.key_text(), n, count });
        match what.as_str() {
            "refuse" => Err(Refuse::new("asked-to", "the record asked for it")),
            "die" => panic!("the record asked for it"),
            _ => Ok(()),
        }
    }
}

forebay_sdk::transform!(Brittle { count });
