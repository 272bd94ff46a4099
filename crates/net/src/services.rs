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
use tonic::transport::Channel;

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

/// Serves clients.
pub fn kv_server<S: Kv>(service: S) -> KvServer<S> {
    KvServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Serves other members of Raft groups.
pub fn raft_server<S: Raft>(service: S) -> RaftServer<S> {
    RaftServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Serves callers of the placement driver.
pub fn pd_server<S: Pd>(service: S) -> PdServer<S> {
    PdServer::new(service)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}
