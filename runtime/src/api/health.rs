//! Whether the server can do its work: it tries to write, since a process that is up but can write nothing serves nobody,
//! and neither does one whose tasks another server has taken over, or one that is on its way to its end.
//!
//! Two who ask: `grpc.health.v1` (supervisors, every few seconds) and the service `Server` (`forebay doctor`).

use std::ffi::CString;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fs, mem};

use tokio::task::JoinHandle;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::control::ControlTopic;
use super::error::blocking;
use super::proto::server_server::Server as Service;
use super::proto::{CheckRequest, CheckResponse, Place};
use crate::job::manager::Manager;
use crate::log::Log;

const LOOK_EVERY: Duration = Duration::from_secs(5);
/// One block: the least that a file system reserves for a small write. A full one has no block left.
const PROBE_BYTES: usize = 4 << 10;

/// Where the server writes.
pub struct Probe {
    pub data_dir: PathBuf,
    pub log: Arc<dyn Log>,
    /// The transactional id that is taken over to see whether the log takes writes. Nothing is ever written under it.
    pub transactional_id: String,
    /// The log's own files are in the data directory, so trying to write there is cheap.
    pub log_is_local: bool,
    /// `None` where the log is local, since nobody else can delete the topic there.
    pub control: Option<ControlTopic>,
}

impl Probe {
    /// Tries all of it.
    pub fn look(&self) -> Vec<Place> {
        [self.directory(), self.log()].into_iter().chain(self.control()).collect()
    }

    /// What can be tried every few seconds.
    fn look_briefly(&self) -> Vec<Place> {
        if self.log_is_local { self.look() } else { [self.directory()].into_iter().chain(self.control()).collect() }
    }

    /// A cluster that does not answer does not count as a control topic that is gone: tasks wait for the cluster.
    fn control(&self) -> Option<Place> {
        let control = self.control.as_ref()?;
        let found = control.lost().ok().flatten();
        let error = found.map_or(String::new(), |found| {
            format!("{found}: no job can be changed, and a restart would not know of any; restore it with its records")
        });
        Some(Place { name: format!("control topic {}", control.name()), error, free_bytes: None, total_bytes: None })
    }

    fn directory(&self) -> Place {
        let space = space(&self.data_dir).ok();
        Place {
            name: format!("data directory {}", self.data_dir.display()),
            error: try_to_write(&self.data_dir)
                .map_or_else(|error| format!("write to it: {error}"), |()| String::new()),
            free_bytes: space.map(|(free, _)| free),
            total_bytes: space.map(|(_, total)| total),
        }
    }

    fn log(&self) -> Place {
        let tried = self.log.writer(&self.transactional_id).map(drop);
        let error = tried.map_or_else(|error| error.to_string(), |()| String::new());
        Place { name: "the log".to_owned(), error, free_bytes: None, total_bytes: None }
    }
}

fn try_to_write(directory: &Path) -> io::Result<()> {
    let path = directory.join("probe");
    let mut file = fs::File::create(&path)?;
    let written = file.write_all(&[0; PROBE_BYTES]).and_then(|()| file.sync_all());
    // Removes the part of the file that a full disk has left.
    let removed = fs::remove_file(&path);
    written.and(removed)
}

/// Bytes that are free for this process, and the size of the file system.
fn space(path: &Path) -> io::Result<(u64, u64)> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the struct is plain numbers, for which zero is a value; the call fills it, and reads a string that ends in a zero.
    let (answer, found) = unsafe {
        let mut found: libc::statvfs = mem::zeroed();
        (libc::statvfs(path.as_ptr(), &mut found), found)
    };
    if answer != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize))
}

/// Whether the process serves, until it is to end: see [`end`].
pub async fn report(probe: Arc<Probe>, manager: Arc<Manager>, reporter: HealthReporter) {
    let mut was_well = true;
    loop {
        let (looking, of) = (Arc::clone(&probe), Arc::clone(&manager));
        let troubles = tokio::task::spawn_blocking(move || troubles(&looking, &of)).await.unwrap_or_default();
        let is_well = troubles.is_empty();
        match (was_well, is_well) {
            (true, false) => tracing::error!("this server does not serve: {}", troubles.join("; ")),
            (false, true) => tracing::info!("this server serves again"),
            _ => {}
        }
        was_well = is_well;
        let status = if is_well { ServingStatus::Serving } else { ServingStatus::NotServing };
        reporter.set_service_status("", status).await;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn troubles(probe: &Probe, manager: &Manager) -> Vec<String> {
    let places = probe.look_briefly();
    places.iter().filter_map(trouble).chain(manager.fenced()).collect()
}

/// From now on the process serves nobody, and says so as long as it is there.
pub async fn end(reporting: JoinHandle<()>, reporter: HealthReporter) {
    reporting.abort();
    // It ends because it was told to: then its last word is surely said.
    drop(reporting.await);
    reporter.set_service_status("", ServingStatus::NotServing).await;
}

fn trouble(place: &Place) -> Option<String> {
    (!place.error.is_empty()).then(|| format!("{}: {}", place.name, place.error))
}

pub struct ServerApi {
    pub probe: Arc<Probe>,
}

#[tonic::async_trait]
impl Service for ServerApi {
    async fn check(&self, _: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let probe = Arc::clone(&self.probe);
        let places = blocking(move || Ok::<_, Status>(probe.look())).await?;
        Ok(Response::new(CheckResponse { places }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::embedded::{Embedded, Settings};

    #[test]
    fn a_directory_that_takes_no_write_is_named_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let log = Embedded::open(&dir.path().join("log"), Settings::default()).unwrap();
        let data_dir = dir.path().join("data");
        let probe = Probe {
            data_dir: data_dir.clone(),
            log,
            transactional_id: "forebay.probe".into(),
            log_is_local: true,
            control: None,
        };
        let errors = |probe: &Probe| probe.look().into_iter().filter_map(|place| trouble(&place)).collect::<Vec<_>>();
        let found = errors(&probe);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("No such file or directory"), "{found:?}");
        fs::create_dir(&data_dir).unwrap();
        assert_eq!(errors(&probe), Vec::<String>::new());
        assert_eq!(fs::read_dir(&data_dir).unwrap().count(), 0, "nothing is left behind");
        let place = probe.directory();
        assert!(place.total_bytes >= place.free_bytes && place.total_bytes > Some(0), "{place:?}");
    }
}
