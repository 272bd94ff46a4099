//! The bounds of what a store holds in memory, of what it does in one turn, and of how long it
//! keeps things.
//!
//! Each bound has a constant that says where its number comes from; [`StoreLimits::default`] is
//! made of these. A store makes progress at any number of things and bytes:
//! [`StoreLimits::workable`] raises what would stop it to the least value that a field's
//! documentation names. A time must be longer than what it bounds takes.

use flotilla_group::GroupLimits;
use flotilla_types::limits::{BATCH_BYTES_MAX, MESSAGE_BYTES_MAX, REPLY_BYTES_MAX};

/// Writes in one entry at most: bounds the time that one entry takes to apply.
pub const ENTRY_OPS_MAX: usize = 1024;

/// Bytes of writes after which an entry is closed. A larger single write makes its own entry.
pub const ENTRY_BYTES_TARGET: usize = 512 * 1024;

/// Bytes of writes that wait for the end of the turn; more are refused as ServerBusy. Two of the
/// largest batches.
pub const QUEUED_BYTES_MAX: usize = 2 * BATCH_BYTES_MAX;

/// Reads of one region that wait at once: what one busy connection may have open.
pub const READS_WAITING_MAX: usize = 8 * 1024;

/// Bytes of rows that one turn walks, for one region; about a millisecond.
pub const COUNT_STEP_BYTES_MAX: u64 = 1024 * 1024;

/// Samples kept during a count: the split key of a region of any size is at most 1/2048 of the
/// region off the middle.
pub const COUNT_SAMPLES_MAX: usize = 4096;

/// Regions in one heartbeat; the rest follow at once. Keeps a message well below its limit.
pub const REPORTS_MAX: usize = 2_000;

/// Bytes of the reports in one heartbeat; the rest follow at once. A quarter of the message limit
/// leaves room for what else a heartbeat carries.
pub const REPORTS_BYTES_MAX: usize = MESSAGE_BYTES_MAX / 4;

/// Votes kept for regions whose split is not applied here yet. One for each region of a store that
/// is cut at once; beyond it, an election timeout makes up for a lost one.
pub const KEPT_VOTES_MAX: usize = 1024;

/// Peers outside a region whose stores are remembered: more than any region has members.
pub const NON_MEMBERS_MAX: usize = 16;

/// How long writes of a lost leadership wait for the new leader to decide them: two election
/// timeouts at most, and a margin.
pub const ORPHANED_MS_MAX: u64 = 2_500;

/// How long a view is kept for followers that need a snapshot.
pub const EXPORT_MS_MAX: u64 = 60_000;

/// A checkpoint begins at the latest this long after a change: bounds what a restart redoes when
/// there is little load.
pub const CHECKPOINT_MS_MAX: u64 = 5_000;

/// A member that has not written for this long is unreachable: several heartbeats.
pub const UNREACHABLE_MS: u64 = 3_000;

/// The bounds of the reports in one heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportLimits {
    /// See [`REPORTS_MAX`]. At least 1.
    pub reports_max: usize,
    /// See [`REPORTS_BYTES_MAX`]. A heartbeat has at least one report.
    pub reports_bytes_max: usize,
}

/// The bounds of one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreLimits {
    /// The bounds of each group.
    pub group: GroupLimits,
    /// See [`ENTRY_OPS_MAX`].
    pub entry_ops_max: usize,
    /// See [`ENTRY_BYTES_TARGET`].
    pub entry_bytes_target: usize,
    /// See [`QUEUED_BYTES_MAX`]. A larger single write is taken if no other waits.
    pub queued_bytes_max: usize,
    /// See [`READS_WAITING_MAX`]. At least 1.
    pub reads_waiting_max: usize,
    /// See [`REPLY_BYTES_MAX`]. A single larger value is still read, alone.
    pub reply_bytes_max: usize,
    /// See [`COUNT_STEP_BYTES_MAX`]. A step walks at least one row.
    pub count_step_bytes_max: u64,
    /// See [`COUNT_SAMPLES_MAX`]. At least 4: with fewer there may be no key to cut a region at.
    pub count_samples_max: usize,
    /// Those of a heartbeat's reports.
    pub reports: ReportLimits,
    /// See [`KEPT_VOTES_MAX`].
    pub kept_votes_max: usize,
    /// See [`NON_MEMBERS_MAX`]. At least 1: a new peer answers the leader that it learns of.
    pub non_members_max: usize,
    /// See [`ORPHANED_MS_MAX`].
    pub orphaned_ms_max: u64,
    /// See [`EXPORT_MS_MAX`]. A view is kept for the least election timeout in any case.
    pub export_ms_max: u64,
    /// See [`CHECKPOINT_MS_MAX`].
    pub checkpoint_ms_max: u64,
    /// See [`UNREACHABLE_MS`].
    pub unreachable_ms: u64,
}

impl Default for StoreLimits {
    fn default() -> StoreLimits {
        StoreLimits {
            group: GroupLimits::default(),
            entry_ops_max: ENTRY_OPS_MAX,
            entry_bytes_target: ENTRY_BYTES_TARGET,
            queued_bytes_max: QUEUED_BYTES_MAX,
            reads_waiting_max: READS_WAITING_MAX,
            reply_bytes_max: REPLY_BYTES_MAX,
            count_step_bytes_max: COUNT_STEP_BYTES_MAX,
            count_samples_max: COUNT_SAMPLES_MAX,
            reports: ReportLimits {
                reports_max: REPORTS_MAX,
                reports_bytes_max: REPORTS_BYTES_MAX,
            },
            kept_votes_max: KEPT_VOTES_MAX,
            non_members_max: NON_MEMBERS_MAX,
            orphaned_ms_max: ORPHANED_MS_MAX,
            export_ms_max: EXPORT_MS_MAX,
            checkpoint_ms_max: CHECKPOINT_MS_MAX,
            unreachable_ms: UNREACHABLE_MS,
        }
    }
}

impl StoreLimits {
    /// These bounds, each raised to its least value.
    pub fn workable(self) -> StoreLimits {
        StoreLimits {
            group: self.group.workable(),
            reads_waiting_max: self.reads_waiting_max.max(1),
            count_samples_max: self.count_samples_max.max(4),
            reports: ReportLimits { reports_max: self.reports.reports_max.max(1), ..self.reports },
            non_members_max: self.non_members_max.max(1),
            ..self
        }
    }
}
