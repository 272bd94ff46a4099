//! The services of the protocol with its message limits: a client for a connection, a server for an
//! implementation.
//!
//! The limit is [`MESSAGE_BYTES_MAX`] in both directions and on both sides, for tonic's own limit
//! for what is received is 4 MiB, less than the largest batch.

use flotilla_types::limits::MESSAGE_BYTES_MAX;
use flotilla_types::proto::kv_client::KvClient;
use flotilla_types::proto::kv_server::{Kv, KvServer};
use flotilla_types::proto::pd_client::PdClient;
use flotilla_types::proto::pd_server::{Pd, PdServer};
use flotilla_types::proto::raft_client::RaftClient;
use flotilla_types::proto::raft_server::{Raft, RaftServer};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::accept::{Caller, admit};
use crate::paced::Paced;

/// A service whose calls need a [place](crate::accept).
pub type Admitting<S> = InterceptedService<S, fn(Request<()>) -> Result<Request<()>, Status>>;

fn admitted(call: Request<()>, caller: Caller) -> Result<Request<()>, Status> {
    admit(call.extensions(), caller).map(|()| call)
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
pub fn kv_server<S: Kv>(service: S) -> Paced<Admitting<KvServer<S>>> {
    let server = KvServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    Paced(InterceptedService::new(server, |call| admitted(call, Caller::Any)))
}

/// Serves other members of Raft groups.
pub fn raft_server<S: Raft>(service: S) -> Admitting<RaftServer<S>> {
    let server = RaftServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    InterceptedService::new(server, |call| admitted(call, Caller::Member))
}

/// Serves callers of the placement driver. The service [admits](crate::accept::admit) calls itself:
/// the request says whose it is.
pub fn pd_server<S: Pd>(service: S) -> PdServer<S> {
    PdServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}
