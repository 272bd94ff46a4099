//! The open calls of probes: the clients that stick to a store (see [`crate::sticky`], which sends
//! the calls and records the answers).

use std::collections::BTreeMap;

use flotilla_types::{RegionId, StoreId};

use crate::time::{MS, Micros};

/// The client number of all probes.
pub const PROBE: u32 = 1 << 24;

/// How long a probe waits for an answer before it asks again.
const ASK_AGAIN_AFTER: Micros = 250 * MS;

/// How long an open call is remembered: a later answer is not recorded.
const FORGET_AFTER: Micros = 5_000 * MS;

/// The open calls of all probes.
#[derive(Debug, Default)]
pub struct Probes {
    /// Calls without an answer, by the attempt's number.
    pub open: BTreeMap<u64, Open>,
    /// The number of attempts so far.
    pub attempts: u64,
}

/// A call without an answer.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    /// The place of the call's record in the history.
    pub record: usize,
    /// The region that was asked.
    pub region: RegionId,
    /// The store that was asked.
    pub to: StoreId,
    /// True for a write.
    pub is_write: bool,
    /// When the request was sent.
    pub asked: Micros,
}

impl Probes {
    /// True if a call of this kind to this store's peer is under way. More calls at once would find
    /// nothing more, and would make histories that take long to check.
    pub fn is_waiting(&mut self, to: (RegionId, StoreId), is_write: bool, now: Micros) -> bool {
        self.open.retain(|_, open| now < open.asked + FORGET_AFTER);
        let is_same = |open: &Open| (open.region, open.to) == to && open.is_write == is_write;
        self.open.values().any(|open| is_same(open) && now < open.asked + ASK_AGAIN_AFTER)
    }
}
