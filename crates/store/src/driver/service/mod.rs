//! The Kv service: clients' requests in, answers out.
//!
//! ```text
//!   stream   a client's long-lived stream of requests and replies
//!   scan     a scan's stream of chunks
//!   reads    reads under a permit, and the threads that make them
//!   leaving  answers on their way out, with what they hold of the store's memory
//!   replica  what the store's own replica of a region has applied
//!   codec    messages to requests and back; refusals of what this version does not know
//! ```
//!
//! Here is what all of them need: the check of the destination, and the way to the worker.
//!
//! Deliberately not here: limits ([`flotilla_types::request::validate`]), where a scan goes on
//! ([`crate::core::scan`]), and what requests do.

mod codec;
mod leaving;
mod reads;
mod replica;
mod scan;
mod stream;

use std::sync::Arc;
use std::time::Instant;

use flotilla_engine::StateStore;
use flotilla_host::core::mailbox::Lane;
use flotilla_host::driver::clock::Clock;
use flotilla_host::driver::inbox::Refused;
use flotilla_types::proto::kv_server::Kv;
use flotilla_types::proto::{
    MemoryReply, MemoryRequest, ReplicaReply, ReplicaRequest, ReplyBatch, RequestBatch,
    RoutesReply, RoutesRequest, ScanChunk, ScanRequest, StoreAddr,
};
use flotilla_types::request::check_scan_bound;
use flotilla_types::{RegionError, RegionId, StoreId};
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{Request, Response, Status, Streaming};

use super::account::Account;
use super::inbox::{Inbox, Mail, ReplyTo};
use super::metrics::StoreMetrics;
use crate::core;
use leaving::NoBody;
pub use reads::Reads;

/// Batches of replies between the service and the network.
const BATCHES_QUEUED_MAX: usize = 4;

/// Chunks of one scan between the service and the network: one is read while another one leaves.
const CHUNKS_QUEUED_MAX: usize = 1;

/// What an open scan takes beside its chunks: its task, and what HTTP/2 keeps of a stream.
const SCAN_BYTES: usize = 20 * 1024;

/// What a question for routes counts for in the inbox: about its longest key.
const ROUTES_BYTES: usize = 4 * 1024;

/// How long a client whose request found no room had better wait: a few turns of the worker.
const RETRY_AFTER_MS: u64 = 10;

/// The Kv service of one store.
#[derive(Clone)]
pub struct KvService {
    /// The cluster and the store that answers.
    pub identity: (u64, StoreId),
    /// Where the store listens.
    pub addr: String,
    /// The worker.
    pub inbox: Inbox,
    /// The store's clock.
    pub clock: Clock,
    /// How reads are served without the worker.
    pub reads: Reads,
    /// What the store counts.
    pub metrics: StoreMetrics,
    /// What the store holds in memory.
    pub account: Account,
    /// What was applied, of all regions.
    pub state: Arc<StateStore>,
    /// True when the store is about to stop: streams end, and no new one begins.
    pub closing: watch::Sender<bool>,
}

#[tonic::async_trait]
impl Kv for KvService {
    type RequestsStream = NoBody<ReplyBatch>;
    type ScanStream = NoBody<ScanChunk>;

    async fn requests(
        &self,
        request: Request<Streaming<RequestBatch>>,
    ) -> Result<Response<Self::RequestsStream>, Status> {
        if *self.closing.borrow() {
            return Err(Status::unavailable("the store is about to stop"));
        }
        let (batches, replies) = mpsc::channel(BATCHES_QUEUED_MAX);
        stream::open(Arc::new(self.clone()), request.into_inner(), batches);
        Ok(leaving::response(replies, &self.reads.budgets.gets))
    }

