//! [`RegionError`]: why a store did not carry out a request.
//!
//! Invariant: an error says what is so. [`RegionError::ServerBusy`] means that the store sheds load
//! and nothing else; [`RegionError::Undetermined`] is the only error after which the request may
//! have taken effect.
//!
//! Not here: what a caller does about each error (the table in the client's `core/retry.rs`), and
//! the messages on the wire ([`crate::wire`]).

use bytes::Bytes;

use crate::id::{RegionId, StoreId};
use crate::region::{Member, Region};

/// A store's refusal of a request. The request had no effect, and will have none, unless the error
/// is [`RegionError::Undetermined`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegionError {
    /// The store asked does not lead the region. The caller should ask `leader`, or find out who
    /// leads.
    #[error("region {region_id} is not led by the store asked (leader: {leader:?})")]
    NotLeader {
        /// The region asked about.
        region_id: RegionId,
        /// The leader, as far as the store asked knows; None if it knows none.
        leader: Option<Member>,
    },
    /// The request names another epoch of the region than the present one. The caller should
    /// learn from `current` and ask again.
    #[error("the region was split or its members changed")]
    EpochNotMatch {
        /// The regions that now cover the old region's range, as far as the store knows, in key
        /// order; empty if the store knows nothing newer.
        current: Vec<Region>,
    },
    /// The request names the present epoch and a key outside the region: the caller routed it by
    /// a mistake.
    #[error("key of {} bytes is outside region {}", .key.len(), .region.id)]
    KeyNotInRegion {
        /// The first of the request's keys outside the region.
        key: Bytes,
        /// The region that was named.
        region: Box<Region>,
    },
    /// The store asked has no peer of the region. The caller should ask the placement driver.
    #[error("region {region_id} is not on the store asked")]
    RegionNotFound {
        /// The region that was named.
        region_id: RegionId,
    },
    /// The request was meant for another cluster or store. The fields name the store that answers.
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
        /// What is full.
        reason: String,
        /// Milliseconds that the caller should wait at least before it asks again.
        retry_after_ms: u64,
    },
    /// The request exceeds a limit. The same request can never succeed.
    #[error("outside the limit of {max} {limit}: {actual}")]
    LimitExceeded {
        /// The limit's name and unit, such as `key bytes`.
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
    /// The request may have taken effect, may yet take effect, or may never.
    #[error("the outcome of the request to region {region_id} is not known")]
    Undetermined {
        /// The region that was asked.
        region_id: RegionId,
    },
}

impl RegionError {
    /// Every answer of [`RegionError::kind`].
    pub const KINDS: [&'static str; 10] = [
        "not_leader",
        "epoch_not_match",
        "key_not_in_region",
        "region_not_found",
        "wrong_destination",
        "server_busy",
        "limit_exceeded",
        "unsupported",
        "deadline_exceeded",
        "undetermined",
    ];

    /// What kind of refusal it is, in a word or two: for counts and traces.
    pub fn kind(&self) -> &'static str {
        match self {
            RegionError::NotLeader { .. } => "not_leader",
            RegionError::EpochNotMatch { .. } => "epoch_not_match",
            RegionError::KeyNotInRegion { .. } => "key_not_in_region",
            RegionError::RegionNotFound { .. } => "region_not_found",
            RegionError::WrongDestination { .. } => "wrong_destination",
            RegionError::ServerBusy { .. } => "server_busy",
            RegionError::LimitExceeded { .. } => "limit_exceeded",
            RegionError::Unsupported { .. } => "unsupported",
            RegionError::DeadlineExceeded { .. } => "deadline_exceeded",
            RegionError::Undetermined { .. } => "undetermined",
        }
    }
}
