//! The next step in a job's life: compares its record with the tasks that this process runs for it. Pure.
//!
//! A change is first written to the record and then carried out step by step, by the caller who asked for it or by the
//! background thread. After a restart of the process the same steps go on from where it stopped.

use super::record::Desired;

/// What this process has of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Here {
    Nothing,
    Up {
        /// The record asks for other settings than its tasks were started with.
        outdated: bool,
    },
    /// Its tasks were told to end, and some of their threads are still running.
    Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is left to do: the job is as its record asks for.
    Reached,
    /// Make internal topics and first headers, and record that they are there.
    Create,
    Launch,
    /// Tell the tasks to end.
    End,
    /// Wait: nothing can be done before the tasks have ended.
    Wait,
    /// Remove the job's topics, its directory and, last, its record.
    Remove,
}

pub fn next(desired: Desired, here: Here) -> Step {
    match (desired, here) {
        (_, Here::Ending) => Step::Wait,
        (Desired::Creating, Here::Nothing) => Step::Create,
        (Desired::Running, Here::Nothing) => Step::Launch,
        (Desired::Running, Here::Up { outdated: false }) | (Desired::Stopped, Here::Nothing) => Step::Reached,
        (Desired::Deleting, Here::Nothing) => Step::Remove,
        // The old tasks have to end first: two owners of a task would fence each other, and a store's directory has one
        // owner.
        (_, Here::Up { .. }) => Step::End,
    }
}
