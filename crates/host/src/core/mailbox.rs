//! What waits for a core's thread, in the order in which the thread takes it.
//!
//! Two lanes: what the members of a group tell each other, and what callers ask. The thread takes
//! the first lane first, because heartbeats, votes and acknowledgements that wait behind requests
//! end leaderships: a store that is asked too much would lose its regions to stores that are asked
//! no less. Callers are not starved: after [`CONSENSUS_IN_A_ROW_MAX`] mails of the first lane comes
//! one of the second.
//!
//! Invariants: within a lane mails are taken in the order in which they were put in.
//!
//! Not here: how much may wait; that is bounded where mails come in.

use std::collections::VecDeque;

/// A lane of a mailbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Messages of other members, and reports of the process's own threads.
    Consensus,
    /// What callers ask.
    Requests,
}

/// The most mails of [`Lane::Consensus`] that are taken one after another while a request waits. A
/// request costs at most about a hundred times as much as a message (a chunk of a scan), so a
/// flood of requests takes at most half of the thread's time from the members.
pub const CONSENSUS_IN_A_ROW_MAX: usize = 128;

/// See the module's documentation.
#[derive(Debug)]
pub struct Mailbox<M> {
    consensus: VecDeque<M>,
    requests: VecDeque<M>,
    /// Mails of the first lane that were taken since the last one of the second.
    in_a_row: usize,
}

impl<M> Default for Mailbox<M> {
    fn default() -> Mailbox<M> {
        Mailbox { consensus: VecDeque::new(), requests: VecDeque::new(), in_a_row: 0 }
    }
}

impl<M> Mailbox<M> {
    /// Puts a mail in.
    pub fn put(&mut self, lane: Lane, mail: M) {
        match lane {
            Lane::Consensus => self.consensus.push_back(mail),
            Lane::Requests => self.requests.push_back(mail),
        }
    }

    /// The next mail; None if nothing waits.
    pub fn take(&mut self) -> Option<M> {
        if self.in_a_row < CONSENSUS_IN_A_ROW_MAX
            && let Some(mail) = self.consensus.pop_front()
        {
            self.in_a_row += 1;
            return Some(mail);
        }
        self.in_a_row = 0;
        self.requests.pop_front().or_else(|| self.consensus.pop_front())
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.consensus.is_empty() && self.requests.is_empty()
    }

    /// What waits, lane by lane.
    pub fn into_mails(self) -> impl Iterator<Item = M> {
        self.consensus.into_iter().chain(self.requests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(mailbox: &mut Mailbox<u64>) -> Vec<u64> {
        std::iter::from_fn(|| mailbox.take()).collect()
    }

    #[test]
    fn members_come_before_callers_and_each_in_order() {
        let mut mailbox = Mailbox::default();
        mailbox.put(Lane::Requests, 10);
        mailbox.put(Lane::Consensus, 1);
        mailbox.put(Lane::Requests, 11);
        mailbox.put(Lane::Consensus, 2);
        assert_eq!(taken(&mut mailbox), [1, 2, 10, 11]);
        assert!(mailbox.is_empty());
    }

    #[test]
    fn a_request_is_taken_after_so_many_messages() {
        let mut mailbox = Mailbox::default();
        let count = CONSENSUS_IN_A_ROW_MAX as u64;
        (0..2 * count).for_each(|number| mailbox.put(Lane::Consensus, number));
        mailbox.put(Lane::Requests, 1_000);
        let all = taken(&mut mailbox);
        assert_eq!(all.iter().position(|mail| *mail == 1_000), Some(CONSENSUS_IN_A_ROW_MAX));
        assert_eq!(all.len(), 2 * CONSENSUS_IN_A_ROW_MAX + 1, "nothing is lost");
    }
}
