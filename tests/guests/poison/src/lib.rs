//! Misbehaves as the payload says, after it has counted the record and emitted it: what survives shows whether the host
//! undid the rest.
//!
//! In: `{"do": "…", "bytes": 0}`. `do` is `pass` (the preset), `refuse`, `panic`, `loop`, `allocate` (more and more),
//! `oversized` (emits a value of `bytes` bytes), `many` (emits `bytes` records) or `overwrite` (writes a state of `bytes` bytes).
//! Out: `{"key", "count"}` for every record that was passed.

use forebay_sdk::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Do {
    #[default]
    Pass,
    Refuse,
    Panic,
    Loop,
    Allocate,
    Oversized,
    Many,
    Overwrite,
}

#[derive(Deserialize)]
struct Order {
    #[serde(default, rename = "do")]
    what: Do,
    #[serde(default)]
    bytes: usize,
}

#[derive(Serialize)]
struct Passed<'a> {
    key: &'a str,
    count: u64,
}

pub struct Poison {
    count: Value<u64>,
    blob: Value<Vec<u8>>,
    out: Output,
}

impl Transform for Poison {
    const NAME: &'static str = "poison";
    const VERSION: &'static str = "1.0.0";
    const ABOUT: &'static str = "misbehaves as the payload says";

    fn define(module: &mut Module) -> Self {
        module.refusals(&["told-so"]);
        Self { count: module.state("count"), blob: module.state("blob"), out: module.output("out") }
    }

    #[allow(clippy::panic, reason = "what it is for")]
    fn process(&mut self, record: &Record, ctx: &mut Ctx) -> Result<(), Refuse> {
        let Order { what, bytes } = record.json()?;
        let count = self.count.modify(ctx);
        *count += 1;
        ctx.emit(self.out, &Passed { key: record.key_text(), count: *count });
        match what {
            Do::Pass => {}
            Do::Refuse => return Err(Refuse::new("told-so", "the payload asked for it")),
            Do::Panic => panic!("the payload asked for it"),
            Do::Loop => spin(),
            Do::Allocate => hoard(),
            Do::Oversized => ctx.emit_bytes(self.out, &vec![b'x'; bytes]),
            Do::Many => (0..bytes).for_each(|_| ctx.pass(self.out)),
            Do::Overwrite => self.blob.set(ctx, vec![b'x'; bytes]),
        }
        Ok(())
    }
}

fn spin() {
    let mut turns = 0_u64;
    loop {
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

fn hoard() {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    loop {
        kept.push(std::hint::black_box(vec![1; 1 << 20]));
    }
}

forebay_sdk::transform!(Poison { count, blob });

#[cfg(test)]
mod tests {
    use forebay_sdk::testing::Host;

    use super::*;

    #[test]
    fn a_refusal_undoes_what_came_before_it() {
        let mut host = Host::<Poison>::new();
        host.push("input", "k", "{}", 1).push("input", "k", r#"{"do":"refuse"}"#, 2).push("input", "k", "{}", 3);
        assert_eq!(host.texts("out"), [r#"{"key":"k","count":1}"#, r#"{"key":"k","count":2}"#]);
    }
}
