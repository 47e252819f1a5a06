//! The service of modules.

use std::sync::Arc;
use std::time::Duration;

use sha2::Digest as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status, Streaming};

use super::error::blocking;
use super::proto::modules_server::Modules as Service;
use super::proto::push_module_request::Part;
use super::proto::{
    GetModuleRequest, GetModuleResponse, ListModulesRequest, ListModulesResponse, PushModuleHeader, PushModuleRequest,
    PushModuleResponse,
};
use super::view;
use crate::job::modules::Modules;

/// Uploads that are received, looked over and compiled at once: each is held in memory whole.
const UPLOADS_MAX: usize = 4;
/// An upload beyond that waits this long for its turn …
const TURN_PATIENCE: Duration = Duration::from_secs(60);
/// … and one that has it must go on within this.
const CHUNK_PATIENCE: Duration = Duration::from_secs(30);

pub struct ModulesApi {
    pub modules: Arc<Modules>,
    /// An upload with more is refused before it is read.
    pub upload_bytes_max: usize,
    uploads: Uploads,
}

/// Limits how many uploads are worked on at once.
struct Uploads(Arc<Semaphore>);

#[tonic::async_trait]
impl Service for ModulesApi {
    async fn push(
        &self,
        request: Request<Streaming<PushModuleRequest>>,
    ) -> Result<Response<PushModuleResponse>, Status> {
        let _turn = self.uploads.turn().await?;
        let bytes = self.receive(request.into_inner()).await?;
        let modules = Arc::clone(&self.modules);
        let pushed = blocking(move || modules.push(&bytes)).await?;
        let module = Some(view::module(&pushed.module));
        Ok(Response::new(PushModuleResponse { module, existed: pushed.existed }))
    }

    async fn list(&self, _: Request<ListModulesRequest>) -> Result<Response<ListModulesResponse>, Status> {
        let modules = self.modules.list().iter().map(view::module).collect();
        Ok(Response::new(ListModulesResponse { modules }))
    }

    async fn get(&self, request: Request<GetModuleRequest>) -> Result<Response<GetModuleResponse>, Status> {
        let module = self.modules.find(&request.into_inner().module)?;
        Ok(Response::new(GetModuleResponse { module: Some(view::module(&module)) }))
    }
}

impl ModulesApi {
    pub fn new(modules: Arc<Modules>, upload_bytes_max: usize) -> Self {
        Self { modules, upload_bytes_max, uploads: Uploads::new() }
    }

    /// The whole upload, as long and with the digest that its header announced.
    async fn receive(&self, mut parts: Streaming<PushModuleRequest>) -> Result<Vec<u8>, Status> {
        let Some(PushModuleRequest { part: Some(Part::Header(header)) }) = next(&mut parts).await? else {
            return Err(Status::invalid_argument("push module: the first message must be the header"));
        };
        let max = self.upload_bytes_max;
        if header.size_bytes > max as u64 {
            let found = header.size_bytes;
            let text = format!("push module: it has {found} bytes, at most {max} are allowed; build it optimised");
            return Err(Status::invalid_argument(text));
        }
        // The buffer grows with the bytes that arrive: a client that announces a large upload does not reserve memory
        // by it.
        let mut bytes = Vec::new();
        while let Some(message) = next(&mut parts).await? {
            let Some(Part::Chunk(chunk)) = message.part else {
                return Err(Status::invalid_argument("push module: a second header came where a chunk was due"));
            };
            if bytes.len() + chunk.len() > header.size_bytes as usize {
                let announced = header.size_bytes;
                return Err(Status::invalid_argument(format!(
                    "push module: more came than the {announced} bytes announced"
                )));
            }
            bytes.extend_from_slice(&chunk);
        }
        check(&header, &bytes)?;
        Ok(bytes)
    }
}

impl Uploads {
    fn new() -> Self {
        Self(Arc::new(Semaphore::new(UPLOADS_MAX)))
    }

    /// Held during an upload.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, Status> {
        let turn = tokio::time::timeout(TURN_PATIENCE, Arc::clone(&self.0).acquire_owned()).await;
        turn.ok().and_then(Result::ok).ok_or_else(|| {
            let seconds = TURN_PATIENCE.as_secs();
            Status::unavailable(format!("push module: {UPLOADS_MAX} others are under way for {seconds} s; try again"))
        })
    }
}

/// The next message of an upload that goes on.
async fn next(parts: &mut Streaming<PushModuleRequest>) -> Result<Option<PushModuleRequest>, Status> {
    let next = tokio::time::timeout(CHUNK_PATIENCE, parts.message()).await;
    next.unwrap_or_else(|_| {
        let seconds = CHUNK_PATIENCE.as_secs();
        Err(Status::deadline_exceeded(format!("push module: nothing came for {seconds} s; push again")))
    })
}

fn check(header: &PushModuleHeader, bytes: &[u8]) -> Result<(), Status> {
    if bytes.len() as u64 != header.size_bytes {
        let (came, announced) = (bytes.len(), header.size_bytes);
        return Err(Status::invalid_argument(format!("push module: {came} bytes came, {announced} were announced")));
    }
    let found: String = sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if found != header.sha256 {
        let announced: String = header.sha256.chars().take(64).collect();
        return Err(Status::invalid_argument(format!(
            "push module: the bytes have SHA-256 {found}, announced was {announced}; the upload was damaged, push again"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_upload_too_many_waits_until_another_has_ended() {
        let uploads = Uploads::new();
        let mut under_way = Vec::new();
        for _ in 0..UPLOADS_MAX {
            under_way.push(uploads.turn().await.unwrap());
        }
        tokio::time::timeout(Duration::ZERO, uploads.turn()).await.unwrap_err();
        under_way.pop();
        drop(uploads.turn().await.unwrap());
    }
}
