//! The rule by which headers follow each other: one task's epochs without a gap, each naming the hash
//! of the one before.
//!
//! This is what shows that a changelog lost its tail, was made again, or was written by two owners.

use super::Error;
use super::header::{Header, HeaderHash, HeaderKind, TaskIdentity};

/// How far a changelog has been followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    task: TaskIdentity,
    last: Option<(u64, HeaderHash)>,
}

impl Chain {
    /// From the very beginning: a start header comes next.
    pub fn at_start(task: TaskIdentity) -> Self {
        Self { task, last: None }
    }

    /// From a header known from elsewhere (a base, a store's marker): its successor comes next.
    pub fn behind(task: TaskIdentity, epoch: u64, hash: HeaderHash) -> Self {
        Self { task, last: Some((epoch, hash)) }
    }

    /// Epoch and hash of the last header.
    pub fn last(&self) -> Option<(u64, HeaderHash)> {
        self.last
    }

    /// The number of the next epoch.
    pub fn next_epoch(&self) -> u64 {
        self.last.map_or(0, |(epoch, _)| epoch + 1)
    }

    /// What the next header has to name as its previous one.
    pub fn next_previous(&self) -> HeaderHash {
        self.last.map_or([0; 32], |(_, hash)| hash)
    }

    /// Takes the next header with the hash of its bytes.
    ///
    /// # Errors
    /// Where it does not follow; the chain stays where it was.
    pub fn follow(&mut self, header: &Header, hash: HeaderHash) -> Result<(), Error> {
        let epoch = header.epoch;
        if header.task != self.task {
            let (expected, found) = (self.task.to_string(), header.task.to_string());
            return Err(Error::Foreign { epoch, expected, found });
        }
        if epoch != self.next_epoch() {
            return Err(Error::Gap { expected: self.next_epoch(), found: epoch });
        }
        if (header.kind == HeaderKind::Start) != (epoch == 0) {
            return Err(Error::Misplaced { epoch, found: header.kind });
        }
        if header.previous != self.next_previous() {
            return Err(Error::Unlinked { epoch });
        }
        self.last = Some((epoch, hash));
        Ok(())
    }
}

impl std::fmt::Display for TaskIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { job, incarnation, task, parallelism } = self;
        write!(f, "job {job} (incarnation {incarnation}), task {task} of {parallelism}")
    }
}
