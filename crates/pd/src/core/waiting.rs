//! Requests that are not answered yet: proposals that are not applied, reads that are not
//! confirmed. Each is answered once. Not here: the bound of how many wait (`pd`).

use std::collections::BTreeMap;

use flotilla_group::{ConfirmedRead, Position, ReadTicket};
use flotilla_host::core::waiting::{Decided, Waiters};
use flotilla_types::heartbeat::HeartbeatReply;
use flotilla_types::placement::PdRequest;
use flotilla_types::{Millis, StoreId};

use crate::core::io::RequestId;

/// Who waits for a proposal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Waiter {
    /// Nobody: the state itself is the answer.
    Nobody,
    /// This leader, for the ids of its operators.
    LeaderIds,
    /// This leader, for the choice of the first region's stores.
    FirstRegion,
    /// A store that registers; `store` is 0 for a new one. It is given ids next.
    Register { id: RequestId, store: StoreId },
    /// A store that is registered and waits for its ids.
    RegisterIds { id: RequestId, store: StoreId },
    /// A caller of AllocateIds.
    Ids { id: RequestId },
    /// A store whose heartbeat is answered but for the ids.
    HeartbeatIds { id: RequestId, reply: Box<HeartbeatReply> },
    /// Whoever changes PD's members.
    Members { id: RequestId },
    /// An administrator.
    SetStoreState { id: RequestId, store: StoreId },
}

impl Waiter {
    /// The request to be answered.
    pub(crate) fn request(&self) -> Option<RequestId> {
        match self {
            Waiter::Nobody | Waiter::LeaderIds | Waiter::FirstRegion => None,
            Waiter::Register { id, .. }
            | Waiter::RegisterIds { id, .. }
            | Waiter::Ids { id }
            | Waiter::HeartbeatIds { id, .. }
            | Waiter::Members { id }
            | Waiter::SetStoreState { id, .. } => Some(*id),
        }
    }

    /// The store whose record is being replaced.
    fn changes(&self) -> Option<StoreId> {
        match self {
            Waiter::Register { store, .. } | Waiter::SetStoreState { store, .. } => Some(*store),
            Waiter::Nobody
            | Waiter::LeaderIds
            | Waiter::FirstRegion
            | Waiter::RegisterIds { .. }
            | Waiter::Ids { .. }
            | Waiter::Members { .. }
            | Waiter::HeartbeatIds { .. } => None,
        }
    }
}

/// A request that is decided on once leadership is confirmed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Read {
    pub id: RequestId,
    pub asked: Millis,
    pub request: PdRequest,
}

/// All that is not answered yet.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Waiting {
    proposals: Waiters<Waiter>,
    unconfirmed: BTreeMap<ReadTicket, Vec<Read>>,
    confirmed: Vec<(u64, Read)>,
}

impl Waiting {
    /// How many proposals and reads wait.
    pub(crate) fn len(&self) -> usize {
        let reads: usize = self.unconfirmed.values().map(Vec::len).sum();
        self.proposals.len() + reads + self.confirmed.len()
    }

    /// How many requests wait; unlike the proposals that nobody asked for, they are bounded.
    pub(crate) fn requests(&self) -> usize {
        let proposed = self.proposals.iter().filter(|waiter| waiter.request().is_some()).count();
        let reads: usize = self.unconfirmed.values().map(Vec::len).sum();
        proposed + reads + self.confirmed.len()
    }

    /// True if a choice of the first region's stores is not applied yet.
    pub(crate) fn has_first_region(&self) -> bool {
        self.proposals.iter().any(|waiter| *waiter == Waiter::FirstRegion)
    }

    /// True if the store's record is being replaced.
    pub(crate) fn is_changing(&self, store: StoreId) -> bool {
        self.proposals.iter().any(|waiter| waiter.changes() == Some(store))
    }

    pub(crate) fn await_proposal(&mut self, position: Position, waiter: Waiter) {
        self.proposals.insert(position, waiter);
    }

