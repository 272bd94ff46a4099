//! Rows of snapshots: out of a view onto the wire, and from the wire into a staged file.
//!
//! ```text
//!   sender     view -> SnapshotHeader, SnapshotRows*, SnapshotEnd          (a client stream)
//!   receiver   checks each chunk's checksum, writes rows to a file, checks the end's, syncs
//!   file       repeated: key length (u32), value length (u32), key, value; little-endian
//! ```
//!
//! The receiver's worker sees nothing before the rows are whole. Both sides bound how many
//! snapshots are under way.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use flotilla_engine::base::ReadView;
use flotilla_engine::{EngineError, Order};
use flotilla_types::limits::CHUNK_BYTES_MAX;
use flotilla_types::proto::{
    Envelope, Pair, SnapshotEnd, SnapshotHeader, SnapshotPart, SnapshotRows, envelope,
    snapshot_part,
};
use flotilla_types::{KeyRange, PeerId, Region, RegionId, StoreId};
use prost::Message;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tracing::warn;

use super::inbox::{Inbox, Mail};
use super::transport::AddressBook;
use crate::core::records::data_range;
use crate::core::{Input, StagedId};

/// Snapshots sent at once: each reads pages that would otherwise serve clients.
const SENDING_MAX: usize = 2;

/// Snapshots received at once.
pub const RECEIVING_MAX: usize = 4;

/// Chunks between the reader of a view and the network.
const CHUNKS_QUEUED_MAX: usize = 4;

/// Views that snapshots are sent from, by region.
#[derive(Clone, Default)]
pub struct Views {
    views: Arc<Mutex<BTreeMap<RegionId, NumberedView>>>,
}

impl Views {
    /// Keeps `view`, of checkpoint `number`, for each of `regions`.
    pub fn insert(&self, number: u64, regions: &[RegionId], view: &Arc<dyn ReadView>) {
        let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        for region in regions {
            views.insert(*region, (number, view.clone()));
        }
    }

    /// Lets go of a region's view.
    pub fn remove(&self, region: RegionId) {
        self.views.lock().unwrap_or_else(PoisonError::into_inner).remove(&region);
    }

    fn get(&self, region: RegionId, number: u64) -> Option<Arc<dyn ReadView>> {
        let views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        views.get(&region).filter(|(held, _)| *held == number).map(|(_, view)| view.clone())
    }
}

/// A view, and the checkpoint that it is of.
type NumberedView = (u64, Arc<dyn ReadView>);

/// A snapshot to be sent.
pub struct Outgoing {
    /// To whom.
    pub to: StoreId,
    /// Carries the snapshot message.
    pub envelope: Envelope,
    /// The checkpoint whose view it is read from.
    pub number: u64,
}

/// Sends snapshots.
pub struct SnapshotSender {
    /// The cluster and the store that sends.
    pub from: (u64, StoreId),
    /// What is read.
    pub views: Views,
    /// Where stores listen.
    pub addresses: AddressBook,
    /// Where the ends are reported.
    pub inbox: Inbox,
}

impl SnapshotSender {
    /// Runs until the worker is gone.
    pub async fn run(self, mut outgoing: mpsc::UnboundedReceiver<Outgoing>) {
        let this = Arc::new(self);
        let permits = Arc::new(Semaphore::new(SENDING_MAX));
        while let Some(snapshot) = outgoing.recv().await {
            let this = this.clone();
            let permits = permits.clone();
            tokio::spawn(async move {
                // The semaphore is never closed.
                let _permit = permits.acquire().await;
                this.send_and_report(snapshot).await;
            });
        }
    }

    async fn send_and_report(&self, snapshot: Outgoing) {
        let region = RegionId(snapshot.envelope.region_id);
        let peer = PeerId(snapshot.envelope.to_peer);
        let to = snapshot.to;
        let sent = self.send(snapshot).await;
        if let Err(reason) = &sent {
            warn!(%region, %to, %reason, "a snapshot was not taken");
        }
        let is_ok = sent.is_ok();
        self.inbox.report(Mail::from(Input::SnapshotSent { region, peer, is_ok }));
    }

    async fn send(&self, snapshot: Outgoing) -> Result<(), String> {
        let region = snapshot_region(&snapshot.envelope).ok_or("the message has no region")?;
        let view = self.views.get(region.id, snapshot.number).ok_or("its view is gone")?;
        let mut client = self.addresses.connect(snapshot.to).await?;
        let (cluster_id, from_store) = (self.from.0, self.from.1.0);
        let header = SnapshotHeader {
            cluster_id,
            from_store,
            to_store: snapshot.to.0,
            envelope: Some(snapshot.envelope),
        };
        let (parts, stream) = mpsc::channel(CHUNKS_QUEUED_MAX);
        let range = data_range(&region.range);
        let reader =
            tokio::task::spawn_blocking(move || read_parts(&*view, &range, header, &parts));
        let reply = client.snapshot(ReceiverStream::new(stream)).await;
        let read = reader.await.map_err(|e| e.to_string())?;
        let reply = reply.map_err(|status| status.message().to_string())?.into_inner();
        read?;
        if reply.accepted { Ok(()) } else { Err(reply.reason) }
    }
}

