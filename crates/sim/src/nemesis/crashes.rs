//! Faults of processes: crashes of one store, several or all, and restart storms.
//!
//! Strikes (crashes in the moment of a change) happen in [`crate::hub`]. What a crash loses of a
//! disk is in [`crate::store::disk`].

use flotilla_types::StoreId;

use crate::check::{Verdict, Violation};
use crate::event::{Event, Relief};
use crate::store::disk::Loss;
use crate::time::{MS, Micros};
use crate::world::World;

/// The greatest number of restarts in a storm.
const STORM_RESTARTS_MAX: u64 = 6;

impl World {
    pub(super) fn loss(&mut self) -> Loss {
        if !self.hub.scenario.faults.power_loss || self.hub.dice.acts.chance(200) {
            return Loss::Nothing;
        }
        if self.hub.dice.acts.chance(400) { Loss::Some } else { Loss::All }
    }

    pub(super) fn crash_some(&mut self, count: usize) -> Result<bool, Violation> {
        let mut victims: Vec<StoreId> = self.stores.keys().copied().collect();
        self.hub.dice.acts.shuffle(&mut victims);
        for victim in victims.into_iter().take(count) {
            let (loss, down) = (self.loss(), self.fault_time());
            let is_leaving = self.stores.get_mut(&victim).is_some_and(|s| s.leave(&mut self.hub));
            if !is_leaving {
                self.crash_store(victim, loss, down)?;
            }
        }
        Ok(true)
    }

    pub(crate) fn crash_store(&mut self, victim: StoreId, loss: Loss, down: Micros) -> Verdict {
        match self.stores.get_mut(&victim) {
            Some(store) => store.crash(&mut self.hub, loss, down),
            None => Ok(()),
        }
    }

    pub(super) fn storm(&mut self) -> Result<bool, Violation> {
        let Some(victim) = self.any_store() else { return Ok(false) };
        let times = self.hub.dice.acts.between(1, STORM_RESTARTS_MAX);
        self.nemesis.storms.insert(victim, times);
        let loss = self.loss();
        self.crash_store(victim, loss, 50 * MS)?;
        Ok(true)
    }

    /// A store has started: a storm may kill the store again, while it recovers.
    pub(crate) fn storm_on(&mut self, store: StoreId) {
        if self.nemesis.is_over {
            return;
        }
        if let Some(times) = self.nemesis.storms.get_mut(&store) {
            *times -= 1;
            if *times == 0 {
                self.nemesis.storms.remove(&store);
            }
            let delay = self.hub.dice.acts.between(0, 400 * MS);
            self.hub.agenda.after(delay, Event::Relief(Relief::Crash(store)));
        }
    }
}
