//! Snapshots to other members: rows out of a view onto the wire.
//!
//! ```text
//!   view -> SnapshotHeader, SnapshotRows*, SnapshotEnd          (a client stream)
//! ```
//!
//! In: a message that carries a snapshot, and where its rows are read from. Out: whether the
//! receiver took it. How many snapshots are under way is bounded, here and at the receiver
//! ([`super::raft_service`]).
//!
//! Invariant: a receiver that stands still holds up its own snapshots only, and each of them for
//! `STALLED_TIME_MAX` at most.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flotilla_engine::Order;
use flotilla_engine::base::ReadView;
use flotilla_metrics::Counter;
use flotilla_types::KeyRange;
use flotilla_types::limits::CHUNK_BYTES_MAX;
use flotilla_types::proto::{
    Pair, SnapshotEnd, SnapshotHeader, SnapshotPart, SnapshotRows, snapshot_part,
};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tracing::warn;

use super::metrics::SnapshotCounts;
use super::staging::rows_crc;
use super::transport::AddressBook;
use super::wire::{encode_address, encode_envelope};
use crate::core::message::{Address, Envelope, Identity};

/// Snapshots sent at once: each reads pages that would otherwise serve clients.
const SENDING_MAX: usize = 2;

/// A snapshot of which the receiver takes nothing for this long is given up. The longest wait is
/// the last, while the receiver writes all of it to its disk.
const STALLED_TIME_MAX: Duration = Duration::from_secs(30);

/// Chunks between the reader of a view and the network.
const CHUNKS_QUEUED_MAX: usize = 4;

/// Where a snapshot's rows are read from.
pub struct Source {
    /// A consistent view of the state.
    pub view: Arc<dyn ReadView>,
    /// The rows of the view that belong to the snapshot.
    pub range: KeyRange,
}

/// Finds the rows of the snapshot that an envelope carries; the error says why there are none.
pub type FindSource = Box<dyn FnOnce(&Envelope) -> Result<Source, String> + Send>;

/// A snapshot to be sent.
pub struct Outgoing {
    /// To whom.
    pub to: Address,
    /// Carries the snapshot message.
    pub envelope: Envelope,
    /// Called when the sending begins, which may be later.
    pub source: FindSource,
    /// Told whether the receiver took the snapshot.
    pub ended: Box<dyn FnOnce(bool) + Send>,
}

/// Sends snapshots.
pub struct SnapshotSender {
    /// Who sends.
    pub from: Identity,
    /// Where members listen.
    pub addresses: AddressBook,
    /// Counts what is sent.
    pub counts: SnapshotCounts,
}

impl SnapshotSender {
    /// Runs until nobody can hand it a snapshot any more.
    pub async fn run(self, mut outgoing: mpsc::UnboundedReceiver<Outgoing>) {
        let this = Arc::new(self);
        let permits = Arc::new(Semaphore::new(SENDING_MAX));
        let mut receivers: BTreeMap<Address, Arc<Semaphore>> = BTreeMap::new();
        while let Some(snapshot) = outgoing.recv().await {
            let this = this.clone();
            let receiver =
                receivers.entry(snapshot.to).or_insert_with(|| Arc::new(Semaphore::new(1)));
            let (receiver, permits) = (receiver.clone(), permits.clone());
            tokio::spawn(async move {
                // The semaphores are never closed. The receiver's comes first: whoever waits for it
                // keeps no other receiver waiting.
                let _turn = receiver.acquire().await;
                let _permit = permits.acquire().await;
                this.send_and_report(snapshot).await;
            });
        }
    }

    async fn send_and_report(&self, snapshot: Outgoing) {
        let Outgoing { to, envelope, source, ended } = snapshot;
        let region = envelope.region_id;
        let sent = self.send(to, envelope, source).await;
        if let Err(reason) = &sent {
            warn!(%region, %to, %reason, "a snapshot was not taken");
        }
        self.counts.note(sent.is_ok());
        ended(sent.is_ok());
    }

