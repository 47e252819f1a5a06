//! The guest of the simulation: keeps count and sum per key, and does what its records ask for.
//!
//! A record is `verb id argument`. Every good one emits `key id count sum version watermark now`, so that the output
//! tells by itself which records were counted, in which order, on which state, and under which time.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::env::simulated::{Dice, JumpingClock};
use crate::model::{Blobs, Digest};
use crate::operator::ModuleRef;
use crate::wasm::contract::*;

/// Larger than the topic of the output takes.
pub const HUGE: usize = 3_000;
/// What only the cluster refuses.
pub const FORBIDDEN: &[u8] = b"forbidden";

thread_local! {
    /// Records that have been asked to be tried again once; they are good the second time.
    static TRIED: RefCell<BTreeSet<u64>> = const { RefCell::new(BTreeSet::new()) };
}

thread_local! {
    /// What calls that loop use up.
    static CLOCK: RefCell<Option<Arc<JumpingClock>>> = const { RefCell::new(None) };
}

/// CPU time of a call.
const ENGINE_ALLOWS: Duration = Duration::from_secs(1);

/// For a new seed.
pub fn begin(clock: Arc<JumpingClock>) {
    TRIED.take();
    CLOCK.set(Some(clock));
}

/// Version 2 keeps the largest number too, and migrates both ways.
#[derive(Clone)]
pub struct Ledger {
    version: u32,
    /// A trap says which record it was at.
    hints: bool,
    description: Arc<Description>,
}

impl Ledger {
    pub fn module(version: u32, hints: bool) -> ModuleRef {
        let description = Arc::new(Description {
            name: "ledger".into(),
            version: version.to_string(),
            keyed: true,
            inputs: vec!["in".into()],
            outputs: vec!["out".into()],
            states: vec![StateDecl {
                name: "account".into(),
                version,
                reads: if version == 2 { vec![1] } else { vec![] },
                reverts_to: if version == 2 { vec![1] } else { vec![] },
                encoding: "opaque".into(),
                fingerprint: version.to_string(),
            }],
            timers: vec![TimerDecl { name: "tick".into() }],
            ..Description::default()
        });
        let digest = Digest::of(format!("ledger {version} {hints}").as_bytes());
        let factory = Arc::new(Self { version, hints, description });
        ModuleRef { name: "ledger".into(), version: version.to_string(), digest, factory, parameters: vec![] }
    }
}

impl GuestFactory for Ledger {
    fn description(&self) -> &Arc<Description> {
        &self.description
    }

    fn instantiate(&self, _: &Context) -> Result<Box<dyn Guest>, GuestError> {
        Ok(Box::new(Instance { of: self.clone(), dead: false, cpu_max: ENGINE_ALLOWS }))
    }
}

struct Instance {
    of: Ledger,
    dead: bool,
    cpu_max: Duration,
}

/// What is kept of a key; none: nothing.
#[derive(Clone, Default)]
struct Account {
    count: i64,
    sum: i64,
    largest: i64,
    padding: Vec<u8>,
}

#[derive(Default)]
struct Effects {
    accounts: BTreeMap<u32, Option<Account>>,
    answer: Answer,
    keys: Blobs,
    values: Blobs,
}

impl Guest for Instance {
    fn limit(&mut self, time: &CallTime) {
        self.cpu_max = time.cpu_max.map_or(ENGINE_ALLOWS, |limit| limit.min(ENGINE_ALLOWS));
    }

    fn process(&mut self, moment: Moment, batch: &RecordCall) -> Result<Answer, GuestError> {
        assert!(!self.dead, "an instance was called again after a trap");
        let mut effects = Effects::default();
        for i in 0..batch.values.len() {
            let text = String::from_utf8_lossy(batch.values.bytes(i)).into_owned();
            self.record(&mut effects, moment, &batch.keyed, (i as u32, batch.slots[i]), &text)?;
        }
        Ok(effects.finish(self.of.version))
    }

    fn on_timer(&mut self, moment: Moment, batch: &TimerCall) -> Result<Answer, GuestError> {
        assert!(!self.dead, "an instance was called again after a trap");
        let mut effects = Effects::default();
        for (i, &slot) in batch.slots.iter().enumerate() {
            let (time, key) = (batch.times[i], text(&batch.keyed, slot));
            effects.emit(i as u32, &key, format!("{key} tick {time} {}", moment.watermark).into_bytes());
            // A timer of the last nanosecond but one of a thousand sets one for the last.
            if sets_another(time) {
                effects.set_timer(slot, time + 1);
            }
        }
        Ok(effects.finish(self.of.version))
    }

    fn migrate(&mut self, migration: &Migration) -> Result<Blobs, GuestError> {
        let values = migration.values.iter().map(|value| {
            let account = value.map(|bytes| Account::read(bytes, migration.from_version));
            account.map(|account| account.write(migration.to_version))
        });
        let values: Vec<_> = values.collect();
        Ok(values.iter().map(Option::as_deref).collect())
    }
}

