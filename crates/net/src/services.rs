//! The services of the protocol with its message limits: a client for a connection, a server for an
//! implementation.
//!
//! The limit is [`MESSAGE_BYTES_MAX`] in both directions and on both sides, for tonic's own limit
//! for what is received is 4 MiB, less than the largest batch.

use std::task::{Context, Poll};

use flotilla_types::limits::MESSAGE_BYTES_MAX;
use flotilla_types::proto::kv_client::KvClient;
use flotilla_types::proto::kv_server::{Kv, KvServer};
use flotilla_types::proto::pd_client::PdClient;
use flotilla_types::proto::pd_server::{Pd, PdServer};
use flotilla_types::proto::raft_client::RaftClient;
use flotilla_types::proto::raft_server::{Raft, RaftServer};
use futures_util::future::{Either, Ready, ready};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::NamedService;
use tonic::transport::Channel;

use crate::accept::{Caller, admit};
use crate::access::{self, Rpc, permit};
use crate::paced::Paced;

/// A service whose calls need a [place](crate::accept), and a caller who
/// [may make them](crate::access).
#[derive(Clone, Debug)]
pub struct Gated<S> {
    service: S,
    caller: Caller,
}

impl<S> Gated<S> {
    fn check<B>(&self, call: &http::Request<B>) -> Result<(), Status> {
        admit(call.extensions(), self.caller)?;
        match Rpc::of_path(call.uri().path()) {
            Some(rpc) => permit(access::caller(call.extensions()), rpc, None),
            // The service says that it has no such call.
            None => Ok(()),
        }
    }
}

impl<S, B> Service<http::Request<B>> for Gated<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, call: http::Request<B>) -> Self::Future {
        match self.check(&call) {
            Ok(()) => Either::Left(self.service.call(call)),
            Err(status) => Either::Right(ready(Ok(status.into_http()))),
        }
    }
}

impl<S: NamedService> NamedService for Gated<S> {
    const NAME: &'static str = S::NAME;
}

/// Calls a store for a client.
pub fn kv_client(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Calls a member of Raft groups: a store, or a placement driver's member.
pub fn raft_client(channel: Channel) -> RaftClient<Channel> {
    RaftClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Calls a member of the placement driver.
pub fn pd_client(channel: Channel) -> PdClient<Channel> {
    PdClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Serves clients. Answers leave at their pace, if the service gave them one.
pub fn kv_server<S: Kv>(service: S) -> Paced<Gated<KvServer<S>>> {
    let server = KvServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    Paced(Gated { service: server, caller: Caller::Any })
}

/// Serves other members of Raft groups.
pub fn raft_server<S: Raft>(service: S) -> Gated<RaftServer<S>> {
    let server = RaftServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    Gated { service: server, caller: Caller::Member }
}

/// Serves callers of the placement driver. The service [admits](crate::accept::admit) and
/// [permits](crate::access::permit_op) calls itself: the request says whose it is, and what.
pub fn pd_server<S: Pd>(service: S) -> PdServer<S> {
    PdServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}
