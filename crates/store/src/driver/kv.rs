//! The Kv service: clients' requests in, answers out.
//!
//! A stream's reader answers by itself what needs no worker: refusals, and reads under a permit
//! ([`crate::core::permit`]), one batch of replies for one of requests. What the worker answers
//! goes through a queue to a second task. Replies carry their request's id, so their order is free.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flotilla_host::driver::clock::Clock;
use flotilla_host::driver::inbox::Refused;
use flotilla_types::keys::key_after;
use flotilla_types::limits::CHUNK_BYTES_MAX;
use flotilla_types::proto::kv_server::Kv;
use flotilla_types::proto::{
    Pair, Reply, ReplyBatch, Request as WireRequest, RequestBatch, ScanChunk, ScanRequest, Slot,
    reply,
};
use flotilla_types::request::validate;
use flotilla_types::wire::{decode_op, encode_reply};
use flotilla_types::{Epoch, KeyRange, RegionError, RegionId, StoreId, WireError};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::inbox::{Inbox, Mail, ReplyTo, RequestResult};
use crate::core::permit::ReadPermits;
use crate::core::{self, Answer, Op, RequestId, ScanOp};

/// Requests of one stream that are not answered yet; more are refused.
const STREAM_REQUESTS_MAX: usize = 8 * 1024;

/// Replies in one batch.
const REPLIES_MAX: usize = 1024;

/// Batches, or chunks, between the service and the network.
const QUEUED_MAX: usize = 4;

/// The deadline of a request that names none, and the longest there is.
const TIMEOUT_MS_DEFAULT: u64 = 10_000;
const TIMEOUT_MS_MAX: u64 = 120_000;

/// The Kv service of one store.
#[derive(Clone)]
pub struct KvService {
    /// The cluster and the store that answers.
    pub identity: (u64, StoreId),
    /// The worker.
    pub inbox: Inbox,
    /// The store's clock.
    pub clock: Clock,
    /// What reads are served by without the worker.
    pub permits: Arc<ReadPermits>,
}

#[tonic::async_trait]
impl Kv for KvService {
    type RequestsStream = ReceiverStream<Result<ReplyBatch, Status>>;
    type ScanStream = ReceiverStream<Result<ScanChunk, Status>>;

