//! The election timeout, rolled from the group's own dice.
//!
//! The `raft` crate rolls a new timeout from a global generator whenever the node's term or role
//! changes. This module overrides each of those rolls before time passes, so that a run replays
//! from its seed. Every call that may change term or role is therefore followed by
//! [`ElectionTimeout::after_change`].

use flotilla_types::dice::Dice;
use raft::{Raft, StateRole};

use crate::group_log::GroupLog;

/// The timeout in force, and the dice for the next one.
#[derive(Debug)]
pub(crate) struct ElectionTimeout {
    dice: Dice,
    /// The least timeout; the greatest is below twice as long.
    least_ticks: u64,
    ticks: usize,
    rolled_for: (u64, StateRole),
}

impl ElectionTimeout {
    /// A timeout for a node that has just been opened.
    pub(crate) fn new(seed: u64, least_ticks: usize, raft: &mut Raft<GroupLog>) -> ElectionTimeout {
        let least_ticks = least_ticks as u64;
        let mut timeout = ElectionTimeout {
            dice: Dice::new(seed),
            least_ticks,
            ticks: 0,
            rolled_for: (u64::MAX, StateRole::Follower),
        };
        timeout.roll();
        raft.set_randomized_election_timeout(timeout.ticks);
        timeout
    }

    /// Replaces the `raft` crate's roll by one of the group's own, if term or role have changed.
    pub(crate) fn after_change(&mut self, raft: &mut Raft<GroupLog>) {
        let present = (raft.term, raft.state);
        if present != self.rolled_for {
            self.rolled_for = present;
            self.roll();
        }
        raft.set_randomized_election_timeout(self.ticks);
    }

    fn roll(&mut self) {
        self.ticks = self.dice.between(self.least_ticks, 2 * self.least_ticks) as usize;
    }
}
