//! The service of jobs.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::error::blocking;
use super::lag::Ends;
use super::proto::jobs_server::Jobs as Service;
use super::proto::{
    ApplyJobRequest, ApplyJobResponse, DeleteJobRequest, DeleteJobResponse, GetJobRequest, GetJobResponse,
    ListJobsRequest, ListJobsResponse, PlanJobRequest, PlanJobResponse, PlanResetTimeRequest, PlanResetTimeResponse,
    PlanSwapRequest, PlanSwapResponse, ResetTimeRequest, ResetTimeResponse, RollbackJobRequest, RollbackJobResponse,
    StopJobRequest, StopJobResponse, SwapJobRequest, SwapJobResponse, WatchJobRequest, WatchJobResponse,
};
use super::view;
use crate::env::Clock;
use crate::job::Error;
use crate::job::change::loss::Accepted;
use crate::job::manager::Manager;
use crate::job::modules::Modules;
use crate::job::record::ModuleId;
use crate::job::spec::JobSpec;
use crate::wasm::contract::Description;

const WATCH_INTERVAL_MIN: Duration = Duration::from_millis(50);

pub struct JobsApi {
    pub manager: Arc<Manager>,
    pub modules: Arc<Modules>,
    pub clock: Arc<dyn Clock>,
    pub ends: Arc<Ends>,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Service for JobsApi {
    async fn plan(&self, request: Request<PlanJobRequest>) -> Answer<PlanJobResponse> {
        let (manager, spec) = (Arc::clone(&self.manager), request.into_inner().spec);
        let plan = blocking(move || manager.plan(&JobSpec::parse(&spec)?)).await?;
        Ok(Response::new(PlanJobResponse { plan: Some(view::plan(&plan)) }))
    }

    async fn apply(&self, request: Request<ApplyJobRequest>) -> Answer<ApplyJobResponse> {
        let (manager, request) = (Arc::clone(&self.manager), request.into_inner());
        let answer = blocking(move || {
            let spec = JobSpec::parse(&request.spec)?;
            let plan = manager.apply(&spec, request.expected_revision)?;
            let job = manager.get(&spec.name)?;
            Ok::<_, Error>((plan, job))
        });
        let (plan, job) = answer.await?;
        Ok(Response::new(ApplyJobResponse { plan: Some(view::plan(&plan)), job: Some(self.ends.show_one(&job).await) }))
    }

    async fn list(&self, _: Request<ListJobsRequest>) -> Answer<ListJobsResponse> {
        let jobs = self.ends.show(&self.manager.list()).await;
        Ok(Response::new(ListJobsResponse { jobs, at_ms: self.clock.now() / 1_000_000 }))
    }

    async fn get(&self, request: Request<GetJobRequest>) -> Answer<GetJobResponse> {
        let job = self.manager.get(&request.into_inner().name)?;
        let spec = view::spec(&job.record, |id| self.description(id)).to_yaml();
        Ok(Response::new(GetJobResponse { job: Some(self.ends.show_one(&job).await), spec }))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchJobResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<WatchJobRequest>) -> Answer<Self::WatchStream> {
        let WatchJobRequest { name, interval_ms } = request.into_inner();
        let interval = Duration::from_millis(interval_ms.into()).max(WATCH_INTERVAL_MIN);
        self.manager.get(&name)?;
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let (manager, clock, ends) = (Arc::clone(&self.manager), Arc::clone(&self.clock), Arc::clone(&self.ends));
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(interval);
            loop {
                ticks.tick().await;
                let answer = match manager.get(&name) {
                    Ok(job) => {
                        Ok(WatchJobResponse { job: Some(ends.show_one(&job).await), at_ms: clock.now() / 1_000_000 })
                    }
                    Err(error) => Err(Status::from(error)),
                };
                let ended = answer.is_err();
                if sender.send(answer).await.is_err() || ended {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn stop(&self, request: Request<StopJobRequest>) -> Answer<StopJobResponse> {
        let name = request.into_inner().name;
        let job = self.changed(move |manager| {
            manager.stop(&name)?;
            Ok(view::job(&manager.get(&name)?))
        });
        Ok(Response::new(StopJobResponse { job: Some(job.await?) }))
    }

    async fn delete(&self, request: Request<DeleteJobRequest>) -> Answer<DeleteJobResponse> {
        let name = request.into_inner().name;
        let deleted_topics = self.changed(move |manager| manager.delete(&name)).await?;
        Ok(Response::new(DeleteJobResponse { deleted_topics }))
    }

    async fn swap(&self, request: Request<SwapJobRequest>) -> Answer<SwapJobResponse> {
        let SwapJobRequest { name, operator, module, reset, drop } = request.into_inner();
        let accepted = Accepted { reset, drop };
        let swap = self.changed(move |manager| manager.swap(&name, &operator, &module, &accepted)).await?;
        Ok(Response::new(SwapJobResponse { swap: Some(view::swap(&swap)) }))
    }

    async fn plan_swap(&self, request: Request<PlanSwapRequest>) -> Answer<PlanSwapResponse> {
        let PlanSwapRequest { name, operator, module, reset, drop } = request.into_inner();
        let accepted = Accepted { reset, drop };
        let plan = self.changed(move |manager| manager.plan_swap(&name, &operator, &module, &accepted)).await?;
        Ok(Response::new(PlanSwapResponse { plan: Some(view::swap_plan(&plan)) }))
    }

    async fn rollback(&self, request: Request<RollbackJobRequest>) -> Answer<RollbackJobResponse> {
        let name = request.into_inner().name;
        let swap = self.changed(move |manager| manager.rollback(&name)).await?;
        Ok(Response::new(RollbackJobResponse { swap: Some(view::swap(&swap)) }))
    }

    async fn reset_time(&self, request: Request<ResetTimeRequest>) -> Answer<ResetTimeResponse> {
        let ResetTimeRequest { name, to_ns } = request.into_inner();
        let job = self.changed(move |manager| {
            manager.reset_time(&name, to_ns)?;
            manager.get(&name)
        });
        Ok(Response::new(ResetTimeResponse { reset: view::time_reset(&job.await?) }))
    }

    async fn plan_reset_time(&self, request: Request<PlanResetTimeRequest>) -> Answer<PlanResetTimeResponse> {
        let PlanResetTimeRequest { name, to_ns } = request.into_inner();
        let plan = self.manager.plan_time_reset(&name, to_ns)?;
        Ok(Response::new(PlanResetTimeResponse { plan: Some(view::time_plan(&name, to_ns, &plan)) }))
    }
}

impl JobsApi {
    fn description(&self, id: &ModuleId) -> Option<Description> {
        Some(self.modules.find(&id.digest.to_string()).ok()?.description)
    }

    /// Runs a change to its end, also where the caller goes away.
    async fn changed<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Manager) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Status> {
        let manager = Arc::clone(&self.manager);
        blocking(move || change(&manager)).await
    }
}
