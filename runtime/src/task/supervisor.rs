//! What comes after a session: again, later, held, given way, given up.
//!
//! Pure: told how the session ended, answers what to do. The thread and the simulation obey the same answers.

use std::time::Duration;

use super::rules::rules;
use crate::error::Kind;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How a session ended in an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub kind: Kind,
    /// It is the local store that is damaged, which the changelog can bring back.
    pub local_damage: bool,
    /// The log refused a record, and there is a smaller step to go on in.
    pub smaller_steps: bool,
    /// It had taken the task over, so that the modules of its last header could be held.
    pub recovered: bool,
    /// It stood still under these modules already.
    pub held: bool,
    /// It has committed more than its claim.
    pub progressed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Recover at once.
    Again,
    AgainAfter(Duration),
    /// Recover, and stand still until other modules are the target.
    Hold,
    /// Read the last claim without taking over.
    LookForOwner,
    /// The thread ends; whoever started it decides.
    End,
}

/// Of one task, as long as its thread lives.
#[derive(Debug)]
pub(super) struct Supervisor {
    pause: Duration,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self { pause: FIRST_PAUSE }
    }
}

impl Supervisor {
    pub fn next(&mut self, ended: &Ended) -> Act {
        // Coming up is no progress: a steady fault lets every session come up.
        if ended.progressed {
            self.pause = FIRST_PAUSE;
        }
        match ended.kind {
            Kind::Retry => Act::AgainAfter(self.longer_pause()),
            Kind::Corrupt if ended.local_damage => Act::AgainAfter(self.longer_pause()),
            Kind::Guest if ended.recovered && !ended.held && rules().faulty_code_is_held => Act::Hold,
            Kind::Fenced => Act::LookForOwner,
            Kind::Invalid if ended.smaller_steps => Act::Again,
            _ => Act::End,
        }
    }

    /// The last claim was read. `None` where it could not be, and waiting may help.
    pub fn after_look(&mut self, ours: Option<bool>) -> Act {
        match ours {
            // Fenced by nobody: the cluster ended a transaction that took too long.
            Some(true) => Act::Again,
            Some(false) => Act::End,
            None => Act::LookForOwner,
        }
    }

    fn longer_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(kind: Kind) -> Ended {
        Ended { kind, local_damage: false, smaller_steps: false, recovered: true, held: false, progressed: false }
    }

    #[test]
    fn pauses_grow_until_something_was_committed_whether_or_not_the_task_comes_up_in_between() {
        let mut supervisor = Supervisor::default();
        let mut pauses = Vec::new();
        for recovered in [true, false, true, true, true, true, true, true, true] {
            match supervisor.next(&Ended { recovered, ..ended(Kind::Retry) }) {
                Act::AgainAfter(pause) => pauses.push(pause.as_millis()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        let next = supervisor.next(&Ended { progressed: true, ..ended(Kind::Retry) });
        assert_eq!(next, Act::AgainAfter(FIRST_PAUSE));
    }

    #[test]
    fn code_that_is_at_fault_is_held_where_the_task_could_be_taken_over_and_once() {
        let mut supervisor = Supervisor::default();
        assert_eq!(supervisor.next(&ended(Kind::Guest)), Act::Hold);
        assert_eq!(supervisor.next(&Ended { held: true, ..ended(Kind::Guest) }), Act::End);
        assert_eq!(supervisor.next(&Ended { recovered: false, ..ended(Kind::Guest) }), Act::End);
    }

    #[test]
    fn a_damaged_local_store_is_rebuilt_and_a_damaged_changelog_is_not() {
        let mut supervisor = Supervisor::default();
        let next = supervisor.next(&Ended { local_damage: true, ..ended(Kind::Corrupt) });
        assert_eq!(next, Act::AgainAfter(FIRST_PAUSE));
        assert_eq!(supervisor.next(&ended(Kind::Corrupt)), Act::End);
    }

    #[test]
    fn who_was_fenced_looks_first_and_gives_way_to_another_owner() {
        let mut supervisor = Supervisor::default();
        assert_eq!(supervisor.next(&ended(Kind::Fenced)), Act::LookForOwner);
        assert_eq!(supervisor.after_look(None), Act::LookForOwner);
        assert_eq!(supervisor.after_look(Some(true)), Act::Again);
        assert_eq!(supervisor.after_look(Some(false)), Act::End);
    }
}
