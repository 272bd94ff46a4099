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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_node::open_node;

    /// The timeouts, in ticks, of a node that goes through these terms as a follower.
    fn timeouts(seed: u64, terms: &[u64]) -> Vec<usize> {
        let mut node = open_node(&[1, 2, 3]);
        let mut timeout = ElectionTimeout::new(seed, 5, &mut node.raft);
        let mut follow = |term: &u64| {
            node.raft.become_follower(*term, 0);
            timeout.after_change(&mut node.raft);
            node.raft.randomized_election_timeout()
        };
        terms.iter().map(&mut follow).collect()
    }

    #[test]
    fn each_term_has_a_timeout_of_its_own_that_follows_from_the_seed() {
        let terms: Vec<u64> = (1..=100).collect();
        let rolled = timeouts(7, &terms);
        assert_eq!(rolled, timeouts(7, &terms));
        assert_ne!(rolled, timeouts(8, &terms));
        assert!(rolled.iter().all(|ticks| (5..10).contains(ticks)), "{rolled:?}");
        assert!((5..10).all(|ticks| rolled.contains(&ticks)), "{rolled:?}");
    }

    #[test]
    fn the_timeout_stays_while_term_and_role_do_though_the_raft_crate_rolls_another() {
        let rolled = timeouts(7, &[3; 100]);
        assert_eq!(rolled, vec![rolled[0]; 100]);
    }
}