    async fn requests(
        &self,
        request: Request<Streaming<RequestBatch>>,
    ) -> Result<Response<Self::RequestsStream>, Status> {
        let (replies, queue) = mpsc::unbounded_channel();
        let (batches, stream) = mpsc::channel(QUEUED_MAX);
        let open = Arc::new(AtomicUsize::new(0));
        let reader = ClientStream {
            service: self.clone(),
            replies,
            replies_out: batches.clone(),
            open: open.clone(),
        };
        tokio::spawn(reader.run(request.into_inner()));
        tokio::spawn(write_replies(queue, batches, open));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn scan(
        &self,
        request: Request<ScanRequest>,
    ) -> Result<Response<Self::ScanStream>, Status> {
        let (chunks, stream) = mpsc::channel(QUEUED_MAX);
        tokio::spawn(self.clone().scan_chunks(request.into_inner(), chunks));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// One client's requests.
struct ClientStream {
    service: KvService,
    /// To the task that sends the worker's answers.
    replies: mpsc::UnboundedSender<(u64, RequestResult)>,
    /// To the network.
    replies_out: Batches,
    /// Requests that the worker has yet to answer.
    open: Arc<AtomicUsize>,
}

type Batches = mpsc::Sender<Result<ReplyBatch, Status>>;

impl ClientStream {
    async fn run(self, mut batches: Streaming<RequestBatch>) {
        while let Ok(Some(batch)) = batches.message().await {
            let refusal = self.service.check_destination(batch.cluster_id, batch.store_id).err();
            let (mut answered, mut bytes) = (vec![], 0);
            for request in batch.requests {
                let id = request.id;
                let result = match &refusal {
                    Some(error) => Err(error.clone()),
                    None => match self.ask(request) {
                        Some(result) => result,
                        None => continue,
                    },
                };
                let reply = reply((id, result));
                bytes += weight(&reply);
                answered.push(reply);
                // A client that asks for much waits for the network; memory does not.
                if bytes >= CHUNK_BYTES_MAX || answered.len() >= REPLIES_MAX {
                    bytes = 0;
                    if send(&self.replies_out, answered.drain(..)).await.is_err() {
                        return;
                    }
                }
            }
            if send(&self.replies_out, answered.into_iter()).await.is_err() {
                return;
            }
        }
    }

    /// Answers what needs no worker, and asks it otherwise.
    fn ask(&self, wire: WireRequest) -> Option<RequestResult> {
        let id = wire.id;
        let (request, bytes) = match self.service.decode(wire) {
            Ok(decoded) => decoded,
            Err(error) => return Some(Err(error)),
        };
        let service = &self.service;
        let answer = service.permits.serve(&request, &|| service.clock.now());
        if answer.is_some() {
            return answer;
        }
        if self.open.load(Ordering::Relaxed) >= STREAM_REQUESTS_MAX {
            return Some(Err(busy("this connection has too many requests open")));
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        service.put(request, bytes, ReplyTo::Stream(id, self.replies.clone()));
        None
    }
}

async fn write_replies(
    mut queue: mpsc::UnboundedReceiver<(u64, RequestResult)>,
    batches: Batches,
    open: Arc<AtomicUsize>,
) {
    let mut gathered = Vec::with_capacity(REPLIES_MAX);
    while queue.recv_many(&mut gathered, REPLIES_MAX).await > 0 {
        open.fetch_sub(gathered.len(), Ordering::Relaxed);
        if send(&batches, gathered.drain(..).map(reply)).await.is_err() {
            return;
        }
    }
}

/// Sends replies, if there are any. An error means that the client is gone.
async fn send(
    batches: &Batches,
    replies: impl Iterator<Item = Reply>,
) -> Result<(), mpsc::error::SendError<Result<ReplyBatch, Status>>> {
    for replies in in_batches(replies).into_iter().filter(|replies| !replies.is_empty()) {
        batches.send(Ok(ReplyBatch { replies })).await?;
    }
    Ok(())
}

/// Replies, cut so that each batch fits a message.
fn in_batches(replies: impl Iterator<Item = Reply>) -> Vec<Vec<Reply>> {
    let mut batches = vec![];
    let (mut batch, mut bytes) = (vec![], 0);
    for reply in replies {
        let reply_bytes = weight(&reply);
        if bytes + reply_bytes > CHUNK_BYTES_MAX && !batch.is_empty() {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes += reply_bytes;
        batch.push(reply);
    }
    batches.push(batch);
    batches
}

/// What a reply that carries nothing weighs.
const REPLY_BYTES: usize = 64;

/// About how many bytes a reply takes: what it carries, and not the work of going through it all.
fn weight(reply: &Reply) -> usize {
    let slot = |slot: &Slot| size_of::<Slot>() + slot.value.len();
    REPLY_BYTES
        + match &reply.result {
            Some(reply::Result::Get(get)) => get.slots.iter().map(slot).sum(),
            Some(reply::Result::CompareAndSwap(cas)) => cas.previous.as_ref().map_or(0, slot),
            Some(reply::Result::Error(error)) => prost::Message::encoded_len(error),
            Some(reply::Result::Write(_)) | None => 0,
        }
}

fn unsupported(error: WireError) -> RegionError {
    RegionError::LimitExceeded { limit: error.to_string(), max: 0, actual: 1 }
}

fn busy(reason: &str) -> RegionError {
    RegionError::ServerBusy { reason: reason.to_string(), retry_after_ms: 10 }
}

impl KvService {
    fn check_destination(&self, cluster_id: u64, store_id: u64) -> Result<(), RegionError> {
        let (cluster, store) = self.identity;
        if (cluster_id, StoreId(store_id)) == (cluster, store) {
            return Ok(());
        }
        Err(RegionError::WrongDestination { cluster_id: cluster, store_id: store })
    }

    /// The request, and its size.
    fn decode(&self, wire: WireRequest) -> Result<(core::Request, usize), RegionError> {
        let region = wire.region.unwrap_or_default();
        let op = decode_op(wire.op).map_err(unsupported)?;
        let bytes = validate(&op)?;
        let epoch = region.epoch.unwrap_or_default().into();
        let id = RegionId(region.region_id);
        Ok((self.request((id, epoch), wire.timeout_ms, op), bytes))
    }

    fn request(&self, region: (RegionId, Epoch), timeout_ms: u64, op: Op) -> core::Request {
        let timeout_ms = match timeout_ms {
            0 => TIMEOUT_MS_DEFAULT,
            given => given.min(TIMEOUT_MS_MAX),
        };
        let deadline = self.clock.now().plus(timeout_ms);
        core::Request { id: RequestId(0), region: region.0, epoch: region.1, deadline, op }
    }

    fn put(&self, request: core::Request, bytes: usize, reply_to: ReplyTo) {
        let refused = self.inbox.offer(Mail::Request(request, reply_to), bytes);
        if let Err(Mail::Request(_, reply_to)) = refused.map_err(Refused::into_mail) {
            reply_to.send(Err(busy("the store's inbox is full")));
        }
    }

    async fn scan_chunks(self, scan: ScanRequest, chunks: mpsc::Sender<Result<ScanChunk, Status>>) {
        if let Err(error) = self.check_destination(scan.cluster_id, scan.store_id) {
            let _ = chunks.send(Ok(failed(error))).await;
            return;
        }
        let started = self.clock.now();
        let region = scan.region.unwrap_or_default();
        let epoch = Epoch::from(region.epoch.unwrap_or_default());
        let mut range = KeyRange::from(scan.span.unwrap_or_default());
        let mut left = scan.limit;
        loop {
            let timeout_ms = match scan.timeout_ms.min(TIMEOUT_MS_MAX) {
                0 => TIMEOUT_MS_DEFAULT,
                given => given.saturating_sub(self.clock.now().since(started)).max(1),
            };
            let op = Op::Scan(ScanOp {
                range: range.clone(),
                limit: left,
                bytes_max: CHUNK_BYTES_MAX,
                is_reverse: scan.reverse,
                keys_only: scan.keys_only,
            });
            let request = self.request((RegionId(region.region_id), epoch), timeout_ms, op);
            let (chunk, rest) = match self.ask_once(request, timeout_ms).await {
                Ok(Answer::Scan { pairs, is_done }) => {
                    left = left.saturating_sub(pairs.len() as u64);
                    let rest = (!is_done).then(|| rest_of(&range, &pairs, scan.reverse)).flatten();
                    (chunk(pairs, is_done), rest)
                }
                Ok(_) => (failed(busy("an answer to another question")), None),
                Err(error) => (failed(error), None),
            };
            let is_sent = chunks.send(Ok(chunk)).await.is_ok();
            match rest {
                Some(rest) if is_sent => range = rest,
                Some(_) | None => return,
            }
        }
    }

    async fn ask_once(&self, request: core::Request, timeout_ms: u64) -> RequestResult {
        let (sink, answer) = oneshot::channel();
        self.put(request, 0, ReplyTo::Once(sink));
        // The worker answers by the deadline; the margin is for a thread that is held up.
        let limit = Duration::from_millis(timeout_ms + 1_000);
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(busy("the store is stopping, or held up")),
        }
    }
}

fn chunk(pairs: Vec<(Bytes, Bytes)>, done: bool) -> ScanChunk {
    let pairs = pairs.into_iter().map(|(key, value)| Pair { key, value }).collect();
    ScanChunk { error: None, pairs, done }
}

fn failed(error: RegionError) -> ScanChunk {
    ScanChunk { error: Some(error.into()), pairs: vec![], done: true }
}

/// What is left of `range` after its rows up to the last of `pairs`.
fn rest_of(range: &KeyRange, pairs: &[(Bytes, Bytes)], is_reverse: bool) -> Option<KeyRange> {
    let (last, _) = pairs.last()?;
    Some(if is_reverse {
        KeyRange { start: range.start.clone(), end: last.clone() }
    } else {
        KeyRange { start: key_after(last), end: range.end.clone() }
    })
}

fn reply((id, result): (u64, RequestResult)) -> Reply {
    Reply { id, result: Some(encode_reply(result)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn large_replies_are_spread_over_batches() {
        let big = |id| reply((id, Ok(Answer::Get(vec![Some(vec![0; CHUNK_BYTES_MAX].into())]))));
        let batches = in_batches([big(1), big(2)].into_iter());
        assert_eq!(batches.len(), 2);
    }
}
