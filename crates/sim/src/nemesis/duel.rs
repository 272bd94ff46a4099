//! A candidate beside a leader that the other voters hear.
//!
//! Clients but those that stick to the leader do not reach it for a while, so that its followers
//! have all that it has: a candidate that lacks an entry gets no votes anyway. Then one follower is
//! cut off from the leader, loses patience and stands for election. In that moment the others,
//! whose answers the leader has just counted for its lease, do not hear it any more either. They
//! must turn the candidate away as long as the lease may last; voters that did not would elect it,
//! and clients that go on reading at the old leader would read what is not so any more.

use flotilla_types::{RegionId, StoreId};

use crate::event::{End, Event, Relief};
use crate::hub::DUEL;
use crate::net::Link;
use crate::time::MS;
use crate::world::World;

use super::ambush::WAIT;

/// So long what clients wrote last takes to reach the followers, in most worlds.
const HUSH: u64 = 300 * MS;

impl World {
    /// Chooses a leader, and keeps its clients away.
    pub(super) fn begin_duel(&mut self) -> bool {
        let Some((region, leader)) = self.some_leader().filter(|_| self.hub.ambush.is_none())
        else {
            return false;
        };
        let clients = self.clients.iter().map(|client| End::Client(client.number));
        let links: Vec<Link> = clients.map(|client| (client, End::Store(leader))).collect();
        self.hub.net.cut(&links);
        self.hub.agenda.after(HUSH + WAIT + DUEL, Event::Relief(Relief::Links(links)));
        self.hub.agenda.after(HUSH, Event::Relief(Relief::Duel { region, leader }));
        true
    }

    /// The region is quiet: one of its followers loses its leader, which clients keep awake.
    pub(super) fn part(&mut self, region: RegionId, leader: StoreId) {
        if !self.nemesis.is_over && self.wait_for_candidate((region, leader), false) {
            self.hub.duel(region, leader, WAIT);
        }
    }
}
