//! The Raft service: messages and snapshots of other members.
//!
//! In: streams of batches, and streams of a snapshot's parts. Out: a [`Receiver`] is called.
//! Invariants: what is meant for another cluster or another address is refused; a message that
//! cannot be decoded, or that names another sender or receiver than what it came with, is dropped;
//! the receiver sees no snapshot before its rows are whole and checked.
//!
//! Not here: what a message means.

use std::sync::Arc;
use std::time::Duration;

use flotilla_net::access::{self, Rpc};
use flotilla_net::principal::Principal;
use flotilla_types::KeyRange;
use flotilla_types::limits::is_address;
use flotilla_types::proto::raft_server::Raft;
use flotilla_types::proto::{
    self, EnvelopeBatch, MessagesDone, SnapshotDone, SnapshotPart, snapshot_part,
};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use super::metrics::HostMetrics;
use super::staging::{StagedFile, Staging};
use super::transport::{principal, weight};
use super::wire::{decode_address, decode_envelope};
use crate::core::message::{Address, Envelope, Identity, StagedId};

/// Snapshots received at once: each has a file, and their installs wait for one disk.
const RECEIVING_MAX: usize = 4;

/// When the next part of a snapshot must have come: a sender gives up before.
const PART_TIME_MAX: Duration = Duration::from_secs(60);

/// Takes what other members send. No method may wait.
pub trait Receiver: Send + Sync + 'static {
    /// Messages that came together, about `bytes` in all. May drop them; Raft sends them again.
    fn messages(&self, envelopes: Vec<Envelope>, bytes: usize);

    /// Another member says where it listens, `HOST:PORT`.
    fn listens_at(&self, member: Address, addr: String);

    /// False if no snapshot may be received now: the sender tries again later.
    fn takes_snapshots(&self) -> bool;

    /// The range of the rows of the snapshot that `envelope` carries; None if it carries none.
    fn snapshot_range(&self, envelope: &Envelope) -> Option<KeyRange>;

    /// A snapshot was received whole; `envelope` carries its message.
    fn snapshot(&self, staged: StagedId, envelope: Envelope);
}

/// The Raft service of one process. Clones are the same service.
#[derive(Clone)]
pub struct RaftService {
    identity: Identity,
    receiver: Arc<dyn Receiver>,
    staging: Arc<Staging>,
    receiving: Arc<Semaphore>,
    metrics: HostMetrics,
}

impl RaftService {
    /// Receives for `identity`; rows of snapshots are kept in `staging`.
    pub fn new(
        identity: Identity,
        receiver: Arc<dyn Receiver>,
        staging: Arc<Staging>,
    ) -> RaftService {
        let (receiving, metrics) =
            (Arc::new(Semaphore::new(RECEIVING_MAX)), HostMetrics::default());
        RaftService { identity, receiver, staging, receiving, metrics }
    }

    /// The same, counting what it receives.
    pub fn counted(mut self, metrics: HostMetrics) -> RaftService {
        self.metrics = metrics;
        self
    }

    fn check_destination(&self, cluster: u64, role: i32, id: u64) -> Result<(), Status> {
        let Identity { cluster: ours, address } = self.identity;
        if cluster == ours && decode_address(role, id) == Some(address) {
            return Ok(());
        }
        Err(Status::failed_precondition(format!("this is {}", self.identity)))
    }

    async fn receive(
        &self,
        caller: Option<Principal>,
        mut parts: Streaming<SnapshotPart>,
    ) -> Result<(), String> {
        let first = next_part(&mut parts).await?;
        let Some(snapshot_part::Part::Header(header)) = first else {
            return Err("a snapshot begins with its header".to_string());
        };
        check_sender(caller, Rpc::RaftSnapshot, (header.role, header.from))
            .map_err(|status| status.message().to_string())?;
        self.check_destination(header.cluster_id, header.role, header.to)
            .map_err(|status| status.message().to_string())?;
        let ends = (header.role, header.from, header.to);
        let envelope = header.envelope.filter(|envelope| is_between(ends, envelope));
        let envelope = envelope.and_then(decode_envelope).ok_or("a header without its message")?;
        let range = self.receiver.snapshot_range(&envelope);
        let range = range.ok_or("a header whose message has no snapshot")?;
        if !self.receiver.takes_snapshots() {
            return Err("the disk is behind".to_string());
        }
        let _permit = self.receiving.try_acquire().map_err(|_| "too many snapshots under way")?;
        let staged = self.receive_rows(&mut parts, range).await?;
        self.receiver.snapshot(staged.keep(), envelope);
        Ok(())
    }

