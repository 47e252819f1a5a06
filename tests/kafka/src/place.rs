//! Where a cluster lives: a folder and a block of ports that nobody else uses.
//!
//! Owns that two processes never take the same ports, and that what a killed process left behind is removed by the
//! next one. The folder's name is its first port; a lock in it is held as long as its cluster lives.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

/// Below the ports that the kernel gives to outgoing connections: while a broker is dead its port must not become
/// the other end of somebody's connection, nor a client that dials it again and again be connected to itself.
const FIRST_PORT: u16 = 22_000;
const LAST_PORT: u16 = 32_000;
/// Ports between two clusters: room for the nodes of one.
const BLOCK: u16 = 50;
/// Ports between two nodes of a cluster.
pub const NODE: u16 = 10;

pub struct Place {
    pub folder: PathBuf,
    pub port: u16,
    /// Held, never read. None where the folder is kept for later.
    lock: Option<File>,
}

impl Place {
    /// A new folder under the system's temporary one, removed when this is dropped.
    pub fn temporary(nodes: u32) -> Result<Place, String> {
        // SAFETY: a call without arguments that cannot fail.
        let user = unsafe { libc::getuid() };
        let parent = std::env::temp_dir().join(format!("forebay-kafka-{user}"));
        fs::create_dir_all(&parent).map_err(|error| format!("make {}: {error}", parent.display()))?;
        // One at a time, so that no folder is swept between its making and its locking.
        let _choosing = locked(&parent.join("lock"), true)?;
        sweep(&parent);
        let blocks = (LAST_PORT - FIRST_PORT) / BLOCK;
        let start = (std::process::id() % u32::from(blocks)) as u16;
        for at in 0..blocks {
            let port = FIRST_PORT + (start + at) % blocks * BLOCK;
            let folder = parent.join(port.to_string());
            if folder.exists() || !are_free(port, nodes) {
                continue;
            }
            fs::create_dir_all(&folder).map_err(|error| format!("make {}: {error}", folder.display()))?;
            let lock = locked(&folder.join("lock"), false)?;
            return Ok(Place { folder, port, lock: Some(lock) });
        }
        Err(format!("find free ports for a cluster: all between {FIRST_PORT} and {LAST_PORT} are taken"))
    }

    /// A folder that stays, and ports that are told.
    pub fn kept(folder: &Path, port: u16) -> Result<Place, String> {
        fs::create_dir_all(folder).map_err(|error| format!("make {}: {error}", folder.display()))?;
        Ok(Place { folder: folder.to_owned(), port, lock: None })
    }

    pub fn is_temporary(&self) -> bool {
        self.lock.is_some()
    }

    pub fn remove(&self) {
        // What cannot be removed now is swept by the next one.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn locked(path: &Path, wait: bool) -> Result<File, String> {
    let file = File::create(path).map_err(|error| format!("open {}: {error}", path.display()))?;
    let outcome = if wait { file.lock() } else { file.try_lock().map_err(std::io::Error::from) };
    outcome.map_err(|error| format!("lock {}: {error}", path.display()))?;
    Ok(file)
}

/// Removes the folders whose processes are gone.
fn sweep(parent: &Path) {
    for folder in fs::read_dir(parent).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if folder.is_dir() && locked(&folder.join("lock"), false).is_ok() {
            let _ = fs::remove_dir_all(&folder);
        }
    }
}

fn are_free(port: u16, nodes: u32) -> bool {
    (0..nodes as u16).flat_map(|node| (0..NODE).map(move |at| port + node * NODE + at)).all(is_free)
}

pub fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}