    /// The entry at `position` is applied: who waited for it, and whose entries were dropped.
    pub(crate) fn applied(&mut self, position: Position) -> Decided<Waiter> {
        self.proposals.applied(position)
    }

    pub(crate) fn await_read(&mut self, ticket: ReadTicket, read: Read) {
        self.unconfirmed.entry(ticket).or_default().push(read);
    }

    /// True if the request waits for a confirmation, or to be decided on after it.
    pub(crate) fn is_read(&self, id: RequestId) -> bool {
        let unconfirmed = self.unconfirmed.values().flatten();
        let confirmed = self.confirmed.iter().map(|(_, read)| read);
        unconfirmed.chain(confirmed).any(|read| read.id == id)
    }

    /// A confirmed round confirms all before it.
    pub(crate) fn confirm(&mut self, confirmed: ConfirmedRead) {
        let later = self.unconfirmed.split_off(&ReadTicket(confirmed.ticket.0 + 1));
        let reads = std::mem::replace(&mut self.unconfirmed, later).into_values().flatten();
        self.confirmed.extend(reads.map(|read| (confirmed.index, read)));
    }

    /// The reads that may be answered now.
    pub(crate) fn take_readable(&mut self, applied: u64) -> Vec<Read> {
        let (ready, later) =
            std::mem::take(&mut self.confirmed).into_iter().partition(|(at, _)| *at <= applied);
        self.confirmed = later;
        let ready: Vec<(u64, Read)> = ready;
        ready.into_iter().map(|(_, read)| read).collect()
    }

    /// The reads that have waited longer than `ms_max`.
    pub(crate) fn take_late_reads(&mut self, now: Millis, ms_max: u64) -> Vec<RequestId> {
        let is_late = |read: &Read| now.since(read.asked) > ms_max;
        let mut late = vec![];
        for reads in self.unconfirmed.values_mut() {
            late.extend(reads.iter().filter(|read| is_late(read)).map(|read| read.id));
            reads.retain(|read| !is_late(read));
        }
        self.unconfirmed.retain(|_, reads| !reads.is_empty());
        late
    }

