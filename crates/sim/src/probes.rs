//! What clients that stick to a store wait for (see [`crate::duel`]).

use std::collections::BTreeMap;

use flotilla_types::StoreId;

use crate::time::{MS, Micros};

/// The number under which they are known.
pub const PROBE: u32 = 1 << 24;

/// How long one of them waits for an answer before it asks again.
const PATIENCE: Micros = 250 * MS;

/// When an answer would come too late to be told.
const FORGOTTEN: Micros = 5_000 * MS;

/// What they wait for.
#[derive(Debug, Default)]
pub struct Probes {
    /// Calls without an answer, by attempt.
    pub open: BTreeMap<u64, Open>,
    /// Attempts so far.
    pub attempts: u64,
}

/// A call without an answer.
#[derive(Clone, Copy, Debug)]
pub struct Open {
    /// Its place in the history.
    pub record: usize,
    /// The store that was asked.
    pub to: StoreId,
    /// True for a write.
    pub is_write: bool,
    /// When it was asked.
    pub asked: Micros,
}

impl Probes {
    /// True if a call of this kind to this store is under way: more of them at once would find out
    /// no more, and make histories that take long to judge.
    pub fn is_waiting(&mut self, to: StoreId, is_write: bool, now: Micros) -> bool {
        self.open.retain(|_, open| now < open.asked + FORGOTTEN);
        let is_same = |open: &Open| open.to == to && open.is_write == is_write;
        self.open.values().any(|open| is_same(open) && now < open.asked + PATIENCE)
    }
}
