//! The gRPC service: limits, and the way to the core's thread and back.

use std::future::Future;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use flotilla_types::limits::MESSAGE_BYTES_MAX;
use flotilla_types::proto::pd_server::{Pd, PdServer};
use flotilla_types::proto::{self, pd_error, pd_reply};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::driver::runtime::Job;

/// The most calls under way on one connection: a store has one or two, a client a few.
const CALLS_PER_CONNECTION_MAX: usize = 256;

/// How long a call may take here. Callers' deadlines are shorter.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a silent connection is probed, and how long the answer may take: a caller that lost
/// power is gone after half a minute.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Serves until `stop` ends.
pub(crate) async fn serve(
    listener: TcpListener,
    inbox: SyncSender<Job>,
    stop: impl Future<Output = ()>,
) {
    let service = PdServer::new(Service { inbox })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let served = Server::builder()
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION_MAX)
        .timeout(CALL_TIMEOUT)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, stop)
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "the placement driver's server ended");
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
