//! Suspended machines: a laptop whose lid is closed, a virtual machine that its host set aside.
//!
//! 1. The machine stops: its process and its disk do nothing, and what arrives waits at the
//!    machine.
//! 2. Shortly before the end, clients that stick to a store begin to ask the machine for a region
//!    that it led. Meanwhile other stores lead what it led.
//! 3. The machine goes on. Its clock shows what has passed ([`crate::clock::Clock::wake`]), and
//!    everything that waited arrives at once.
//!
//! A leader whose clock did not count the suspension would answer from a state that its successors
//! have changed, because its lease would not have ended.

use std::collections::BTreeMap;

use flotilla_types::{RegionId, StoreId};

use crate::event::{Duel, End, Event, Relief};
use crate::time::{MS, Micros};
use crate::world::World;

/// The shortest suspension.
const SUSPENSION_MIN: Micros = 300 * MS;

/// Most suspensions are shorter than this: other stores take the regions over, and the placement
/// driver does not take the store for down.
const USUAL_MAX: Micros = 3_000 * MS;

/// The longest suspension.
const SUSPENSION_MAX: Micros = 30_000 * MS;

/// How long before the end clients begin to ask the store.
const ASKED_BEFORE: Micros = 100 * MS;

/// The machines that are suspended.
#[derive(Debug, Default)]
pub struct Suspended {
    machines: BTreeMap<End, Machine>,
}

/// A machine that is suspended.
#[derive(Debug)]
struct Machine {
    since: Micros,
    /// What was to happen on the machine meanwhile, in order.
    waiting: Vec<Event>,
}

impl Suspended {
    /// True if the machine is suspended.
    pub fn has(&self, end: End) -> bool {
        self.machines.contains_key(&end)
    }

    /// The event, unless it is one of a suspended machine, where it waits.
    pub fn pass(&mut self, event: Event) -> Option<Event> {
        if self.machines.is_empty() {
            return Some(event);
        }
        match machine(&event).and_then(|end| self.machines.get_mut(&end)) {
            Some(machine) => {
                machine.waiting.push(event);
                None
            }
            None => Some(event),
        }
    }
}

/// The machine on which an event happens; None for clients and for the world itself.
fn machine(event: &Event) -> Option<End> {
    match event {
        Event::Wake { store, .. }
        | Event::Synced { store, .. }
        | Event::Depart { store, .. }
        | Event::PermitRead { store, .. }
        | Event::Disk { store, .. }
        | Event::SendSnapshot { store, .. }
        | Event::Report { store, .. }
        | Event::HeartbeatLate { store, .. } => Some(End::Store(*store)),
        Event::PdTick { node, .. }
        | Event::PdSynced { node, .. }
        | Event::PdSnapshotSent { node, .. }
        | Event::PdDisk { node, .. } => Some(End::Pd(*node)),
        Event::PdCall { caller, .. } => Some(*caller),
        Event::Arrive(packet) => Some(packet.to),
        Event::Restart { end, .. } | Event::Unreachable { end, .. } => Some(*end),
        Event::Conn(_)
        | Event::Client { .. }
        | Event::Admin(_)
        | Event::Look
        | Event::Nemesis(_)
        | Event::Duel(_)
        | Event::Relief(_) => None,
    }
}

impl World {
    /// Suspends a machine (step 1).
    pub(super) fn suspend(&mut self) -> bool {
        let is_usual = self.hub.dice.acts.chance(700);
        let most = if is_usual { USUAL_MAX } else { SUSPENSION_MAX };
        let time = self.hub.dice.acts.between(SUSPENSION_MIN, most);
        let victim = self.victim();
        let member = self.hit_pd().map(|node| node.end());
        let Some(end) = member.or(victim.map(End::Store)) else { return false };
        if self.nemesis.suspended.machines.contains_key(&end) {
            return false;
        }
        self.hub.say(|| format!("{end:?} is suspended for {} ms", time / MS));
        let machine = Machine { since: self.hub.now(), waiting: vec![] };
        self.nemesis.suspended.machines.insert(end, machine);
        self.hub.agenda.after(time, Event::Relief(Relief::Wake(end)));
        if let End::Store(store) = end
            && let Some(region) = self.led_by(store)
        {
            let until = self.hub.now() + time + self.hub.duel_time();
            let duel = Duel { region, old: store, until };
            self.hub.agenda.after(time - ASKED_BEFORE, Event::Duel(duel));
        }
        true
    }

    /// A region that the store leads.
    fn led_by(&mut self, store: StoreId) -> Option<RegionId> {
        let process = self.stores.get(&store)?.process.as_ref()?;
        let led: Vec<RegionId> = process.led().map(|region| region.id).collect();
        self.hub.dice.acts.pick(&led).copied()
    }

    /// A machine goes on, if it is suspended (step 3).
    pub(super) fn wake_machine(&mut self, end: End) {
        let Some(Machine { since, waiting }) = self.nemesis.suspended.machines.remove(&end) else {
            return;
        };
        self.hub.say(|| format!("{end:?} goes on"));
        let now = self.hub.now();
        match end {
            End::Store(store) => {
                let process = self.stores.get_mut(&store).and_then(|store| store.process.as_mut());
                process.into_iter().for_each(|process| process.clock.wake(since, now));
            }
            End::Pd(node) => {
                self.pd.node(node).into_iter().for_each(|node| node.wake(since, now));
            }
            End::Client(_) => {}
        }
        for event in waiting {
            self.hub.agenda.at(now, event);
        }
    }

    /// Every suspended machine goes on.
    pub(super) fn wake_machines(&mut self) {
        let ends: Vec<End> = self.nemesis.suspended.machines.keys().copied().collect();
        ends.into_iter().for_each(|end| self.wake_machine(end));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_on_a_suspended_machine_waits_in_order() {
        let mut suspended = Suspended::default();
        let machine = Machine { since: 0, waiting: vec![] };
        suspended.machines.insert(End::Store(StoreId(1)), machine);
        let synced = |store| Event::Synced { store: StoreId(store), life: 1 };
        let late = Event::HeartbeatLate { store: StoreId(1), life: 1, number: 7 };
        assert!(suspended.pass(synced(1)).is_none());
        assert!(suspended.pass(late).is_none());
        assert!(suspended.pass(synced(2)).is_some());
        assert!(suspended.pass(Event::PdTick { node: 1, life: 1 }).is_some());
        let waiting = &suspended.machines[&End::Store(StoreId(1))].waiting;
        let is_synced = matches!(waiting[0], Event::Synced { .. });
        assert!(is_synced && matches!(waiting[1], Event::HeartbeatLate { number: 7, .. }));
    }
}
