//! The bounds of what a group holds in memory and sends at once.
//!
//! Each bound has a constant that says where its number comes from; [`GroupLimits::default`] is
//! made of these. A group works at any value: a bound of bytes always lets one entry pass, and
//! [`GroupLimits::workable`] changes what would stop the group.

/// The most bytes of entries in one append message. A larger single entry still goes, alone.
pub const APPEND_BYTES_MAX: u64 = 1024 * 1024;

/// The most append messages under way to one follower: 64 fill a link with a round trip of 50 ms
/// at the rate of one synced turn per millisecond, and cost little memory.
pub const INFLIGHT_MAX: usize = 64;

/// The most bytes of uncommitted proposals; a leader refuses more. It bounds the log of a leader
/// that is cut off from its quorum.
pub const UNCOMMITTED_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// The most bytes of committed entries in one ready, so that one group cannot delay a turn.
pub const COMMITTED_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The most bytes of applied entries kept in memory for followers that are a little behind.
pub const CACHE_BYTES_MAX: usize = 128 * 1024;

/// The most rounds of confirmation that are remembered. A quorum answers within a heartbeat
/// interval or not at all; 128 is more rounds than begin in that time.
pub const TICKETS_MAX: usize = 128;

/// The bounds of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimits {
    /// See [`APPEND_BYTES_MAX`]. At most `uncommitted_bytes_max`.
    pub append_bytes_max: u64,
    /// See [`INFLIGHT_MAX`]. At least 1.
    pub inflight_max: usize,
    /// See [`UNCOMMITTED_BYTES_MAX`]. A single larger entry is proposed if nothing else is
    /// uncommitted.
    pub uncommitted_bytes_max: u64,
    /// See [`COMMITTED_BYTES_MAX`]. A larger single entry is handed out alone.
    pub committed_bytes_max: u64,
    /// See [`CACHE_BYTES_MAX`].
    pub cache_bytes_max: usize,
    /// See [`TICKETS_MAX`]. At least 1: without a remembered round there is no lease.
    pub tickets_max: usize,
}

impl Default for GroupLimits {
    fn default() -> GroupLimits {
        GroupLimits {
            append_bytes_max: APPEND_BYTES_MAX,
            inflight_max: INFLIGHT_MAX,
            uncommitted_bytes_max: UNCOMMITTED_BYTES_MAX,
            committed_bytes_max: COMMITTED_BYTES_MAX,
            cache_bytes_max: CACHE_BYTES_MAX,
            tickets_max: TICKETS_MAX,
        }
    }
}

impl GroupLimits {
    /// These bounds, each moved to the nearest value with which a group works.
    pub fn workable(self) -> GroupLimits {
        GroupLimits {
            inflight_max: self.inflight_max.max(1),
            // The `raft` crate refuses to open a group with more.
            append_bytes_max: self.append_bytes_max.min(self.uncommitted_bytes_max),
            tickets_max: self.tickets_max.max(1),
            ..self
        }
    }
}