    async fn scan(
        &self,
        request: Request<ScanRequest>,
    ) -> Result<Response<Self::ScanStream>, Status> {
        let (chunks, stream) = mpsc::channel(CHUNKS_QUEUED_MAX);
        let budgets = &self.reads.budgets;
        let open = budgets.waiting.try_take(SCAN_BYTES);
        tokio::spawn(scan::run(self.clone(), request.into_inner(), chunks, open));
        Ok(leaving::response(stream, &budgets.scans))
    }

    async fn routes(
        &self,
        request: Request<RoutesRequest>,
    ) -> Result<Response<RoutesReply>, Status> {
        let RoutesRequest { cluster_id, key, limit } = request.into_inner();
        let (cluster, store) = self.identity;
        if cluster_id != 0 && cluster_id != cluster {
            let reply = RoutesReply { cluster_id: cluster, ..RoutesReply::default() };
            return Ok(Response::new(reply));
        }
        check_scan_bound(&key).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let held = self.inquire(|sink| Mail::Routes(key, limit, sink), ROUTES_BYTES).await?;
        let reply = RoutesReply { cluster_id: cluster, ..codec::held_routes(held) };
        let own = StoreAddr { store_id: store.0, addr: self.addr.clone() };
        let others = reply.stores.into_iter().filter(|other| other.store_id != store.0);
        let stores = others.chain([own]).collect();
        Ok(Response::new(RoutesReply { store_id: store.0, stores, ..reply }))
    }

    async fn replica(
        &self,
        request: Request<ReplicaRequest>,
    ) -> Result<Response<ReplicaReply>, Status> {
        Ok(Response::new(replica::read(self, request.into_inner()).await?))
    }

    async fn memory(
        &self,
        request: Request<MemoryRequest>,
    ) -> Result<Response<MemoryReply>, Status> {
        let MemoryRequest { cluster_id, store_id } = request.into_inner();
        if let Err(error) = self.check_destination(cluster_id, store_id) {
            let reply = MemoryReply { error: Some(error.into()), ..MemoryReply::default() };
            return Ok(Response::new(reply));
        }
        let census = self.account.census().await;
        Ok(Response::new(codec::memory(&self.account, census.as_ref())))
    }
}

impl KvService {
    /// What the worker answers to a question that is no request of a client.
    async fn inquire<T>(
        &self,
        mail: impl FnOnce(oneshot::Sender<T>) -> Mail,
        bytes: usize,
    ) -> Result<T, Status> {
        let (sink, answer) = oneshot::channel();
        if self.inbox.offer(Lane::Requests, mail(sink), bytes).is_err() {
            return Err(Status::unavailable("the store's inbox is full"));
        }
        answer.await.map_err(|_| Status::unavailable("the store stops"))
    }

    fn check_destination(&self, cluster_id: u64, store_id: u64) -> Result<(), RegionError> {
        let (cluster, store) = self.identity;
        if (cluster_id, StoreId(store_id)) == (cluster, store) {
            return Ok(());
        }
        Err(RegionError::WrongDestination { cluster_id: cluster, store_id: store })
    }

    /// Hands a request of `bytes` to the worker.
    fn put(&self, request: core::Request, bytes: usize, reply_to: ReplyTo) {
        let region_id = request.region;
        let mail = Mail::Request(request, reply_to, Instant::now());
        let (mail, error) = match self.inbox.offer(Lane::Requests, mail, bytes) {
            Ok(()) => return,
            Err(Refused::Full(mail)) => (mail, busy("the store's inbox is full")),
            Err(Refused::Closed(mail)) => (mail, ended(region_id)),
        };
        if let Mail::Request(_, reply_to, _) = mail {
            self.metrics.refused(&error);
            reply_to.send(Err(error));
        }
    }
}

/// The refusal of a store whose worker has ended: it leads no region any more.
fn ended(region_id: RegionId) -> RegionError {
    RegionError::NotLeader { region_id, leader: None }
}

fn busy(reason: &str) -> RegionError {
    RegionError::ServerBusy { reason: reason.to_string(), retry_after_ms: RETRY_AFTER_MS }
}
