//! An ambush: voters restart at the worst moment for a lease.
//!
//! 1. A leader and one follower are cut off from each other. The follower's election timeout passes
//!    and it stands for election again and again; the other voters still follow the leader, and
//!    refuse.
//! 2. When the candidate asks once more, the other voters are killed and restart at once, and the
//!    leader is cut off from them, too. Clients still reach the leader.
//!
//! Voters that did not wait after their start would elect the candidate within the leader's lease,
//! and clients that stick to the old leader would get stale answers.
//!
//! A duel ([`super::duel`]) shares these steps, but its voters are not killed.

use flotilla_types::{MemberRole, RegionId, StoreId};

use crate::check::Verdict;
use crate::event::{Ambush, End, Event, Relief};
use crate::hub::AMBUSH_RESTART_MAX;
use crate::net::Link;
use crate::time::{MS, Micros};
use crate::world::World;

/// How long the links between leader and candidate stay cut, in least election timeouts; the
/// candidate must stand for election in this time.
const WAIT_TIMEOUTS: u64 = 5;

impl World {
    /// Chooses a region and a candidate, and cuts the candidate off from the leader (step 1).
    pub(super) fn lay_ambush(&mut self) -> bool {
        let Some((region, leader)) = self.some_leader() else { return false };
        self.wait_for_candidate((region, leader), true)
    }

    /// Cuts one voter off from the leader. The ambush in the hub is sprung when the voter stands
    /// for election; `kills` decides whether the other voters are killed then.
    pub(super) fn wait_for_candidate(
        &mut self,
        (region, leader): (RegionId, StoreId),
        kills: bool,
    ) -> bool {
        if self.hub.ambush.is_some() {
            return false;
        }
        let mut voters = self.other_voters(region, leader);
        self.hub.dice.acts.shuffle(&mut voters);
        let Some(candidate) = voters.pop().filter(|_| !voters.is_empty()) else { return false };
        let cut = both_ways(leader, candidate);
        self.hub.net.cut(&cut);
        // The candidate does not stand for election earlier.
        let from = self.hub.now() + self.hub.scenario.timing.election();
        self.hub.ambush = Some(Ambush { region, leader, candidate, voters, from, kills });
        self.hub.agenda.after(self.wait_time(), Event::Relief(Relief::NoAmbush(cut)));
        true
    }

    pub(super) fn wait_time(&self) -> Micros {
        WAIT_TIMEOUTS * self.hub.scenario.timing.election()
    }

    pub(super) fn some_leader(&mut self) -> Option<(RegionId, StoreId)> {
        let mut led: Vec<(RegionId, StoreId)> = vec![];
        for store in self.stores.values() {
            let Some(process) = &store.process else { continue };
            led.extend(process.led().map(|region| (region.id, store.id)));
        }
        self.hub.dice.acts.pick(&led).copied()
    }

    pub(super) fn other_voters(&self, region: RegionId, leader: StoreId) -> Vec<StoreId> {
        let process = self.stores.get(&leader).and_then(|store| store.process.as_ref());
        let Some(peer) = process.and_then(|process| process.worker.peer(region)) else {
            return vec![];
        };
        let voters = peer.region.members.iter().filter(|peer| peer.role == MemberRole::Voter);
        voters.map(|peer| peer.store_id).filter(|store| *store != leader).collect()
    }

    /// The candidate asks for votes: the other voters are cut off from the leader, and killed if
    /// the ambush kills (step 2).
    pub(super) fn spring(&mut self, ambush: Ambush) -> Verdict {
        let Ambush { region, leader, voters, kills, .. } = ambush;
        let old = self.stores.get(&leader).and_then(|store| store.process.as_ref());
        if self.nemesis.is_over || !old.is_some_and(|process| process.leads(region)) {
            return Ok(());
        }
        self.hub.coverage.hit(match kills {
            true => "voters restarted as a candidate asks",
            false => "voters cut off from their leader as a candidate asks",
        });
        let links: Vec<Link> = voters.iter().flat_map(|voter| both_ways(leader, *voter)).collect();
        self.hub.net.cut(&links);
        self.hub.agenda.after(self.wait_time(), Event::Relief(Relief::Links(links)));
        for voter in voters.into_iter().filter(|_| kills) {
            let (loss, down) = (self.loss(), self.hub.dice.acts.between(MS, AMBUSH_RESTART_MAX));
            self.crash_store(voter, loss, down)?;
        }
        self.hub.duel(region, leader, self.hub.duel_time());
        Ok(())
    }
}

impl World {
    /// Both ways between a store and all other stores.
    pub(super) fn links_to_stores(&self, store: StoreId) -> Vec<Link> {
        let others = self.stores.keys().filter(|other| **other != store);
        others.flat_map(|other| both_ways(store, *other)).collect()
    }
}

pub(super) fn both_ways(one: StoreId, other: StoreId) -> Vec<Link> {
    let (one, other) = (End::Store(one), End::Store(other));
    vec![(one, other), (other, one)]
}
