//! The service of modules.

use std::sync::Arc;

use sha2::Digest as _;
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

pub struct ModulesApi {
    pub modules: Arc<Modules>,
    /// An upload with more is refused before it is read.
    pub upload_bytes_max: usize,
}

#[tonic::async_trait]
impl Service for ModulesApi {
    async fn push(
        &self,
        request: Request<Streaming<PushModuleRequest>>,
    ) -> Result<Response<PushModuleResponse>, Status> {
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
    /// The whole upload, as long and with the digest that its header announced.
    async fn receive(&self, mut parts: Streaming<PushModuleRequest>) -> Result<Vec<u8>, Status> {
        let Some(PushModuleRequest { part: Some(Part::Header(header)) }) = parts.message().await? else {
            return Err(Status::invalid_argument("push module: the first message must be the header"));
        };
        let max = self.upload_bytes_max;
        if header.size_bytes > max as u64 {
            let found = header.size_bytes;
            let text = format!("push module: it has {found} bytes, at most {max} are allowed; build it optimised");
            return Err(Status::invalid_argument(text));
        }
        let mut bytes = Vec::with_capacity(header.size_bytes as usize);
        while let Some(message) = parts.message().await? {
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
