//! Questions to stores for the routes that the placement driver does not give: one request for each
//! store asked, over connections of their own.
//!
//! In: addresses of stores, those of members of the placement driver among them, which do not know
//! the question. Out: who answered, and the routes that it holds around a key.
//!
//! Not here: which stores are asked, and when ([`super::routes`]).

use std::time::Duration;

use bytes::Bytes;
use flotilla_net::connect::{Channels, status_reason};
use flotilla_net::services::kv_client;
use flotilla_net::tls::Tls;
use flotilla_types::{StoreId, proto};
use tokio::time::timeout;

use crate::core::lookup::STORE_MS_MAX;
use crate::core::router::RoutesPage;
use crate::error::Result;

use super::pd::routes_page;

/// Connections kept; a client that meets more stores makes some anew.
const CHANNELS_MAX: usize = 64;

/// Who answered, and what it holds around the key asked for.
pub(crate) struct Held {
    pub(crate) cluster_id: u64,
    pub(crate) store: StoreId,
    pub(crate) page: RoutesPage,
}

/// The connections for such questions.
#[derive(Debug)]
pub(crate) struct HeldCaller {
    channels: Channels,
}

impl HeldCaller {
    /// Without a connection yet.
    pub(crate) fn new(tls: Option<Tls>) -> HeldCaller {
        HeldCaller { channels: Channels::new(CHANNELS_MAX).secured(tls) }
    }

    /// Asks the store at `addr`, of the cluster `cluster_id` (0: of any). The error says why there
    /// is no answer.
    pub(crate) async fn ask(
        &self,
        addr: &str,
        cluster_id: u64,
        key: Bytes,
        limit: u64,
    ) -> Result<Held, String> {
        let request = proto::RoutesRequest { cluster_id, key, limit };
        let asked = timeout(Duration::from_millis(STORE_MS_MAX), self.call(addr, request)).await;
        let reply = asked.unwrap_or_else(|_| Err(format!("{addr}: no answer in time")));
        let reply = reply.inspect_err(|_| self.channels.forget(addr))?;
        if cluster_id != 0 && reply.cluster_id != cluster_id {
            return Err(format!("{addr}: a store of another cluster ({})", reply.cluster_id));
        }
        let proto::RoutesReply { cluster_id, store_id, routes, stores } = reply;
        let page = routes_page(proto::RegionsReply { routes, stores });
        let page = page.map_err(|error| format!("{addr}: {error}"))?;
        Ok(Held { cluster_id, store: StoreId(store_id), page })
    }

    async fn call(
        &self,
        addr: &str,
        request: proto::RoutesRequest,
    ) -> Result<proto::RoutesReply, String> {
        let channel = self.channels.get(addr).await?;
        match kv_client(channel).routes(request).await {
            Ok(reply) => Ok(reply.into_inner()),
            Err(status) => Err(format!("{addr}: {}", status_reason(&status))),
        }
    }
}
