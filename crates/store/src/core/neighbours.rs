//! The stores that share a region with this one: who they are, and when the last beat of each came.
//!
//! With each tick a store sends a beat to each of its neighbours ([`super::quiesce`] says why). A
//! neighbour that sent none for an election timeout is *unreachable*, until its next beat.
//!
//! In: beats, and the stores that regions name. Out: which neighbours became unreachable or
//! reachable, and the last sign of life of each. Not here: what that means for regions.

use std::collections::BTreeMap;

use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Millis, StoreId};

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Neighbours {
    stores: BTreeMap<StoreId, Neighbour>,
}

/// Another store that has a member of a region of this one.
#[derive(Debug)]
struct Neighbour {
    /// When it last beat; before its first beat, when this store met it.
    last_beat_at: Millis,
    /// Its process; 0 before its first beat.
    incarnation: u64,
    is_unreachable: bool,
}

/// What a beat says of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeatFrom {
    /// It is no neighbour.
    Stranger,
    /// It is the process that it was, and was reachable before.
    Same,
    /// It was unreachable until now, or is another process.
    Returned,
}

impl Neighbours {
    /// A region names the store: it is a neighbour from now on, if it was none.
    pub fn meet(&mut self, store: StoreId, now: Millis) {
        let new = Neighbour { last_beat_at: now, incarnation: 0, is_unreachable: false };
        self.stores.entry(store).or_insert(new);
    }

    /// Keeps only the neighbours that `is_named` holds for.
    pub fn retain(&mut self, is_named: impl Fn(StoreId) -> bool) {
        self.stores.retain(|store, _| is_named(*store));
    }

    /// All neighbours, by id.
    pub fn stores(&self) -> impl Iterator<Item = StoreId> {
        self.stores.keys().copied()
    }

    /// The neighbours that are unreachable since now: no beat came for `unreachable_ms`.
    pub fn take_lost(&mut self, now: Millis, unreachable_ms: u64) -> Vec<StoreId> {
        let mut lost = vec![];
        for (store, other) in &mut self.stores {
            if !other.is_unreachable && now.since(other.last_beat_at) >= unreachable_ms {
                other.is_unreachable = true;
                lost.push(*store);
            }
        }
        lost
    }

    /// A beat came.
    pub fn on_beat(&mut self, from: StoreId, incarnation: u64, now: Millis) -> BeatFrom {
        let Some(other) = self.stores.get_mut(&from) else { return BeatFrom::Stranger };
        let before = std::mem::replace(&mut other.incarnation, incarnation);
        let was_unreachable = std::mem::replace(&mut other.is_unreachable, false);
        other.last_beat_at = now;
        match was_unreachable || is_another_process(before, incarnation) {
            true => BeatFrom::Returned,
            false => BeatFrom::Same,
        }
    }

    /// True if the store is a neighbour and unreachable.
    pub fn is_unreachable(&self, store: StoreId) -> bool {
        self.stores.get(&store).is_some_and(|other| other.is_unreachable)
    }

    /// When a neighbour last beat, or was met; None for other stores.
    pub fn last_beat_at(&self, store: StoreId) -> Option<Millis> {
        self.stores.get(&store).map(|other| other.last_beat_at)
    }
}

/// True if beats of `before` and `now` come from two processes. The first beat tells nothing.
fn is_another_process(before: u64, now: u64) -> bool {
    if planted(Mutant::IncarnationIgnored) {
        return false;
    }
    before != 0 && before != now
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId(7);

    #[test]
    fn a_neighbour_is_unreachable_from_an_election_timeout_after_its_last_beat_to_the_next() {
        let mut neighbours = Neighbours::default();
        neighbours.meet(STORE, Millis(1_000));
        assert_eq!(neighbours.on_beat(STORE, 5, Millis(1_100)), BeatFrom::Same);
        assert_eq!(neighbours.take_lost(Millis(1_599), 500), []);
        assert_eq!(neighbours.take_lost(Millis(1_600), 500), [STORE]);
        assert_eq!(neighbours.take_lost(Millis(1_700), 500), [], "it is lost once");
        assert!(neighbours.is_unreachable(STORE));
        assert_eq!(neighbours.on_beat(STORE, 5, Millis(1_800)), BeatFrom::Returned);
        assert!(!neighbours.is_unreachable(STORE));
        assert_eq!(neighbours.last_beat_at(STORE), Some(Millis(1_800)));
    }

    #[test]
    fn another_process_of_a_neighbour_is_told_from_its_first_beat() {
        let mut neighbours = Neighbours::default();
        assert_eq!(neighbours.on_beat(STORE, 5, Millis(1_000)), BeatFrom::Stranger);
        neighbours.meet(STORE, Millis(1_000));
        neighbours.meet(STORE, Millis(1_050));
        assert_eq!(neighbours.last_beat_at(STORE), Some(Millis(1_000)), "it was met before");
        for (incarnation, expected) in
            [(5, BeatFrom::Same), (6, BeatFrom::Returned), (6, BeatFrom::Same)]
        {
            assert_eq!(neighbours.on_beat(STORE, incarnation, Millis(1_100)), expected);
        }
        neighbours.retain(|store| store != STORE);
        assert_eq!(neighbours.stores().count(), 0);
    }
}
