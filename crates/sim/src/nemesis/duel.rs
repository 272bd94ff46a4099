//! A duel: a candidate stands for election beside a leader that the other voters still follow.
//!
//! 1. The clients are cut off from the leader for a while, so that the followers catch up with its
//!    log: a candidate that lacks an entry gets no votes anyway. Clients that stick to the leader
//!    ([`crate::sticky`]) still reach it.
//! 2. One follower is cut off from the leader, and its election timeout passes.
//! 3. The follower stands for election. In that moment the other voters, whose answers the leader
//!    has just counted for its lease, are cut off from the leader too.
//!
//! The voters must refuse the candidate as long as the lease may last. Voters that did not would
//! elect the candidate, and clients that read at the old leader would get stale answers.
//!
//! Steps 2 and 3 are in [`super::ambush`], which shares them.

use flotilla_types::{RegionId, StoreId};

use crate::event::{End, Event, Relief};
use crate::net::Link;
use crate::time::{MS, Micros};
use crate::world::World;

/// How long the clients' last writes take to reach the followers, in most worlds.
pub(super) const CATCH_UP: Micros = 300 * MS;

impl World {
    /// Chooses a leader, and cuts its clients off (step 1).
    pub(super) fn begin_duel(&mut self) -> bool {
        let Some((region, leader)) = self.some_leader().filter(|_| self.hub.ambush.is_none())
        else {
            return false;
        };
        let time = CATCH_UP + self.wait_time() + self.hub.duel_time();
        self.cut_clients_off(leader, time);
        self.hub.agenda.after(CATCH_UP, Event::Relief(Relief::Duel { region, leader }));
        true
    }

    /// The clients reach this store no more for `time`. Clients that stick to the store
    /// ([`crate::sticky`]) do, and keep the region active.
    pub(super) fn cut_clients_off(&mut self, leader: StoreId, time: Micros) {
        let clients = self.clients.iter().map(|client| End::Client(client.number));
        let links: Vec<Link> = clients.map(|client| (client, End::Store(leader))).collect();
        self.hub.net.cut(&links);
        self.hub.agenda.after(time, Event::Relief(Relief::Links(links)));
    }

    /// The followers have caught up: cuts one follower off from the leader (step 2). Clients that
    /// stick to the leader keep the region active, because the followers of a quiescent region
    /// start no election.
    pub(super) fn part(&mut self, region: RegionId, leader: StoreId) {
        if !self.nemesis.is_over && self.wait_for_candidate((region, leader), false) {
            self.hub.duel(region, leader, self.wait_time());
        }
    }
}
