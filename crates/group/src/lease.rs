//! The leader lease: how long a leader may serve reads without asking its followers.
//!
//! Each member of a quorum that answers a heartbeat sent at moment `T` received that heartbeat at
//! `T` or later. Such a member stands for no election and grants no vote to another candidate for
//! nearly the least election timeout after it, so no other leader exists before `T` plus that time.
//! What keeps the member from it:
//!
//! * Its own candidature waits for its election timer, which the heartbeat has reset. The timer
//!   counts ticks: a heartbeat that arrives just before a tick is one tick old at once. So one tick
//!   is taken off (`promise_ms`).
//! * Votes for others are refused for that time by the member's clock (`promise`). The `raft` crate
//!   refuses them as well (check_quorum), but only while the member knows its leader; a member
//!   that learns a later term forgets the leader and keeps the promise.
//!
//! Clocks differ. Two stores' monotonic clocks must not run at rates more than
//! [`DRIFT_PERCENT_MAX`] apart; that much of the promise is taken off the lease.
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
    counted_ms(timing) * (100 - drift_percent()) / 100
}

/// How long after its leader's last message a follower certainly waits, by its own clock, before it
/// stands for election or votes for another candidate.
pub(crate) fn promise_ms(timing: &Timing) -> u64 {
    timing.election_ms() - timing.tick_ms
}

/// The part of the election timeout that a lease may count on.
fn counted_ms(timing: &Timing) -> u64 {
    if planted(Mutant::LeaseTickKept) {
        return timing.election_ms();
    }
    promise_ms(timing)
}

fn drift_percent() -> u64 {
    if planted(Mutant::LeaseDriftKept) {
        return 0;
    }
    DRIFT_PERCENT_MAX
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
    fn a_lease_ends_before_the_promise_on_the_fastest_clock_at_every_timing() {
        for tick_ms in 1..=1_000 {
            for election_ticks in 2..=50 {
                let timing = Timing { tick_ms, heartbeat_ticks: 1, election_ticks };
                // The follower's clock runs as much faster as clocks may differ, and its first tick
                // comes at once.
                let promised_ms = (timing.election_ms() - tick_ms) * 100;
                let lasts_ms = length_ms(&timing) * (100 + DRIFT_PERCENT_MAX);
                assert!(lasts_ms <= promised_ms, "{timing:?}: {lasts_ms} > {promised_ms}");
                assert!(10 * length_ms(&timing) + 10 > 8 * (timing.election_ms() - tick_ms));
            }
        }
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
