//! The background work of the job layer: every job is brought to what its record asks for, open swaps are carried on,
//! and tasks that ended by themselves are started again.
//!
//! Two threads for the whole process. The supervisor never waits for the log, so that a slow cluster does not keep it
//! from its tasks; the follower compares records to what is here, writes what comes next, and hands what may take long
//! (starting and removing jobs) to a few threads that end with it. Read [`Manager::follow`].

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use super::error::Error;
use super::life::{self, Step};
use super::manager::Manager;
use super::record::JobRecord;
use super::store::{Revision, View};

/// Pause between two rounds over all jobs while nothing is under way.
const EVERY: Duration = Duration::from_millis(50);
/// The same pause while a job or a swap is on its way.
const SOON: Duration = Duration::from_millis(10);
/// A step that failed for a reason that may pass is tried again after this time.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// A swap whose next record could not be written is looked at again after this time.
const WRITE_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How many jobs are started or removed at the same time.
const AT_ONCE: usize = 8;

impl Manager {
    pub(super) fn start_following(self: &Arc<Self>) -> Result<(), Error> {
        for (name, work) in [("supervisor", Self::supervise as fn(&Arc<Self>)), ("follower", Self::follow)] {
            let manager = Arc::clone(self);
            let thread = std::thread::Builder::new().name(name.to_owned());
            thread
                .spawn(move || work(&manager))
                .map_err(|source| Error::Io { doing: format!("start the {name}"), source })?;
        }
        Ok(())
    }

    fn supervise(self: &Arc<Self>) {
        while !self.is_stopping() {
            for job in self.running_jobs().into_values() {
                job.supervise(self.runner.as_ref(), self.clock.as_ref());
            }
            self.pause(EVERY);
        }
    }

    fn follow(self: &Arc<Self>) {
        while !self.is_stopping() {
            let view = self.store.view();
            let mut is_busy = false;
            for (revision, job) in view.jobs() {
                is_busy |= self.follow_job(&view, revision, job);
            }
            self.pause(if is_busy { SOON } else { EVERY });
        }
    }

    /// True where something is under way.
    fn follow_job(self: &Arc<Self>, view: &View, revision: Revision, job: &JobRecord) -> bool {
        match life::next(job.desired, self.here(job)) {
            Step::Reached => self.follow_swap(view, revision, job),
            Step::Wait => true,
            // The job does not run, so a swap that was being prepared has no task left that could try it.
            Step::Create | Step::Launch | Step::Remove if !self.is_due(&job.name) => {
                self.follow_swap(view, revision, job)
            }
            Step::Create | Step::Launch | Step::Remove | Step::End => {
                self.reach_beside(&job.name);
                true
            }
        }
    }

    /// A job whose last step failed is left alone for a while, or for good where only a person can help.
    fn is_due(&self, name: &str) -> bool {
        let slots = self.slots();
        let failure = slots.get(name).and_then(|slot| slot.error.as_ref());
        let rested = |at: Duration| self.clock.elapsed().saturating_sub(at) >= TRY_AGAIN_AFTER;
        failure.is_none_or(|failure| failure.passes && rested(failure.at))
    }

    /// Takes the job's next step on a thread of its own. Only a few run at a time; other jobs have their turn in the
    /// next round.
    fn reach_beside(self: &Arc<Self>, name: &str) {
        if self.coming.fetch_add(1, Ordering::SeqCst) >= AT_ONCE {
            self.coming.fetch_sub(1, Ordering::SeqCst);
            return;
        }
        let (manager, of) = (Arc::clone(self), name.to_owned());
        let work = move || {
            let change = manager.change_of(&of);
            // A caller is changing this job right now, and will bring it to where its record says.
            if let Some(_one) = try_lock(&change)
                && let Err(error) = manager.reach(&of, "start")
            {
                tracing::error!(job = %of, "job is not where its record says: {error}");
            }
            manager.coming.fetch_sub(1, Ordering::SeqCst);
            manager.wake_up();
        };
        if let Err(error) = std::thread::Builder::new().name(format!("{name}-start")).spawn(work) {
            self.coming.fetch_sub(1, Ordering::SeqCst);
            tracing::error!(job = %name, "start job: the system gives no thread: {error}");
        }
    }

    /// Aims the tasks at what the records say, and goes on with a swap that is open.
    fn follow_swap(&self, view: &View, revision: Revision, job: &JobRecord) -> bool {
        let swap = view.swap(job.uid);
        let is_open = swap.is_some_and(|(_, swap)| !swap.phase.is_over());
        let records = (revision, swap.map(|(revision, _)| revision));
        let is_aimed = self.running_job(&job.name).is_none_or(|running| running.is_aimed_at(records));
        if !is_open && is_aimed {
            return false;
        }
        if !self.may_look(job.uid, WRITE_AGAIN_AFTER) {
            return false;
        }
        let change = self.change_of(&job.name);
        if let Some(_one) = try_lock(&change) {
            self.look(&job.name);
        }
        is_open
    }
}

pub(super) fn try_lock(change: &std::sync::Mutex<()>) -> Option<MutexGuard<'_, ()>> {
    match change.try_lock() {
        Ok(guard) => Some(guard),
        Err(std::sync::TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(std::sync::TryLockError::WouldBlock) => None,
    }
}
