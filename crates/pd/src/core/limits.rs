//! The bounds of what a member holds, proposes and starts at once, and of how long that may take.
//!
//! Each bound has a constant that says where its number comes from; [`PdLimits::default`] is made
//! of these. The placement driver makes progress at any number of things, bytes and ids:
//! [`PdLimits::workable`] raises what would stop it to the least value that a field's documentation
//! names. A time must be longer than what it bounds takes.

use flotilla_group::GroupLimits;
use flotilla_types::Region;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::region::region_bytes;

/// No id is higher: a caller that names a higher one is damaged, and must not use all ids up.
pub const ID_MAX: u64 = 1 << 62;

/// Ids in a block: a store splits a few hundred times before it needs another.
pub const ID_BLOCK: u64 = 1_000;

/// The fewest ids in a block: three tenths of it, at which a store is given another, are as many as
/// a split of a region of many members takes.
pub const ID_BLOCK_MIN: u64 = 64;

/// The most proposals and reads that wait: as many as the driver's inbox holds. Beyond it, callers
/// are told to try again.
pub const WAITING_MAX: usize = 4096;

/// How long a read waits for its confirmation; the `raft` crate forgets one now and then.
pub const READ_MS_MAX: u64 = 2_000;

/// The most regions in one log entry: about 100 KiB.
pub const REGIONS_PER_ENTRY_MAX: usize = 1_000;

/// The most bytes of regions in one log entry, unless one region alone has more: as many as a group
/// sends in one message.
pub const REGIONS_PER_ENTRY_BYTES_MAX: usize = 1024 * 1024;

/// The most bytes of routes in one reply, roughly; a caller goes on from the last one's end. A
/// quarter of what a receiver decodes by default leaves room for keys of the greatest length.
pub const ROUTE_BYTES_MAX: usize = 1024 * 1024;

/// The most operators that checker and schedulers have under way: enough to keep ten stores busy
/// with a few snapshots each, and few enough to read in a list.
pub const OPERATORS_MAX: usize = 64;

/// The most operators of administrators under way.
pub const ADMIN_OPERATORS_MAX: usize = 256;

/// How long an operator may take: a snapshot of a large region over a slow link.
pub const OPERATOR_MS_MAX: u64 = 600_000;

/// How long a leadership transfer or a split may take. Each is one message or one entry, and one
/// that cannot be done must not keep repair from the region.
pub const QUICK_OPERATOR_MS_MAX: u64 = 10_000;

/// The most leaderships that are moved at once to even them out: each stops its region's writes
/// for a moment.
pub const BALANCE_TRANSFERS_MAX: usize = 4;

/// The most peers that are moved at once to even out how many each store has: as many as two
/// stores that have just joined receive at once.
pub const BALANCE_MOVES_MAX: usize = 8;

/// The most peers that are being added to one store at once: each is a snapshot to receive.
pub const ADDITIONS_PER_STORE_MAX: u64 = 4;

/// Bytes of a route on the wire besides its region: two numbers and the leader.
const ROUTE_BYTES: usize = 60;

/// The bounds of one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PdLimits {
    /// The bounds of the member's group.
    pub group: GroupLimits,
    /// See [`ID_BLOCK`]. At least [`ID_BLOCK_MIN`].
    pub id_block: u64,
    /// See [`WAITING_MAX`]. At least 1.
    pub waiting_max: usize,
    /// See [`READ_MS_MAX`].
    pub read_ms_max: u64,
    /// See [`REGIONS_PER_ENTRY_MAX`]. At least 1.
    pub regions_per_entry_max: usize,
    /// See [`REGIONS_PER_ENTRY_BYTES_MAX`]. An entry has at least one region.
    pub regions_per_entry_bytes_max: usize,
    /// See [`ROUTE_BYTES_MAX`]. A page has at least one route.
    pub route_bytes_max: usize,
    /// See [`OPERATORS_MAX`]. At least 1.
    pub operators_max: usize,
    /// See [`ADMIN_OPERATORS_MAX`]. At least 1.
    pub admin_operators_max: usize,
    /// See [`BALANCE_TRANSFERS_MAX`].
    pub balance_transfers_max: usize,
    /// See [`BALANCE_MOVES_MAX`]. 0: none is moved for that.
    pub balance_moves_max: usize,
    /// See [`ADDITIONS_PER_STORE_MAX`]. At least 1.
    pub additions_per_store_max: u64,
    /// See [`OPERATOR_MS_MAX`].
    pub operator_ms_max: u64,
    /// See [`QUICK_OPERATOR_MS_MAX`].
    pub quick_operator_ms_max: u64,
}

impl Default for PdLimits {
    fn default() -> PdLimits {
        PdLimits {
            group: GroupLimits::default(),
            id_block: ID_BLOCK,
            waiting_max: WAITING_MAX,
            read_ms_max: READ_MS_MAX,
            regions_per_entry_max: REGIONS_PER_ENTRY_MAX,
            regions_per_entry_bytes_max: REGIONS_PER_ENTRY_BYTES_MAX,
            route_bytes_max: ROUTE_BYTES_MAX,
            operators_max: OPERATORS_MAX,
            admin_operators_max: ADMIN_OPERATORS_MAX,
            balance_transfers_max: BALANCE_TRANSFERS_MAX,
            balance_moves_max: BALANCE_MOVES_MAX,
            additions_per_store_max: ADDITIONS_PER_STORE_MAX,
            operator_ms_max: OPERATOR_MS_MAX,
            quick_operator_ms_max: QUICK_OPERATOR_MS_MAX,
        }
    }
}

/// What a route counts in an answer, in bytes.
pub fn route_bytes(region: &Region) -> usize {
    ROUTE_BYTES + region_bytes(region)
}

impl PdLimits {
    /// These bounds, each raised to its least value.
    pub fn workable(self) -> PdLimits {
        PdLimits {
            group: self.group.workable(),
            id_block: self.id_block.max(ID_BLOCK_MIN),
            waiting_max: self.waiting_max.max(1),
            regions_per_entry_max: self.regions_per_entry_max.max(1),
            operators_max: self.operators_max.max(1),
            admin_operators_max: self.admin_operators_max.max(1),
            additions_per_store_max: self.additions_per_store_max.max(1),
            ..self
        }
    }

    /// A holder of ids with fewer left is given a new block, long before the rest is used up.
    pub fn ids_low(&self) -> u64 {
        if planted(Mutant::IdsLowFixed) {
            return 300;
        }
        self.id_block * 3 / 10
    }
}
