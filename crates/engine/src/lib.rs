//! What a store keeps durable: the shared Raft log and the applied state.
//!
//! * [`LogStore`]: entries and hard states of all groups in one log. One [`LogBatch`] is one write
//!   and, if asked for, one sync. [`disk_log::DiskLog`] is raft-engine, [`mem_log::MemLog`] its
//!   twin.
//! * [`StateStore`]: the ordered applied state of all groups. Writes ([`change`]) go to an
//!   in-memory buffer whose write-ahead log is the Raft log; a checkpoint moves the buffer into the
//!   [`base::Base`] in one durable transaction. [`disk_base::DiskBase`] is redb,
//!   [`mem_base::MemBase`] its twin.
//!
//! With the feature `sim`, `sim_disk` is a disk in memory under the real storage code.
//!
//! Architecture invariant: a failed write or sync poisons the log or the state that it belongs to.
//! Every later call answers [`EngineError::Poisoned`]: what is on disk is unknown.
//!
//! Architecture invariant: this crate knows no Raft. A group is a number, an entry is an index, a
//! term and bytes.

pub mod base;
pub mod buffer;
mod buffer_key;
pub mod change;
pub mod disk_base;
pub mod disk_log;
mod entry;
pub mod error;
mod layers;
pub mod log;
pub mod mem_base;
pub mod mem_log;
mod poison;
#[cfg(feature = "sim")]
pub mod sim_disk;
pub mod state;

pub use change::{Order, StateBatch, StateOp};
pub use disk_base::{DiskOptions, RunOptions};
pub use disk_log::{DiskLog, LogOptions};
pub use error::EngineError;
pub use log::{LogBatch, LogBounds, LogEntry, LogOp, LogStore};
pub use mem_log::MemLog;
pub use poison::catches_panics;
pub use state::{StateStore, Walked};