    async fn send(
        &self,
        to: Address,
        envelope: Envelope,
        source: FindSource,
    ) -> Result<(), String> {
        let Source { view, range } = source(&envelope)?;
        let mut client = self.addresses.connect(to).await?;
        let (_, from) = encode_address(self.from.address);
        let (role, to) = encode_address(to);
        let envelope = Some(encode_envelope(envelope));
        let header = SnapshotHeader { cluster_id: self.from.cluster, role, from, to, envelope };
        let (parts, stream) = mpsc::channel(CHUNKS_QUEUED_MAX);
        let (taken, progress) = watch::channel(0);
        let sender = PartSender::new(parts, taken, self.counts.bytes.clone());
        let reader =
            tokio::task::spawn_blocking(move || read_parts(&*view, &range, header, sender));
        let reply = unless_stalled(progress, client.snapshot(ReceiverStream::new(stream))).await;
        let read = reader.await.map_err(|e| e.to_string())?;
        let reply = reply?.map_err(|status| status.message().to_string())?.into_inner();
        read?;
        if reply.accepted { Ok(()) } else { Err(reply.reason) }
    }
}

/// Waits for the end of a call, unless no part is taken for `STALLED_TIME_MAX`: the call is then
/// dropped, and with it the way by which parts reach it.
async fn unless_stalled<T>(
    mut progress: watch::Receiver<u64>,
    call: impl Future<Output = T>,
) -> Result<T, String> {
    tokio::pin!(call);
    let mut has_more = true;
    loop {
        tokio::select! {
            ended = &mut call => return Ok(ended),
            moved = progress.changed(), if has_more => has_more = moved.is_ok(),
            () = tokio::time::sleep(STALLED_TIME_MAX) => {
                return Err(format!("nothing was taken for {} s", STALLED_TIME_MAX.as_secs()));
            }
        }
    }
}

fn read_parts(
    view: &dyn ReadView,
    range: &KeyRange,
    header: SnapshotHeader,
    mut sender: PartSender,
) -> Result<(), String> {
    if !sender.part(snapshot_part::Part::Header(header)) {
        return Ok(());
    }
    let mut is_open = true;
    view.scan(range, Order::Ascending, &mut |key, value| {
        is_open = sender.row(key, value);
        is_open
    })
    .map_err(|e| e.to_string())?;
    if is_open && sender.chunk() {
        let end = SnapshotEnd { rows: sender.count, crc32: sender.crcs.clone().finalize() };
        sender.part(snapshot_part::Part::End(end));
    }
    Ok(())
}

/// Gathers rows into chunks. Its methods answer false when nobody takes them any more.
struct PartSender {
    parts: mpsc::Sender<SnapshotPart>,
    /// How many parts have left.
    taken: watch::Sender<u64>,
    rows: Vec<Pair>,
    bytes: usize,
    count: u64,
    crcs: crc32fast::Hasher,
    sent_bytes: Counter,
}

impl PartSender {
    fn new(
        parts: mpsc::Sender<SnapshotPart>,
        taken: watch::Sender<u64>,
        sent_bytes: Counter,
    ) -> PartSender {
        let crcs = crc32fast::Hasher::new();
        PartSender { parts, taken, rows: vec![], bytes: 0, count: 0, crcs, sent_bytes }
    }

    fn part(&self, part: snapshot_part::Part) -> bool {
        let is_taken = self.parts.blocking_send(SnapshotPart { part: Some(part) }).is_ok();
        self.taken.send_modify(|taken| *taken += 1);
        is_taken
    }

    fn row(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.bytes += key.len() + value.len();
        self.count += 1;
        self.rows
            .push(Pair { key: Bytes::copy_from_slice(key), value: Bytes::copy_from_slice(value) });
        self.bytes < CHUNK_BYTES_MAX || self.chunk()
    }

    fn chunk(&mut self) -> bool {
        self.sent_bytes.add(std::mem::take(&mut self.bytes) as u64);
        let pairs = std::mem::take(&mut self.rows);
        let crc32 = rows_crc(&pairs);
        self.crcs.update(&crc32.to_le_bytes());
        self.part(snapshot_part::Part::Rows(SnapshotRows { pairs, crc32 }))
    }
}
