//! What one store holds in memory, asked of the store itself.

use std::time::Duration;

use flotilla_net::connect::{connect, status_reason};
use flotilla_net::services::kv_client;
use flotilla_types::{RegionError, StoreId, proto};
use tokio::time::timeout;

use crate::error::{Error, Result};

/// How long a store may take: it waits a second for its worker.
const MEMORY_MS_MAX: u64 = 3_000;

/// What a store holds in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Memory {
    /// By kind, in the store's order.
    pub held: Vec<MemoryHeld>,
    /// Resident memory of the store's process; 0 where the system does not tell.
    pub resident_bytes: u64,
    /// What the store was told to keep to in all.
    pub bytes_max: u64,
}

/// What is held of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryHeld {
    /// A word, such as `answers`.
    pub kind: String,
    /// How many bytes; None while the store's worker does not answer.
    pub bytes: Option<u64>,
    /// The bound; 0 for none of its own.
    pub bytes_max: u64,
}

/// Asks the store of this cluster that listens at `addr` (`HOST:PORT`) what it holds.
///
/// # Errors
/// [`Error::DeadlineExceeded`] if it does not answer; [`Error::Refused`] if another store answers.
pub async fn read_memory(cluster_id: u64, store: StoreId, addr: &str) -> Result<Memory> {
    let what = format!("memory of store {store}");
    let asked = timeout(Duration::from_millis(MEMORY_MS_MAX), ask(cluster_id, store, addr)).await;
    let reply = asked.unwrap_or_else(|_| Err(format!("{addr}: no answer in time")));
    let reply = reply.map_err(|last| Error::DeadlineExceeded { what: what.clone(), last })?;
    if let Some(error) = reply.error {
        let error = RegionError::try_from(error);
        let reason = error.map_or_else(|error| error.to_string(), |error| error.to_string());
        return Err(Error::Refused { reason: format!("{what}: {reason}") });
    }
    let held = reply.held.into_iter().map(|held| MemoryHeld {
        kind: held.kind,
        bytes: held.bytes,
        bytes_max: held.bytes_max,
    });
    Ok(Memory {
        held: held.collect(),
        resident_bytes: reply.resident_bytes,
        bytes_max: reply.bytes_max,
    })
}

async fn ask(cluster_id: u64, store: StoreId, addr: &str) -> Result<proto::MemoryReply, String> {
    let request = proto::MemoryRequest { cluster_id, store_id: store.0 };
    let mut client = kv_client(connect(addr).await?);
    match client.memory(request).await {
        Ok(reply) => Ok(reply.into_inner()),
        Err(status) => Err(format!("{addr}: {}", status_reason(&status))),
    }
}