fn snapshot_region(envelope: &Envelope) -> Option<Region> {
    let Some(envelope::Body::Message(message)) = &envelope.body else { return None };
    let data = message.snapshot.as_ref()?.data.clone();
    let region = flotilla_types::proto::Region::decode(data).ok()?;
    Region::try_from(region).ok()
}

fn read_parts(
    view: &dyn ReadView,
    range: &KeyRange,
    header: SnapshotHeader,
    parts: &mpsc::Sender<SnapshotPart>,
) -> Result<(), String> {
    let mut sender =
        PartSender { parts, rows: vec![], bytes: 0, count: 0, crcs: crc32fast::Hasher::new() };
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
struct PartSender<'a> {
    parts: &'a mpsc::Sender<SnapshotPart>,
    rows: Vec<Pair>,
    bytes: usize,
    count: u64,
    crcs: crc32fast::Hasher,
}

impl PartSender<'_> {
    fn part(&self, part: snapshot_part::Part) -> bool {
        self.parts.blocking_send(SnapshotPart { part: Some(part) }).is_ok()
    }

    fn row(&mut self, key: &[u8], value: &[u8]) -> bool {
        self.bytes += key.len() + value.len();
        self.count += 1;
        self.rows
            .push(Pair { key: Bytes::copy_from_slice(key), value: Bytes::copy_from_slice(value) });
        self.bytes < CHUNK_BYTES_MAX || self.chunk()
    }

    fn chunk(&mut self) -> bool {
        self.bytes = 0;
        let pairs = std::mem::take(&mut self.rows);
        let crc32 = rows_crc(&pairs);
        self.crcs.update(&crc32.to_le_bytes());
        self.part(snapshot_part::Part::Rows(SnapshotRows { pairs, crc32 }))
    }
}

fn rows_crc(pairs: &[Pair]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for pair in pairs {
        for part in [&pair.key, &pair.value] {
            crc.update(&(part.len() as u64).to_le_bytes());
            crc.update(part);
        }
    }
    crc.finalize()
}

/// Received snapshots on disk.
pub struct Staging {
    dir: PathBuf,
    next: AtomicU64,
}

impl Staging {
    /// Keeps files in `dir`, which exists and is empty.
    pub fn new(dir: PathBuf) -> Staging {
        Staging { dir, next: AtomicU64::new(1) }
    }

    /// A new file for a snapshot that begins to arrive.
    pub fn receive(&self) -> Result<Receiving, EngineError> {
        let staged = StagedId(self.next.fetch_add(1, Ordering::Relaxed));
        let path = self.path(staged);
        let file = File::create(&path).map_err(|e| io(&path, &e))?;
        Ok(Receiving {
            staged,
            path,
            file: BufWriter::new(file),
            rows: 0,
            crcs: crc32fast::Hasher::new(),
        })
    }

    /// The rows of a staged snapshot, in order.
    pub fn rows(&self, staged: StagedId) -> Result<StagedRows, EngineError> {
        let path = self.path(staged);
        let file = File::open(&path).map_err(|e| io(&path, &e))?;
        let left = file.metadata().map_err(|e| io(&path, &e))?.len();
        Ok(StagedRows { path, file: BufReader::new(file), left })
    }

    /// Deletes a staged snapshot.
    pub fn discard(&self, staged: StagedId) -> Result<(), EngineError> {
        let path = self.path(staged);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io(&path, &e)),
            _ => Ok(()),
        }
    }

    fn path(&self, staged: StagedId) -> PathBuf {
        self.dir.join(format!("{}.rows", staged.0))
    }
}

/// A snapshot that is being received.
pub struct Receiving {
    /// Its name for the worker.
    pub staged: StagedId,
    path: PathBuf,
    file: BufWriter<File>,
    rows: u64,
    crcs: crc32fast::Hasher,
}

/// Why a part of a snapshot was not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// It was damaged on the way.
    #[error("the checksum of {what} does not fit")]
    Checksum {
        /// Which part.
        what: &'static str,
    },
    /// The disk failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

