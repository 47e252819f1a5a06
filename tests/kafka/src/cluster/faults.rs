//! What can be done to a node: ended in three ways, silenced, started again.

use std::time::Duration;

use super::Cluster;
use crate::probe::{self, Coordinator};
use crate::security::Listener;

/// A clean end takes seconds; a node that waits for a controller which is gone takes for ever.
const GRACE: Duration = Duration::from_secs(30);

impl Cluster {
    /// kill -9.
    ///
    /// # Errors
    /// The system did not let it.
    pub fn kill(&self, node: u32) -> Result<(), String> {
        match self.node(node).take() {
            Some(mut process) => process.kill(),
            None => Ok(()),
        }
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// It did not end in time; it is then killed.
    pub fn stop_gracefully(&self, node: u32) -> Result<(), String> {
        self.terminate(node)?;
        self.await_end(node)
    }

    /// SIGTERM to all nodes at once. One that waits for the others' votes in vain is killed.
    ///
    /// # Errors
    /// One could not even be killed.
    pub fn stop_all(&self) -> Result<(), String> {
        (1..=self.len()).try_for_each(|node| self.terminate(node))?;
        for node in 1..=self.len() {
            // A majority may have ended before it.
            let _ = self.await_end(node);
            self.kill(node)?;
        }
        Ok(())
    }

    /// Starts a node that is down, and waits until it is a member again.
    ///
    /// # Errors
    /// It ended or did not answer in time; with the end of its log.
    pub fn up(&self, node: u32) -> Result<(), String> {
        self.spawn(node)?;
        self.await_answer(node, 1)
    }

    /// Starts all nodes that are down, and waits until the cluster is whole: all are members, all replicas in sync,
    /// groups and transactions have their coordinators.
    ///
    /// # Errors
    /// As `up`.
    pub fn up_all(&self) -> Result<(), String> {
        (1..=self.len()).try_for_each(|node| self.spawn(node))?;
        (1..=self.len()).try_for_each(|node| self.await_answer(node, self.len()))?;
        for which in [Coordinator::Group, Coordinator::Transaction] {
            let port = self.port_of(1, Listener::Plaintext);
            self.wait_for(1, &format!("{which:?} coordinator"), || {
                probe::has_coordinator(port, which).unwrap_or(false)
            })?;
        }
        self.await_in_sync()
    }

    /// SIGSTOP: a node that is silent but not gone.
    ///
    /// # Errors
    /// It is down.
    pub fn pause(&self, node: u32) -> Result<(), String> {
        match self.node(node).as_mut() {
            Some(process) => process.pause(),
            None => Err(format!("stop node {node}: it is down")),
        }
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// It is down.
    pub fn resume(&self, node: u32) -> Result<(), String> {
        self.signal(node, libc::SIGCONT)
    }

    fn terminate(&self, node: u32) -> Result<(), String> {
        let mut node = self.node(node);
        let alive = node.as_mut().and_then(|process| process.is_alive().then_some(process));
        alive.map_or(Ok(()), |process| process.signal(libc::SIGTERM))
    }

    fn await_end(&self, node: u32) -> Result<(), String> {
        let Some(mut process) = self.node(node).take() else { return Ok(()) };
        if process.wait(GRACE) {
            return Ok(());
        }
        process.kill()?;
        Err(format!("stop node {node}: it was still there after {} s, and was killed", GRACE.as_secs()))
    }

    fn signal(&self, node: u32, signal: libc::c_int) -> Result<(), String> {
        match self.node(node).as_mut() {
            Some(process) => process.signal(signal),
            None => Err(format!("send signal {signal} to node {node}: it is down")),
        }
    }
}
