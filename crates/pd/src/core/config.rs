//! What a member is told when it is opened.

use std::collections::BTreeMap;

use flotilla_group::Timing;
use flotilla_types::placement::PdMembers;

use crate::core::limits::PdLimits;

/// How a member keeps time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PdTiming {
    /// The Raft group's clock.
    pub raft: Timing,
    /// How often stores should send heartbeats when there is nothing to do.
    pub heartbeat_ms: u64,
    /// How often while operators are under way, or a region has no known leader.
    pub busy_heartbeat_ms: u64,
    /// A store whose last heartbeat is older than this receives no peers and no leaders.
    pub disconnected_after_ms: u64,
    /// The time from one plan to the next while there is something to do; otherwise it is
    /// `heartbeat_ms`.
    pub plan_ms: u64,
    /// The most time that an applied entry waits for a checkpoint. Short: entries are few, and
    /// what the state holds survives even the loss of a lone member's log.
    pub checkpoint_ms: u64,
}

impl Default for PdTiming {
    fn default() -> PdTiming {
        PdTiming {
            raft: Timing::DEFAULT,
            heartbeat_ms: 1_000,
            busy_heartbeat_ms: 100,
            disconnected_after_ms: 10_000,
            plan_ms: 100,
            checkpoint_ms: 50,
        }
    }
}

/// Voters that every region of a new cluster has, unless something else is asked for.
pub const REPLICAS_DEFAULT: u64 = 3;

/// Another replica count was asked for than the cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the cluster was created with --replicas {kept}, which stays; start the placement driver \
     without --replicas, or with {kept} (asked for: {asked})"
)]
pub struct OtherReplicas {
    /// As asked for.
    pub asked: u64,
    /// As the cluster has it.
    pub kept: u64,
}

/// What a member is told when it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreConfig {
    /// The member's id; never 0.
    pub id: u64,
    /// Where the member listens, as others should call it.
    pub addr: String,
    /// The members of PD's group, this one among them, and where they listen; none for what the
    /// directory says, or for this one alone if it is new.
    pub members: BTreeMap<u64, String>,
    /// What the running group said that this member was added to; counts for a new directory.
    pub joins: Option<PdMembers>,
    /// What dice and, for a new cluster, the cluster id are made from.
    pub seed: u64,
    /// Voters that every region should have. A cluster that has another number is refused; None
    /// for what the cluster has, or [`REPLICAS_DEFAULT`] if it is new.
    pub replica_count: Option<u64>,
    /// A store whose last heartbeat is older than this is down.
    pub down_after_ms: u64,
    /// The clock.
    pub timing: PdTiming,
    /// The bounds of what the member holds, proposes and starts.
    pub limits: PdLimits,
}

impl CoreConfig {
    /// Checks that the cluster has the replica count that was asked for. It keeps the one that it
    /// was created with; 0 before that.
    pub(crate) fn check_replicas(&self, kept: u64) -> Result<(), OtherReplicas> {
        match self.replica_count {
            Some(asked) if kept != 0 && asked != kept => Err(OtherReplicas { asked, kept }),
            Some(_) | None => Ok(()),
        }
    }
}
