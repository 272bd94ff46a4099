//! The gRPC service: limits, and the way to the core's thread and back.

use std::future::Future;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use flotilla_net::listen::Listener;
use flotilla_net::services::pd_server;
use flotilla_types::proto::pd_server::Pd;
use flotilla_types::proto::{self, pd_error, pd_reply};
use tokio::sync::oneshot;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::driver::runtime::Job;

/// How long a call may take here. Callers' deadlines are shorter.
const CALL_TIME_MAX: Duration = Duration::from_secs(10);

/// Serves until `stop` ends.
pub(crate) async fn serve(
    listener: Listener,
    inbox: SyncSender<Job>,
    stop: impl Future<Output = ()>,
) {
    let services = Routes::new(pd_server(Service { inbox }));
    if let Err(reason) = listener.serve(services, Some(CALL_TIME_MAX), stop).await {
        tracing::error!(%reason, "the placement driver's server ended");
    }
}

struct Service {
    inbox: SyncSender<Job>,
}

#[tonic::async_trait]
impl Pd for Service {
    async fn call(
        &self,
        request: Request<proto::PdRequest>,
    ) -> Result<Response<proto::PdReply>, Status> {
        let (reply, answered) = oneshot::channel();
        let job = Job::Call { request: Box::new(request.into_inner()), reply };
        match self.inbox.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Ok(Response::new(busy("too many requests"))),
            Err(TrySendError::Disconnected(_)) => return Err(gone()),
        }
        answered.await.map(Response::new).map_err(|_| gone())
    }
}

fn busy(reason: &str) -> proto::PdReply {
    let kind = Some(pd_error::Kind::Busy(proto::PdBusy { reason: reason.into() }));
    let error = proto::PdError { kind };
    proto::PdReply { result: Some(pd_reply::Result::Error(error)) }
}

fn gone() -> Status {
    Status::unavailable("the placement driver has stopped")
}
