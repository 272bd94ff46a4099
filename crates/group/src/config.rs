//! How a group keeps time, what it is opened with, and the settings of the `raft` crate that
//! follow from both.

use flotilla_types::mutant::{Mutant, planted};
use raft::Config;

use crate::limits::GroupLimits;

/// The clock of a group, counted in ticks of its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Milliseconds from one tick to the next: at least so many, also after a pause of the owner.
    pub tick_ms: u64,
    /// Ticks from one heartbeat of a leader to the next.
    pub heartbeat_ticks: usize,
    /// The least election timeout. The greatest is twice as long.
    pub election_ticks: usize,
}

impl Timing {
    /// Heartbeat 100 ms, election timeout 500-1000 ms: a killed leader is replaced within two
    /// seconds, and an fsync of 400 ms causes no election.
    pub const DEFAULT: Timing = Timing { tick_ms: 100, heartbeat_ticks: 1, election_ticks: 5 };

    /// The least election timeout, in milliseconds.
    pub fn election_ms(&self) -> u64 {
        self.tick_ms * self.election_ticks as u64
    }
}

impl Default for Timing {
    fn default() -> Timing {
        Timing::DEFAULT
    }
}

/// What a group is opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// The group's number in the shared log; for a region's group, the region id.
    pub group: u64,
    /// This peer's id.
    pub peer: u64,
    /// The seed of the group's election timeouts. Peers of one group must have different seeds.
    pub seed: u64,
    /// The clock.
    pub timing: Timing,
    /// The bounds of what the group holds and sends.
    pub limits: GroupLimits,
}

/// The settings of the `raft` crate for a group whose state has applied entries up to `applied`.
pub(crate) fn raft_config(config: &GroupConfig, applied: u64) -> Config {
    let limits = config.limits;
    Config {
        id: config.peer,
        election_tick: election_ticks(&config.timing),
        heartbeat_tick: config.timing.heartbeat_ticks,
        applied,
        max_size_per_msg: limits.append_bytes_max,
        max_inflight_msgs: limits.inflight_max,
        check_quorum: checks_quorum(),
        pre_vote: true,
        // With it, raft 0.7 puts entries into an empty append that is still unsent, even an append
        // whose index does not precede them. Its receiver then acknowledges entries that it lacks.
        batch_append: false,
        // Followers learn the commit index with the next entries or the next heartbeat. They serve
        // no reads, so nothing waits for it, and half of the messages are spared.
        skip_bcast_commit: true,
        max_uncommitted_size: uncommitted_bytes_max(&limits),
        max_committed_size_per_ready: limits.committed_bytes_max,
        ..Config::default()
    }
}

/// The ticks of the least election timeout.
pub(crate) fn election_ticks(timing: &Timing) -> usize {
    if planted(Mutant::TimeoutTooLong) {
        return 2 * timing.election_ticks;
    }
    timing.election_ticks
}

/// A leader without answers from a quorum steps down, and a follower of a live leader grants no
/// vote. Leases rest on it.
fn checks_quorum() -> bool {
    if planted(Mutant::QuorumUnchecked) {
        return false;
    }
    true
}

fn uncommitted_bytes_max(limits: &GroupLimits) -> u64 {
    if planted(Mutant::UncommittedUnbounded) {
        return raft::NO_LIMIT;
    }
    limits.uncommitted_bytes_max
}
