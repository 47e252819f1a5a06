//! Ends that nobody can make good: input or changelog lost. The only right answer is to stop, and to say so.

use crate::env::simulated::Dice;
use crate::error::Kind;
use crate::log::{Log, TopicInfo};
use crate::state::{noted_on, simulated};

use super::process::{Process, Turn};
use super::world::{CHANGELOG, INPUTS, World};

#[derive(Clone, Copy, Debug)]
pub enum Catastrophe {
    /// Retention or an operator removed records that were not read yet.
    InputTruncated,
    /// The topic was made again under its name.
    InputMadeAgain,
    /// An unclean election cut the partition back behind what was read, and it has grown anew.
    InputRegrown,
    ChangelogEmptied,
    ChangelogMadeAgain,
    /// An unclean election cut the changelog back behind what a store has taken in.
    ChangelogTailLost,
    /// The same, where the store knows nothing of it: it is gone, or was brought to disk before. The note is left.
    ChangelogCutOff,
}

impl Catastrophe {
    pub fn throw(dice: &mut Dice) -> Self {
        use Catastrophe::*;
        let all = [
            InputTruncated,
            InputMadeAgain,
            InputRegrown,
            ChangelogEmptied,
            ChangelogMadeAgain,
            ChangelogTailLost,
            ChangelogCutOff,
        ];
        all[dice.index(all.len())]
    }
}

/// Turns in which a process must have stopped.
const TURNS: u32 = 2_000;

impl World<'_> {
    /// True where it came to that: some catastrophes need something to have happened before.
    pub fn end_badly(&mut self, what: Catastrophe) -> Result<bool, String> {
        self.log.cluster().away = false;
        let Self { processes, dice, .. } = self;
        processes.iter_mut().for_each(|process| process.kill(dice));
        // Nothing of theirs is on its way any more.
        self.log.cluster().take_over(&self.processes[0].context.plan.transactional_id());
        self.look()?;
        let Some(victim) = self.bring_about(what) else { return Ok(false) };
        self.count(&format!("{what:?}"));
        let epochs = self.oracle.epochs.len();
        self.processes[victim].assign();
        for _ in 0..TURNS {
            let Self { processes, dice, .. } = self;
            match processes[victim].turn(None, dice, Process::step)? {
                Turn::Stopped(error) if error.kind() == Kind::Corrupt => {
                    self.oracle.watch(&self.log.cluster())?;
                    if self.oracle.epochs.len() > epochs {
                        return Err(format!("{what:?}: epochs were committed before it stopped: {error}"));
                    }
                    self.judge(false)?;
                    return Ok(true);
                }
                Turn::Stopped(error) => return Err(format!("{what:?}: stopped for another reason: {error}")),
                Turn::Went | Turn::Failed(_) | Turn::Died(_) => {}
            }
        }
        Err(format!("{what:?}: nobody noticed"))
    }

    /// The process that is to notice it; none where it cannot be brought about.
    fn bring_about(&mut self, what: Catastrophe) -> Option<usize> {
        let any = self.dice.index(self.processes.len());
        let (topic, partitions) = INPUTS[self.dice.index(INPUTS.len())];
        let partition = self.dice.index(partitions as usize) as i32;
        let position = self.oracle.position(topic, partition);
        let (next, gap, leader_epoch) = (position.next_offset.0, position.gap as i64, position.leader_epoch);
        // So that there is something to lose, and something to be read by mistake.
        (0..60).for_each(|_| self.send_any());
        match what {
            Catastrophe::InputTruncated => {
                let mut cluster = self.log.cluster();
                let log = cluster.partition(topic, partition).ok()?;
                let lost = log.end - next;
                log.truncate(next + 1 + self.dice.roll(lost.max(1) as u64) as i64);
                (lost > 0).then_some(any)
            }
            Catastrophe::InputMadeAgain => {
                self.make_again(topic)?;
                while self.log.cluster().partition(topic, partition).ok()?.end <= next {
                    self.send_any();
                }
                Some(any)
            }
            Catastrophe::InputRegrown => {
                leader_epoch?;
                let end = self.log.cluster().partition(topic, partition).ok()?.end;
                // Where only markers are cut off nothing was lost that anybody has read.
                let behind_record = next - gap;
                let to = behind_record - 1 - self.dice.roll(behind_record.min(3) as u64) as i64;
                self.log.cluster().partition(topic, partition).ok()?.cut_back(to.max(0));
                while self.log.cluster().partition(topic, partition).ok()?.end <= end {
                    self.send_any();
                }
                Some(any)
            }
            Catastrophe::ChangelogEmptied => {
                let mut cluster = self.log.cluster();
                let log = cluster.partition(CHANGELOG, 0).ok()?;
                let end = log.end;
                log.truncate(end);
                Some(any)
            }
            Catastrophe::ChangelogMadeAgain => self.make_again(CHANGELOG).map(|_| any),
            Catastrophe::ChangelogTailLost => {
                let ahead = |process: &Process<'_>| {
                    let content = process.machine.content(&process.context.plan.state_dir)?;
                    simulated::marker(&content).filter(|_| !process.strange_store)
                };
                let (victim, marker) = (0..self.processes.len()).find_map(|i| Some((i, ahead(&self.processes[i])?)))?;
                if marker.epoch == 0 {
                    return None;
                }
                let kept = self.dice.index(marker.epoch as usize);
                let cut = self.oracle.epochs[kept + 1].offset;
                self.log.cluster().partition(CHANGELOG, 0).ok()?.cut_back(cut);
                Some(victim)
            }
            Catastrophe::ChangelogCutOff => {
                let noted = |process: &Process<'_>| noted_on(&process.machine, &process.context.plan.state_dir);
                let (victim, noted) = (0..self.processes.len()).find_map(|i| Some((i, noted(&self.processes[i])?)))?;
                let epoch = noted.marker.epoch;
                // The store may have lagged far behind, or have been at hand.
                let near = self.dice.index(epoch.min(3) as usize + 1).max(1) as u64;
                let kept = if self.dice.roll(2) == 0 { self.dice.roll(epoch) } else { epoch - near };
                let Process { machine, context, .. } = &self.processes[victim];
                if self.dice.roll(3) == 0 {
                    machine.replace(&context.plan.state_dir, None);
                }
                let cut = self.oracle.epochs[kept as usize + 1].offset;
                self.log.cluster().partition(CHANGELOG, 0).ok()?.cut_back(cut);
                Some(victim)
            }
        }
    }

    fn make_again(&mut self, topic: &str) -> Option<TopicInfo> {
        let spec = self.log.cluster().topic(topic).ok()?.info.spec.clone();
        self.log.cluster().topics.remove(topic);
        let calm = std::mem::take(&mut self.log.cluster().hardship);
        let made = self.log.create_topic(&spec).ok();
        self.log.cluster().hardship = calm;
        made
    }
}
