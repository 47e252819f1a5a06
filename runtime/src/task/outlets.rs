//! What a session writes to other clusters than the job's home: at least once.
//!
//! Owns one outlet per cluster that the session has written to, opened with the first record. No transaction of home
//! decides about them: an epoch may commit only when [`Outlets::settle`] has returned well, so that nothing is missing
//! there that the header calls done. After any error they are dropped with the session, and the epoch is written again.

use crate::log::clusters::Clusters;
use crate::log::{Error, Outlet};
use crate::model::PartitionBatch;

pub struct Outlets {
    clusters: Clusters,
    open: Vec<Open>,
}

struct Open {
    cluster: String,
    outlet: Box<dyn Outlet>,
    /// Written to in the open epoch.
    used: bool,
}

impl Outlets {
    pub fn new(clusters: Clusters) -> Self {
        Self { clusters, open: Vec::new() }
    }

    pub fn append(&mut self, cluster: &str, records: &PartitionBatch) -> Result<(), Error> {
        let at = match self.open.iter().position(|open| open.cluster == cluster) {
            Some(at) => at,
            None => {
                let outlet = self.clusters.other(cluster)?.outlet()?;
                self.open.push(Open { cluster: cluster.to_owned(), outlet, used: false });
                self.open.len() - 1
            }
        };
        let open = &mut self.open[at];
        open.used = true;
        open.outlet.append(records)
    }

    /// Waits until all that the open epoch wrote is acknowledged.
    pub fn settle(&mut self) -> Result<(), Error> {
        for open in self.open.iter_mut().filter(|open| open.used) {
            open.outlet.settle()?;
            open.used = false;
        }
        Ok(())
    }

    /// Between epochs: nothing waits to be acknowledged.
    pub fn close(&mut self) {
        self.open.clear();
    }
}
