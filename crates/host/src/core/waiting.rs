//! Who waits for a proposed entry, by the entry's position in the log.
//!
//! The entry that is applied at an index decides all who wait there or before it. The position that
//! a proposal was given holds its entry only if the terms are equal: terms never fall along a log,
//! so a proposal of another term was dropped and never takes effect. For the same reason the entry
//! decides all who wait for an earlier term at a later index: no entry of that term follows it.
//!
//! Invariant: whoever waits does so for a term no earlier than that of the last applied entry.
//!
//! Not here: what waiters are told, and what becomes of them when leadership is lost.

use std::collections::BTreeMap;

use flotilla_group::Position;
use flotilla_types::mutant::{Mutant, planted};

/// See the module's documentation. `W` is what waits at one position.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiters<W> {
    waiters: BTreeMap<Position, W>,
    /// The term of the last applied entry: nobody waits for an earlier one.
    applied_term: u64,
}

/// Waiters that an applied entry has decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided<W> {
    /// The waiter of the entry itself.
    pub applied: Option<W>,
    /// Waiters of proposals that were dropped from the log, in the log's order.
    pub dropped: Vec<W>,
}

impl<W> Default for Waiters<W> {
    fn default() -> Waiters<W> {
        Waiters { waiters: BTreeMap::new(), applied_term: 0 }
    }
}

impl<W> Waiters<W> {
    /// How many positions are waited for.
    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    /// True if nobody waits.
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    /// `waiter` waits for the entry that was proposed at `position`.
    pub fn insert(&mut self, position: Position, waiter: W) {
        self.waiters.insert(position, waiter);
    }

    /// The entry at `position` is applied.
    pub fn applied(&mut self, position: Position) -> Decided<W> {
        let after = Position { index: position.index + 1, term: 0 };
        let later = self.waiters.split_off(&after);
        let decided = std::mem::replace(&mut self.waiters, later);
        let mut all = Decided { applied: None, dropped: vec![] };
        for (waiting_at, waiter) in decided {
            if all.applied.is_none() && is_decided_by(waiting_at, position) {
                all.applied = Some(waiter);
            } else {
                all.dropped.push(waiter);
            }
        }
        if position.term > self.applied_term {
            self.applied_term = position.term;
            all.dropped.extend(self.take_outdated(position.term));
        }
        all
    }

    /// Takes the waiters of terms before `term`, in the log's order.
    fn take_outdated(&mut self, term: u64) -> Vec<W> {
        let least = least_decidable(term);
        let waiters = std::mem::take(&mut self.waiters).into_iter();
        let (outdated, kept): (BTreeMap<_, _>, _) =
            waiters.partition(|(position, _)| position.term < least);
        self.waiters = kept;
        outdated.into_values().collect()
    }

    /// The least position that is waited for.
    pub fn first(&self) -> Option<Position> {
        self.waiters.first_key_value().map(|(position, _)| *position)
    }

    /// All waiters, in the log's order.
    pub fn iter(&self) -> impl Iterator<Item = &W> {
        self.waiters.values()
    }

    /// All waiters, in the log's order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut W> {
        self.waiters.values_mut()
    }

    /// Takes all waiters, in the log's order: nobody waits any more.
    pub fn take_all(&mut self) -> Vec<W> {
        std::mem::take(&mut self.waiters).into_values().collect()
    }
}

/// The least term of which an entry may follow one of `term`.
fn least_decidable(term: u64) -> u64 {
    if planted(Mutant::DroppedWaitOn) {
        return 0;
    }
    if planted(Mutant::DroppedTooMany) {
        return term + 1;
    }
    term
}

/// True if the entry at `position` is the one that was proposed at `waiting_at`.
fn is_decided_by(waiting_at: Position, position: Position) -> bool {
    if planted(Mutant::AckOtherTerm) {
        return waiting_at.index == position.index;
    }
    waiting_at == position
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64, term: u64) -> Position {
        Position { index, term }
    }

    #[test]
    fn an_entry_decides_its_own_waiter_and_all_before_it() {
        let mut waiting = Waiters::default();
        for (position, waiter) in
            [(at(5, 2), "dropped"), (at(6, 2), "also"), (at(6, 3), "applied"), (at(7, 3), "later")]
        {
            waiting.insert(position, waiter);
        }
        let decided = waiting.applied(at(6, 3));
        assert_eq!(decided, Decided { applied: Some("applied"), dropped: vec!["dropped", "also"] });
        assert_eq!((waiting.len(), waiting.first()), (1, Some(at(7, 3))));
        assert_eq!(waiting.take_all(), ["later"]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn an_entry_drops_later_proposals_of_earlier_terms() {
        let mut waiting = Waiters::default();
        for (position, waiter) in
            [(at(6, 2), "dropped"), (at(7, 2), "too"), (at(8, 3), "later"), (at(9, 2), "also")]
        {
            waiting.insert(position, waiter);
        }
        let decided = waiting.applied(at(5, 3));
        assert_eq!(decided, Decided { applied: None, dropped: vec!["dropped", "too", "also"] });
        assert_eq!(waiting.take_all(), ["later"]);
    }

    #[test]
    fn an_entry_of_another_term_drops_the_proposal() {
        let mut waiting = Waiters::default();
        waiting.insert(at(5, 2), "proposed");
        let decided = waiting.applied(at(5, 3));
        assert_eq!(decided, Decided { applied: None, dropped: vec!["proposed"] });
    }
}
