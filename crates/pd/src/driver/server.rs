//! The gRPC service: limits, the conversion of messages to what the core takes and gives, and the
//! way to the core's thread and back.

use std::future::Future;
use std::time::Duration;

use flotilla_host::core::mailbox::Lane;
use flotilla_host::driver::inbox::Refused;
use flotilla_net::listen::Listener;
use flotilla_net::services::pd_server;
use flotilla_types::placement::{PdError, PdRequest};
use flotilla_types::proto;
use flotilla_types::proto::pd_server::Pd;
use prost::Message;
use tokio::sync::oneshot;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::driver::inbox::{Inbox, Mail};

/// How long a call may take here. Callers' deadlines are shorter.
const CALL_TIME_MAX: Duration = Duration::from_secs(10);

/// Serves until `stop` ends.
pub(crate) async fn serve(listener: Listener, inbox: Inbox, stop: impl Future<Output = ()>) {
    let services = Routes::new(pd_server(Service { inbox }));
    if let Err(reason) = listener.serve(services, Some(CALL_TIME_MAX), stop).await {
        tracing::error!(%reason, "the placement driver's server ended");
    }
}

struct Service {
    inbox: Inbox,
}

#[tonic::async_trait]
impl Pd for Service {
    async fn call(
        &self,
        request: Request<proto::PdRequest>,
    ) -> Result<Response<proto::PdReply>, Status> {
        let (reply, answered) = oneshot::channel();
        let request = request.into_inner();
        let bytes = request.encoded_len();
        let request = match PdRequest::try_from(request) {
            Ok(request) => Box::new(request),
            Err(error) => return Ok(Response::new(Err(error).into())),
        };
        match self.inbox.offer(Lane::Requests, Mail::Call { request, reply }, bytes) {
            Ok(()) => {}
            Err(Refused::Full(_)) => {
                let error = PdError::Busy { reason: "too many requests".into() };
                return Ok(Response::new(Err(error).into()));
            }
            Err(Refused::Closed(_)) => return Err(gone()),
        }
        answered.await.map(|outcome| Response::new(outcome.into())).map_err(|_| gone())
    }
}

fn gone() -> Status {
    Status::unavailable("the placement driver has stopped")
}
