//! Readers that stand still: noticed from outside, and given another client.
//!
//! After a broker was away librdkafka may never read a partition again. It says nothing then, and for all it knows the
//! partition ends where it last heard of it. So what has been quiet is asked for through another client, the one for
//! questions: where the log goes on and the reader brings nothing, its client is thrown away and another one reads on
//! from the same offset. Topics that are read are also looked at now and then, lest one that was made again go
//! unnoticed. And what has been quiet for long is read by clients that ask seldom, until it is busy again.
//!
//! Owns the thread that asks, which never moves a position and never reads a record. Read [`judge`] first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::Shared;
use super::admin;
use super::consumers::{Consumer, Place};
use super::profile::Pace;
use crate::log::wake::Wake;
use crate::log::{Assignment, Isolation};
use crate::model::{PartitionId, TopicId};

/// How often the thread looks.
const TICK: Duration = Duration::from_millis(250);
/// What brought something more recently than this is not asked for.
const QUIET: Duration = Duration::from_secs(1);
/// Between two questions for a partition; less often for one that has been quiet for long.
const ASK_EVERY: Duration = Duration::from_secs(1);
const ASK_EVERY_MAX: Duration = Duration::from_secs(4);
/// A client that has just connected again is given so long to bring what the log has; twice as long after each that
/// brought nothing, since the network may be slow rather than the client lost.
const PATIENCE: Duration = Duration::from_millis(1_500);
const PATIENCE_MAX: Duration = Duration::from_secs(30);
/// An answer older than this says nothing of now: the cluster may be away.
const FRESH: Duration = Duration::from_secs(5);
const TOPICS_EVERY: Duration = Duration::from_secs(10);
/// What brought nothing for so long rests.
const RESTS_AFTER: Duration = Duration::from_secs(10);
/// What brought something again and again for so long rests no more. A single record now and then is not worth it.
const BUSY_AFTER: Duration = Duration::from_secs(2);
/// So many change their pace in one look, lest what stands still wait for them.
const CHANGES_MAX: usize = 16;

/// What is known of one partition that is read, as ages.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Since the client brought anything, or was given the partition.
    pub quiet: Duration,
    /// Since another client heard where the partition ends.
    pub heard: Option<Duration>,
    /// For how long it has been known that the log goes on behind what was brought.
    pub behind: Option<Duration>,
    /// Since the reader last looked and found nothing. A reader that is busy or paused does not look.
    pub looked: Option<Duration>,
    /// Clients that have brought nothing, one after the other.
    pub renewals: u32,
    /// Its client was given up for the sake of another reader.
    pub is_given_up: bool,
    /// Its client is one of those that ask seldom.
    pub rests: bool,
    /// For how long something came again and again, up to now.
    pub busy: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Wait,
    /// Ask the cluster where the partition ends.
    Ask,
    /// Have another client read on, since this one is lost.
    Renew,
    /// Have a client of that pace read on.
    Change(Pace),
}

/// What is to be done about a partition. A client is thrown away only on evidence: the cluster answers now, through
/// another client, that there is more, and the reader has looked in vain after that had been known for a while.
pub fn judge(facts: &Facts) -> Act {
    let Facts { quiet, heard, behind, looked, renewals, is_given_up, rests, busy } = *facts;
    if quiet < QUIET {
        return if rests && busy >= BUSY_AFTER { Act::Change(Pace::Prompt) } else { Act::Wait };
    }
    if heard.is_some_and(|heard| heard <= FRESH)
        && let Some(looked) = looked
    {
        let patience = PATIENCE.saturating_mul(1 << renewals.min(8)).min(PATIENCE_MAX);
        let waited = behind.map(|behind| behind.saturating_sub(looked));
        if waited.is_some_and(|waited| waited >= patience) || (is_given_up && looked < quiet) {
            return Act::Renew;
        }
        if !rests && quiet >= RESTS_AFTER && behind.is_none() && looked < QUIET {
            return Act::Change(Pace::Resting);
        }
    }
    let every = (quiet / 8).clamp(ASK_EVERY, ASK_EVERY_MAX);
    if heard.is_none_or(|heard| heard >= every) { Act::Ask } else { Act::Wait }
}

