//! `forebay dev`: the whole of it in one process, on this machine.

use std::path::PathBuf;

use forebay::api::server::Platform;
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
}

pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { data_dir, listen } = arguments;
    let listener = TcpListener::bind(&listen).await.map_err(|error| Failure {
        exit: Exit::Unavailable,
        message: format!("listen on {listen}: {error}; choose another address with --listen"),
    })?;
    let address = listener.local_addr().map_or(listen, |address| address.to_string());
    let directory = data_dir.clone();
    let platform = tokio::task::spawn_blocking(move || Platform::open(&directory)).await;
    let platform = platform.map_err(|error| Failure::other(format!("start: {error}")))??;
    eprintln!(
        "forebay listens on {address}, data in {} (one process, no replication: for development)\n\
         \n  forebay topic create <topic> --partitions 4\n  forebay module push <file.wasm>\n  \
         forebay job apply <spec.yaml>\n",
        data_dir.display()
    );
    platform.serve(listener, asked_to_end()).await?;
    Ok(())
}

async fn asked_to_end() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("commits what is open and ends");
}
