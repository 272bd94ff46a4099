//! Why a worker cannot go on. After a [`Fatal`] nothing more is decided, and nothing is answered.

use flotilla_types::RegionId;

/// A failure that ends the worker: the disk's, or one that says that this store's data cannot be
/// trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// The disk failed.
    #[error(transparent)]
    Engine(#[from] flotilla_engine::EngineError),
    /// A group's log and state do not fit together.
    #[error(transparent)]
    Group(#[from] flotilla_group::GroupError),
    /// A record or a log entry cannot be read.
    #[error("{what}: {source}")]
    Unreadable {
        /// Which record or entry.
        what: String,
        /// What is wrong with it.
        source: flotilla_types::WireError,
    },
    /// The log lost entries that this store had acknowledged.
    #[error("region {region}: {reason}; remove this store and let the others restore its replicas")]
    LostLog {
        /// The region.
        region: RegionId,
        /// What is missing.
        reason: String,
    },
    /// A committed change cannot be applied: peers would differ from here on.
    #[error("region {region}, entry {index}: {reason}")]
    CannotApply {
        /// The region.
        region: RegionId,
        /// The entry.
        index: u64,
        /// Why.
        reason: String,
    },
}
