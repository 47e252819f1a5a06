//! What a task's state is built on: the local store and the changelog behind it, or the changelog from its start.
//!
//! Pure: facts that were observed go in, the choice comes out, and nothing is read or written. The changelog is the
//! truth. The store is a cache of it that counts only where exactly the header that it names stands in its place; but
//! where it has seen more than the changelog holds, the changelog has lost committed epochs, and nobody may go on.

use crate::checkpoint::HeaderHash;
use crate::state::Marker;
use crate::task::rules::rules;

/// What was observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Digest of the task that recovers.
    pub task: [u8; 32],
    /// What the local store says of itself; none: it is empty.
    pub store: Option<Marker>,
    /// The changelog's first offset.
    pub start: i64,
    /// The offset behind the changelog's last record.
    pub end: i64,
    /// The first header at the place that the store names, or behind it.
    pub standing: Option<Standing>,
    /// The changelog's last epoch, as far as it was read for it: to its end, where another header than the store's stands
    /// in the store's place.
    pub last: Option<u64>,
}

/// A header that stands in the changelog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub epoch: u64,
    pub hash: HeaderHash,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foundation {
    /// The local store. What stands behind this header is replayed onto it.
    Store(Standing),
    /// Nothing is there yet: the changelog from its start.
    Changelog,
    /// The same, after the store was removed: it is another task's, or of a past that the changelog does not hold.
    ChangelogInPlaceOf(Marker),
}

/// Why nobody may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The changelog ends before what the store has taken in. `last` is its last epoch, where that is known.
    Lost { store: Marker, last: Option<u64> },
    /// The changelog begins behind what the store has taken in. The store may be all that is left: it is kept.
    Gap { store: Marker },
    /// The changelog, read to its end, ends before an epoch that this task is known to have committed.
    CutOff { noted: Marker, last: u64 },
}

/// What reading the changelog to its end has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// The last epoch.
    pub epoch: u64,
    /// The header that was passed at the epoch that is noted; none where reading began behind it.
    pub at_noted: Option<HeaderHash>,
}

/// What the end says of what was noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Witness {
    /// Nothing is missing, as far as anybody here knows.
    Agrees,
    /// Another header has the noted epoch's number: the end was lost once, and somebody who had no note has gone on.
    WentOnWithout(Marker),
}

impl Facts {
    /// Where the store's header stands, if it does: what lies elsewhere says nothing about it.
    pub fn place_of_store(&self) -> Option<i64> {
        let ours = self.store.filter(|store| store.task == self.task);
        ours.map(|store| store.header_offset).filter(|place| (self.start..self.end).contains(place))
    }
}

/// Whether a header is the one that the store names.
pub(super) fn is_named(store: &Marker, standing: &Standing) -> bool {
    if rules().store_is_known_by_hash { standing.hash == store.header_hash } else { standing.epoch == store.epoch }
}

pub(super) fn choose(facts: &Facts) -> Result<Foundation, Stop> {
    let Some(store) = facts.store else { return Ok(Foundation::Changelog) };
    // However far another task's store stands, it says nothing about this task's changelog.
    if store.task != facts.task {
        return Ok(Foundation::ChangelogInPlaceOf(store));
    }
    if store.header_offset >= facts.end {
        return Err(Stop::Lost { store, last: None });
    }
    if store.header_offset < facts.start {
        return Err(Stop::Gap { store });
    }
    match facts.standing {
        Some(standing) if is_named(&store, &standing) => Ok(Foundation::Store(standing)),
        // Another header stands there and the changelog has come as far as the store: it went on without what the store
        // holds, which was never committed or belongs to another past.
        Some(_) if facts.last >= Some(store.epoch) => Ok(Foundation::ChangelogInPlaceOf(store)),
        Some(_) | None => Err(Stop::Lost { store, last: facts.last }),
    }
}

