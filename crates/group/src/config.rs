//! How a group keeps time, and the bounds of what it holds in memory.

/// The most bytes of entries in one append message. A larger single entry still goes, alone.
pub(crate) const APPEND_BYTES_MAX: u64 = 1024 * 1024;

/// The most append messages under way to one follower: 64 fill a link with a round trip of 50 ms
/// at the rate of one synced turn per millisecond, and cost little memory.
pub(crate) const INFLIGHT_MAX: usize = 64;

/// The most bytes of proposals that are not committed; more are refused. Bounds what a leader
/// cut off from its quorum can pile up.
pub(crate) const UNCOMMITTED_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// The most bytes of committed entries in one ready, so that one group cannot hold up a turn.
pub(crate) const COMMITTED_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The most bytes of applied entries kept in memory for followers that are a little behind.
pub(crate) const CACHE_BYTES_MAX: usize = 128 * 1024;

/// The clock of a group, counted in ticks of its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Milliseconds from one tick to the next; never less, whatever the owner was held up by.
    pub tick_ms: u64,
    /// Ticks from one heartbeat of a leader to the next.
    pub heartbeat_ticks: usize,
    /// The least election timeout. The greatest is twice as long.
    pub election_ticks: usize,
}

impl Timing {
    /// Heartbeat 100 ms, election timeout 500-1000 ms: a killed leader is replaced within two
    /// seconds, and an fsync of 400 ms does not unseat one.
    pub const DEFAULT: Timing = Timing { tick_ms: 100, heartbeat_ticks: 1, election_ticks: 5 };

    /// The least election timeout.
    pub fn election_ms(&self) -> u64 {
        self.tick_ms * self.election_ticks as u64
    }
}

impl Default for Timing {
    fn default() -> Timing {
        Timing::DEFAULT
    }
}

/// What a group is told when it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// The group's number in the shared log; for a region's group, the region id.
    pub group: u64,
    /// This peer's id.
    pub peer: u64,
    /// What the group's dice are rolled from. Peers of one group must not share it.
    pub seed: u64,
    /// The clock.
    pub timing: Timing,
}