impl Receiving {
    /// Writes a chunk down.
    pub fn rows(&mut self, chunk: &SnapshotRows) -> Result<(), ReceiveError> {
        if rows_crc(&chunk.pairs) != chunk.crc32 {
            return Err(ReceiveError::Checksum { what: "a chunk" });
        }
        self.crcs.update(&chunk.crc32.to_le_bytes());
        self.rows += chunk.pairs.len() as u64;
        for pair in &chunk.pairs {
            self.write_row(pair).map_err(|e| io(&self.path, &e))?;
        }
        Ok(())
    }

    fn write_row(&mut self, pair: &Pair) -> std::io::Result<()> {
        for length in [pair.key.len(), pair.value.len()] {
            let length = u32::try_from(length).map_err(std::io::Error::other)?;
            self.file.write_all(&length.to_le_bytes())?;
        }
        self.file.write_all(&pair.key)?;
        self.file.write_all(&pair.value)
    }

    /// The rows are whole.
    pub fn end(mut self, end: &SnapshotEnd) -> Result<StagedId, ReceiveError> {
        if end.rows != self.rows || end.crc32 != self.crcs.clone().finalize() {
            return Err(ReceiveError::Checksum { what: "the whole" });
        }
        let flushed = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        flushed.map_err(|e| io(&self.path, &e))?;
        Ok(self.staged)
    }
}

/// Reads a staged file.
pub struct StagedRows {
    path: PathBuf,
    file: BufReader<File>,
    left: u64,
}

impl StagedRows {
    /// The next row; None at the end.
    pub fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, EngineError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.row().map(Some).map_err(|e| io(&self.path, &e))
    }

    fn row(&mut self) -> std::io::Result<(Bytes, Bytes)> {
        let mut lengths = [0; 8];
        self.file.read_exact(&mut lengths)?;
        let length = |at: usize| {
            let bytes = [lengths[at], lengths[at + 1], lengths[at + 2], lengths[at + 3]];
            u64::from(u32::from_le_bytes(bytes))
        };
        let (key_bytes, value_bytes) = (length(0), length(4));
        let row_bytes = 8 + key_bytes + value_bytes;
        if row_bytes > self.left {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= row_bytes;
        let mut key = vec![0; key_bytes as usize];
        self.file.read_exact(&mut key)?;
        let mut value = vec![0; value_bytes as usize];
        self.file.read_exact(&mut value)?;
        Ok((key.into(), value.into()))
    }
}

fn io(path: &std::path::Path, error: &std::io::Error) -> EngineError {
    EngineError::Io { file: path.to_path_buf(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(rows: &[(&'static str, &'static str)]) -> SnapshotRows {
        let pairs: Vec<Pair> =
            rows.iter().map(|(k, v)| Pair { key: (*k).into(), value: (*v).into() }).collect();
        let crc32 = rows_crc(&pairs);
        SnapshotRows { pairs, crc32 }
    }

    fn end_of(chunks: &[SnapshotRows]) -> SnapshotEnd {
        let mut crcs = crc32fast::Hasher::new();
        chunks.iter().for_each(|chunk| crcs.update(&chunk.crc32.to_le_bytes()));
        let rows = chunks.iter().map(|chunk| chunk.pairs.len() as u64).sum();
        SnapshotEnd { rows, crc32: crcs.finalize() }
    }

    #[test]
    fn rows_come_back_as_they_were_received() {
        let dir = tempfile::tempdir().expect("a directory");
        let staging = Staging::new(dir.path().to_path_buf());
        let chunks = [chunk(&[("a", "1"), ("b", "")]), chunk(&[("c", "3")])];
        let mut receiving = staging.receive().expect("a file");
        for chunk in &chunks {
            receiving.rows(chunk).expect("whole");
        }
        let staged = receiving.end(&end_of(&chunks)).expect("whole");
        let mut rows = staging.rows(staged).expect("there");
        let mut read = vec![];
        while let Some((key, value)) = rows.next().expect("readable") {
            read.push((key, value));
        }
        assert_eq!(read.len(), 3);
        assert_eq!(read[1], (Bytes::from("b"), Bytes::new()));
        staging.discard(staged).expect("deletable");
        assert!(staging.rows(staged).is_err());
    }

    #[test]
    fn damage_on_the_way_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        let staging = Staging::new(dir.path().to_path_buf());
        let mut bad = chunk(&[("a", "1")]);
        bad.pairs[0].value = "2".into();
        let mut receiving = staging.receive().expect("a file");
        assert!(receiving.rows(&bad).is_err());
        let good = chunk(&[("a", "1")]);
        receiving.rows(&good).expect("whole");
        let lost = end_of(&[good, chunk(&[("b", "2")])]);
        assert!(receiving.end(&lost).is_err());
    }
}
