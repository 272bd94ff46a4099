//! How much of what is applied is durable, and the snapshots that checkpoints leave and install.
//!
//! Plain data: what begins and ends a checkpoint is in `turn`, what snapshots are for in
//! `snapshots`.

use flotilla_group::{Membership, Position};
use flotilla_host::core::message::StagedId;
use flotilla_types::Millis;

/// How much of what is applied is durable.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Checkpoints {
    pub durable: u64,
    pub dirty_since: Option<Millis>,
    pub running: Option<Running>,
}

/// A checkpoint under way.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Running {
    pub at: Position,
    /// PD's members at that position.
    pub membership: Membership,
    pub exports: bool,
    pub installs: bool,
}

/// What becomes of snapshots, out and in.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Snapshots {
    /// The view that snapshots are sent from: which checkpoint left it, and since when.
    pub export: Option<(u64, Millis)>,
    /// A received snapshot that the group has not taken yet.
    pub offered: Option<StagedId>,
    /// A received snapshot that the group has taken.
    pub installing: Option<StagedId>,
}
