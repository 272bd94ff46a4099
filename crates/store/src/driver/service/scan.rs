//! One scan: chunk after chunk, each a read of its own, until the range, the limit or the deadline
//! is reached.
//!
//! The client's window holds the store back: one chunk is read while another one leaves, and each
//! has its share of the store's memory before it is read. A scan that can send nothing for as long
//! as a request lasts ends, and its client goes on from the last row.

use std::time::Duration;

use flotilla_host::core::budget::Held;
use flotilla_types::limits::granted_timeout_ms;
use flotilla_types::proto::{RegionRef, ScanChunk, ScanRequest};
use flotilla_types::{Answer, Millis, Op, RegionError, RegionId, ScanOp};

use super::leaving::Way;
use super::{KvService, busy, codec};
use crate::core::scan::ScanCursor;
use crate::driver::answers::Share;

/// An answer comes by the deadline; this is for a thread that is held up.
const MARGIN_MS: u64 = 1_000;

/// Reads the chunks of a scan and sends them until the scan ends or the client is gone.
pub async fn run(
    service: KvService,
    wire: ScanRequest,
    chunks: Way<ScanChunk>,
    open: Option<Held>,
) {
    if let Err(error) = sent(&service, wire, &chunks, open.is_some()).await {
        // A client that is gone does not mind.
        let _ = chunks.send((Ok(codec::refused_chunk(error)), None)).await;
    }
}

/// Ends when the scan does, or its reader is gone. The error is for its reader.
async fn sent(
    service: &KvService,
    wire: ScanRequest,
    chunks: &Way<ScanChunk>,
    has_place: bool,
) -> Result<(), RegionError> {
    let mut scan = Scan::new(service, wire)?;
    if !has_place {
        return Err(busy("the store has too many scans open"));
    }
    while let Some(op) = scan.cursor.next() {
        let (chunk, share) = scan.read(service, op).await?;
        if chunk.pairs.is_empty() && !chunk.done && !chunks.is_closed() {
            // It ended among deleted rows, and says nothing that the client could use.
            continue;
        }
        let limit = Duration::from_millis(scan.deadline(service).since(service.clock.now()));
        match tokio::time::timeout(limit, chunks.send((Ok(chunk), share))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Ok(()),
        }
    }
    Ok(())
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

    fn deadline(&self, service: &KvService) -> Millis {
        self.ends_at.unwrap_or_else(|| service.clock.now().plus(granted_timeout_ms(0)))
    }

    /// Reads one chunk, and moves the cursor behind it.
    async fn read(
        &mut self,
        service: &KvService,
        op: ScanOp,
    ) -> Result<(ScanChunk, Option<Share>), RegionError> {
        let (now, deadline) = (service.clock.now(), self.deadline(service));
        let request = codec::routed(&self.region, deadline, Op::Scan(op));
        let wait = Duration::from_millis(deadline.since(now) + MARGIN_MS);
        let region_id = RegionId(self.region.region_id);
        match tokio::time::timeout(wait, service.read_aside(request, 0)).await {
            Ok((Ok(answer), share)) => {
                let Answer::Scan { pairs, is_done, walked_to } = answer else {
                    unreachable!("a scan is answered with rows");
                };
                self.cursor.read(&pairs, is_done, walked_to.as_ref());
                Ok((codec::chunk(pairs, is_done), share))
            }
            Ok((Err(error), _)) => Err(error),
            Err(_) => Err(RegionError::DeadlineExceeded { region_id }),
        }
    }
}