/// One partition of one reader, as reader and thread both see it.
pub struct Watched {
    pub topic: String,
    id: TopicId,
    pub partition: PartitionId,
    isolation: Isolation,
    wake: Arc<Wake>,
    /// `seen` holds a word for the reader.
    has_word: AtomicBool,
    seen: Mutex<Seen>,
}

struct Seen {
    /// Its client was given it then.
    taken: Instant,
    /// The offset that the client is to bring next.
    next: i64,
    news: Instant,
    /// Since then something came at least once a second.
    busy_since: Instant,
    looked: Option<Instant>,
    heard: Option<Heard>,
    behind: Option<Instant>,
    renewals: u32,
    consumer: Weak<Consumer>,
    word: Option<Word>,
}

struct Heard {
    end: i64,
    at: Instant,
}

/// What the thread has to say to a reader.
pub enum Word {
    /// Another client is to bring what comes next: the one before is lost.
    Move(Place),
    /// The same, but the one before is not lost: what it said of the end still holds.
    Change(Place),
    /// The topic is not what it was: it is to be looked at before anything more is shown.
    Check,
}

impl Watched {
    fn new(at: &Assignment, isolation: Isolation, wake: &Arc<Wake>, consumer: &Arc<Consumer>) -> Self {
        Self {
            topic: at.topic.clone(),
            id: at.id,
            partition: at.partition,
            isolation,
            wake: Arc::clone(wake),
            has_word: AtomicBool::new(false),
            seen: Mutex::new(Seen {
                taken: crate::env::instant(),
                next: at.offset,
                news: crate::env::instant(),
                busy_since: crate::env::instant(),
                looked: None,
                heard: None,
                behind: None,
                renewals: 0,
                consumer: Arc::downgrade(consumer),
                word: None,
            }),
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client has brought everything before `next`.
    pub fn came(&self, next: i64) {
        let mut seen = self.seen();
        let now = crate::env::instant();
        if now.saturating_duration_since(seen.news) >= QUIET {
            seen.busy_since = now;
        }
        seen.news = now;
        if next > seen.next {
            seen.next = next;
            seen.renewals = 0;
            seen.behind = None;
        }
    }

    /// The reader has looked, and there was nothing.
    pub fn looked(&self) {
        self.seen().looked = Some(crate::env::instant());
    }

    /// The offset that the client is to bring next.
    pub fn next(&self) -> i64 {
        self.seen().next
    }

    /// Where the partition ended when the cluster was last asked.
    pub fn end(&self) -> Option<i64> {
        self.seen().heard.as_ref().map(|heard| heard.end)
    }

    pub fn word(&self) -> Option<Word> {
        if !self.has_word.swap(false, Ordering::AcqRel) {
            return None;
        }
        self.seen().word.take()
    }

    /// Another client has been given the partition.
    pub fn moved(&self, consumer: &Arc<Consumer>) {
        let mut seen = self.seen();
        seen.consumer = Arc::downgrade(consumer);
        let now = crate::env::instant();
        (seen.taken, seen.news, seen.busy_since, seen.looked, seen.behind) = (now, now, now, None, None);
    }

    fn tell(&self, word: Word) {
        self.seen().word = Some(word);
        self.has_word.store(true, Ordering::Release);
        self.wake.announce();
    }

    /// Asked at that moment, the cluster said that the partition ends here.
    fn hear(&self, end: i64, at: Instant) {
        let mut seen = self.seen();
        seen.behind = if end > seen.next { seen.behind.or(Some(at)) } else { None };
        seen.heard = Some(Heard { end, at });
    }

    /// None while the reader has not heard the last word yet.
    fn facts(&self, now: Instant) -> Option<Facts> {
        let seen = self.seen();
        let age = |at: Instant| now.saturating_duration_since(at);
        let consumer = seen.consumer.upgrade();
        seen.word.is_none().then(|| Facts {
            quiet: age(seen.news),
            heard: seen.heard.as_ref().map(|heard| age(heard.at)),
            behind: seen.behind.map(age),
            looked: seen.looked.map(age),
            renewals: seen.renewals,
            is_given_up: consumer.as_ref().is_some_and(|consumer| consumer.is_given_up()),
            rests: consumer.is_some_and(|consumer| consumer.pace() == Pace::Resting),
            busy: seen.news.saturating_duration_since(seen.busy_since),
        })
    }

    /// Whether the client has told that the topic has this id; None where it could not have yet.
    fn has_told(&self, id: TopicId) -> Option<bool> {
        let seen = self.seen();
        let consumer = seen.consumer.upgrade().filter(|_| seen.taken.elapsed() >= TOPICS_EVERY / 2)?;
        Some(consumer.has_told(&self.topic, id))
    }
}

/// All partitions that readers of a cluster hold.
#[derive(Default)]
pub struct Stalls {
    watched: Mutex<Vec<Weak<Watched>>>,
    is_started: AtomicBool,
    /// It was said that clients no longer tell the ids of topics.
    is_deaf: AtomicBool,
}

impl Stalls {
    /// Watches a partition for as long as its reader keeps what is returned.
    pub fn watch(
        &self,
        shared: &Arc<Shared>,
        at: &Assignment,
        isolation: Isolation,
        wake: &Arc<Wake>,
        consumer: &Arc<Consumer>,
    ) -> Arc<Watched> {
        let watched = Arc::new(Watched::new(at, isolation, wake, consumer));
        let mut all = self.all();
        all.retain(|one| one.strong_count() > 0);
        all.push(Arc::downgrade(&watched));
        drop(all);
        if !self.is_started.swap(true, Ordering::AcqRel) {
            let shared = Arc::downgrade(shared);
            let thread = std::thread::Builder::new().name("kafka-stalls".to_owned());
            if let Err(error) = thread.spawn(move || run(&shared)) {
                tracing::error!("watch over what is read from Kafka: no thread for it: {error}; tried again");
                self.is_started.store(false, Ordering::Release);
            }
        }
        watched
    }

    fn all(&self) -> MutexGuard<'_, Vec<Weak<Watched>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn living(&self) -> Vec<Arc<Watched>> {
        self.all().iter().filter_map(Weak::upgrade).collect()
    }
}

/// The thread; it ends with the log.
fn run(shared: &Weak<Shared>) {
    let mut topics_at = crate::env::instant();
    loop {
        // sleep: nobody is waited for; what is quiet is looked at now and then
        std::thread::sleep(TICK);
        let Some(shared) = shared.upgrade() else { return };
        let watched = shared.stalls.living();
        let now = crate::env::instant();
        let acts: Vec<_> = watched.iter().map(|one| one.facts(now).map_or(Act::Wait, |facts| judge(&facts))).collect();
        let which = |act| watched.iter().zip(&acts).filter(move |(_, found)| **found == act).map(|(one, _)| one);
        which(Act::Renew).for_each(|one| renew(&shared, one));
        for pace in [Pace::Prompt, Pace::Resting] {
            which(Act::Change(pace)).take(CHANGES_MAX).for_each(|one| change(&shared, one, pace));
        }
        let asked: Vec<_> = which(Act::Ask).collect();
        for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
            ask(&shared, isolation, asked.iter().filter(|one| one.isolation == isolation));
        }
        if topics_at.elapsed() >= TOPICS_EVERY {
            check_topics(&shared, &watched);
            shared.consumers.close_unused();
            shared.groups.close_unused();
            topics_at = crate::env::instant();
        }
    }
}

