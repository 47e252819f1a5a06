//! Guests in plain Rust for the tests of the task: the same contract without Wasm.
//!
//! `Counter` counts and sums the numbers of each key and does as its records say: `refuse`, `trap`
//! (with or without last words), `timer:<time>`, `huge`, `key:<new key>`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::env::ManualClock;
use crate::model::{Blobs, Digest};
use crate::operator::ModuleRef;
use crate::wasm::contract::*;

/// Version 1 keeps `count,sum`; version 2 keeps `count,sum,largest` and migrates both ways.
#[derive(Clone)]
pub struct Counter {
    pub version: u32,
    pub hints: bool,
    /// Fails to migrate values of this key.
    pub stubborn: Option<&'static str>,
    description: Arc<Description>,
}

impl Counter {
    pub fn module(version: u32) -> ModuleRef {
        Self::build(version, true, None)
    }

    pub fn build(version: u32, hints: bool, stubborn: Option<&'static str>) -> ModuleRef {
        let description = Arc::new(Description {
            name: "counter".into(),
            version: version.to_string(),
            keyed: true,
            inputs: vec!["numbers".into()],
            outputs: vec!["counts".into()],
            states: vec![StateDecl {
                name: "tally".into(),
                version,
                reads: if version == 2 { vec![1] } else { vec![] },
                reverts_to: if version == 2 { vec![1] } else { vec![] },
                encoding: "opaque".into(),
                fingerprint: version.to_string(),
            }],
            timers: vec![TimerDecl { name: "tick".into() }],
            ..Description::default()
        });
        let digest = Digest::of(format!("counter {version} {hints} {stubborn:?}").as_bytes());
        let factory = Arc::new(Self { version, hints, stubborn, description });
        ModuleRef { name: "counter".into(), version: version.to_string(), digest, factory, parameters: vec![] }
    }
}

impl GuestFactory for Counter {
    fn description(&self) -> &Arc<Description> {
        &self.description
    }

    fn instantiate(&self, _: &Context) -> Result<Box<dyn Guest>, GuestError> {
        Ok(Box::new(Instance { of: self.clone(), dead: false }))
    }
}

struct Instance {
    of: Counter,
    dead: bool,
}

/// What one call changes, record by record.
#[derive(Default)]
struct Effects {
    tallies: HashMap<u32, Vec<i64>>,
    answer: Answer,
    keys: Blobs,
    values: Blobs,
}

impl Guest for Instance {
    fn process(&mut self, moment: Moment, batch: &RecordCall) -> Result<Answer, GuestError> {
        assert!(!self.dead, "an instance was called again after a trap");
        let mut effects = Effects::default();
        for i in 0..batch.values.len() {
            let text = String::from_utf8_lossy(batch.values.bytes(i)).into_owned();
            let slot = batch.slots[i];
            match text.as_str() {
                "refuse" => effects.answer.refusals.push(Refusal {
                    record_index: i as u32,
                    code: "asked".into(),
                    message: "the record asked for it".into(),
                }),
                "trap" => return Err(self.trap(i as u32)),
                "retry" => return Err(GuestError::Retry("not now".into())),
                _ => self.count(&mut effects, moment, &batch.keyed, i as u32, slot, &text),
            }
        }
        Ok(effects.finish(&batch.keyed.keys))
    }

    fn on_timer(&mut self, moment: Moment, batch: &TimerCall) -> Result<Answer, GuestError> {
        let mut effects = Effects::default();
        for (i, &slot) in batch.slots.iter().enumerate() {
            let tally = effects.tally(&batch.keyed, slot);
            let key = String::from_utf8_lossy(batch.keyed.keys.bytes(slot as usize)).into_owned();
            let line = format!("{key} tick@{} count={} w={}", batch.times[i], tally[0], moment.watermark);
            effects.emit(i as u32, &key, &line);
            // A timer at the first nanosecond of a millisecond sets one at the second.
            if batch.times[i] % 1_000_000 == 1 {
                effects.answer.timers.timers.push(0);
                effects.answer.timers.slots.push(slot);
                effects.answer.timers.times.push(batch.times[i] + 1);
            }
        }
        effects.tallies.clear();
        Ok(effects.finish(&batch.keyed.keys))
    }

