//! The leader lease: how long a leader may serve reads without asking its followers.
//!
//! Each member of a quorum that answers a heartbeat sent at moment `T` received that heartbeat at
//! `T` or later. Such a member grants no vote to another candidate within the least election
//! timeout after it (the `raft` crate's check_quorum), so no other leader exists before `T +
//! election timeout`. The lease ends earlier, for two reasons:
//!
//! * A follower counts ticks: a heartbeat that arrives just before a tick is one tick old at
//!   once. One tick is taken off.
//! * Clocks differ. Two stores' monotonic clocks must not run at rates more than
//!   [`DRIFT_PERCENT_MAX`] apart; that much of what is left is taken off.
//!
//! Three cases break the reasoning, and each is excluded:
//!
//! * A leadership transfer: its target campaigns at once, and voters grant it their votes. The
//!   request may arrive arbitrarily late, so a transfer ends the lease for the rest of the term.
//! * A voter that restarts forgets the heartbeats that it answered, so it grants no vote for one
//!   election timeout.
//! * A new leader does not know what is committed before it has committed an entry of its own term.
//!   `Group::lease_holds` requires such an entry to be applied.

use flotilla_types::Millis;
use flotilla_types::mutant::{Mutant, planted};

use crate::config::Timing;

/// How far two stores' monotonic clocks may differ in rate.
pub const DRIFT_PERCENT_MAX: u64 = 10;

/// A leader's lease within one term.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lease {
    term: u64,
    until: Millis,
    is_revoked: bool,
}

impl Lease {
    /// A quorum answered a round of heartbeats that was sent at `sent`, in `term`.
    pub(crate) fn renew(&mut self, term: u64, sent: Millis, timing: &Timing) {
        if term != self.term {
            *self = Lease { term, ..Lease::default() };
        }
        self.until = self.until.max(sent.plus(length_ms(timing)));
    }

    /// A leadership transfer begins: no lease for the rest of `term`.
    pub(crate) fn revoke(&mut self, term: u64) {
        *self = Lease { term, until: Millis::default(), is_revoked: true };
    }

    /// True if reads need no confirmation at `now`.
    pub(crate) fn holds(&self, term: u64, now: Millis) -> bool {
        self.term == term && !self.is_revoked && now < self.until
    }

    /// Milliseconds that the lease still holds; 0 without one.
    pub(crate) fn left_ms(&self, term: u64, now: Millis) -> u64 {
        if self.holds(term, now) { self.until.since(now) } else { 0 }
    }
}

/// How long a lease lasts, from the moment at which its round was sent.
pub(crate) fn length_ms(timing: &Timing) -> u64 {
    if planted(Mutant::LeaseTooLong) {
        return 2 * timing.election_ms();
    }
    let counted_ms = timing.election_ms() - timing.tick_ms;
    counted_ms * (100 - DRIFT_PERCENT_MAX) / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_shorter_than_the_least_election_timeout() {
        let timing = Timing::DEFAULT;
        assert_eq!(length_ms(&timing), 360);
        assert!(length_ms(&timing) < timing.election_ms());
    }

    #[test]
    fn a_lease_ends_counted_from_the_send_and_never_moves_back() {
        let mut lease = Lease::default();
        lease.renew(2, Millis(1000), &Timing::DEFAULT);
        lease.renew(2, Millis(900), &Timing::DEFAULT);
        assert!(lease.holds(2, Millis(1359)));
        assert!(!lease.holds(2, Millis(1360)));
        assert!(!lease.holds(3, Millis(1001)), "another term");
        assert_eq!(lease.left_ms(2, Millis(1300)), 60);
    }

    #[test]
    fn a_transfer_ends_the_lease_for_the_term() {
        let mut lease = Lease::default();
        lease.renew(2, Millis(1000), &Timing::DEFAULT);
        lease.revoke(2);
        lease.renew(2, Millis(1100), &Timing::DEFAULT);
        assert!(!lease.holds(2, Millis(1101)));
        lease.renew(3, Millis(1200), &Timing::DEFAULT);
        assert!(lease.holds(3, Millis(1201)));
    }
}
