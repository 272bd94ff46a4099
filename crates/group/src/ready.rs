//! What a group answers: plain values.

use bytes::Bytes;
use flotilla_engine::LogOp;
use flotilla_types::proto::{RaftMessage, SnapshotMeta};

/// Where a proposal stands in the log. If the entry committed at `index` has another term, the
/// proposal was dropped and will never take effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The entry's index.
    pub index: u64,
    /// The entry's term.
    pub term: u64,
}

/// Names one round of confirmation by a quorum; later rounds are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReadTicket(pub u64);

/// A read that may be served once the applied index has reached `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConfirmedRead {
    /// The round.
    pub ticket: ReadTicket,
    /// The commit index when the round began.
    pub index: u64,
}

/// Who leads, as far as this peer knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// The leader's peer id; 0 if unknown.
    pub leader: u64,
    /// True if this peer is the leader.
    pub is_leader: bool,
    /// The term.
    pub term: u64,
}

/// A committed entry, to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Where it stands.
    pub position: Position,
    /// What it says.
    pub body: CommittedBody,
}

/// The kinds of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommittedBody {
    /// A new leader's first entry; changes nothing.
    Empty,
    /// What an owner proposed.
    Command(Bytes),
    /// A membership change with what its proposer attached. Nothing attached: the joint
    /// configuration is left.
    Membership(Bytes),
}

/// What is to be done, in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupReady {
    /// To be reported by `Group::persisted` once `log` is durable.
    pub number: u64,
    /// May leave at once.
    pub messages: Vec<RaftMessage>,
    /// Install it, durably, before anything below; then call `Group::snapshot_installed`.
    pub snapshot: Option<SnapshotMeta>,
    /// To be written.
    pub log: Vec<LogOp>,
    /// True if `log` must be synced before `persisted` is reported.
    pub must_sync: bool,
    /// May leave once `log` is durable.
    pub persisted_messages: Vec<RaftMessage>,
    /// To be applied, in order.
    pub committed: Vec<Committed>,
    /// Reads that a quorum has confirmed.
    pub reads: Vec<ConfirmedRead>,
}

/// How far a member is, as its leader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerProgress {
    /// The member.
    pub peer: u64,
    /// The last index that it is known to hold.
    pub matched: u64,
    /// Heard from within the last election timeout.
    pub is_active: bool,
    /// Waiting for a snapshot.
    pub needs_snapshot: bool,
}
