//! The logs of one process: home, where jobs live, and other clusters by name, for sinks.
//!
//! Owns the connections to other clusters: each is made when it is first needed and then kept, so that a cluster that is
//! away holds up only what writes to it. Nothing but output ever goes through them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Error, Log};

#[derive(Clone)]
pub struct Clusters {
    home: Arc<dyn Log>,
    others: Arc<BTreeMap<String, Other>>,
}

/// How to connect to a cluster.
pub type Connect = Box<dyn Fn() -> Result<Arc<dyn Log>, Error> + Send + Sync>;

struct Other {
    connect: Connect,
    log: Mutex<Option<Arc<dyn Log>>>,
}

impl Clusters {
    /// No other cluster is known.
    pub fn at_home(home: Arc<dyn Log>) -> Self {
        Self::new(home, BTreeMap::new())
    }

    pub fn new(home: Arc<dyn Log>, others: BTreeMap<String, Connect>) -> Self {
        let others = others.into_iter().map(|(name, connect)| (name, Other { connect, log: Mutex::default() }));
        Self { home, others: Arc::new(others.collect()) }
    }

    pub fn home(&self) -> &Arc<dyn Log> {
        &self.home
    }

    /// Of the other clusters.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.others.keys().map(String::as_str)
    }

    /// Another cluster's log.
    ///
    /// # Errors
    /// [`Error::Denied`] where no cluster has that name; those of the connection.
    pub fn other(&self, name: &str) -> Result<Arc<dyn Log>, Error> {
        let Some(other) = self.others.get(name) else {
            return Err(Error::Denied {
                doing: format!("connect to cluster {name}"),
                found: "this server knows no cluster of that name".to_owned(),
                remedy: "start it with `--other-cluster NAME=FILE`",
            });
        };
        let mut log = other.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = &*log {
            return Ok(Arc::clone(log));
        }
        let connected = (other.connect)()?;
        *log = Some(Arc::clone(&connected));
        Ok(connected)
    }
}
