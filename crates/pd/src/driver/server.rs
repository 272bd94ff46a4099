//! The gRPC service: limits, the conversion of messages to what the core takes and gives, and the
//! way to the core's thread and back.

use std::future::Future;
use std::time::Duration;

use flotilla_host::core::mailbox::Lane;
use flotilla_host::driver::inbox::Refused;
use flotilla_host::driver::raft_service::RaftService;
use flotilla_net::accept::{Caller, admit};
use flotilla_net::access::permit_op;
use flotilla_net::apart::Apart;
use flotilla_net::connect::Traffic;
use flotilla_net::listen::{Listener, Services};
use flotilla_net::services::{pd_server, raft_server};
use flotilla_types::limits::is_address;
use flotilla_types::placement::{MembersChange, PdError, PdOp, PdReply, PdRequest};
use flotilla_types::proto;
use flotilla_types::proto::pd_request::Op;
use flotilla_types::proto::pd_server::Pd;
use flotilla_types::request::check_scan_bound;
use prost::Message;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::core::limits::ID_MAX;
use crate::driver::inbox::{Inbox, Mail};

/// How long a call may take here. Callers' deadlines are shorter.
const CALL_TIME_MAX: Duration = Duration::from_secs(10);

/// Serves until `stop` ends.
pub(crate) async fn serve(
    listener: Listener,
    (inbox, raft, members_on): (Inbox, RaftService, Handle),
    members: watch::Receiver<Vec<String>>,
    stop: impl Future<Output = ()>,
) {
    let calls = pd_server(Service { inbox, members });
    let callers = Routes::new(calls).add_service(raft_server(raft.clone()));
    let routes = Routes::new(raft_server(raft));
    let apart = vec![Apart { traffic: Traffic::Members, routes, on: members_on }];
    let services = Services { callers, apart };
    // The members' streams stay open, so calls have their limit in [`Service`].
    if let Err(reason) = listener.serve(services, stop).await {
        tracing::error!(%reason, "the placement driver's server ended");
    }
}

struct Service {
    inbox: Inbox,
    /// Where the members listen.
    members: watch::Receiver<Vec<String>>,
}

impl Service {
    fn reply(&self, outcome: Result<PdReply, PdError>) -> Response<proto::PdReply> {
        let mut reply = proto::PdReply::from(outcome);
        reply.pd_addrs = self.members.borrow().clone();
        Response::new(reply)
    }
}

#[tonic::async_trait]
impl Pd for Service {
    async fn call(
        &self,
        request: Request<proto::PdRequest>,
    ) -> Result<Response<proto::PdReply>, Status> {
        let (reply, answered) = oneshot::channel();
        admit(request.extensions(), caller(request.get_ref()))?;
        if let Some(op) = &request.get_ref().op {
            permit_op(request.extensions(), op)?;
        }
        let request = request.into_inner();
        let bytes = request.encoded_len();
        let request = match PdRequest::try_from(request).and_then(within_limits) {
            Ok(request) => Box::new(request),
            Err(error) => return Ok(self.reply(Err(error))),
        };
        match self.inbox.offer(Lane::Requests, Mail::Call { request, reply }, bytes) {
            Ok(()) => {}
            Err(Refused::Full(_)) => {
                let error = PdError::Busy { reason: "too many requests".into() };
                return Ok(self.reply(Err(error)));
            }
            Err(Refused::Closed(_)) => return Err(gone()),
        }
        match tokio::time::timeout(CALL_TIME_MAX, answered).await {
            Ok(answered) => answered.map(|outcome| self.reply(outcome)).map_err(|_| gone()),
            Err(_) => Err(Status::deadline_exceeded("the call took too long")),
        }
    }
}

/// Refuses what no caller of this version sends, before it is kept anywhere.
fn within_limits(request: PdRequest) -> Result<PdRequest, PdError> {
    let refused = |reason: String| Err(PdError::Refused { reason });
    match &request.op {
        PdOp::Regions { start_key, .. } => match check_scan_bound(start_key) {
            Ok(()) => Ok(request),
            Err(error) => refused(error.to_string()),
        },
        PdOp::RegisterStore(store) if store.store_id.0 > ID_MAX => {
            refused(format!("no store has the id {}", store.store_id))
        }
        PdOp::ChangeMembers(MembersChange::Add { addr, .. }) if !is_address(addr) => {
            refused("a member's address is HOST:PORT".to_string())
        }
        _ => Ok(request),
    }
}

/// Stores get in when nobody else does.
fn caller(request: &proto::PdRequest) -> Caller {
    match request.op {
        Some(Op::RegisterStore(_) | Op::Heartbeat(_) | Op::AllocateIds(_)) => Caller::Member,
        _ => Caller::Any,
    }
}

fn gone() -> Status {
    Status::unavailable("the placement driver has stopped")
}
