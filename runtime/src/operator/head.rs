//! What every operator has, of whatever kind: a name, a place, where its output goes, and counters.

use super::outlet::Route;

pub struct Head {
    pub id: String,
    /// Position among the task's operators and their states.
    pub index: usize,
    pub(super) routes: Vec<Vec<Route>>,
    /// Per output whether it feeds a keyed operator.
    pub(super) keyed_outputs: Vec<bool>,
    /// Calls that trapped, ran out of time or memory, or answered wrongly.
    pub faults: u64,
}

impl Head {
    pub fn new(id: &str, index: usize) -> Self {
        Self { id: id.to_owned(), index, routes: Vec::new(), keyed_outputs: Vec::new(), faults: 0 }
    }

    /// The places that an output leads to.
    pub(super) fn routes_of(&self, output: u8) -> &[Route] {
        self.routes.get(output as usize).map_or(&[], Vec::as_slice)
    }

    /// Where each output leads; `keyed` says of every operator of the task whether it is keyed.
    pub fn reroute(&mut self, routes: Vec<Vec<Route>>, keyed: &[bool]) {
        let is_keyed = |route: &Route| matches!(*route, Route::Operator { operator, .. } if keyed[operator]);
        self.keyed_outputs = routes.iter().map(|routes| routes.iter().any(is_keyed)).collect();
        self.routes = routes;
    }
}
