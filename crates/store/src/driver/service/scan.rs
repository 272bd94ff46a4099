//! One scan: chunk after chunk, each a read of its own, until the range, the limit or the deadline
//! is reached.
//!
//! The client's window holds the store back: no chunk is read while [`QUEUED_MAX`](super) of them
//! wait for the network.

use std::time::Duration;

use flotilla_types::limits::granted_timeout_ms;
use flotilla_types::proto::{RegionRef, ScanChunk, ScanRequest};
use flotilla_types::{Answer, Millis, Op, RegionError, RegionId, ScanOp};
use tokio::sync::mpsc;
use tonic::Status;

use super::{KvService, codec};
use crate::core::scan::ScanCursor;

/// An answer comes by the deadline; this is for a thread that is held up.
const MARGIN_MS: u64 = 1_000;

/// Reads the chunks of a scan and sends them until the scan ends or the client is gone.
pub async fn run(
    service: KvService,
    wire: ScanRequest,
    chunks: mpsc::Sender<Result<ScanChunk, Status>>,
) {
    let mut scan = match Scan::new(&service, wire) {
        Ok(scan) => scan,
        Err(error) => {
            let _ = chunks.send(Ok(codec::refused_chunk(error))).await;
            return;
        }
    };
    while let Some(op) = scan.cursor.next() {
        let chunk = match scan.read(&service, op).await {
            Ok(chunk) => chunk,
            Err(error) => {
                let _ = chunks.send(Ok(codec::refused_chunk(error))).await;
                return;
            }
        };
        if chunk.pairs.is_empty() && !chunk.done && !chunks.is_closed() {
            // It ended among deleted rows, and says nothing that the client could use.
            continue;
        }
        if chunks.send(Ok(chunk)).await.is_err() {
            return;
        }
    }
}

struct Scan {
    region: RegionRef,
    cursor: ScanCursor,
    /// None: each chunk has the time limit of a request that names none.
    ends_at: Option<Millis>,
}

impl Scan {
    fn new(service: &KvService, wire: ScanRequest) -> Result<Scan, RegionError> {
        service.check_destination(wire.cluster_id, wire.store_id)?;
        let ends_at = (wire.timeout_ms > 0)
            .then(|| service.clock.now().plus(granted_timeout_ms(wire.timeout_ms)));
        let region = wire.region.unwrap_or_default();
        Ok(Scan { region, cursor: ScanCursor::new(codec::scan(wire)?), ends_at })
    }

    /// Reads one chunk, and moves the cursor behind it.
    async fn read(&mut self, service: &KvService, op: ScanOp) -> Result<ScanChunk, RegionError> {
        let now = service.clock.now();
        let deadline = self.ends_at.unwrap_or_else(|| now.plus(granted_timeout_ms(0)));
        let request = codec::routed(&self.region, deadline, Op::Scan(op));
        let wait = Duration::from_millis(deadline.since(now) + MARGIN_MS);
        let region_id = RegionId(self.region.region_id);
        match tokio::time::timeout(wait, service.read_aside(request, 0)).await {
            Ok(Ok(answer)) => {
                let Answer::Scan { pairs, is_done, walked_to } = answer else {
                    unreachable!("a scan is answered with rows");
                };
                self.cursor.read(&pairs, is_done, walked_to.as_ref());
                Ok(codec::chunk(pairs, is_done))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(RegionError::DeadlineExceeded { region_id }),
        }
    }
}
