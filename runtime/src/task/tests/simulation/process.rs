//! One simulated worker: its disk, its session, and what it does about errors, as the supervisor says.
//!
//! Owns the session of one life at a time. A kill may strike inside any call, at a failpoint or at a call to the log;
//! a process that is paused goes on later as if nothing had happened.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use crate::env::simulated::{Dice, Killed};
use crate::error::Kind;
use crate::state::simulated::{Machine, set_machine};
use crate::task::context::{Memory, TaskContext};
use crate::task::session::Session;
use crate::task::supervisor::{Act, Supervisor};
use crate::task::worker::judge;
use crate::task::{Error, recovery};

/// Which process runs now, and when it is to die.
#[derive(Default)]
pub struct Fate {
    doom: RefCell<Option<Doom>>,
    /// The place of the last death.
    place: RefCell<String>,
}

struct Doom {
    places_left: u32,
    machine: Machine,
    dice: Dice,
}

impl Fate {
    /// What the failpoints of the running process call.
    pub fn pass(&self, place: &str) {
        let strikes = {
            let mut doom = self.doom.borrow_mut();
            let Some(doom) = doom.as_mut() else { return };
            let strikes = doom.places_left == 0;
            if strikes {
                doom.machine.kill(&mut doom.dice);
            } else {
                doom.places_left -= 1;
            }
            strikes
        };
        if strikes {
            self.doom.take();
            place.clone_into(&mut self.place.borrow_mut());
            resume_unwind(Box::new(Killed));
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Not running.
    Down,
    /// Has a session, or wants one.
    Up,
    /// Was fenced, and has to find out by whom.
    Fenced,
    /// Knows of another owner: only an assignment brings it back.
    GaveWay,
}

pub struct Process<'a> {
    pub context: &'a TaskContext,
    pub machine: Machine,
    pub session: Option<Session<'a>>,
    pub life: Life,
    pub paused: bool,
    supervisor: Supervisor,
    /// Of the context's memory when the session began.
    progress_before: u64,
    /// Its store is not its own work: a stranger's, or damaged.
    pub strange_store: bool,
    fate: Rc<Fate>,
}

/// What one turn of a process came to.
pub enum Turn {
    Went,
    /// At which place.
    Died(String),
    /// Lost its session, and goes on by itself.
    Failed(Kind),
    /// Stopped for good, with what an operator has to look at.
    Stopped(Error),
}

impl<'a> Process<'a> {
    pub fn new(context: &'a TaskContext, machine: Machine, fate: Rc<Fate>) -> Self {
        let (session, life) = (None, Life::Down);
        let supervisor = Supervisor::default();
        Self {
            context,
            machine,
            session,
            life,
            paused: false,
            supervisor,
            progress_before: 0,
            strange_store: false,
            fate,
        }
    }

    /// Starts it, or gives the task to it again.
    pub fn assign(&mut self) {
        if self.life != Life::Up {
            self.session = None;
            self.life = Life::Up;
            self.context.target.start_again();
        }
    }

    /// Dies between two calls.
    pub fn kill(&mut self, dice: &mut Dice) {
        self.machine.kill(dice);
        self.buried();
    }

    /// Nothing is left of it but its disk.
    fn buried(&mut self) {
        self.session = None;
        *self.context.memory() = Memory::default();
        self.supervisor = Supervisor::default();
        (self.life, self.paused) = (Life::Down, false);
    }

    /// Runs `act` as this process, which dies after so many places where it can, if it comes to that.
    pub fn turn(
        &mut self,
        dies_after: Option<u32>,
        dice: &mut Dice,
        act: impl FnOnce(&mut Self) -> Result<(), Error>,
    ) -> Result<Turn, String> {
        set_machine(Some(&self.machine));
        let doom = dies_after.map(|places_left| Doom { places_left, machine: self.machine.clone(), dice: dice.fork() });
        *self.fate.doom.borrow_mut() = doom;
        let outcome = catch_unwind(AssertUnwindSafe(|| act(self)));
        self.fate.doom.take();
        if let Some(session) = self.session.as_ref().filter(|_| outcome.is_ok()) {
            let header = &session.committer.head.header;
            let at: Vec<_> = header.inputs.iter().map(|input| input.next_offset.0).collect();
            trace(|| format!("{}: epoch {} at {at:?}", self.context.plan.state_dir.display(), header.epoch));
        }
        let turn = match outcome {
            Ok(Ok(())) => Ok(Turn::Went),
            Ok(Err(error)) => Ok(self.failed(error)),
            Err(payload) if payload.is::<Killed>() => {
                self.buried();
                Ok(Turn::Died(self.fate.place.take()))
            }
            Err(payload) => Err(format!("panicked: {}", words_of(payload.as_ref()))),
        };
        set_machine(None);
        turn
    }

    /// One step of the loop that `task::worker` is.
    pub fn step(&mut self) -> Result<(), Error> {
        match self.life {
            Life::Down | Life::GaveWay => Ok(()),
            Life::Fenced => self.look_for_the_owner(),
            Life::Up => match &mut self.session {
                None => {
                    self.progress_before = self.context.memory().progress;
                    self.session = Some(Session::recover(self.context)?);
                    self.strange_store = false;
                    Ok(())
                }
                Some(session) => {
                    if session.turn()?.is_some() {
                        self.buried();
                    }
                    Ok(())
                }
            },
        }
    }

    fn look_for_the_owner(&mut self) -> Result<(), Error> {
        let seen = self.context.memory().seen;
        let Some((offset, ours)) = seen else {
            self.life = Life::GaveWay;
            return Ok(());
        };
        let (_, owner) = recovery::last_owner(&self.context.plan, self.context.log.as_ref(), offset)?;
        let act = self.supervisor.after_look(Some(owner == ours));
        self.life = if act == Act::Again { Life::Up } else { Life::GaveWay };
        Ok(())
    }

    fn failed(&mut self, error: Error) -> Turn {
        trace(|| format!("{}: {error} {:?}", self.context.plan.state_dir.display(), self.context.memory().steps));
        let kind = error.kind();
        if self.life == Life::Fenced && kind == Kind::Retry {
            return Turn::Failed(kind);
        }
        let session = self.session.take().map(|session| (session.lane.digests(), session.hold));
        let (error, act) = judge(self.context, &mut self.supervisor, error, session, self.progress_before);
        if self.context.target.is_stop() && act != Act::End {
            // As the thread: it is not told twice, and stops without its open epoch.
            self.buried();
            return Turn::Failed(kind);
        }
        match act {
            Act::Again | Act::AgainAfter(_) | Act::Hold => Turn::Failed(kind),
            Act::LookForOwner => {
                self.life = Life::Fenced;
                Turn::Failed(kind)
            }
            Act::End => {
                self.life = Life::GaveWay;
                Turn::Stopped(error)
            }
        }
    }

    pub fn is_caught_up(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.hold && session.is_caught_up())
    }
}

/// Tells what happens, where `FOREBAY_TRACE` asks for it.
pub fn trace(what: impl FnOnce() -> String) {
    thread_local! {
        static ASKED: bool = std::env::var_os("FOREBAY_TRACE").is_some();
    }
    if ASKED.with(|asked| *asked) {
        println!("{}", what());
    }
}

fn words_of(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
