//! One process: a log (embedded, or a Kafka cluster), the control plane and the gRPC server over them.
//!
//! Owns the data directory (locked; one process at a time) and the order of starting and stopping.

use std::collections::BTreeMap;
use std::future::Future;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fs, io};

use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::{Request, Status};

use super::control::{self, ControlTopic};
use super::dead_letters::DeadLettersApi;
use super::health::{self, Probe, ServerApi};
use super::jobs::JobsApi;
use super::lag::Ends;
use super::metrics;
use super::modules::ModulesApi;
use super::proto::DESCRIPTORS;
use super::proto::dead_letters_server::DeadLettersServer;
use super::proto::jobs_server::JobsServer;
use super::proto::modules_server::ModulesServer;
use super::proto::server_server::ServerServer;
use super::proto::topics_server::TopicsServer;
use super::topics::TopicsApi;
use crate::env::{Clock, SystemClock, end_at_once, raise_descriptor_limit, refuse_unknown_failpoints};
use crate::error::Kind;
use crate::job::host::{Loaded, Threads, WasmHost};
use crate::job::manager::Manager;
use crate::job::module_log::ModuleLog;
use crate::job::modules::Modules;
use crate::job::store::Store;
use crate::log::Log;
use crate::log::clusters::{Clusters, Connect};
use crate::log::embedded::{Embedded, Settings};
use crate::log::kafka::{Kafka, Profile};
use crate::model::names::Namespace;
use crate::registry::ModuleStore;
use crate::wasm::Engine;
use crate::{job, log, registry, wasm};

