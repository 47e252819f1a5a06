//! What comes next in a job's life: its record against what this process has of it. Pure.
//!
//! The record is written first and then made so, one step after the other, by whoever looks: the caller who asked for
//! it, or the supervisor. After a restart of the process the same steps lead on from wherever it stood.

use super::record::Desired;

/// What this process has of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Here {
    Nothing,
    Up {
        /// The record asks for other settings than its tasks were started with.
        outdated: bool,
    },
    /// Its tasks were told to end, and some of their threads have not.
    Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is as the record says.
    Reached,
    /// Make internal topics and first headers, and record that they are there.
    Create,
    Launch,
    /// Tell the tasks to end.
    End,
    /// Nothing can be done before they have.
    Wait,
    /// Topics, directory and record.
    Remove,
}

pub fn next(desired: Desired, here: Here) -> Step {
    match (desired, here) {
        (_, Here::Ending) => Step::Wait,
        (Desired::Creating, Here::Nothing) => Step::Create,
        (Desired::Running, Here::Nothing) => Step::Launch,
        (Desired::Running, Here::Up { outdated: false }) | (Desired::Stopped, Here::Nothing) => Step::Reached,
        (Desired::Deleting, Here::Nothing) => Step::Remove,
        // Two owners of a task would fence each other, and one directory has one owner: first the old ones end.
        (_, Here::Up { .. }) => Step::End,
    }
}