    /// What is dropped on the way, and the rows of a caller that is gone, leave no file.
    async fn receive_rows(
        &self,
        parts: &mut Streaming<SnapshotPart>,
        range: KeyRange,
    ) -> Result<StagedFile, String> {
        let mut receiving = self.staging.receive(range).map_err(|e| e.to_string())?;
        loop {
            match next_part(parts).await? {
                Some(snapshot_part::Part::Rows(rows)) => {
                    let bytes = rows.pairs.iter().map(|pair| pair.key.len() + pair.value.len());
                    self.metrics.snapshots_received.bytes.add(bytes.sum::<usize>() as u64);
                    let write = move || receiving.rows(&rows).map(|()| receiving);
                    let written = tokio::task::spawn_blocking(write).await;
                    receiving = written.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
                }
                Some(snapshot_part::Part::End(end)) => {
                    let end = tokio::task::spawn_blocking(move || receiving.end(&end)).await;
                    return end.map_err(|e| e.to_string())?.map_err(|e| e.to_string());
                }
                Some(snapshot_part::Part::Header(_)) | None => {
                    return Err("a snapshot broke off".to_string());
                }
            }
        }
    }
}

/// Refuses messages of another than the one whom the caller's certificate names.
fn check_sender(
    caller: Option<Principal>,
    rpc: Rpc,
    (role, from): (i32, u64),
) -> Result<(), Status> {
    access::permit(caller, rpc, decode_address(role, from).map(principal))
}

/// True if the envelope is of the role, from the sender and to the receiver that it came with: a
/// member speaks for itself only.
fn is_between((role, from, to): (i32, u64, u64), envelope: &proto::Envelope) -> bool {
    (envelope.role, envelope.from_store, envelope.to_store) == (role, from, to)
}

async fn next_part(
    parts: &mut Streaming<SnapshotPart>,
) -> Result<Option<snapshot_part::Part>, String> {
    let Ok(part) = tokio::time::timeout(PART_TIME_MAX, parts.message()).await else {
        return Err(format!("nothing came for {} s", PART_TIME_MAX.as_secs()));
    };
    let part = part.map_err(|status| status.message().to_string())?;
    Ok(part.and_then(|part| part.part))
}

#[tonic::async_trait]
impl Raft for RaftService {
    async fn messages(
        &self,
        request: Request<Streaming<EnvelopeBatch>>,
    ) -> Result<Response<MessagesDone>, Status> {
        let caller = access::caller(request.extensions());
        let mut batches = request.into_inner();
        while let Some(batch) = batches.message().await? {
            let EnvelopeBatch { cluster_id, role, from, to, envelopes, from_addr } = batch;
            check_sender(caller, Rpc::RaftMessages, (role, from))?;
            self.check_destination(cluster_id, role, to)?;
            if !from_addr.is_empty() {
                if !is_address(&from_addr) {
                    return Err(Status::invalid_argument("the sender's address is none"));
                }
                if let Some(from) = decode_address(role, from) {
                    self.receiver.listens_at(from, from_addr);
                }
            }
            let own = envelopes.into_iter().filter(|one| is_between((role, from, to), one));
            let envelopes: Vec<Envelope> = own.filter_map(decode_envelope).collect();
            self.metrics.messages.received.add(envelopes.len() as u64);
            let bytes = envelopes.iter().map(weight).sum();
            self.receiver.messages(envelopes, bytes);
        }
        Ok(Response::new(MessagesDone {}))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<SnapshotPart>>,
    ) -> Result<Response<SnapshotDone>, Status> {
        let caller = access::caller(request.extensions());
        let received = self.receive(caller, request.into_inner()).await;
        let accepted = received.is_ok();
        self.metrics.snapshots_received.note(accepted);
        let reason = received.err().unwrap_or_default();
        Ok(Response::new(SnapshotDone { accepted, reason }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_speaks_for_itself_only() {
        let envelope = |role, from_store, to_store| proto::Envelope {
            role,
            from_store,
            to_store,
            ..proto::Envelope::default()
        };
        assert!(is_between((0, 1, 2), &envelope(0, 1, 2)));
        assert!(!is_between((0, 1, 2), &envelope(0, 3, 2)), "in another's name");
        assert!(!is_between((0, 1, 2), &envelope(0, 1, 3)), "to another");
        assert!(!is_between((0, 1, 2), &envelope(1, 1, 2)), "of another role");
    }
}
