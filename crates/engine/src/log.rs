//! The Raft log of all groups of a process: the interface of [`crate::disk_log`] and its twin.

use bytes::Bytes;

use crate::error::EngineError;

/// One entry of one group's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogEntry {
    /// Position in the group's log; the first is 1. Without holes.
    pub index: u64,
    /// Raft's term.
    pub term: u64,
    /// Raft's entry type, opaque here.
    pub kind: u8,
    /// The payload.
    pub data: Bytes,
    /// A second payload, opaque here.
    pub context: Bytes,
}

/// The indexes that a group's log holds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBounds {
    /// The least index held.
    pub first: u64,
    /// The greatest index held.
    pub last: u64,
}

/// One change within a [`LogBatch`]. Changes of one group take effect in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogOp {
    /// Appends `entries` (not empty, consecutive). Entries held at these indexes and above are
    /// replaced. The first index must not leave a hole after those that are held nor lie below the
    /// first of them (both are asserted, before anything is written); on an empty log any first
    /// index will do.
    Append {
        /// Whose log.
        group: u64,
        /// The new entries.
        entries: Vec<LogEntry>,
    },
    /// Replaces the group's hard state.
    SetState {
        /// Whose hard state.
        group: u64,
        /// Its encoding, opaque here.
        state: Bytes,
    },
    /// Drops entries up to `through`, included. Without effect if no entry is held there.
    Truncate {
        /// Whose log.
        group: u64,
        /// The last index to drop.
        through: u64,
    },
    /// Drops the group: entries and hard state. Needed before an append below the first entry.
    Clear {
        /// Whose log.
        group: u64,
    },
}

/// Changes of any number of groups that are written together: after a crash either all of a
/// batch is there or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogBatch {
    /// The changes, in order.
    pub ops: Vec<LogOp>,
}

/// The shared log. Methods take `&self`: one thread writes, any thread may read.
pub trait LogStore: Send + Sync {
    /// The groups that have entries or a hard state, ascending.
    fn groups(&self) -> Vec<u64>;

    /// The group's hard state as last set; None if it has none.
    fn state(&self, group: u64) -> Result<Option<Bytes>, EngineError>;

    /// The entries held; None if there is none.
    fn bounds(&self, group: u64) -> Option<LogBounds>;

    /// Entries `low..high` in order, cut off once they exceed `bytes_max` of payload (the first is
    /// always there). The caller stays within [`LogStore::bounds`], which is asserted.
    fn entries(
        &self,
        group: u64,
        low: u64,
        high: u64,
        bytes_max: usize,
    ) -> Result<Vec<LogEntry>, EngineError>;

    /// Writes the batch. With `sync`, it and all batches before it are durable on return.
    fn write(&self, batch: LogBatch, sync: bool) -> Result<(), EngineError>;

    /// Frees the space of dropped entries, on any thread. It syncs first, and batches written while
    /// it runs are synced, because it deletes what they replace. Answers the groups whose old
    /// entries occupy the most space, ascending; the caller should truncate them. Slow; not for
    /// every turn.
    fn purge(&self) -> Result<Vec<u64>, EngineError>;
}
