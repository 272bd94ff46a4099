//! A leader at rest that is heard once, in the moment in which its followers miss it.
//!
//! Clients are cut off until regions come to rest. Then a leader's followers hear nothing for almost an election timeout, and then their threads stand still
//! for a moment. Meanwhile a client asks the leader, whose question whether it still leads gets
//! through before the link fails again. When the followers go on, they find two things at once: the
//! question, which they answer, and that the leader's store was silent for too long. One that made
//! up for the ticks it had not counted after it took the question would count time from before its
//! answer, and elect another within the lease that the answer gives.

use std::collections::BTreeSet;

use flotilla_types::{RegionId, StoreId};

use crate::agenda::{MS, Micros};
use crate::event::{End, Event, Relief};
use crate::hub::DUEL;
use crate::net::between;
use crate::world::World;

/// So long after a region has become idle it is at rest, if it can be.
const REST: Micros = 500 * MS;

/// From the cut until the followers stand still: less than an election timeout after they heard the
/// last beat, which may have been a tick and a delay before the cut.
const SILENCE: Micros = 370 * MS;

/// From then on until the leader is heard.
const STILL: (Micros, Micros) = (20 * MS, 80 * MS);

/// How long it is heard: less than from one beat to the next.
const HEARD: (Micros, Micros) = (20 * MS, 60 * MS);

/// How long the followers stand still at most: until they have missed an election timeout.
const PAUSE: (Micros, Micros) = (160 * MS, 240 * MS);

/// How long the link fails afterwards.
const DEAF: Micros = 900 * MS;

/// What a flapping link does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flap {
    /// A leader at rest is not heard any more.
    Cut,
    /// The followers stand still.
    Still,
    /// The leader is heard and asked.
    Heard,
    /// It is not heard any more.
    Deaf,
    /// All is well again.
    Well,
}

impl World {
    /// Cuts clients off until regions are at rest.
    pub(super) fn flap(&mut self) -> bool {
        let idle_ms = self.hub.scenario.idle_ms;
        if idle_ms == u64::MAX {
            return false;
        }
        let stores: BTreeSet<End> = self.stores.keys().map(|store| End::Store(*store)).collect();
        let clients = self.clients.iter().map(|client| End::Client(client.number)).collect();
        let links = between(&clients, &stores);
        self.hub.net.cut(&links);
        let delay = idle_ms * MS + REST;
        self.hub.agenda.after(delay + SILENCE, Event::Relief(Relief::Links(links)));
        // Whose leader it will be, time will tell.
        self.flap_later(RegionId(0), StoreId(0), Flap::Cut, delay);
        true
    }

    /// Chooses a leader at rest, and cuts what it sends to other stores.
    fn cut_resting(&mut self) {
        let mut resting: Vec<(RegionId, StoreId)> = vec![];
        for store in self.stores.values() {
            let Some(worker) = store.process.as_ref().map(|process| &process.worker) else {
                continue;
            };
            let peers = worker.regions().filter_map(|region| worker.peer(region.id));
            let at_rest = peers.filter(|peer| peer.is_leader() && peer.quiet.is_some());
            resting.extend(at_rest.map(|peer| (peer.region.id, store.id)));
        }
        let Some((region, leader)) = self.hub.dice.pick(&resting).copied() else { return };
        self.hub.net.cut(&self.links_of(leader, true));
        self.flap_later(region, leader, Flap::Still, SILENCE);
    }

    fn flap_later(&mut self, region: RegionId, leader: StoreId, stage: Flap, delay: Micros) {
        let next = Relief::Flap { region, leader, stage };
        self.hub.agenda.after(delay, Event::Relief(next));
    }

    /// What comes next. A link that is cut is mended whatever became of the leader.
    pub(super) fn go_on_with_flap(&mut self, region: RegionId, leader: StoreId, stage: Flap) {
        if self.nemesis.is_over {
            return;
        }
        let links = self.links_of(leader, true);
        match stage {
            Flap::Cut => self.cut_resting(),
            Flap::Still => {
                let length = self.hub.dice.between(PAUSE.0, PAUSE.1);
                let until = self.hub.now() + length;
                for voter in self.other_voters(region, leader) {
                    let store = self.stores.get_mut(&voter);
                    if let Some(process) = store.and_then(|store| store.process.as_mut()) {
                        process.paused_until = process.paused_until.max(until);
                    }
                }
                let delay = self.hub.dice.between(STILL.0, STILL.1);
                self.flap_later(region, leader, Flap::Heard, delay);
            }
            Flap::Heard => {
                self.hub.coverage.hit("leaders at rest that were heard once");
                self.hub.net.mend(&links);
                self.hub.duel(region, leader, DUEL);
                let delay = self.hub.dice.between(HEARD.0, HEARD.1);
                self.flap_later(region, leader, Flap::Deaf, delay);
            }
            Flap::Deaf => {
                self.hub.net.cut(&links);
                self.flap_later(region, leader, Flap::Well, DEAF);
            }
            Flap::Well => self.hub.net.mend(&links),
        }
    }
}