fn ask<'a>(shared: &Shared, isolation: Isolation, watched: impl Iterator<Item = &'a &'a Arc<Watched>>) {
    let mut of: BTreeMap<(&str, PartitionId), Vec<&Watched>> = BTreeMap::new();
    watched.for_each(|one| of.entry((one.topic.as_str(), one.partition)).or_default().push(one));
    if of.is_empty() {
        return;
    }
    let at = crate::env::instant();
    let partitions: Vec<_> = of.keys().copied().collect();
    // While the cluster is away there is no answer, and so no evidence.
    let found = match shared.admin.ends(&partitions, isolation) {
        Ok(found) => found,
        Err(error) => return tracing::debug!("ask where partitions end that are read: {error}"),
    };
    for ((topic, partition), answer) in found {
        let Some(of) = of.get(&(topic.as_str(), partition)) else { continue };
        match answer {
            Ok(end) => of.iter().for_each(|one| one.hear(end, at)),
            Err(code) if admin::is_unknown(code) => of.iter().for_each(|one| one.tell(Word::Check)),
            Err(_) => {}
        }
    }
}

/// A topic that was made again is told to its readers by their client, in a line that is meant for people. Where that
/// fails they are told here, late; and that the line no longer comes is said as soon as it is known.
fn check_topics(shared: &Shared, watched: &[Arc<Watched>]) {
    let names: BTreeSet<&str> = watched.iter().map(|one| one.topic.as_str()).collect();
    if names.is_empty() {
        return;
    }
    let names: Vec<&str> = names.into_iter().collect();
    let found = match shared.admin.describe(&names) {
        Ok(found) => found,
        Err(error) => return tracing::debug!("look at the topics that are read: {error}"),
    };
    let ids: BTreeMap<&str, TopicId> = found.iter().map(|topic| (topic.name.as_str(), topic.id)).collect();
    for one in watched {
        let id = ids.get(one.topic.as_str()).copied();
        if id != Some(one.id) {
            one.tell(Word::Check);
        }
        if let Some(id) = id
            && one.has_told(id) == Some(false)
            && !shared.stalls.is_deaf.swap(true, Ordering::AcqRel)
        {
            tracing::error!(
                "read {}: its client has not told that the topic's id is {id}, so a topic that is made again is noticed \
                 up to {} s late, and records of the new one may be taken for the old one's: report this with the \
                 version of librdkafka",
                one.topic,
                TOPICS_EVERY.as_secs()
            );
        }
    }
}

