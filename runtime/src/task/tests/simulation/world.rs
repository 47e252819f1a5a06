//! The world of one seed: a cluster, up to three workers on one task, and what befalls them.
//!
//! Owns the order of events. Every throw of the dice comes from the seed, and which kinds of trouble a seed knows at all
//! is thrown first, so that some seeds are full of one kind. After each event the invariants are looked at.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::ledger::Ledger;
use super::model::{Model, Sent};
use super::oracle::Oracle;
use super::process::{Life, Process, Turn, trace};
use crate::checkpoint::encode_delta;
use crate::env::simulated::{Dice, JumpingClock};
use crate::log::sim::{Hardship, Simulated};
use crate::model::{BEFORE_ALL_TIME, NextOffset, PartitionBatch, Uid, murmur2};
use crate::state::lose_note_on;
use crate::state::simulated::{self, Content};
use crate::task::Error;
use crate::task::target::{Change, Target, TimeReset};

pub const KEYS: [&str; 6] = ["a", "b", "c", "d", "f", "g"];
/// Topics of the two sources and their partitions.
pub const INPUTS: [(&str, u32); 2] = [("numbers", 2), ("more", 1)];
pub const CHANGELOG: &str = "__forebay.job.changelog";
/// Behind everything that is ever sent before the end.
const THE_END_MS: i64 = 1_000_000_000;
/// Longer than any interval between commits, and shorter than any time limit of a transaction.
const REST: Duration = Duration::from_millis(110);
/// So often in a row there is nothing to do at the end; longer than an input takes to be called idle.
const RESTS: u32 = 5;
/// In which the others may still interfere.
const TURNS_OF_OTHERS: u32 = 200;
/// In which a healed world must come to rest.
const LAST_TURNS: u32 = 6_000;

/// How often each kind of event comes, out of all; 0 in seeds that do not know it.
pub struct Weights {
    kinds: Vec<(Event, u32)>,
    /// Of 1,000 turns, those in which the process dies somewhere inside.
    deadly: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    Send,
    Work,
    Kill,
    Pause,
    Assign,
    Disk,
    Time,
    Swap,
    Stop,
    Groups,
    Retention,
    TornDelta,
    Outage,
    Election,
    Reset,
}

impl Weights {
    /// Resets are thrown apart: a seed without them is what it was before there were any.
    pub fn throw(dice: &mut Dice, of_resets: &mut Dice) -> Self {
        let always = [(Event::Send, 8), (Event::Work, 40), (Event::Assign, 4), (Event::Time, 6)];
        let sometimes = [
            (Event::Kill, 3),
            (Event::Pause, 3),
            (Event::Disk, 3),
            (Event::Swap, 2),
            (Event::Stop, 1),
            (Event::Groups, 1),
            (Event::Retention, 1),
            (Event::TornDelta, 1),
            (Event::Outage, 1),
            (Event::Election, 1),
        ];
        let mut kinds = always.to_vec();
        for (event, weight) in sometimes {
            let times = [0, 0, 1, 1, 4][dice.index(5)];
            kinds.push((event, weight * times));
        }
        kinds.push((Event::Reset, [0, 0, 0, 1, 3][of_resets.index(5)]));
        let deadly = [0, 20, 20, 100][dice.index(4)];
        Self { kinds, deadly }
    }

    fn pick(&self, dice: &mut Dice) -> Event {
        let all: u32 = self.kinds.iter().map(|(_, weight)| weight).sum();
        let mut at = dice.roll(u64::from(all)) as u32;
        for (event, weight) in &self.kinds {
            if at < *weight {
                return *event;
            }
            at -= weight;
        }
        Event::Work
    }
}

pub struct World<'a> {
    pub dice: Dice,
    pub clock: Arc<JumpingClock>,
    pub log: Simulated,
    pub oracle: Oracle,
    pub model: Model,
    pub processes: Vec<Process<'a>>,
    pub weights: Weights,
    /// Verbs that records of this seed have, each as often as it stands here.
    pub verbs: Vec<&'static str>,
    pub hints: bool,
    pub time_ms: i64,
    pub copies: Vec<Arc<Content>>,
    pub tally: BTreeMap<String, u64>,
}