    fn migrate(&mut self, migration: &Migration) -> Result<Blobs, GuestError> {
        let mut migrated = Blobs::new();
        for (i, value) in migration.values.iter().enumerate() {
            if self.of.stubborn.is_some_and(|key| migration.keys.bytes(i) == key.as_bytes()) {
                return Err(GuestError::Migration { value_index: i as u32, message: "will not".into() });
            }
            let mut tally = decode(value);
            tally.resize(migration.to_version as usize + 1, 0);
            migrated.push(Some(&encode(&tally)));
        }
        Ok(migrated)
    }
}

impl Instance {
    fn trap(&mut self, record: u32) -> GuestError {
        self.dead = true;
        let last_words =
            self.of.hints.then(|| LastWords { record_index: Some(record), message: "the record asked for it".into() });
        GuestError::Trap { message: "unreachable".into(), last_words }
    }

    fn count(&self, effects: &mut Effects, moment: Moment, keyed: &Keyed, i: u32, slot: u32, text: &str) {
        if let Some(time) = text.strip_prefix("timer:") {
            effects.answer.timers.timers.push(0);
            effects.answer.timers.slots.push(slot);
            effects.answer.timers.times.push(time.parse().unwrap());
        }
        let number = text.parse().unwrap_or(0);
        let tally = effects.tally(keyed, slot);
        tally.resize(self.of.version as usize + 1, 0);
        tally[0] += 1;
        tally[1] += number;
        if self.of.version == 2 {
            tally[2] = tally[2].max(number);
        }
        let numbers: Vec<_> = tally.iter().map(i64::to_string).collect();
        let key = String::from_utf8_lossy(keyed.keys.bytes(slot as usize)).into_owned();
        let line = match text {
            "huge" => "x".repeat(2 << 20),
            _ => format!("{key} v{} {} w={}", self.of.version, numbers.join(","), moment.watermark),
        };
        effects.emit(i, text.strip_prefix("key:").unwrap_or(&key), &line);
    }
}

impl Effects {
    fn tally(&mut self, keyed: &Keyed, slot: u32) -> &mut Vec<i64> {
        self.tallies.entry(slot).or_insert_with(|| match keyed.values.get(slot as usize) {
            Some(value) => decode(Some(value)),
            None => vec![0, 0],
        })
    }

    fn emit(&mut self, origin: u32, key: &str, line: &str) {
        self.answer.emitted.origins.push(origin);
        self.values.push(Some(line.as_bytes()));
        self.keys.push(Some(key.as_bytes()));
    }

    fn finish(mut self, keys: &Blobs) -> Answer {
        let mut slots: Vec<_> = self.tallies.into_iter().collect();
        slots.sort();
        for (slot, tally) in slots {
            self.answer.writes.states.push(0);
            self.answer.writes.slots.push(slot);
            self.answer.writes.values.push(Some(&encode(&tally)));
            assert!((slot as usize) < keys.len());
        }
        self.answer.emitted.keys = Some(self.keys);
        self.answer.emitted.values = Some(self.values);
        self.answer
    }
}

fn decode(value: Option<&[u8]>) -> Vec<i64> {
    value.unwrap_or_default().chunks_exact(8).map(|c| i64::from_le_bytes(c.try_into().unwrap())).collect()
}

fn encode(tally: &[i64]) -> Vec<u8> {
    tally.iter().flat_map(|n| n.to_le_bytes()).collect()
}