/// Gives the partition's client up, and finds the partition a place with another one.
fn renew(shared: &Shared, one: &Watched) {
    let (next, end, quiet, renewals, consumer) = {
        let mut seen = one.seen();
        let end = seen.heard.as_ref().map_or(-1, |heard| heard.end);
        // Whatever comes of this, it is not tried again before another client had its time.
        seen.renewals += u32::from(end > seen.next);
        seen.behind = None;
        (seen.next, end, seen.news.elapsed(), seen.renewals, seen.consumer.upgrade())
    };
    let (topic, partition) = (&one.topic, one.partition);
    // A topic that was made again meanwhile would look like any other to a new client.
    if let Err(error) = shared.check_topic(topic, one.id) {
        tracing::warn!("read {topic}/{partition} on with another client: {error}");
        return one.tell(Word::Check);
    }
    if end > next {
        tracing::warn!(
            renewals,
            "read {topic}/{partition} from offset {next}: nothing came for {} s, and it goes on to {end}: another client \
             takes it over",
            quiet.as_secs()
        );
    }
    match shared.consumers.place_elsewhere((topic, partition), one.isolation, consumer.as_ref()) {
        Ok(place) => one.tell(Word::Move(place)),
        Err(error) => tracing::warn!("read {topic}/{partition} on with another client: {error}"),
    }
}

