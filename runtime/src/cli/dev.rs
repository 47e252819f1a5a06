//! `forebay dev`: the whole of it in one process, on this machine.

use std::path::{Path, PathBuf};

use forebay::api::server::{Home, Others, Platform};
use forebay::job::spec::is_name;
use forebay::log::kafka::Profile;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::exit::{Exit, Failure};

#[derive(clap::Args)]
pub struct Arguments {
    /// Where the log, state and modules are kept; one process at a time.
    #[arg(long, env = "FOREBAY_DATA_DIR", default_value = "forebay-data", value_name = "DIR")]
    data_dir: PathBuf,
    /// The address of the gRPC server. Anyone who reaches it may do anything: keep it on loopback.
    #[arg(long, default_value = "127.0.0.1:7420", value_name = "ADDRESS")]
    listen: String,
    #[command(flatten)]
    cluster: Cluster,
    /// Let sinks write to the Kafka cluster that this profile describes, at least once (docs/kafka.md); repeatable
    #[arg(long, value_name = "NAME=FILE")]
    other_cluster: Vec<String>,
}

/// Where topics are kept. Without any of these: in the data directory, by the embedded log.
#[derive(clap::Args)]
struct Cluster {
    /// Keep all topics on this Kafka cluster, reached without security
    #[arg(long, env = "FOREBAY_KAFKA_BOOTSTRAP", value_name = "HOST:PORT", conflicts_with = "cluster")]
    kafka: Option<String>,
    /// Keep all topics on the Kafka cluster that this profile describes (docs/kafka.md)
    #[arg(long, env = "FOREBAY_CLUSTER", value_name = "FILE")]
    cluster: Option<PathBuf>,
    /// Keep the jobs of this server apart from those of other servers on the same cluster
    #[arg(long, env = "FOREBAY_NAMESPACE", value_name = "NAME")]
    namespace: Option<String>,
}

impl Cluster {
    fn home(self) -> Result<Home, Failure> {
        let profile = match (self.kafka, self.cluster) {
            (None, None) if self.namespace.is_some() => {
                let message = "--namespace is for a cluster: name one with --kafka or --cluster, or leave it out";
                return Err(Failure::invalid(message));
            }
            (None, None) => return Ok(Home::Embedded),
            (Some(bootstrap), _) => Profile::plain(&bootstrap),
            (None, Some(file)) => read_profile("--cluster", &file)?,
        };
        Ok(Home::Cluster { profile, namespace: self.namespace })
    }
}

/// What jobs call other clusters, and how they are reached.
fn others(given: &[String]) -> Result<Others, Failure> {
    let mut others = Others::new();
    for given in given {
        let invalid = |why: &str| Failure::invalid(format!("--other-cluster {given}: {why}"));
        let (name, file) = given.split_once('=').ok_or_else(|| invalid("there is no `=`; write NAME=FILE"))?;
        if !is_name(name) {
            return Err(invalid("the name must have 1 to 64 letters, digits, - and _"));
        }
        let profile = read_profile("--other-cluster", Path::new(file))?;
        if others.insert(name.to_owned(), profile).is_some() {
            return Err(invalid("the name is given twice"));
        }
    }
    Ok(others)
}

fn read_profile(argument: &str, file: &Path) -> Result<Profile, Failure> {
    let invalid = |why: &dyn std::fmt::Display| Failure::invalid(format!("{argument} {}: {why}", file.display()));
    let yaml = std::fs::read_to_string(file).map_err(|error| invalid(&error))?;
    Profile::parse(&yaml).map_err(|error| invalid(&error))
}

pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { data_dir, listen, cluster, other_cluster } = arguments;
    // Files that this process creates are readable by its user only.
    // SAFETY: the call takes a number, cannot fail, and nothing here relies on the mask that was.
    unsafe { libc::umask(0o077) };
    let home = cluster.home()?;
    let others = others(&other_cluster)?;
    let place = place(&data_dir, &home);
    let listener = TcpListener::bind(&listen).await.map_err(|error| Failure {
        exit: Exit::Unavailable,
        message: format!("listen on {listen}: {error}; choose another address with --listen"),
    })?;
    let address = listener.local_addr().map_or(listen, |address| address.to_string());
    let directory = data_dir.clone();
    let engine = super::engine()?;
    let platform = tokio::task::spawn_blocking(move || Platform::open(&directory, &home, others, engine)).await;
    let platform = platform.map_err(|error| Failure::other(format!("start: {error}")))??;
    eprintln!(
        "forebay listens on {address}, {place}\n\
         \n  forebay topic create <topic> --partitions 4\n  forebay module push <file.wasm>\n  \
         forebay job apply <spec.yaml>\n"
    );
    platform.serve(listener, asked_to_end()).await?;
    Ok(())
}

/// Where topics and data are kept, as whoever starts the server is told.
fn place(data_dir: &Path, home: &Home) -> String {
    let data_dir = data_dir.display();
    match home {
        Home::Embedded => format!("data in {data_dir} (one process, no replication: for development)"),
        Home::Cluster { profile, namespace } => {
            let namespace = namespace.as_ref().map_or(String::new(), |name| format!(", namespace {name}"));
            format!("topics on Kafka at {}{namespace}, modules and local state in {data_dir}", profile.bootstrap)
        }
    }
}

async fn asked_to_end() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("commits what is open and ends");
}