impl<'a> World<'a> {
    /// Lets so many events happen.
    pub fn live(&mut self, events: u32) -> Result<(), String> {
        for _ in 0..events {
            let event = self.weights.pick(&mut self.dice);
            self.count(&format!("{event:?}"));
            trace(|| format!("{event:?}"));
            self.happen(event)?;
            self.look()?;
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        let some = self.dice.index(self.processes.len());
        match event {
            Event::Send => (0..self.dice.roll(20)).for_each(|_| self.send_any()),
            Event::Work => {
                for _ in 0..1 + self.dice.roll(8) {
                    self.work(some)?;
                }
            }
            Event::Kill => {
                let Self { processes, dice, .. } = self;
                processes[some].kill(dice);
            }
            Event::Pause => processes_pause(&mut self.processes[some]),
            Event::Assign => self.processes[some].assign(),
            Event::Disk => self.change_disk(some),
            Event::Time => self.pass_time(),
            Event::Swap => self.swap(some)?,
            Event::Reset => self.reset_time(some)?,
            Event::Stop => self.stop(some)?,
            Event::Groups => self.mess_with_groups(),
            Event::Retention => self.retain(),
            Event::TornDelta => self.tear_a_delta(),
            Event::Outage => {
                let mut cluster = self.log.cluster();
                cluster.away = !cluster.away;
            }
            Event::Election => {
                let (topic, partitions) = INPUTS[self.dice.index(INPUTS.len())];
                let partition = self.dice.index(partitions as usize) as i32;
                if let Ok(partition) = self.log.cluster().partition(topic, partition) {
                    partition.elect();
                }
            }
        }
        Ok(())
    }

    /// The invariants that hold at every moment.
    pub fn look(&mut self) -> Result<(), String> {
        self.oracle.watch(&self.log.cluster())?;
        for session in self.processes.iter().filter_map(|process| process.session.as_ref()) {
            if session.inbox.isolation.is_some() && session.committer.epoch.writing {
                return Err("a batch is taken apart while a transaction is open".to_owned());
            }
        }
        for process in self.processes.iter().filter(|process| !process.strange_store) {
            let dir = &process.context.plan.state_dir;
            for content in [process.machine.current(dir), process.machine.content(dir)].into_iter().flatten() {
                self.oracle.check_store(&content)?;
            }
        }
        Ok(())
    }

    pub fn count(&mut self, what: &str) {
        *self.tally.entry(what.to_owned()).or_default() += 1;
    }

    /// One turn of a process. It may die in it.
    fn work(&mut self, which: usize) -> Result<(), String> {
        let dies = self.dice.chance(self.weights.deadly);
        let places = self.dice.roll(40) as u32;
        self.turn(which, dies.then_some(places), Process::step).map(drop)
    }

    /// A turn after which the process goes on or rests; anything else is a finding.
    fn turn(
        &mut self,
        which: usize,
        dies_after: Option<u32>,
        act: impl FnOnce(&mut Process<'a>) -> Result<(), Error>,
    ) -> Result<Turn, String> {
        let Self { processes, dice, .. } = self;
        if processes[which].paused {
            return Ok(Turn::Went);
        }
        let turn = processes[which].turn(dies_after, dice, act)?;
        match &turn {
            // One that lost the task long ago may stand where retention has passed since.
            Turn::Stopped(Error::InputGone { .. }) if !self.owns(which)? => {}
            Turn::Stopped(error) => return Err(format!("a process stopped: {error}")),
            Turn::Died(place) => self.count(&format!("died at {place}")),
            Turn::Failed(kind) => self.count(&format!("failed: {kind:?}")),
            Turn::Went => {}
        }
        self.clock.pass(Duration::from_micros(self.dice.roll(3_000)));
        Ok(turn)
    }

    /// Whether the last committed epoch is this process's.
    fn owns(&mut self, which: usize) -> Result<bool, String> {
        // What it has done in this very turn counts too.
        self.oracle.watch(&self.log.cluster())?;
        let seen = self.processes[which].context.memory().seen;
        Ok(seen.is_some_and(|(_, session)| session == self.oracle.last().header.owner.session))
    }

    fn pass_time(&mut self) {
        let millis = match self.dice.roll(8) {
            0 => self.dice.roll(20_000),
            1..=3 => self.dice.roll(500),
            _ => self.dice.roll(60),
        };
        self.clock.pass(Duration::from_millis(millis));
        if self.dice.roll(4) == 0 {
            let jump = self.dice.roll(20_000_000_000) as i64 - 10_000_000_000;
            self.clock.jump(jump);
        }
    }

    /// What may become of the disk of a process that is down.
    fn change_disk(&mut self, which: usize) {
        let process = &mut self.processes[which];
        if process.life != Life::Down {
            return;
        }
        let dir: &Path = &process.context.plan.state_dir;
        let content = process.machine.content(dir);
        match self.dice.roll(7) {
            0 => process.machine.replace(dir, None),
            6 => lose_note_on(&process.machine, dir),
            1 => {
                process.machine.damage(dir);
                process.strange_store = true;
            }
            2 | 3 => self.copies.extend(content.filter(|_| !process.strange_store)),
            4 if !self.copies.is_empty() => {
                let copy = self.copies[self.dice.index(self.copies.len())].clone();
                process.machine.replace(dir, Some(copy));
                process.strange_store = false;
            }
            _ => {
                let Some(marker) = content.as_deref().and_then(simulated::marker) else { return };
                let mut strange = content.as_deref().cloned().unwrap_or_default();
                for (key, value) in strange.iter_mut().filter(|(key, _)| !simulated::is_own(key)) {
                    // A state value of another past; a timer's value is its mark.
                    if let Some(last) = value.last_mut().filter(|_| key.first() == Some(&1)) {
                        *last ^= 1;
                    }
                }
                let mut header_hash = marker.header_hash;
                header_hash[0] ^= 1;
                let strange = simulated::with_marker(&strange, crate::state::Marker { header_hash, ..marker });
                process.machine.replace(dir, Some(Arc::new(strange)));
                process.strange_store = true;
            }
        }
    }

    /// The target of one process is another version, on trial or decided.
    fn swap(&mut self, which: usize) -> Result<(), String> {
        let module = Ledger::module(1 + self.dice.roll(2) as u32, self.hints);
        let change = Change { swap: Uid::random(), operator: 0, module, empty: Default::default() };
        let decided = self.dice.roll(4) > 0;
        let target = Target {
            trial: (!decided).then(|| change.clone()),
            modules: decided.then_some((0, change)).into_iter().collect(),
            ..self.processes[which].context.target.get()
        };
        self.aim(which, target);
        // Seldom enough as it is, so the deadlier.
        let dies = self.dice.chance(5 * self.weights.deadly);
        let places = self.dice.roll(30) as u32;
        self.turn(which, dies.then_some(places), Process::step).map(drop)
    }

    /// A reset of event time that one process is told of, the newest or one of before: another server's records may be old.
    fn reset_time(&mut self, which: usize) -> Result<(), String> {
        if self.oracle.resets.is_empty() || self.dice.roll(3) > 0 {
            let back_ms = self.dice.roll(40) as i64;
            let to = [BEFORE_ALL_TIME, (self.time_ms - back_ms) * 1_000_000][self.dice.index(2)];
            self.oracle.resets.push(to);
        }
        let asked = self.oracle.resets.len();
        let older = if self.dice.roll(4) == 0 { self.dice.index(asked) } else { 0 };
        self.aim_at_reset(which, asked - older);
        let dies = self.dice.chance(5 * self.weights.deadly);
        let places = self.dice.roll(30) as u32;
        self.turn(which, dies.then_some(places), Process::step).map(drop)
    }

    fn aim(&mut self, which: usize, target: Target) {
        self.oracle.decided.extend(target.modules.values().map(|change| change.module.digest));
        self.processes[which].context.target.put(target);
    }

    /// A process is told to stop, at whatever moment. It is down when it has, until the task is given to it again.
    fn stop(&mut self, which: usize) -> Result<(), String> {
        self.processes[which].context.target.stop();
        let dies = self.dice.chance(5 * self.weights.deadly);
        let places = self.dice.roll(30) as u32;
        self.turn(which, dies.then_some(places), Process::step).map(drop)
    }

    fn aim_at_reset(&self, which: usize, number: usize) {
        let target = &self.processes[which].context.target;
        let reset = number.checked_sub(1).map(|at| TimeReset { number: number as u64, to: self.oracle.resets[at] });
        target.put(Target { time_reset: reset, ..target.get() });
    }

    /// What groups say must not matter.
    fn mess_with_groups(&mut self) {
        let mut cluster = self.log.cluster();
        let far = self.dice.roll(50) as i64;
        if self.dice.roll(2) == 0 {
            cluster.groups.clear();
        } else {
            cluster.groups.values_mut().for_each(|next| *next = NextOffset(far));
        }
    }

    /// Retention takes what has been read and committed.
    fn retain(&mut self) {
        let mut cluster = self.log.cluster();
        for input in &self.oracle.last().header.inputs {
            if let Ok(partition) = cluster.partition(&input.source, input.partition) {
                let read = (input.next_offset.0 - partition.start).max(0) as u64;
                partition.truncate(partition.start + self.dice.roll(read + 1) as i64);
            }
        }
    }

    /// A delta whose end never came: the first chunks of one, as a writer that was fenced may have left them.
    fn tear_a_delta(&mut self) {
        let mut header = self.oracle.last().header.clone();
        header.epoch += 1;
        header.owner.session = Uid::random();
        let filling: Vec<u8> = (0..3_000).map(|_| self.dice.number() as u8).collect();
        let blobs = |bytes: &[u8]| [Some(bytes)].into_iter().collect();
        let chunks = encode_delta(&header, &blobs(b"\x01key"), &blobs(&filling), 1_024).unwrap_or_default();
        let mut batch = PartitionBatch::new(CHANGELOG, 0);
        let some = 1 + self.dice.index(chunks.len().saturating_sub(1));
        chunks[..some.min(chunks.len() - 1)].iter().for_each(|chunk| batch.push(-1, 0, None, Some(chunk)));
        let mut cluster = self.log.cluster();
        drop(cluster.produce(&batch));
    }
}

fn processes_pause(process: &mut Process<'_>) {
    process.paused = !process.paused && process.life != Life::Down;
}

/// Sending.
impl<'a> World<'a> {
    pub fn send_any(&mut self) {
        self.time_ms += self.dice.roll(3) as i64;
        let verb = self.verbs[self.dice.index(self.verbs.len())];
        let late = if self.dice.roll(10) == 0 { self.dice.roll(20) as i64 } else { 0 };
        let key = KEYS[self.dice.index(KEYS.len())];
        let (topic, partitions) = INPUTS[self.dice.index(INPUTS.len())];
        self.send(verb, key, (topic, partitions), self.time_ms - late);
    }

    fn send(&mut self, verb: &'static str, key: &str, (topic, partitions): (&'static str, u32), time_ms: i64) {
        let id = self.model.sent.len() as u64;
        let home = murmur2::partition(key.as_bytes(), partitions);
        // Partition 0 is never a wrong one: the topic may have begun with it alone.
        let verb = if verb == "misplaced" && (home > 0 || partitions == 1) { "add" } else { verb };
        let partition = if verb == "misplaced" { 1 } else { home };
        let argument = match verb {
            "timer" => {
                let ahead = self.dice.roll(30) as i64 - 5;
                (time_ms + ahead) * 1_000_000 + (id as i64 % 1_000) * 1_000 + [0, 998][self.dice.index(2)]
            }
            "grow" => self.dice.roll(2_500) as i64,
            _ => self.dice.roll(100) as i64,
        };
        let key = (verb != "keyless").then(|| key.to_owned());
        let mut batch = PartitionBatch::new(topic, partition);
        let value = format!("{verb} {id} {argument}");
        batch.push(-1, time_ms, key.as_deref().map(str::as_bytes), Some(value.as_bytes()));
        let offset = self.log.cluster().produce(&batch).expect("the topic is there");
        trace(|| format!("{topic}/{partition}@{offset}: {value}"));
        self.model.sent.insert(id, Sent { verb, key, argument, topic, partition, offset });
    }

    /// One record per partition, far behind all others: time comes to its end, and every timer fires.
    fn send_the_last(&mut self) {
        for input in INPUTS {
            for partition in 0..input.1 as i32 {
                let there = |key: &&&str| murmur2::partition(key.as_bytes(), input.1) == partition;
                let key = KEYS.iter().find(there).expect("every partition has a key");
                self.send("add", key, input, THE_END_MS);
            }
        }
    }
}

/// How it ends.
impl<'a> World<'a> {
    /// All trouble ends, and one process works to the end of the input. Then the books are closed.
    pub fn end_well(&mut self) -> Result<(), String> {
        self.heal();
        (0..self.processes.len()).for_each(|process| self.aim_at_reset(process, self.oracle.resets.len()));
        self.send_the_last();
        let main = self.dice.index(self.processes.len());
        self.processes[main].paused = false;
        if self.verbs.contains(&"break") {
            // Where version 1 runs it holds the task at such a record.
            let change = Change {
                swap: Uid::random(),
                operator: 0,
                module: Ledger::module(2, self.hints),
                empty: Default::default(),
            };
            let modules = [(0, change)].into_iter().collect();
            let target = Target { trial: None, modules, ..self.processes[main].context.target.get() };
            self.aim(main, target);
        }
        let mut rests = 0;
        for turn in 0..LAST_TURNS {
            if matches!(self.processes[main].life, Life::Down | Life::GaveWay) {
                self.processes[main].assign();
            }
            let some = self.dice.index(self.processes.len() * 4);
            if turn < TURNS_OF_OTHERS && some < self.processes.len() && some != main {
                self.processes[some].paused = false;
                self.turn(some, None, Process::step)?;
            } else if turn == TURNS_OF_OTHERS {
                let Self { processes, dice, .. } = self;
                processes.iter_mut().enumerate().filter(|(i, _)| *i != main).for_each(|(_, other)| other.kill(dice));
            }
            let had_begun = self.processes[main].session.is_some();
            self.turn(main, None, Process::step)?;
            self.look()?;
            if !had_begun || !self.processes[main].is_caught_up() {
                rests = 0;
                continue;
            }
            rests += 1;
            self.clock.pass(REST);
            let mut others = self.processes.iter().enumerate().filter(|(i, _)| *i != main);
            if rests > RESTS && others.all(|(_, other)| other.life != Life::Up) {
                return self.close(main);
            }
        }
        self.judge(false)?;
        Err(format!("it does not come to rest: {:?}", self.processes.iter().map(|p| p.life).collect::<Vec<_>>()))
    }

