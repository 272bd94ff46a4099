//! Why a store did not carry out a request.

use bytes::Bytes;

use crate::id::{RegionId, StoreId};
use crate::region::{Member, Region};

/// A store's refusal. Every kind but [`RegionError::Undetermined`] says that the request had no
/// effect. What a caller does about each is one table: `retry` in the client crate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegionError {
    /// The peer asked does not lead the region: ask `leader`, or find out who does.
    #[error("region {region_id} is not led by the store asked (leader: {leader:?})")]
    NotLeader {
        /// The region asked about.
        region_id: RegionId,
        /// Who leads it, as far as the peer asked knows.
        leader: Option<Member>,
    },
    /// The request was routed by another shape of the region than the present one.
    #[error("the region was split or its members changed")]
    EpochNotMatch {
        /// The regions that now cover the old region's range, as far as the store knows.
        current: Vec<Region>,
    },
    /// The request's epoch is right and its key is not: a routing mistake of the caller.
    #[error("key of {} bytes is outside region {}", .key.len(), .region.id)]
    KeyNotInRegion {
        /// The first key outside.
        key: Bytes,
        /// The region that was named.
        region: Box<Region>,
    },
    /// No such region on the store asked.
    #[error("region {region_id} is not on the store asked")]
    RegionNotFound {
        /// The region that was named.
        region_id: RegionId,
    },
    /// The request was meant for another cluster or store; the fields say who answered.
    #[error("this is store {store_id} of cluster {cluster_id}, not the one asked for")]
    WrongDestination {
        /// The answering store's cluster.
        cluster_id: u64,
        /// The answering store.
        store_id: StoreId,
    },
    /// The store sheds load: the same request may succeed after `retry_after_ms`.
    #[error("store busy: {reason}")]
    ServerBusy {
        /// What was full.
        reason: String,
        /// How long the store wants to be left alone.
        retry_after_ms: u64,
    },
    /// Over a limit: the same request can never succeed.
    #[error("outside the limit of {max} {limit}: {actual}")]
    LimitExceeded {
        /// The limit's name and unit.
        limit: String,
        /// The greatest value allowed.
        max: u64,
        /// The value given.
        actual: u64,
    },
    /// The store does not know what was asked; a newer version may. The same request can never
    /// succeed on this version.
    #[error("the store does not support {what}")]
    Unsupported {
        /// Such as `this kind of request`.
        what: String,
    },
    /// The request's deadline passed before it was proposed (a write) or could be served (a read,
    /// which must first be confirmed by a quorum). The same request with a new deadline may
    /// succeed.
    #[error("the deadline passed before region {region_id} could carry the request out")]
    DeadlineExceeded {
        /// The region that was asked.
        region_id: RegionId,
    },
    /// The request may or may not take effect, now or later.
    #[error("the outcome of the request to region {region_id} is not known")]
    Undetermined {
        /// The region that was asked.
        region_id: RegionId,
    },
}
