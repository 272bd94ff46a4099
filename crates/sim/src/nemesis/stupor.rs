//! A stupor: a leader's thread pauses while its followers' answers are under way.
//!
//! The followers' answers to a leader's last heartbeats are delayed. A moment later the leader's
//! thread pauses, and the leader's own messages are lost. The other voters elect another leader.
//! When the old leader's thread goes on, clients' requests and the followers' old answers arrive at
//! once, in any order.
//!
//! A leader that took an old answer for an answer to a round sent after the requests, or counted
//! its lease from later than the round was sent, would serve stale reads.

use flotilla_types::{RegionId, StoreId};

use crate::event::{End, Event, Relief, Stupor};
use crate::net::Link;
use crate::time::MS;
use crate::world::World;

/// The longest time between the first delayed answer and the pause, in percent of the least
/// election timeout. Meanwhile clients read at the leader, which sends rounds to renew its lease. A
/// leader without answers for much longer than an election timeout steps down.
const PRELUDE_PERCENT_MAX: u64 = 140;

/// How long the leader pauses, in percent of the least election timeout: in most cases long enough
/// for an election.
const STUPOR_PERCENT: (u64, u64) = (180, 520);

/// How long before the end of the pause clients begin to ask the old leader.
const ASKED_BEFORE: u64 = 150 * MS;

/// How long after the pause the old leader's messages are still lost.
const CUT_AFTER_PAUSE: u64 = 900 * MS;

impl World {
    /// Chooses a leader, and delays its followers' answers.
    pub(super) fn stupefy(&mut self) -> bool {
        let Some((region, leader)) = self.some_leader() else { return false };
        let percent = self.hub.scenario.timing.election() / 100;
        let dice = &mut self.hub.dice.acts;
        let prelude = dice.between(4 * percent, PRELUDE_PERCENT_MAX * percent);
        let length = dice.between(STUPOR_PERCENT.0 * percent, STUPOR_PERCENT.1 * percent);
        let until = self.hub.now() + prelude + length;
        let to_leader = self.links_of(leader, false);
        self.hub.net.clog(&to_leader, until);
        self.hub.duel(region, leader, self.hub.duel_time());
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

    /// Begins the next stage of a stupor.
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
            self.hub.duel(region, leader, self.hub.duel_time());
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
        self.hub.agenda.after(left + CUT_AFTER_PAUSE, Event::Relief(Relief::Links(from_leader)));
    }
}
