//! Reads that are linearizable without an entry in the log: rounds of ReadIndex (Raft thesis,
//! section 6.4), and the lease that each confirmed round renews (`lease`).
//!
//! A round asks every member whether this peer still leads. Reads that arrive before the round's
//! messages leave join it, so that one turn has at most one round.
//!
//! Owns: the rounds under way, by ticket, each with the term and the moment at which it began; and
//! the lease. In: the answers of a quorum, as the `raft` crate reports them. Out: confirmed reads.
//! Invariant: tickets only grow, and at most `tickets_max` rounds are remembered. A forgotten
//! round is still confirmed; it renews no lease.
//!
//! Not here: whether this peer may begin a round or use its lease (`Group::read_index`,
//! `Group::lease_holds`): both depend on the state of the node.

use std::collections::BTreeMap;

use flotilla_types::Millis;
use flotilla_types::mutant::{Mutant, planted};

use crate::config::Timing;
use crate::lease::Lease;
use crate::ready::{ConfirmedRead, ReadTicket};

/// When a round began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Round {
    term: u64,
    began_at: Millis,
}

/// The rounds under way, and the lease.
#[derive(Debug)]
pub(crate) struct Reads {
    tickets_max: usize,
    lease: Lease,
    next_ticket: u64,
    rounds: BTreeMap<u64, Round>,
    unsent: Option<ReadTicket>,
}

impl Reads {
    /// No rounds; at most `tickets_max` will be remembered.
    pub(crate) fn new(tickets_max: usize) -> Reads {
        let (lease, rounds) = (Lease::default(), BTreeMap::new());
        Reads { tickets_max, lease, next_ticket: 0, rounds, unsent: None }
    }

    /// How many rounds are remembered.
    pub(crate) fn len(&self) -> usize {
        self.rounds.len()
    }

    /// The round whose messages have not left yet.
    pub(crate) fn unsent(&self) -> Option<ReadTicket> {
        self.unsent
    }

    /// Begins a round; `unsent` answers it until [`Reads::on_ready`].
    pub(crate) fn begin(&mut self, term: u64, now: Millis) -> ReadTicket {
        let ticket = ReadTicket(self.next_ticket);
        self.next_ticket += 1;
        self.rounds.insert(ticket.0, Round { term, began_at: now });
        if planted(Mutant::LeaseFromNewest) {
            self.rounds.values_mut().for_each(|round| round.began_at = now);
        }
        let mut tickets_max = self.tickets_max;
        if planted(Mutant::RoundsUnbounded) {
            tickets_max = usize::MAX;
        }
        while self.rounds.len() > tickets_max {
            self.rounds.pop_first();
        }
        self.unsent = Some(ticket);
        ticket
    }

    /// The round's messages leave with a ready.
    pub(crate) fn on_ready(&mut self) {
        self.unsent = None;
    }

    /// A quorum confirmed these rounds. A round of the present `term` renews the lease, counted
    /// from the moment at which the round began.
    pub(crate) fn confirm(
        &mut self,
        states: Vec<raft::ReadState>,
        term: u64,
        timing: &Timing,
    ) -> Vec<ConfirmedRead> {
        let mut confirmed = vec![];
        for state in states {
            let Ok(ticket) = state.request_ctx.try_into().map(u64::from_be_bytes) else { continue };
            if let Some(round) = self.rounds.remove(&ticket)
                && round.term == term
            {
                self.lease.renew(term, counted_from(round.began_at, timing), timing);
            }
            confirmed.push(ConfirmedRead { ticket: ReadTicket(ticket), index: state.index });
        }
        confirmed
    }

    /// Ends the lease for the rest of `term`: a leadership transfer begins.
    pub(crate) fn revoke_lease(&mut self, term: u64) {
        if planted(Mutant::LeaseOverTransfer) {
            return;
        }
        self.lease.revoke(term);
    }

    /// The lease.
    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }
}

/// The moment from which a confirmed round's lease counts: when the round was asked for.
fn counted_from(began_at: Millis, timing: &Timing) -> Millis {
    if planted(Mutant::LeaseFromReceipt) {
        return began_at.plus(timing.tick_ms);
    }
    began_at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::TICKETS_MAX;

    fn state(ticket: ReadTicket, index: u64) -> raft::ReadState {
        raft::ReadState { index, request_ctx: ticket.0.to_be_bytes().to_vec() }
    }

    #[test]
    fn a_confirmed_round_renews_the_lease_from_the_moment_at_which_it_began() {
        let mut reads = Reads::new(TICKETS_MAX);
        let first = reads.begin(2, Millis(1_000));
        assert_eq!(reads.unsent(), Some(first));
        reads.on_ready();
        assert_eq!(reads.unsent(), None);
        let second = reads.begin(2, Millis(1_200));
        assert!(second > first);
        let confirmed = reads.confirm(vec![state(first, 9)], 2, &Timing::DEFAULT);
        assert_eq!(confirmed, [ConfirmedRead { ticket: first, index: 9 }]);
        assert_eq!(reads.lease().left_ms(2, Millis(1_300)), 60);
    }

    #[test]
    fn a_round_of_an_earlier_term_is_confirmed_and_renews_nothing() {
        let mut reads = Reads::new(TICKETS_MAX);
        let ticket = reads.begin(2, Millis(1_000));
        assert_eq!(reads.confirm(vec![state(ticket, 9)], 3, &Timing::DEFAULT).len(), 1);
        assert!(!reads.lease().holds(3, Millis(1_001)));
        assert!(!reads.lease().holds(2, Millis(1_001)));
    }

    #[test]
    fn rounds_that_no_quorum_confirms_are_forgotten_oldest_first() {
        let mut reads = Reads::new(TICKETS_MAX);
        let tickets: Vec<ReadTicket> =
            (0..=TICKETS_MAX as u64).map(|at| reads.begin(2, Millis(1_000 + at))).collect();
        assert_eq!(reads.rounds.len(), TICKETS_MAX);
        assert_eq!(reads.confirm(vec![state(tickets[0], 1)], 2, &Timing::DEFAULT).len(), 1);
        assert!(!reads.lease().holds(2, Millis(1_001)));
        reads.confirm(vec![state(tickets[1], 1)], 2, &Timing::DEFAULT);
        assert!(reads.lease().holds(2, Millis(1_001)));
    }

    #[test]
    fn contexts_that_are_no_tickets_are_left_out() {
        let foreign = raft::ReadState { index: 1, request_ctx: b"short".to_vec() };
        assert!(Reads::new(TICKETS_MAX).confirm(vec![foreign], 2, &Timing::DEFAULT).is_empty());
    }
}