    /// Everyone, because nothing will be answered any more.
    pub(crate) fn take_all(&mut self) -> Vec<RequestId> {
        let mut waiting = std::mem::take(self);
        let writers = waiting.proposals.take_all();
        let writers = writers.into_iter().filter_map(|waiter| waiter.request());
        let readers = waiting.unconfirmed.into_values().flatten().map(|read| read.id);
        let confirmed = waiting.confirmed.into_iter().map(|(_, read)| read.id);
        writers.chain(readers).chain(confirmed).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use flotilla_types::placement::PdOp;

    const ASKED: Millis = Millis(1_000);

    fn at(index: u64, term: u64) -> Position {
        Position { index, term }
    }

    fn read(id: u64) -> Read {
        let request = PdRequest { cluster_id: 1, op: PdOp::ClusterStatus };
        Read { id: RequestId(id), asked: ASKED, request }
    }

    fn ids(reads: &[Read]) -> Vec<u64> {
        reads.iter().map(|read| read.id.0).collect()
    }

    /// Three reads: two of a first round of confirmation, and one of the next.
    fn reading() -> Waiting {
        let mut waiting = Waiting::default();
        for (id, ticket) in [(1, 7), (2, 7), (3, 8)] {
            waiting.await_read(ReadTicket(ticket), read(id));
        }
        waiting
    }

    #[test]
    fn a_read_is_answered_once_confirmed_and_not_before_what_it_must_see_is_applied() {
        let mut waiting = reading();
        assert_eq!(ids(&waiting.take_readable(100)), [], "leadership is not confirmed");
        waiting.confirm(ConfirmedRead { ticket: ReadTicket(7), index: 20 });
        assert_eq!(ids(&waiting.take_readable(19)), [], "an entry before it is not applied");
        assert!(waiting.is_read(RequestId(1)) && waiting.is_read(RequestId(3)));
        assert_eq!(ids(&waiting.take_readable(20)), [1, 2]);
        assert!(!waiting.is_read(RequestId(1)));
        assert_eq!(ids(&waiting.take_readable(20)), [], "each is answered once");
        assert_eq!(waiting.requests(), 1);
    }

    #[test]
    fn a_later_round_confirms_the_reads_of_earlier_ones() {
        let mut waiting = reading();
        waiting.confirm(ConfirmedRead { ticket: ReadTicket(8), index: 20 });
        assert_eq!(ids(&waiting.take_readable(20)), [1, 2, 3]);
        assert_eq!(waiting.len(), 0);
    }

    #[test]
    fn a_read_that_is_not_confirmed_in_time_is_given_up_and_a_confirmed_one_is_not() {
        let mut waiting = reading();
        waiting.confirm(ConfirmedRead { ticket: ReadTicket(7), index: 20 });
        assert_eq!(waiting.take_late_reads(ASKED.plus(500), 500), []);
        assert_eq!(waiting.take_late_reads(ASKED.plus(501), 500), [RequestId(3)]);
        assert_eq!(waiting.take_late_reads(ASKED.plus(501), 500), []);
        assert_eq!(ids(&waiting.take_readable(20)), [1, 2]);
    }

    #[test]
    fn the_entry_that_is_applied_decides_who_waited_for_it_and_whose_was_dropped() {
        let (dropped, taken) = (RequestId(1), RequestId(2));
        let mut waiting = Waiting::default();
        waiting.await_proposal(at(8, 3), Waiter::Members { id: dropped });
        waiting.await_proposal(at(9, 4), Waiter::Ids { id: taken });
        let decided = waiting.applied(at(8, 4));
        assert_eq!(decided.applied, None, "another leader's entry stands there");
        assert_eq!(decided.dropped, [Waiter::Members { id: dropped }]);
        let decided = waiting.applied(at(9, 4));
        assert_eq!(decided.applied, Some(Waiter::Ids { id: taken }));
        assert_eq!(waiting.len(), 0);
    }

    #[test]
    fn only_what_somebody_asked_for_counts_as_a_request() {
        let mut waiting = reading();
        waiting.await_proposal(at(8, 3), Waiter::Nobody);
        waiting.await_proposal(at(9, 3), Waiter::LeaderIds);
        assert!(!waiting.has_first_region());
        waiting.await_proposal(at(10, 3), Waiter::FirstRegion);
        assert!(waiting.has_first_region());
        let id = RequestId(4);
        waiting.await_proposal(at(11, 3), Waiter::SetStoreState { id, store: StoreId(5) });
        assert_eq!((waiting.len(), waiting.requests()), (7, 4));
    }

    #[test]
    fn a_stores_record_is_being_replaced_until_the_entry_is_applied() {
        let (id, store) = (RequestId(1), StoreId(5));
        let mut waiting = Waiting::default();
        waiting.await_proposal(at(8, 3), Waiter::Register { id, store });
        waiting
            .await_proposal(at(9, 3), Waiter::RegisterIds { id: RequestId(2), store: StoreId(6) });
        assert!(waiting.is_changing(store) && !waiting.is_changing(StoreId(6)));
        waiting.applied(at(8, 3));
        assert!(!waiting.is_changing(store));
    }

    #[test]
    fn whoever_waits_is_told_when_leadership_is_lost_and_nobody_twice() {
        let mut waiting = reading();
        waiting.confirm(ConfirmedRead { ticket: ReadTicket(7), index: 20 });
        waiting.await_proposal(at(8, 3), Waiter::LeaderIds);
        waiting.await_proposal(at(9, 3), Waiter::Ids { id: RequestId(4) });
        let mut told = waiting.take_all();
        told.sort_unstable();
        assert_eq!(told, [1, 2, 3, 4].map(RequestId));
        assert_eq!((waiting.take_all(), waiting.len()), (vec![], 0));
    }
}
