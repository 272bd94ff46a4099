//! Who waits for a proposed entry, by the entry's position in the log.
//!
//! The entry that is applied at an index decides all who wait there or before it. The position that
//! a proposal was given holds its entry only if the terms are equal: terms never fall along a log,
//! so a proposal of another term was dropped and never takes effect.
//!
//! Not here: what waiters are told, and what becomes of them when leadership is lost.

use std::collections::BTreeMap;

use flotilla_group::Position;
use flotilla_types::mutant::{Mutant, planted};

/// See the module's documentation. `W` is what waits at one position.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiters<W> {
    waiters: BTreeMap<Position, W>,
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
        Waiters { waiters: BTreeMap::new() }
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
        all
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
    fn an_entry_of_another_term_drops_the_proposal() {
        let mut waiting = Waiters::default();
        waiting.insert(at(5, 2), "proposed");
        let decided = waiting.applied(at(5, 3));
        assert_eq!(decided, Decided { applied: None, dropped: vec!["proposed"] });
    }
}
