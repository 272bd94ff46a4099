//! The life cycle of a peer: what of the region it has, and what it is about to have.
//!
//! ```text
//!   created by a message            Empty --- snapshot installed ---> Live
//!   created with state              Live, deferred --- state durable ---> Live
//!   opened from what the disk has   Live
//! ```
//!
//! Beside that, a snapshot may be coming in: its message was stepped (`Offered`), and if the group
//! took it, its rows are being installed (`Installing`). An offer ends within the turn in which it
//! was made. Only a peer with state has anything deferred, and only an offer becomes an install:
//! other mixes cannot be expressed.

use flotilla_group::Position;
use flotilla_host::core::message::Envelope;
use flotilla_types::{Epoch, Region, StoreId};

use super::StagedId;

/// What waits until the state of a peer is durable that was created with state: by a split, or as
/// one of the cluster's first.
///
/// A crash before that leaves the peer's log without a state that its entries can be applied to. So
/// nothing may leave by which another member could count on this log.
#[derive(Debug, Default, PartialEq)]
pub struct Deferred {
    /// Messages that imply a durable log.
    pub messages: Vec<(StoreId, Envelope)>,
    /// The last ready whose log is durable, which the group is not told yet.
    pub persisted: Option<u64>,
}

/// A snapshot whose rows are being installed, and what the peer becomes by it.
#[derive(Debug, PartialEq)]
pub struct Installing {
    /// The received rows.
    pub staged: StagedId,
    /// The region as of the snapshot.
    pub region: Region,
    /// The last entry that the snapshot includes.
    pub applied: Position,
}

/// See the module's documentation.
#[derive(Debug, PartialEq)]
pub struct Lifecycle {
    state: State,
    incoming: Incoming,
}

#[derive(Debug, PartialEq)]
enum State {
    /// Waits for its first snapshot. The epoch is that of the message that created the peer.
    Empty { created_by: Epoch },
    /// Has a region, rows and an applied index.
    Live { deferred: Option<Deferred> },
}

#[derive(Debug, PartialEq)]
enum Incoming {
    None,
    /// The message was stepped; the group has not decided yet whether it takes the snapshot.
    Offered(StagedId),
    /// The group took the snapshot and is paused until the rows are durable.
    Installing(Box<Installing>),
}

impl Lifecycle {
    /// A peer without state, created by a message of that epoch.
    pub fn empty(created_by: Epoch) -> Lifecycle {
        Lifecycle { state: State::Empty { created_by }, incoming: Incoming::None }
    }

    /// A peer whose state is durable.
    pub fn live() -> Lifecycle {
        Lifecycle { state: State::Live { deferred: None }, incoming: Incoming::None }
    }

    /// A peer that was created with state, which is not durable yet.
    pub fn deferred() -> Lifecycle {
        let deferred = Some(Deferred::default());
        Lifecycle { state: State::Live { deferred }, incoming: Incoming::None }
    }

    /// False while the peer waits for its first snapshot.
    pub fn has_state(&self) -> bool {
        matches!(self.state, State::Live { .. })
    }

    /// The epoch of the message that created a peer without state.
    pub fn created_by(&self) -> Option<Epoch> {
        match self.state {
            State::Empty { created_by } => Some(created_by),
            State::Live { .. } => None,
        }
    }

    /// What waits for the state to be durable; None if nothing has to.
    pub fn deferred_mut(&mut self) -> Option<&mut Deferred> {
        match &mut self.state {
            State::Live { deferred } => deferred.as_mut(),
            State::Empty { .. } => None,
        }
    }

    /// The state is durable: answers what waited for that.
    pub fn take_deferred(&mut self) -> Option<Deferred> {
        match &mut self.state {
            State::Live { deferred } => deferred.take(),
            State::Empty { .. } => None,
        }
    }

    /// The rows of a snapshot that is offered or being installed.
    pub fn staged(&self) -> Option<StagedId> {
        match &self.incoming {
            Incoming::None => None,
            Incoming::Offered(staged) => Some(*staged),
            Incoming::Installing(installing) => Some(installing.staged),
        }
    }

    /// True while a snapshot is being installed.
    pub fn is_installing(&self) -> bool {
        matches!(self.incoming, Incoming::Installing(_))
    }

    /// A snapshot message was stepped with these rows.
    pub fn offer(&mut self, staged: StagedId) {
        let earlier = std::mem::replace(&mut self.incoming, Incoming::Offered(staged));
        assert_eq!(earlier, Incoming::None, "one snapshot at a time");
    }

    /// Ends an offer that the group did not take up. Answers its rows, which are not wanted.
    pub fn end_offer(&mut self) -> Option<StagedId> {
        let Incoming::Offered(staged) = self.incoming else { return None };
        self.incoming = Incoming::None;
        Some(staged)
    }

    /// The group took the offered snapshot. Answers its rows.
    pub fn begin_install(&mut self, region: Region, applied: Position) -> StagedId {
        let offered = self.end_offer();
        let staged = offered.expect("a snapshot message is only stepped with its rows");
        let installing = Installing { staged, region, applied };
        self.incoming = Incoming::Installing(Box::new(installing));
        staged
    }

    /// The snapshot is installed and durable: the peer has state. Answers what it becomes.
    pub fn end_install(&mut self) -> Installing {
        match std::mem::replace(self, Lifecycle::live()).incoming {
            Incoming::Installing(installing) => *installing,
            incoming @ (Incoming::None | Incoming::Offered(_)) => {
                panic!("an install that was not begun has ended: {incoming:?}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APPLIED: Position = Position { index: 9, term: 2 };

    #[test]
    fn an_empty_peer_has_state_when_its_snapshot_is_installed() {
        let mut life = Lifecycle::empty(Epoch::FIRST);
        assert_eq!((life.has_state(), life.created_by()), (false, Some(Epoch::FIRST)));
        life.offer(StagedId(3));
        assert_eq!(life.begin_install(Region::default(), APPLIED), StagedId(3));
        assert!(life.is_installing() && !life.has_state());
        assert_eq!(life.end_install().applied, APPLIED);
        assert_eq!(life, Lifecycle::live());
    }

    #[test]
    fn an_offer_that_is_not_taken_up_gives_its_rows_back_once() {
        let mut life = Lifecycle::live();
        life.offer(StagedId(3));
        assert_eq!(life.staged(), Some(StagedId(3)));
        assert_eq!(life.end_offer(), Some(StagedId(3)));
        assert_eq!((life.end_offer(), life.staged()), (None, None));
    }

    #[test]
    fn an_install_keeps_its_rows_from_being_given_back() {
        let mut life = Lifecycle::live();
        life.offer(StagedId(3));
        life.begin_install(Region::default(), APPLIED);
        assert_eq!((life.end_offer(), life.staged()), (None, Some(StagedId(3))));
    }

    #[test]
    fn what_is_deferred_is_released_once() {
        let mut life = Lifecycle::deferred();
        life.deferred_mut().expect("not durable yet").persisted = Some(4);
        assert_eq!(life.take_deferred().and_then(|deferred| deferred.persisted), Some(4));
        assert_eq!(life.take_deferred(), None);
        assert!(Lifecycle::empty(Epoch::FIRST).deferred_mut().is_none());
    }
}
