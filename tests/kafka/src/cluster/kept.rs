//! Clusters that outlive the process that made them: in a folder and on ports that are told, for people at work.

use std::fs;
use std::path::Path;

use super::{Cluster, Options};
use crate::installation::Installation;
use crate::place::Place;
use crate::process::Process;
use crate::security::{Credentials, Security};

/// Written last, so that what could not be made whole is made anew.
const SHAPE: &str = "shape";

impl Cluster {
    /// Makes and starts a cluster in this folder, whose first node listens on `port`.
    ///
    /// # Errors
    /// As `start`; or the folder holds one already, or somebody else listens on the ports.
    pub fn keep(folder: &Path, port: u16, options: &Options) -> Result<Cluster, String> {
        let path = folder.join(SHAPE);
        if path.exists() {
            return Err(format!("make a cluster in {}: there is one: remove it first", folder.display()));
        }
        let mut cluster = Cluster::new(Installation::prepared()?, Place::kept(folder, port)?, options.nodes);
        cluster.format(options)?;
        let shape = format!("{} {port} {}\n", options.nodes, u8::from(options.security == Security::All));
        fs::write(&path, &shape).map_err(|error| format!("write {}: {error}", path.display()))?;
        cluster.up_all()?;
        Ok(cluster)
    }

    /// The cluster that was made in this folder, whether it is up or not. None: there is none.
    ///
    /// # Errors
    /// The folder holds something else, or Kafka itself is not there any more.
    pub fn kept(folder: &Path) -> Result<Option<Cluster>, String> {
        let path = folder.join(SHAPE);
        let Ok(shape) = fs::read_to_string(&path) else { return Ok(None) };
        let words: Vec<u16> = shape.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [nodes, port, secured] = words[..] else {
            return Err(format!("read {}: it says {shape:?}: remove the folder", path.display()));
        };
        let mut cluster = Cluster::new(Installation::get()?, Place::kept(folder, port)?, u32::from(nodes));
        cluster.credentials = (secured == 1).then(|| Credentials::in_folder(&folder.join("tls")));
        for node in 1..=cluster.len() {
            let pid = fs::read_to_string(cluster.folder(node).join("pid")).ok().and_then(|pid| pid.trim().parse().ok());
            *cluster.node(node) = pid.and_then(|pid| Process::found(pid, &cluster.properties_path(node)));
        }
        Ok(Some(cluster))
    }
}