/// One message: a batch of records or a chunk of a module.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("data directory {}: another forebay process holds it; stop that one, or choose another with --data-dir", .0.display())]
    Locked(PathBuf),
    #[error("start: {0}")]
    Failpoint(String),
    #[error("open the control topic: `{0}` is no namespace; use 1 to 64 letters, digits, - and _")]
    Namespace(String),
    #[error("{doing}: {source}")]
    Io { doing: String, source: io::Error },
    #[error("{source}; tried for {} s: see that the cluster runs and that the address is one of its brokers'", .waited.as_secs())]
    Unreachable { source: log::Error, waited: Duration },
    #[error("serve gRPC: {0}")]
    Serve(#[from] tonic::transport::Error),
    #[error("serve reflection: {0}")]
    Reflection(String),
    #[error(transparent)]
    Control(#[from] control::Error),
    #[error(transparent)]
    Log(#[from] log::Error),
    #[error(transparent)]
    Job(#[from] job::Error),
    #[error(transparent)]
    Registry(#[from] registry::Error),
    #[error(transparent)]
    Wasm(#[from] wasm::Error),
}

impl Error {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Locked(_) => Kind::Conflict,
            Self::Namespace(_) | Self::Failpoint(_) => Kind::Invalid,
            Self::Io { .. } | Self::Serve(_) | Self::Unreachable { .. } => Kind::Retry,
            Self::Reflection(_) => Kind::Bug,
            Self::Control(error) => error.kind(),
            Self::Log(error) => error.kind(),
            Self::Job(error) => error.kind(),
            Self::Registry(error) => error.kind(),
            Self::Wasm(error) => error.kind(),
        }
    }
}

/// Where the topics are: the home of all jobs of a process.
pub enum Home {
    /// Inside the process, in the data directory.
    Embedded,
    Cluster {
        profile: Profile,
        /// Keeps this server's jobs apart from those of other servers on the cluster.
        namespace: Option<String>,
    },
}

/// Other clusters, which sinks write to, by name.
pub type Others = BTreeMap<String, Profile>;

/// Everything behind the gRPC services.
pub struct Platform {
    log: Arc<dyn Log>,
    manager: Arc<Manager>,
    modules: Arc<Modules>,
    clock: Arc<dyn Clock>,
    upload_bytes_max: usize,
    probe: Arc<Probe>,
    /// Held as long as the process lives.
    _lock: fs::File,
}

impl Platform {
    /// Opens data directory and log, and starts every job that the control topic says should run.
    /// Other clusters are connected to when a job names them.
    pub fn open(data_dir: &Path, home: &Home, others: Others, engine: Engine) -> Result<Self, Error> {
        refuse_unknown_failpoints().map_err(Error::Failpoint)?;
        if let Some(limit) = raise_descriptor_limit() {
            tracing::debug!("up to {limit} files may be open");
        }
        let lock = lock(data_dir)?;
        tracing::debug!("data directory locked");
        let others = others.into_iter().map(|(name, profile)| Ok((name, connect_later(profile)?)));
        let others = others.collect::<Result<_, log::Error>>()?;
        let clock = SystemClock::shared();
        let (log, namespace) = match home {
            Home::Embedded => {
                let log = Embedded::open(&data_dir.join("log"), Settings::default())?;
                (log as Arc<dyn Log>, Namespace::default())
            }
            Home::Cluster { profile, namespace } => {
                let namespace = namespace.as_deref().map_or(Ok(Namespace::default()), named)?;
                (connect(profile, clock.as_ref())?, namespace)
            }
        };
        tracing::debug!("log opened");
        let upload_bytes_max = engine.settings().upload_bytes_max;
        let host = WasmHost {
            engine,
            modules: ModuleLog::open(Arc::clone(&log), &namespace, ModuleStore::open(&data_dir.join("modules"))?)?,
            cache_dir: data_dir.join("cache"),
            loaded: Loaded::default(),
        };
        let control = match home {
            Home::Embedded => None,
            Home::Cluster { profile, .. } => {
                let topic = namespace.control_topic();
                Some(ControlTopic::new(Arc::clone(&log), data_dir, &profile.bootstrap, &topic))
            }
        };
        control.as_ref().map_or(Ok(()), ControlTopic::check)?;
        let store = Arc::new(Store::open(Arc::clone(&log), &namespace)?);
        tracing::debug!("control topic read");
        control.as_ref().map_or(Ok(()), ControlTopic::remember)?;
        let probe = Arc::new(Probe {
            data_dir: data_dir.to_owned(),
            log: Arc::clone(&log),
            transactional_id: namespace.probe_transactional_id(),
            log_is_local: matches!(home, Home::Embedded),
            control,
        });
        let modules = Arc::new(Modules::new(Box::new(host), Arc::clone(&store), Arc::clone(&clock)));
        let clusters = Clusters::new(Arc::clone(&log), others);
        let runner = Threads { clusters: clusters.clone(), clock: Arc::clone(&clock) };
        let manager = Manager::new(
            clusters,
            store,
            Arc::clone(&modules),
            Box::new(runner),
            Arc::clone(&clock),
            data_dir.to_owned(),
        );
        manager.start()?;
        Ok(Self { log, manager, modules, clock, upload_bytes_max, probe, _lock: lock })
    }

    /// Serves until `shutdown` is done, then ends every task with a commit. Meanwhile it answers that it does so.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()> + Send) -> Result<(), Error> {
        self.serve_and_linger(listener, shutdown, std::future::ready(())).await
    }

    /// Is not gone before `linger` is done.
    pub(super) async fn serve_and_linger(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
        linger: impl Future<Output = ()> + Send,
    ) -> Result<(), Error> {
        let (reporter, health) = tonic_health::server::health_reporter();
        let reporting =
            tokio::spawn(health::report(Arc::clone(&self.probe), Arc::clone(&self.manager), reporter.clone()));
        let is_ending = Arc::new(AtomicBool::new(false));
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .build_v1()
            .map_err(|error| Error::Reflection(error.to_string()))?;
        let modules = ModulesApi::new(Arc::clone(&self.modules), self.upload_bytes_max);
        let jobs = JobsApi {
            manager: Arc::clone(&self.manager),
            modules: Arc::clone(&self.modules),
            clock: Arc::clone(&self.clock),
            ends: Ends::new(Arc::clone(&self.log), Arc::clone(&self.clock)),
        };
        let topics = TopicsApi::new(Arc::clone(&self.log), Arc::clone(&self.manager));
        let dead_letters = DeadLettersApi { log: Arc::clone(&self.log), manager: Arc::clone(&self.manager) };
        let server = Server::builder()
            .initial_connection_window_size(8 << 20)
            .initial_stream_window_size(4 << 20)
            // For `GET /metrics`; gRPC speaks HTTP/2.
            .accept_http1(true)
            .add_routes(metrics::routes(Arc::clone(&self.manager)))
            .add_service(health)
            .add_service(reflection)
            .add_service(until(&is_ending, ModulesServer::new(modules).max_decoding_message_size(MESSAGE_BYTES_MAX)))
            .add_service(until(&is_ending, JobsServer::new(jobs)))
            .add_service(until(&is_ending, TopicsServer::new(topics).max_decoding_message_size(MESSAGE_BYTES_MAX)))
            .add_service(until(&is_ending, DeadLettersServer::new(dead_letters)))
            .add_service(until(&is_ending, ServerServer::new(ServerApi { probe: Arc::clone(&self.probe) })));
        let mut server = std::pin::pin!(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let served = tokio::select! {
            served = &mut server => Some(served),
            () = shutdown => None,
        };
        is_ending.store(true, Ordering::SeqCst);
        let manager = Arc::clone(&self.manager);
        let ending = async {
            health::end(reporting, reporter).await;
            let ended = tokio::task::spawn_blocking(move || manager.shutdown()).await;
            linger.await;
            ended
        };
        // Streams of clients that never end must not hold up the end of the process.
        let (served, ended) = match served {
            Some(served) => (served, ending.await),
            None => beside(server, ending).await,
        };
        match ended {
            Ok(true) => {}
            // Threads that still run would use a process whose memory is being torn down.
            Ok(false) => end_at_once(),
            Err(error) => tracing::error!("end the tasks: {error}"),
        }
        Ok(served?)
    }
}

/// The end of the process, and what became of the server that answers meanwhile.
async fn beside<S, E>(
    server: impl Future<Output = Result<(), S>>,
    ending: impl Future<Output = E>,
) -> (Result<(), S>, E) {
    let mut ending = std::pin::pin!(ending);
    tokio::select! {
        ended = &mut ending => (Ok(()), ended),
        served = server => (served, ending.await),
    }
}

/// The service, as long as the process is not on its way to its end.
fn until<S>(
    is_ending: &Arc<AtomicBool>,
    service: S,
) -> InterceptedService<S, impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + use<S>> {
    let is_ending = Arc::clone(is_ending);
    InterceptedService::new(service, move |request| {
        if is_ending.load(Ordering::SeqCst) {
            return Err(Status::unavailable("the server is shutting down; ask again when it is up"));
        }
        Ok(request)
    })
}

/// At the start a cluster that is away is an error; once running, tasks wait for it.
fn connect(profile: &Profile, clock: &dyn Clock) -> Result<Arc<dyn Log>, Error> {
    let started = clock.elapsed();
    match Kafka::connect(profile) {
        Ok(kafka) => Ok(kafka),
        Err(source @ log::Error::Unavailable { .. }) => {
            Err(Error::Unreachable { source, waited: clock.elapsed().saturating_sub(started) })
        }
        Err(error) => Err(error.into()),
    }
}

/// What is wrong with a profile is an error at the start; a cluster that is away concerns only those who write to it.
fn connect_later(profile: Profile) -> Result<Connect, log::Error> {
    profile.resolve()?;
    Ok(Box::new(move || Ok(Kafka::connect(&profile)? as Arc<dyn Log>)))
}

/// Names of topics and transactional ids are made of it.
fn named(namespace: &str) -> Result<Namespace, Error> {
    Namespace::named(namespace).ok_or_else(|| Error::Namespace(namespace.escape_debug().to_string()))
}

/// Locks the directory: two processes in one directory would each believe that they own the log.
fn lock(data_dir: &Path) -> Result<fs::File, Error> {
    let io = |doing: &str, source| Error::Io { doing: format!("{doing} {}", data_dir.display()), source };
    keep_private(data_dir).map_err(|source| io("create directory", source))?;
    let file = fs::File::create(data_dir.join("lock")).map_err(|source| io("lock directory", source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Error::Locked(data_dir.to_owned())),
        Err(fs::TryLockError::Error(source)) => Err(io("lock directory", source)),
    }
}

/// Nobody else on this machine may read records, state and compiled code. A directory that existed before, with other
/// things in it, keeps its permissions; the directories that are created in it are private.
fn keep_private(data_dir: &Path) -> io::Result<()> {
    let make = |path: &Path| fs::DirBuilder::new().recursive(true).mode(PRIVATE).create(path);
    make(data_dir)?;
    let mut others = fs::read_dir(data_dir)?.filter_map(Result::ok).filter(|entry| entry.file_name() != "lost+found");
    if data_dir.join("lock").exists() || others.next().is_none() {
        close(data_dir)?;
    }
    for ours in ["log", "modules", "cache", "jobs"].map(|name| data_dir.join(name)) {
        make(&ours)?;
        close(&ours)?;
    }
    Ok(())
}

const PRIVATE: u32 = 0o700;

fn close(directory: &Path) -> io::Result<()> {
    if fs::metadata(directory)?.permissions().mode() & 0o777 == PRIVATE {
        return Ok(());
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(PRIVATE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_data_directory_is_its_owners_alone_and_what_was_open_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let ours = dir.path().join("ours");
        drop(lock(&ours).unwrap());
        assert_eq!((mode(&ours), mode(&ours.join("log"))), (PRIVATE, PRIVATE));
        for open in [&ours, &ours.join("jobs")] {
            fs::set_permissions(open, fs::Permissions::from_mode(0o755)).unwrap();
        }
        drop(lock(&ours).unwrap());
        assert_eq!((mode(&ours), mode(&ours.join("jobs"))), (PRIVATE, PRIVATE));
    }

    #[test]
    fn a_directory_with_other_things_in_it_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(dir.path().join("someone's"), "").unwrap();
        drop(lock(dir.path()).unwrap());
        assert_eq!((mode(dir.path()), mode(&dir.path().join("log"))), (0o755, PRIVATE));
    }
}
