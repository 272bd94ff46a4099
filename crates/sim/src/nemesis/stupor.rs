//! Leaders that stand still with answers under way.
//!
//! What the followers answer to a leader's last heartbeats is held up; a moment later the leader's
//! thread stands still, and nothing that it says gets through any more. The others elect another.
//! When the old leader wakes it finds clients' questions and the followers' old answers at once, in
//! any order. A leader that took the old answers as an answer to the new questions, or counted its
//! lease from later than the questions were sent, would tell its clients what is not so any more.

use flotilla_types::{RegionId, StoreId};

use crate::event::{End, Event, Relief, Stupor};
use crate::hub::DUEL;
use crate::net::Link;
use crate::time::MS;
use crate::world::World;

/// From holding up the answers to the stupor: meanwhile clients ask the leader, which sends rounds
/// to renew its lease. Not much longer than an election, or it gives up leading.
const PRELUDE_MAX: u64 = 700 * MS;

/// How long the stupor lasts: long enough for an election in most cases.
const STUPOR: (u64, u64) = (900 * MS, 2_600 * MS);

/// Clients begin to ask the old leader so long before it wakes.
const ASKED_BEFORE: u64 = 150 * MS;

/// The old leader hears nothing new for so long after it has woken.
const DEAF: u64 = 900 * MS;

impl World {
    /// Chooses a leader, and holds up what it is told.
    pub(super) fn stupefy(&mut self) -> bool {
        let Some((region, leader)) = self.some_leader() else { return false };
        let prelude = self.hub.dice.between(20 * MS, PRELUDE_MAX);
        let length = self.hub.dice.between(STUPOR.0, STUPOR.1);
        let until = self.hub.now() + prelude + length;
        let to_leader = self.links_of(leader, false);
        self.hub.net.clog(&to_leader, until);
        self.hub.duel(region, leader, DUEL);
        let begins = Relief::Stupor { region, leader, until, stage: Stupor::Begins };
        self.hub.agenda.after(prelude, Event::Relief(begins));
        true
    }

    pub(super) fn links_of(&self, leader: StoreId, is_from: bool) -> Vec<Link> {
        let others = self.stores.keys().filter(|store| **store != leader);
        let link = |other: &StoreId| match is_from {
            true => (End::Store(leader), End::Store(*other)),
            false => (End::Store(*other), End::Store(leader)),
        };
        others.map(link).collect()
    }

    /// The next stage of a stupor.
    pub(super) fn go_on_with_stupor(
        &mut self,
        (region, leader): (RegionId, StoreId),
        until: u64,
        stage: Stupor,
    ) {
        if self.nemesis.is_over {
            return;
        }
        if stage == Stupor::Ends {
            self.hub.duel(region, leader, DUEL);
            return;
        }
        let from_leader = self.links_of(leader, true);
        let Some(process) = self.stores.get_mut(&leader).and_then(|store| store.process.as_mut())
        else {
            return;
        };
        process.paused_until = process.paused_until.max(until);
        self.hub.coverage.hit("leaders that stood still with answers under way");
        self.hub.net.cut(&from_leader);
        let ends = Relief::Stupor { region, leader, until, stage: Stupor::Ends };
        let left = until.saturating_sub(self.hub.now());
        self.hub.agenda.after(left.saturating_sub(ASKED_BEFORE), Event::Relief(ends));
        self.hub.agenda.after(left + DEAF, Event::Relief(Relief::Links(from_leader)));
    }
}
