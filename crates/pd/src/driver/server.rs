//! The gRPC service: limits, the conversion of messages to what the core takes and gives, and the
//! way to the core's thread and back.

use std::future::Future;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use flotilla_net::listen::Listener;
use flotilla_net::services::pd_server;
use flotilla_types::placement::{PdError, PdRequest};
use flotilla_types::proto;
use flotilla_types::proto::pd_server::Pd;
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
        let request = match PdRequest::try_from(request.into_inner()) {
            Ok(request) => Box::new(request),
            Err(error) => return Ok(Response::new(Err(error).into())),
        };
        match self.inbox.try_send(Job::Call { request, reply }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                let error = PdError::Busy { reason: "too many requests".into() };
                return Ok(Response::new(Err(error).into()));
            }
            Err(TrySendError::Disconnected(_)) => return Err(gone()),
        }
        answered.await.map(|outcome| Response::new(outcome.into())).map_err(|_| gone())
    }
}

fn gone() -> Status {
    Status::unavailable("the placement driver has stopped")
}
