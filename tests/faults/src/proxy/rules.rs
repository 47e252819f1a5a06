//! What is done to single requests and answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::frame::{Api, Frame};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Request,
    Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It waits, and all behind it on its connection, until the trap is released. A request that was held is still
    /// sent when its client has long gone.
    Hold,
    Delay(Duration),
    /// It never was.
    Swallow,
    /// The same, and the connection ends.
    SwallowAndCut,
}

/// What to look for, and what to do to the first `times` that are found.
#[derive(Clone, Debug)]
pub struct Rule {
    pub api: Api,
    pub way: Way,
    pub deed: Deed,
    pub times: u32,
    /// Only requests (and answers to requests) in which this stands: a transactional id, a topic. Empty for all.
    pub naming: String,
}

impl Rule {
    /// For the next one only.
    pub fn once(api: Api, way: Way, deed: Deed) -> Rule {
        Rule { api, way, deed, times: 1, naming: String::new() }
    }

    /// For all of them, as long as the trap is kept.
    pub fn always(api: Api, way: Way, deed: Deed) -> Rule {
        Rule { times: u32::MAX, ..Rule::once(api, way, deed) }
    }

    #[must_use]
    pub fn naming(self, name: &str) -> Rule {
        Rule { naming: name.to_owned(), ..self }
    }
}

#[derive(Default)]
pub(super) struct Rules(Mutex<State>);

#[derive(Default)]
struct State {
    set: Vec<Arc<Set>>,
    seen: HashMap<Api, u64>,
}

struct Set {
    rule: Rule,
    caught: watch::Sender<u32>,
    released: watch::Sender<bool>,
}

/// A rule in force; dropped, it is not any more, and what it held goes on.
pub struct Trap {
    set: Arc<Set>,
}

impl Trap {
    /// How many it has caught so far.
    pub fn caught(&self) -> u32 {
        *self.set.caught.borrow()
    }

    /// Waits until it has caught so many; false where that takes longer than `patience`.
    pub async fn wait(&self, count: u32, patience: Duration) -> bool {
        let mut caught = self.set.caught.subscribe();
        timeout(patience, caught.wait_for(|caught| *caught >= count)).await.is_ok()
    }

    /// Lets go what it holds, and catches nothing more.
    pub fn release(&self) {
        self.set.released.send_replace(true);
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        self.release();
    }
}

/// What is to be done to one frame, and when it may go on.
pub(super) struct Catch {
    pub deed: Deed,
    pub released: watch::Receiver<bool>,
}

impl Rules {
    pub fn add(&self, rule: Rule) -> Trap {
        let set = Arc::new(Set { rule, caught: watch::Sender::new(0), released: watch::Sender::new(false) });
        self.lock().set.push(Arc::clone(&set));
        Trap { set }
    }

    pub fn seen(&self, api: Api) -> u64 {
        self.lock().seen.get(&api).copied().unwrap_or(0)
    }

    /// A request has come: whether something is to be done to it, and whether something will be to its answer if a
    /// rule for answers names what stands in the request.
    pub fn request(&self, api: Api, frame: &Frame) -> Option<Catch> {
        let mut state = self.lock();
        *state.seen.entry(api).or_default() += 1;
        state.set.retain(|set| !*set.released.borrow());
        state.catch(api, Way::Request, frame)
    }

    /// An answer has come to a request.
    pub fn answer(&self, api: Api, request: &Frame) -> Option<Catch> {
        self.lock().catch(api, Way::Answer, request)
    }

    /// Answers to this request may be of interest, so its bytes are kept.
    pub fn watches_answers(&self, api: Api) -> bool {
        self.lock().set.iter().any(|set| set.rule.api == api && set.rule.way == Way::Answer)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn catch(&self, api: Api, way: Way, frame: &Frame) -> Option<Catch> {
        let set = self.set.iter().find(|set| {
            let rule = &set.rule;
            let open = !*set.released.borrow() && *set.caught.borrow() < rule.times;
            open && rule.api == api && rule.way == way && frame.names(rule.naming.as_bytes())
        })?;
        set.caught.send_modify(|caught| *caught += 1);
        Some(Catch { deed: set.rule.deed, released: set.released.subscribe() })
    }
}