/// Compares the changelog's end to the last epoch that was noted here. The store cannot stand for the note: it goes to
/// disk seldom, and after a kill it lies behind. The note of another task says nothing of this changelog.
///
/// # Errors
/// The noted epoch is not there: whoever goes on writes again what it, and those before it, have written.
pub(super) fn check_end(task: [u8; 32], noted: Option<Marker>, end: End) -> Result<Witness, Stop> {
    let noted = noted.filter(|noted| noted.task == task);
    let noted = noted.filter(|_| rules().note_is_believed);
    let Some(noted) = noted else { return Ok(Witness::Agrees) };
    if end.epoch < noted.epoch {
        return Err(Stop::CutOff { noted, last: end.epoch });
    }
    let is_another = end.at_noted.is_some_and(|hash| hash != noted.header_hash);
    Ok(if is_another { Witness::WentOnWithout(noted) } else { Witness::Agrees })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::{Bug, with_bug};

    const TASK: [u8; 32] = [1; 32];
    const STORE: Marker = Marker { epoch: 7, header_offset: 70, header_hash: [7; 32], task: TASK };
    const SAME: Standing = Standing { epoch: 7, hash: [7; 32] };
    const OTHER: Standing = Standing { epoch: 7, hash: [9; 32] };

    fn facts(store: Option<Marker>, standing: Option<Standing>, last: Option<u64>) -> Facts {
        Facts { task: TASK, store, start: 0, end: 100, standing, last }
    }

    #[test]
    fn a_task_without_a_store_begins_at_the_changelogs_start() {
        assert_eq!(choose(&facts(None, None, None)), Ok(Foundation::Changelog));
    }

    #[test]
    fn a_store_whose_header_stands_in_its_place_is_built_on() {
        let facts = facts(Some(STORE), Some(SAME), Some(7));
        assert_eq!((facts.place_of_store(), choose(&facts)), (Some(70), Ok(Foundation::Store(SAME))));
    }

    #[test]
    fn a_store_at_another_header_is_replaced_where_the_changelog_has_come_as_far() {
        for last in [7, 8] {
            let chosen = choose(&facts(Some(STORE), Some(OTHER), Some(last)));
            assert_eq!(chosen, Ok(Foundation::ChangelogInPlaceOf(STORE)), "{last}");
        }
    }

    #[test]
    fn a_changelog_that_ends_before_the_store_is_a_stop_that_names_both() {
        let behind = Facts { end: 70, ..facts(Some(STORE), None, None) };
        assert_eq!((behind.place_of_store(), choose(&behind)), (None, Err(Stop::Lost { store: STORE, last: None })));
        // It has grown anew over the place, with fewer and larger epochs.
        let regrown = choose(&facts(Some(STORE), Some(Standing { epoch: 5, hash: [5; 32] }), Some(6)));
        assert_eq!(regrown, Err(Stop::Lost { store: STORE, last: Some(6) }));
        // Nothing but markers stands at the place and behind it.
        assert_eq!(choose(&facts(Some(STORE), None, None)), Err(Stop::Lost { store: STORE, last: None }));
    }

    #[test]
    fn a_changelog_that_begins_behind_the_store_is_a_stop_that_keeps_the_store() {
        let gap = Facts { start: 71, ..facts(Some(STORE), None, None) };
        assert_eq!((gap.place_of_store(), choose(&gap)), (None, Err(Stop::Gap { store: STORE })));
        let at_the_start = Facts { start: 70, ..facts(Some(STORE), Some(SAME), Some(7)) };
        assert_eq!(choose(&at_the_start), Ok(Foundation::Store(SAME)));
    }

    #[test]
    fn the_store_of_another_task_is_replaced_wherever_it_stands() {
        for header_offset in [-1, 70, 1_000] {
            let store = Marker { header_offset, task: [2; 32], ..STORE };
            let facts = facts(Some(store), None, None);
            assert_eq!(facts.place_of_store(), None);
            assert_eq!(choose(&facts), Ok(Foundation::ChangelogInPlaceOf(store)));
        }
    }

    const NOTED: Marker = STORE;

    fn end(epoch: u64, at_noted: Option<HeaderHash>) -> End {
        End { epoch, at_noted }
    }

    #[test]
    fn a_changelog_that_ends_before_the_noted_epoch_is_a_stop_that_names_both() {
        for last in [0, 6] {
            let found = check_end(TASK, Some(NOTED), end(last, None));
            assert_eq!(found, Err(Stop::CutOff { noted: NOTED, last }));
        }
    }

    #[test]
    fn a_changelog_that_holds_the_noted_epoch_is_whole_as_far_as_anybody_knows() {
        for (epoch, at_noted) in [(7, Some([7; 32])), (9, Some([7; 32])), (9, None)] {
            assert_eq!(check_end(TASK, Some(NOTED), end(epoch, at_noted)), Ok(Witness::Agrees));
        }
        assert_eq!(check_end(TASK, None, end(0, None)), Ok(Witness::Agrees));
    }

    #[test]
    fn another_header_in_the_noted_epochs_place_means_that_somebody_went_on_without_it() {
        let found = check_end(TASK, Some(NOTED), end(8, Some([9; 32])));
        assert_eq!(found, Ok(Witness::WentOnWithout(NOTED)));
    }

    #[test]
    fn the_note_of_another_task_is_no_witness_however_far_it_is() {
        let noted = Marker { epoch: 99, task: [2; 32], ..NOTED };
        assert_eq!(check_end(TASK, Some(noted), end(7, None)), Ok(Witness::Agrees));
    }

    #[test]
    fn only_a_broken_build_is_content_with_an_epochs_number() {
        let facts = facts(Some(STORE), Some(OTHER), Some(7));
        let broken = with_bug(Some(Bug::TrustEpochNumber), || choose(&facts));
        assert_eq!((broken, choose(&facts)), (Ok(Foundation::Store(OTHER)), Ok(Foundation::ChangelogInPlaceOf(STORE))));
    }
}
