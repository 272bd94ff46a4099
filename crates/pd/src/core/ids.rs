//! The ids that a leader gives to operators and to their new peers, and those that stores use.
//!
//! A later incarnation of a peer must have the greater id (see the store's `route`). An earlier
//! incarnation may have its id from a split, out of a store's block. So the ids of this buffer are
//! usable only while no block was handed out after them: while they end at the watermark.
//!
//! A member that was put back from an older copy of its directory has a watermark below ids that
//! are in use. So a leader leases no block before the watermark is above all ids that stores have
//! named in full heartbeats; and a member that is alone leases none before every store in service
//! at the beginning of its term has named its own ([`NamedIds`]). A store that is down does not
//! hold that up: what it names later raises the watermark then. A leader of several members waits
//! for no store: the others elected it, and have every block that was handed out.

use std::collections::BTreeSet;

use flotilla_types::heartbeat::IdBlock;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{PeerId, StoreId};

use crate::core::limits::ID_MAX;
use crate::core::operator::OperatorIds;

/// The ids that stores have named to a leader as used, and who has yet to name some.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NamedIds {
    highest: u64,
    /// Stores that are waited for: they have sent no full heartbeat in this term.
    awaited: BTreeSet<StoreId>,
}

impl NamedIds {
    /// At the beginning of a term in which the ids of these stores are waited for.
    pub(crate) fn awaited_from(stores: impl Iterator<Item = StoreId>) -> NamedIds {
        NamedIds { highest: 0, awaited: stores.collect() }
    }

    /// A store names an id that is in use.
    pub(crate) fn note(&mut self, id: u64) {
        if id <= ID_MAX {
            self.highest = self.highest.max(id);
        }
    }

    /// The store has named the highest id that it knows.
    pub(crate) fn note_full(&mut self, store: StoreId) {
        self.awaited.remove(&store);
    }

    /// The highest id that was named, if the watermark is not above it.
    pub(crate) fn above(&self, watermark: u64) -> Option<u64> {
        if planted(Mutant::IdsNotRaised) {
            return None;
        }
        (self.highest >= watermark).then_some(self.highest)
    }

    /// True if ids from `watermark` on are known to be unused. `is_lost` tells which stores are not
    /// waited for.
    pub(crate) fn may_lease(&self, watermark: u64, is_lost: impl Fn(StoreId) -> bool) -> bool {
        if planted(Mutant::IdsNotRaised) {
            return true;
        }
        self.above(watermark).is_none() && self.awaited.iter().all(|store| is_lost(*store))
    }

    /// The stores that have not named their ids in this term.
    pub(crate) fn awaited(&self) -> impl Iterator<Item = StoreId> {
        self.awaited.iter().copied()
    }
}

/// Ids of which the watermark is committed. What is left is lost with leadership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IdBuffer {
    /// Below this many ids, the leader asks for more.
    low: u64,
    next: u64,
    end: u64,
    is_requested: bool,
}

impl IdBuffer {
    /// No ids; with fewer than `low` left, the leader is to ask for more.
    pub(crate) fn new(low: u64) -> IdBuffer {
        IdBuffer { low, ..IdBuffer::default() }
    }

    /// True once, when the leader should ask for more ids. `watermark` is the least id that was
    /// never handed out.
    pub(crate) fn request(&mut self, watermark: u64) -> bool {
        let is_short = self.end - self.next < self.low || self.is_outdated(watermark);
        let is_due = !self.is_requested && is_short;
        self.is_requested |= is_due;
        is_due
    }

    /// The request for ids has failed: the leader should ask again.
    pub(crate) fn request_failed(&mut self) {
        self.is_requested = false;
    }

    /// A new block has arrived; the rest of the old one is dropped.
    pub(crate) fn refill(&mut self, block: IdBlock) {
        (self.next, self.end) = (block.start, block.start + block.count);
        self.is_requested = false;
    }

    /// The ids of a new operator; None if there are not enough usable ones.
    pub(crate) fn take(&mut self, watermark: u64) -> Option<OperatorIds> {
        if self.end - self.next < 2 || self.is_outdated(watermark) {
            return None;
        }
        self.next += 2;
        Some(OperatorIds { operator: self.next - 2, peer: PeerId(self.next - 1) })
    }

    fn is_outdated(&self, watermark: u64) -> bool {
        if planted(Mutant::IdsOutdated) {
            return false;
        }
        self.end != watermark
    }

    /// Checks that no id at or above `watermark` is in the buffer.
    ///
    /// # Panics
    /// If an id could be given to an operator and handed out to a store as well.
    pub(crate) fn check(&self, watermark: u64) {
        let (next, end) = (self.next, self.end);
        assert!(next <= end, "the next id {next} is behind the end {end}");
        assert!(end <= watermark, "ids up to {end} are above the watermark {watermark}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_is_leased_before_every_store_that_is_not_lost_has_named_its_own() {
        let stores = [StoreId(1), StoreId(2), StoreId(3)];
        let mut named = NamedIds::awaited_from(stores.into_iter());
        let is_lost = |store| store == StoreId(3);
        assert!(!named.may_lease(10, is_lost));
        named.note_full(StoreId(1));
        named.note(12);
        named.note(u64::MAX);
        named.note_full(StoreId(2));
        assert_eq!(named.above(10), Some(12));
        assert!(!named.may_lease(12, is_lost), "12 is in use");
        assert!(named.may_lease(13, is_lost));
        assert!(!named.may_lease(13, |_| false));
    }

    #[test]
    fn ids_are_requested_once_and_never_taken_twice() {
        let mut ids = IdBuffer::new(300);
        assert_eq!(ids.take(10), None);
        assert!(ids.request(10));
        assert!(!ids.request(10));
        ids.refill(IdBlock { start: 10, count: 3 });
        assert_eq!(ids.take(13), Some(OperatorIds { operator: 10, peer: PeerId(11) }));
        assert_eq!(ids.take(13), None, "one id is not enough for an operator and its peer");
        assert!(ids.request(13));
    }

    #[test]
    fn a_request_for_ids_that_failed_is_made_again() {
        let mut ids = IdBuffer::new(300);
        assert!(ids.request(10));
        ids.request_failed();
        assert!(ids.request(10));
        assert!(!ids.request(10));
    }

    #[test]
    fn ids_are_of_no_use_once_a_later_block_was_handed_out() {
        let mut ids = IdBuffer::new(300);
        ids.refill(IdBlock { start: 1, count: 1_000 });
        assert!(!ids.request(1_001));
        assert!(ids.take(1_001).is_some());
        assert_eq!(ids.take(2_001), None, "a split may have used a greater id meanwhile");
        assert!(ids.request(2_001));
    }
}