    fn heal(&mut self) {
        let mut cluster = self.log.cluster();
        cluster.away = false;
        let transaction_timeout = cluster.hardship.transaction_timeout;
        cluster.hardship = Hardship { marker_waits: 300, lingers: 100, transaction_timeout, ..Hardship::default() };
    }

    fn close(&mut self, main: usize) -> Result<(), String> {
        self.turn(main, None, |process| match &mut process.session {
            Some(session) => Ok(session.lane.state.flush()?),
            None => Ok(()),
        })?;
        self.look()?;
        // Another may have claimed the task since, and been killed before it did anything.
        if self.owns(main)? {
            self.same_as_the_changelog(main)?;
        }
        self.judge(true)?;
        self.oracle.is_reset()?;
        // And from the changelog alone.
        let Self { processes, dice, .. } = self;
        processes[main].kill(dice);
        processes[main].machine.replace(&processes[main].context.plan.state_dir, None);
        processes[main].assign();
        self.turn(main, None, |process| {
            process.step()?;
            match &mut process.session {
                Some(session) => Ok(session.lane.state.flush()?),
                None => Ok(()),
            }
        })?;
        self.look()?;
        self.same_as_the_changelog(main)
    }

    pub fn judge(&self, all: bool) -> Result<(), String> {
        self.model.judge(&self.log.cluster(), &self.oracle.resets_of_transactions(), all)
    }

    /// A store that was flushed at rest stands at the end of the chain.
    fn same_as_the_changelog(&self, main: usize) -> Result<(), String> {
        let Process { context, machine, .. } = &self.processes[main];
        let marker = machine.content(&context.plan.state_dir).as_deref().and_then(simulated::marker);
        let (found, last) = (marker.map(|marker| marker.epoch), self.oracle.last().header.epoch);
        match found {
            Some(epoch) if epoch == last => Ok(()),
            _ => Err(format!("I2: the flushed store stands at epoch {found:?}, the changelog at {last}")),
        }
    }
}