/// A counter with wishes of its own: other outputs, and faults that records ask for.
#[derive(Clone)]
pub struct Odd {
    pub outputs: Vec<&'static str>,
    /// `break` reports that it is broken.
    pub breaks: bool,
    /// So often `once` asks to be tried again.
    pub retries: Arc<AtomicU32>,
    /// What its instances were told of connected outputs.
    pub told: Arc<Mutex<Vec<Vec<u8>>>>,
    /// `loop` uses up all the CPU time that a call may have, by this clock.
    pub clock: Option<Arc<ManualClock>>,
    /// Its timers set themselves again so many nanoseconds later.
    pub walks: Option<i64>,
    /// Traps on every call that is not the first of its instance.
    pub spoils: bool,
}

impl Default for Odd {
    fn default() -> Self {
        Self {
            outputs: vec!["counts"],
            breaks: false,
            retries: Arc::default(),
            told: Arc::default(),
            clock: None,
            walks: None,
            spoils: false,
        }
    }
}

struct OddFactory {
    inner: ModuleRef,
    description: Arc<Description>,
    odd: Odd,
}

struct OddGuest {
    inner: Box<dyn Guest>,
    odd: Odd,
    cpu_max: Duration,
    spoilt: bool,
}

impl Odd {
    pub fn module(self, version: u32) -> ModuleRef {
        let inner = Counter::module(version);
        let outputs = self.outputs.iter().map(|output| (*output).to_owned()).collect();
        let description = Arc::new(Description { outputs, ..inner.description().as_ref().clone() });
        let digest = Digest::of(format!("odd {version} {:?} {}", self.outputs, self.breaks).as_bytes());
        let factory = Arc::new(OddFactory { inner, description, odd: self });
        ModuleRef { name: "counter".into(), version: version.to_string(), digest, factory, parameters: vec![] }
    }
}

impl GuestFactory for OddFactory {
    fn description(&self) -> &Arc<Description> {
        &self.description
    }

    fn instantiate(&self, context: &Context) -> Result<Box<dyn Guest>, GuestError> {
        self.odd.told.lock().unwrap().push(context.connected_outputs.clone());
        let inner = self.inner.factory.instantiate(context)?;
        Ok(Box::new(OddGuest { inner, odd: self.odd.clone(), cpu_max: ENGINE_ALLOWS, spoilt: false }))
    }
}

/// CPU time of a call.
const ENGINE_ALLOWS: Duration = Duration::from_secs(1);

impl Guest for OddGuest {
    fn limit(&mut self, time: &CallTime) {
        self.cpu_max = time.cpu_max.map_or(ENGINE_ALLOWS, |limit| limit.min(ENGINE_ALLOWS));
    }

    fn process(&mut self, moment: Moment, batch: &RecordCall) -> Result<Answer, GuestError> {
        let has = |word: &str| (0..batch.values.len()).any(|i| batch.values.bytes(i) == word.as_bytes());
        if self.odd.breaks && has("break") {
            return Err(GuestError::Broken("as told".into()));
        }
        if std::mem::replace(&mut self.spoilt, self.odd.spoils) {
            return Err(GuestError::Trap { message: "spoilt by what came before".into(), last_words: None });
        }
        if has("once") && self.odd.retries.load(Ordering::SeqCst) > 0 {
            self.odd.retries.fetch_sub(1, Ordering::SeqCst);
            return Err(GuestError::Retry("once".into()));
        }
        if has("loop") {
            self.odd.clock.iter().for_each(|clock| clock.advance(self.cpu_max));
            return Err(GuestError::Deadline { limit_ms: self.cpu_max.as_millis() as u64 });
        }
        self.inner.process(moment, batch)
    }

    fn on_timer(&mut self, moment: Moment, batch: &TimerCall) -> Result<Answer, GuestError> {
        let mut answer = self.inner.on_timer(moment, batch)?;
        if let Some(step) = self.odd.walks {
            for (i, &slot) in batch.slots.iter().enumerate() {
                answer.timers.timers.push(0);
                answer.timers.slots.push(slot);
                answer.timers.times.push(batch.times[i] + step);
            }
        }
        Ok(answer)
    }

    fn migrate(&mut self, migration: &Migration) -> Result<Blobs, GuestError> {
        self.inner.migrate(migration)
    }
}