/// Finds the partition a place with a client of that pace.
fn change(shared: &Shared, one: &Watched, pace: Pace) {
    let (topic, partition) = (&one.topic, one.partition);
    // As in `renew`.
    if let Err(error) = shared.check_topic(topic, one.id) {
        tracing::debug!("read {topic}/{partition} with a client of another pace: {error}");
        return one.tell(Word::Check);
    }
    match shared.consumers.place_at((topic, partition), one.isolation, pace) {
        Ok(place) => one.tell(Word::Change(place)),
        Err(error) => tracing::debug!("read {topic}/{partition} with a client of another pace: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Quiet for 10 s, behind for 5 s, and the cluster has just said so.
    fn stalled() -> Facts {
        Facts {
            quiet: 10 * SECOND,
            heard: Some(SECOND / 2),
            behind: Some(5 * SECOND),
            looked: Some(Duration::ZERO),
            renewals: 0,
            is_given_up: false,
            rests: false,
            busy: Duration::ZERO,
        }
    }

    #[test]
    fn a_client_that_brings_nothing_where_the_log_has_something_is_thrown_away() {
        assert_eq!(judge(&stalled()), Act::Renew);
    }

    #[test]
    fn what_has_just_brought_something_is_left_alone() {
        assert_eq!(judge(&Facts { quiet: QUIET / 2, ..stalled() }), Act::Wait);
    }

    #[test]
    fn what_is_quiet_is_asked_for_and_less_often_when_it_has_been_so_for_long() {
        let idle = Facts { behind: None, rests: true, ..stalled() };
        assert_eq!(judge(&Facts { heard: None, ..idle }), Act::Ask);
        assert_eq!(judge(&Facts { heard: Some(SECOND / 2), ..idle }), Act::Wait);
        assert_eq!(judge(&Facts { heard: Some(2 * SECOND), ..idle }), Act::Ask);
        let for_long = Facts { quiet: 3_600 * SECOND, ..idle };
        assert_eq!(judge(&Facts { heard: Some(2 * SECOND), ..for_long }), Act::Wait);
        assert_eq!(judge(&Facts { heard: Some(ASK_EVERY_MAX), ..for_long }), Act::Ask);
    }

    #[test]
    fn nothing_is_thrown_away_while_the_cluster_says_nothing() {
        assert_eq!(judge(&Facts { heard: Some(20 * SECOND), ..stalled() }), Act::Ask);
        assert_eq!(judge(&Facts { heard: None, behind: None, ..stalled() }), Act::Ask);
        let given_up = Facts { is_given_up: true, heard: Some(20 * SECOND), behind: None, ..stalled() };
        assert_eq!(judge(&given_up), Act::Ask);
    }

    #[test]
    fn a_reader_that_does_not_look_is_busy_or_paused_and_not_stalled() {
        assert_eq!(judge(&Facts { looked: None, ..stalled() }), Act::Wait);
        assert_eq!(judge(&Facts { looked: Some(4 * SECOND), ..stalled() }), Act::Wait);
        assert_eq!(judge(&Facts { looked: Some(3 * SECOND), ..stalled() }), Act::Renew);
    }

    #[test]
    fn each_client_that_brings_nothing_gives_the_next_more_time_up_to_a_bound() {
        let after = |renewals, seconds| judge(&Facts { renewals, behind: Some(seconds * SECOND), ..stalled() });
        assert_eq!([after(1, 2), after(1, 4)], [Act::Wait, Act::Renew]);
        assert_eq!([after(3, 10), after(3, 14)], [Act::Wait, Act::Renew]);
        assert_eq!([after(99, 29), after(99, 31)], [Act::Wait, Act::Renew]);
    }

    #[test]
    fn a_partition_at_its_end_leaves_a_client_that_was_given_up() {
        let idle = Facts { is_given_up: true, behind: None, ..stalled() };
        assert_eq!(judge(&idle), Act::Renew);
        assert_eq!(judge(&Facts { looked: Some(11 * SECOND), ..idle }), Act::Wait, "it has not looked since");
        assert_eq!(judge(&Facts { quiet: SECOND / 2, ..idle }), Act::Wait, "it still brings something");
    }

    #[test]
    fn what_is_quiet_for_long_is_read_by_a_client_that_asks_seldom_until_it_is_busy_again() {
        let quiet = Facts { behind: None, ..stalled() };
        assert_eq!(judge(&quiet), Act::Change(Pace::Resting));
        assert_eq!(judge(&Facts { quiet: RESTS_AFTER - QUIET, ..quiet }), Act::Wait);
        assert_eq!(judge(&Facts { behind: Some(SECOND), ..quiet }), Act::Wait, "something is still to come");
        assert_eq!(judge(&Facts { heard: Some(20 * SECOND), ..quiet }), Act::Ask, "the cluster says nothing");
        assert_eq!(judge(&Facts { looked: Some(5 * SECOND), ..quiet }), Act::Wait, "the reader is paused");
        let resting = Facts { rests: true, ..quiet };
        assert_eq!(judge(&resting), Act::Wait);
        assert_eq!(judge(&Facts { quiet: QUIET / 2, busy: SECOND, ..resting }), Act::Wait, "a record now and then");
        let busy = Facts { quiet: QUIET / 2, busy: BUSY_AFTER, ..resting };
        assert_eq!(judge(&busy), Act::Change(Pace::Prompt));
        assert_eq!(judge(&Facts { rests: false, ..busy }), Act::Wait);
    }

    #[test]
    fn a_client_that_asks_seldom_is_thrown_away_like_any_other_that_brings_nothing() {
        assert_eq!(judge(&Facts { rests: true, ..stalled() }), Act::Renew);
    }
}
