//! What one store's replica of a region has applied, for looking at replicas side by side.
//!
//! In: a store and a region. Out: a [`Replica`]. It is asked of the store itself, whether or not it
//! leads, and may be behind; so no read of a client goes this way.

use std::time::Duration;

use bytes::Bytes;
use flotilla_net::connect::{connect, status_reason};
use flotilla_net::services::kv_client;
use flotilla_types::keys::{DEFAULT_KEYSPACE, stored_key};
use flotilla_types::{PeerId, Region, RegionError, RegionId, StoreId, proto};
use tokio::time::timeout;

use crate::error::{Error, Result};

/// How long a store may take to read all rows of a region.
const REPLICA_MS_MAX: u64 = 10_000;

/// A replica of a region at one index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The last log entry that was applied. Replicas that have applied the same one hold the same
    /// rows.
    pub applied_index: u64,
    /// The entry's term.
    pub applied_term: u64,
    /// The member that leads, as far as the replica knows; None if it knows none.
    pub leader: Option<PeerId>,
    /// The region at this index.
    pub region: Region,
    /// Number of its rows.
    pub rows: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Digest of all rows.
    pub digest: Bytes,
    /// The values of the keys that were asked for, in their order.
    pub values: Vec<Option<Bytes>>,
}

/// A replica, by where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaAddr<'a> {
    /// The cluster.
    pub cluster_id: u64,
    /// The store.
    pub store: StoreId,
    /// Where the store listens, `HOST:PORT`.
    pub addr: &'a str,
    /// The region.
    pub region: RegionId,
}

/// Reads what the replica has applied, and the values of these user keys of the default keyspace
/// in it, 64 at most.
///
/// # Errors
/// [`Error::NotFound`] if the store has no replica of the region; [`Error::DeadlineExceeded`] if it
/// does not answer, or goes on applying writes while it is read (try again when there are fewer);
/// [`Error::Refused`] if another store answers.
pub async fn read_replica(at: ReplicaAddr<'_>, keys: &[Bytes]) -> Result<Replica> {
    let what = format!("replica of region {} on store {}", at.region, at.store);
    let limit = Duration::from_millis(REPLICA_MS_MAX);
    let asked = timeout(limit, ask(at, keys)).await;
    let reply = asked.unwrap_or_else(|_| Err(format!("{}: no answer in time", at.addr)));
    let reply = reply.map_err(|last| Error::DeadlineExceeded { what: what.clone(), last })?;
    match reply.error.clone() {
        None => replica(reply),
        Some(error) => match RegionError::try_from(error) {
            Ok(RegionError::RegionNotFound { .. }) => Err(Error::NotFound { what }),
            Ok(error @ RegionError::ServerBusy { .. }) => {
                Err(Error::DeadlineExceeded { what, last: error.to_string() })
            }
            Ok(error) => Err(Error::Refused { reason: format!("{what}: {error}") }),
            Err(error) => Err(Error::Protocol { what: format!("{what}: {error}") }),
        },
    }
}

async fn ask(at: ReplicaAddr<'_>, keys: &[Bytes]) -> Result<proto::ReplicaReply, String> {
    let keys = keys.iter().map(|key| stored_key(DEFAULT_KEYSPACE, key)).collect();
    let (cluster_id, store_id, region_id) = (at.cluster_id, at.store.0, at.region.0);
    let request = proto::ReplicaRequest { cluster_id, store_id, region_id, keys };
    let mut client = kv_client(connect(at.addr).await?);
    match client.replica(request).await {
        Ok(reply) => Ok(reply.into_inner()),
        Err(status) => Err(format!("{}: {}", at.addr, status_reason(&status))),
    }
}

fn replica(reply: proto::ReplicaReply) -> Result<Replica> {
    let region = Region::try_from(reply.region.unwrap_or_default());
    let region = region.map_err(|error| Error::Protocol { what: error.to_string() })?;
    let slot = |slot: proto::Slot| slot.found.then_some(slot.value);
    Ok(Replica {
        applied_index: reply.applied_index,
        applied_term: reply.applied_term,
        leader: Some(PeerId(reply.leader_peer_id)).filter(|peer| peer.0 != 0),
        region,
        rows: reply.rows,
        bytes: reply.bytes,
        digest: reply.digest,
        values: reply.slots.into_iter().map(slot).collect(),
    })
}
