//! Faults of time: threads that pause, clocks that change their rate or jump forward. How a clock
//! counts is in [`crate::clock`].

use crate::scenario::RATES;
use crate::time::MS;
use crate::world::World;

impl World {
    pub(super) fn pause(&mut self) -> bool {
        // Many pauses are about as long as an election timeout: only these put a lease at risk.
        let is_short = self.hub.dice.acts.chance(600);
        let (usual, victim) = (self.fault_time(), self.victim());
        let percent = self.hub.scenario.timing.election() / 100;
        let short = self.hub.dice.acts.between(40 * percent, 360 * percent);
        let time = if is_short { short } else { usual };
        let until = self.hub.now() + time;
        let store = victim.and_then(|victim| self.stores.get_mut(&victim));
        let Some(process) = store.and_then(|store| store.process.as_mut()) else { return false };
        process.paused_until = process.paused_until.max(until);
        true
    }

    pub(super) fn change_rate(&mut self) -> bool {
        let (rate, victim) = (self.hub.dice.acts.between(RATES.0, RATES.1), self.any_store());
        let now = self.hub.now();
        if let Some(node) = self.hit_pd() {
            node.set_rate(now, rate);
            return true;
        }
        let store = victim.and_then(|victim| self.stores.get_mut(&victim));
        let Some(store) = store else { return false };
        store.set_rate(now, rate);
        true
    }

    /// Jumps a clock forward. Most jumps are about as long as a tick or an election timeout; some
    /// are as long as a short suspension of a laptop.
    pub(super) fn jump_clock(&mut self) -> bool {
        let is_short = self.hub.dice.acts.chance(700);
        let most = if is_short { 700 * MS } else { 30_000 * MS };
        let (by, victim) = (self.hub.dice.acts.between(10 * MS, most), self.victim());
        let now = self.hub.now();
        if let Some(node) = self.hit_pd() {
            node.jump(now, by);
            return true;
        }
        let store = victim.and_then(|victim| self.stores.get_mut(&victim));
        let Some(store) = store else { return false };
        self.hub.say(|| format!("the clock of store {} jumps by {} ms", store.id, by / MS));
        store.jump(&mut self.hub, by);
        true
    }
}
