//! What a member holds only while it leads: soft, gone with its leadership.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Millis, PeerId, Region, RegionId};

use crate::core::operator::OperatorIds;
use crate::core::operators::Operators;
use crate::core::view::View;

/// The most regions in one log entry: about 100 KiB.
const REGIONS_PER_ENTRY_MAX: usize = 1_000;

/// Ids of which the watermark is committed and that this leader uses for operators and their new
/// peers. What is left is lost with leadership.
///
/// A later incarnation of a peer must have the greater id (see the store's `route`), and the
/// earlier one may have its id from a split, out of a store's block. So these ids are good only
/// while no block was given out after them: while they end at the watermark.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OwnIds {
    next: u64,
    end: u64,
    is_asked: bool,
}

impl OwnIds {
    /// Below this many ids, more are asked for: enough for a plan of the greatest size.
    const LOW: u64 = 300;

    /// True once, when more ids should be asked for. `watermark` is the least id never given out.
    pub(crate) fn ask(&mut self, watermark: u64) -> bool {
        let is_outdated = self.end != watermark && !planted(Mutant::IdsOutdated);
        let is_short = self.end - self.next < OwnIds::LOW || is_outdated;
        let is_due = !self.is_asked && is_short;
        self.is_asked |= is_due;
        is_due
    }

    /// The asking has failed: ask again later.
    pub(crate) fn ask_again(&mut self) {
        self.is_asked = false;
    }

    /// A new block; the rest of the old one is dropped.
    pub(crate) fn refill(&mut self, start: u64, count: u64) {
        *self = OwnIds { next: start, end: start + count, is_asked: false };
    }

    /// The ids of a new operator; None if there are not enough good ones.
    pub(crate) fn take(&mut self, watermark: u64) -> Option<OperatorIds> {
        let is_outdated = self.end != watermark && !planted(Mutant::IdsOutdated);
        if self.end - self.next < 2 || is_outdated {
            return None;
        }
        self.next += 2;
        Some(OperatorIds { operator: self.next - 2, peer: PeerId(self.next - 1) })
    }
}

/// What a leader knows and plans.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Leading {
    /// The term it leads in.
    pub term: u64,
    /// What it has heard.
    pub view: View,
    /// What it has under way.
    pub operators: Operators,
    /// Ids for operators.
    pub ids: OwnIds,
    /// When to plan next.
    pub next_plan: Millis,
    /// True if some region has no known leader.
    pub has_unled: bool,
    /// Regions whose report is ahead of the range map.
    dirty: BTreeSet<RegionId>,
    /// Shapes that are proposed and not applied.
    proposed: BTreeMap<RegionId, Region>,
}

impl Leading {
    pub(crate) fn new(term: u64, now: Millis, view: View) -> Leading {
        Leading {
            term,
            view,
            operators: Operators::default(),
            ids: OwnIds::default(),
            next_plan: now,
            has_unled: true,
            dirty: BTreeSet::new(),
            proposed: BTreeMap::new(),
        }
    }

    /// Remembers that the region's report is ahead of the range map.
    pub(crate) fn note_change(&mut self, region: RegionId) {
        self.dirty.insert(region);
    }

    /// The shapes to propose now. `is_wanted` tells whether the range map lacks a shape and would
    /// take it; the others are forgotten. Those that are under way stay noted until they are
    /// applied, in case that fails.
    pub(crate) fn take_changes(&mut self, is_wanted: &dyn Fn(&Region) -> bool) -> Vec<Region> {
        let mut changes = vec![];
        let Leading { view, dirty, proposed, .. } = self;
        dirty.retain(|id| {
            let Some(shape) = view.region(*id).map(|report| &report.region) else { return false };
            if !is_wanted(shape) {
                return false;
            }
            if proposed.get(id) != Some(shape) && changes.len() < REGIONS_PER_ENTRY_MAX {
                changes.push(shape.clone());
            }
            true
        });
        changes
    }

    /// The shapes are in the log.
    pub(crate) fn note_proposed(&mut self, regions: &[Region]) {
        self.proposed.extend(regions.iter().map(|region| (region.id, region.clone())));
    }

    /// The shapes are applied.
    pub(crate) fn note_applied(&mut self, regions: &[Region]) {
        for region in regions {
            if self.proposed.get(&region.id) == Some(region) {
                self.proposed.remove(&region.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_ids_are_asked_for_once_and_never_taken_twice() {
        let mut ids = OwnIds::default();
        assert_eq!(ids.take(10), None);
        assert!(ids.ask(10));
        assert!(!ids.ask(10));
        ids.refill(10, 3);
        assert_eq!(ids.take(13), Some(OperatorIds { operator: 10, peer: PeerId(11) }));
        assert_eq!(ids.take(13), None, "one id is not enough for an operator and its peer");
        assert!(ids.ask(13));
    }

    #[test]
    fn own_ids_are_of_no_use_once_a_later_block_was_given_out() {
        let mut ids = OwnIds::default();
        ids.refill(1, 1_000);
        assert!(!ids.ask(1_001));
        assert!(ids.take(1_001).is_some());
        assert_eq!(ids.take(2_001), None, "a split may have used a greater id meanwhile");
        assert!(ids.ask(2_001));
    }
}
