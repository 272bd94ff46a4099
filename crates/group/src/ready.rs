//! The values that a group answers with.

use bytes::Bytes;
use flotilla_engine::LogOp;
use flotilla_types::proto::{RaftMessage, SnapshotMeta};

/// The position of an entry. A proposal takes effect if its own term's entry commits at its index;
/// if an entry of another term commits there, the proposal was dropped for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The entry's index.
    pub index: u64,
    /// The entry's term.
    pub term: u64,
}

/// The number of one round of confirmation by a quorum; later rounds have greater numbers.
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

/// A committed entry, which the owner applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The entry's position.
    pub position: Position,
    /// The entry's content.
    pub body: CommittedBody,
}

/// The kinds of committed entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommittedBody {
    /// A new leader's first entry; changes nothing.
    Empty,
    /// A command that an owner proposed.
    Command(Bytes),
    /// A membership change, with the context that its proposer attached. An empty context means
    /// that the joint configuration is left.
    Membership(Bytes),
}

/// The work that is due, in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupReady {
    /// This ready's number, for `Group::persisted` once `log` is durable. Ascending.
    pub number: u64,
    /// Messages that may leave at once.
    pub messages: Vec<RaftMessage>,
    /// A snapshot to install, durably, before anything below. Then the owner calls
    /// `Group::snapshot_installed`; until then the group is paused.
    pub snapshot: Option<SnapshotMeta>,
    /// Changes of the log, to be written in order.
    pub log: Vec<LogOp>,
    /// True if `log` must be synced before `persisted` is reported.
    pub must_sync: bool,
    /// Messages that may leave once `log` is durable: votes and acknowledgements.
    pub persisted_messages: Vec<RaftMessage>,
    /// Committed entries, to be applied in order.
    pub committed: Vec<Committed>,
    /// Reads that a quorum has confirmed.
    pub reads: Vec<ConfirmedRead>,
}

/// The progress of a member, as its leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerProgress {
    /// The member's peer id.
    pub peer: u64,
    /// The last index that the member is known to hold.
    pub matched: u64,
    /// True if the member answered within the last election timeout.
    pub is_active: bool,
    /// True if the member waits for a snapshot.
    pub needs_snapshot: bool,
}

/// What a group holds in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupHeld {
    /// Bytes of applied entries, kept for followers that are a little behind.
    pub applied_bytes: usize,
    /// Bytes of the payloads of entries of the present term that are not known to be committed.
    pub uncommitted_bytes: usize,
    /// How many of these entries have a payload.
    pub uncommitted_entries: usize,
    /// Rounds of confirmation that are remembered.
    pub rounds: usize,
}