impl Instance {
    fn record(
        &mut self,
        effects: &mut Effects,
        moment: Moment,
        keyed: &Keyed,
        (i, slot): (u32, u32),
        record: &str,
    ) -> Result<(), GuestError> {
        let mut words = record.split(' ');
        let verb = words.next().unwrap_or_default();
        let id: u64 = words.next().and_then(|id| id.parse().ok()).expect("the world sends an id with each record");
        let argument: i64 = words.next().and_then(|number| number.parse().ok()).unwrap_or_default();
        match verb {
            "refuse" => {
                let message = "the record asked for it".into();
                effects.answer.refusals.push(Refusal { record_index: i, code: "asked".into(), message });
                return Ok(());
            }
            "trap" => {
                self.dead = true;
                let message = "the record asked for it".into();
                let last_words = self.of.hints.then_some(LastWords { record_index: Some(i), message });
                return Err(GuestError::Trap { message: "unreachable".into(), last_words });
            }
            "loop" => {
                self.dead = true;
                CLOCK.with_borrow(|clock| clock.iter().for_each(|clock| clock.pass(self.cpu_max)));
                return Err(GuestError::Deadline { limit_ms: self.cpu_max.as_millis() as u64 });
            }
            "break" if self.of.version == 1 => {
                self.dead = true;
                return Err(GuestError::Broken("version 1 knows no such record".into()));
            }
            "again" if TRIED.with_borrow_mut(|tried| tried.insert(id)) => {
                return Err(GuestError::Retry("not now".into()));
            }
            _ => {}
        }
        let version = self.of.version;
        let key = text(keyed, slot);
        let entry = effects.account(keyed, slot, version);
        let mut account = entry.take().unwrap_or_default();
        account.count += 1;
        account.sum += if verb == "add" { argument } else { 0 };
        account.largest = account.largest.max(argument);
        if verb == "grow" {
            let mut dice = Dice::new(id);
            account.padding = (0..argument).map(|_| dice.number() as u8).collect();
        }
        let Account { count, sum, .. } = account;
        *entry = (verb != "clear").then_some(account);
        if verb == "timer" {
            effects.set_timer(slot, argument);
        }
        let line = format!("{key} {id} {count} {sum} v{version} {} {}", moment.watermark, moment.now);
        let mut line = line.into_bytes();
        match verb {
            "huge" => line.resize(HUGE, b'x'),
            "forbidden" => line.extend_from_slice(FORBIDDEN),
            "twin" => effects.emit(i, &key, line.clone()),
            _ => {}
        }
        effects.emit(i, &key, line);
        Ok(())
    }
}

/// Whether a timer of this time sets one a nanosecond later, which nobody else sets.
pub fn sets_another(time: i64) -> bool {
    time % 1_000 == 998
}

fn text(keyed: &Keyed, slot: u32) -> String {
    String::from_utf8_lossy(keyed.keys.bytes(slot as usize)).into_owned()
}

impl Effects {
    fn account(&mut self, keyed: &Keyed, slot: u32, version: u32) -> &mut Option<Account> {
        let stored = || keyed.values.get(slot as usize).map(|bytes| Account::read(bytes, version));
        self.accounts.entry(slot).or_insert_with(stored)
    }

    fn emit(&mut self, origin: u32, key: &str, line: Vec<u8>) {
        self.answer.emitted.origins.push(origin);
        self.values.push(Some(&line));
        self.keys.push(Some(key.as_bytes()));
    }

    fn set_timer(&mut self, slot: u32, time: i64) {
        self.answer.timers.timers.push(0);
        self.answer.timers.slots.push(slot);
        self.answer.timers.times.push(time);
    }

    fn finish(mut self, version: u32) -> Answer {
        for (slot, account) in self.accounts {
            let writes = &mut self.answer.writes;
            writes.states.push(0);
            writes.slots.push(slot);
            writes.ops.push(u8::from(account.is_none()));
            let bytes = account.map(|account| account.write(version)).unwrap_or_default();
            writes.values.push(Some(&bytes));
        }
        self.answer.emitted.keys = Some(self.keys);
        self.answer.emitted.values = Some(self.values);
        self.answer
    }
}

impl Account {
    fn read(bytes: &[u8], version: u32) -> Self {
        let number = |i: usize| i64::from_le_bytes(bytes[8 * i..8 * i + 8].try_into().expect("eight bytes"));
        let numbers = version as usize + 1;
        let largest = if version == 2 { number(2) } else { 0 };
        Self { count: number(0), sum: number(1), largest, padding: bytes[8 * numbers..].to_vec() }
    }

    fn write(&self, version: u32) -> Vec<u8> {
        let numbers = [self.count, self.sum, self.largest];
        let mut bytes: Vec<u8> = numbers[..version as usize + 1].iter().flat_map(|n| n.to_le_bytes()).collect();
        bytes.extend_from_slice(&self.padding);
        bytes
    }
}
