//! Faults in the middle of a change of members: a peer is ordered to another store, and as soon as
//! the region is in the joint configuration, the store that applied the change first (most often
//! the leader's) is killed or cut off from the other stores.
//!
//! What follows is an election by two majorities, and a change that another leader has to end or
//! to leave.

use flotilla_types::StoreId;

use crate::check::Verdict;
use crate::event::{Event, Relief};
use crate::scenario::Act;
use crate::world::World;

/// The greatest number of joint changes in a row that are struck.
const STRIKES_MAX: u64 = 3;

impl World {
    /// Orders a peer to another store; the next joint changes are struck.
    pub(super) fn strike_joint(&mut self) -> bool {
        self.hub.joint_strikes = self.hub.dice.acts.between_inclusive(1, STRIKES_MAX);
        self.ask_operator(Act::MovePeer)
    }

    /// A store has applied a joint change: the store is killed, or cut off from the other stores.
    pub(super) fn on_joint(&mut self, store: StoreId) -> Verdict {
        if self.nemesis.is_over {
            return Ok(());
        }
        self.hub.coverage.hit("stores struck in a joint change");
        let time = self.fault_time();
        if self.hub.dice.acts.chance(500) {
            let loss = self.loss();
            return self.crash_store(store, loss, time);
        }
        let links = self.links_to_stores(store);
        self.hub.net.cut(&links);
        self.hub.agenda.after(time, Event::Relief(Relief::Links(links)));
        Ok(())
    }
}
