//! The ids that a leader gives to its operators and to their new peers.
//!
//! A later incarnation of a peer must have the greater id (see the store's `route`). An earlier
//! incarnation may have its id from a split, out of a store's block. So the ids of this buffer are
//! usable only while no block was handed out after them: while they end at the watermark.

use flotilla_types::PeerId;
use flotilla_types::heartbeat::IdBlock;
use flotilla_types::mutant::{Mutant, planted};

use crate::core::operator::OperatorIds;

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
    fn ids_are_of_no_use_once_a_later_block_was_handed_out() {
        let mut ids = IdBuffer::new(300);
        ids.refill(IdBlock { start: 1, count: 1_000 });
        assert!(!ids.request(1_001));
        assert!(ids.take(1_001).is_some());
        assert_eq!(ids.take(2_001), None, "a split may have used a greater id meanwhile");
        assert!(ids.request(2_001));
    }
}
