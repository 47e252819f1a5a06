//! A client of the API: what the CLI and the tests use.
//!
//! Thin: one connection, a generated stub per service, and the two calls that need more than one message.

use std::path::Path;
use std::time::Duration;

use prost::bytes::Bytes;
use sha2::Digest as _;
use tokio_stream::Stream;
use tonic::transport::{Channel, Endpoint};

use super::proto::dead_letters_client::DeadLettersClient;
use super::proto::jobs_client::JobsClient;
use super::proto::modules_client::ModulesClient;
use super::proto::push_module_request::Part;
use super::proto::server_client::ServerClient;
use super::proto::topics_client::TopicsClient;
use super::proto::{ProduceRequest, ProduceResponse, PushModuleHeader, PushModuleRequest, PushModuleResponse};
use super::topics::RECORDS_WRITTEN;

const MESSAGE_BYTES_MAX: usize = 16 << 20;
const CHUNK_BYTES: usize = 512 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("server address {0}: write it like http://127.0.0.1:7420")]
    Address(String),
    #[error(
        "server address {0}: Forebay speaks plain text only, so this would not be encrypted; write it with http:// where \
         the way is safe, or go through a tunnel: `ssh -L 7420:127.0.0.1:7420 HOST`, then --server 127.0.0.1:7420"
    )]
    Encrypted(String),
    #[error("connect to {server}: {found}; start a server with `forebay dev`, or name another with --server")]
    Unreachable { server: String, found: String },
    #[error("the connection to the server broke: {0}; look at what was done before trying again")]
    Broken(String),
    #[error("{}", .0.message())]
    Refused(tonic::Status),
    #[error("read {path}: {source}")]
    File { path: String, source: std::io::Error },
}

impl Error {
    /// Of a stream of records that was broken off: so many, from its first one on, are surely written. `None` where
    /// nobody said.
    pub fn records_written(&self) -> Option<u64> {
        match self {
            Self::Refused(status) => status.metadata().get(RECORDS_WRITTEN)?.to_str().ok()?.parse().ok(),
            _ => None,
        }
    }
}

impl From<tonic::Status> for Error {
    /// The server's error, or that it did not answer, in which case nobody here knows what was done.
    fn from(status: tonic::Status) -> Self {
        let source = std::error::Error::source(&status);
        match source.filter(|source| source.is::<tonic::transport::Error>()) {
            Some(source) => Self::Broken(innermost(source)),
            None => Self::Refused(status),
        }
    }
}

/// Cheap to clone: all clones share one connection.
#[derive(Clone)]
pub struct Client {
    pub modules: ModulesClient<Channel>,
    pub jobs: JobsClient<Channel>,
    pub topics: TopicsClient<Channel>,
    pub dead_letters: DeadLettersClient<Channel>,
    pub server: ServerClient<Channel>,
}

impl Client {
    /// `server` like `http://127.0.0.1:7420` or `127.0.0.1:7420`.
    pub async fn connect(server: &str) -> Result<Self, Error> {
        let address = match server.split_once("://") {
            None => format!("http://{server}"),
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("http") => server.to_owned(),
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
                return Err(Error::Encrypted(server.to_owned()));
            }
            Some(_) => return Err(Error::Address(server.to_owned())),
        };
        let endpoint = Endpoint::from_shared(address).map_err(|_| Error::Address(server.to_owned()))?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .initial_connection_window_size(8 << 20)
            .initial_stream_window_size(4 << 20);
        let channel = endpoint
            .connect()
            .await
            .map_err(|error| Error::Unreachable { server: server.to_owned(), found: innermost(&error) })?;
        Ok(Self {
            modules: ModulesClient::new(channel.clone()),
            jobs: JobsClient::new(channel.clone()),
            topics: TopicsClient::new(channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX),
            server: ServerClient::new(channel.clone()),
            dead_letters: DeadLettersClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX),
        })
    }

    /// Uploads a module's bytes; `progress` is told how many have gone.
    pub async fn push_module(
        &mut self,
        bytes: Vec<u8>,
        progress: impl Fn(u64) + Send + 'static,
    ) -> Result<PushModuleResponse, Error> {
        let sha256 = sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let header = PushModuleHeader { sha256, size_bytes: bytes.len() as u64 };
        let bytes = Bytes::from(bytes);
        let chunks = (0..bytes.len()).step_by(CHUNK_BYTES).map(move |start| {
            let end = (start + CHUNK_BYTES).min(bytes.len());
            progress(end as u64);
            Part::Chunk(bytes.slice(start..end))
        });
        let parts = std::iter::once(Part::Header(header)).chain(chunks);
        let requests = parts.map(|part| PushModuleRequest { part: Some(part) });
        Ok(self.modules.push(tokio_stream::iter(requests)).await?.into_inner())
    }

    /// Reads a file and uploads it.
    pub async fn push_module_file(&mut self, path: &Path) -> Result<PushModuleResponse, Error> {
        let read = std::fs::read(path);
        let bytes = read.map_err(|source| Error::File { path: path.display().to_string(), source })?;
        self.push_module(bytes, |_| {}).await
    }

    /// Appends batches as they come; the answer says how many records are durable, and where.
    pub async fn produce(
        &mut self,
        batches: impl Stream<Item = ProduceRequest> + Send + 'static,
    ) -> Result<ProduceResponse, Error> {
        Ok(self.topics.produce(batches).await?.into_inner())
    }
}

/// The innermost cause: the outer ones only say "transport error".
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_would_be_sent_in_plain_text_under_https_is_refused() {
        for server in ["https://127.0.0.1:1", "HTTPS://forebay.example"] {
            let refused = Client::connect(server).await.map(drop).unwrap_err();
            assert!(matches!(refused, Error::Encrypted(_)), "{refused}");
            assert!(refused.to_string().contains("ssh -L"), "{refused}");
        }
        assert!(matches!(Client::connect("ftp://127.0.0.1:1").await.map(drop), Err(Error::Address(_))));
    }
}
