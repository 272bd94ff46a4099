//! The messages of Raft groups between processes, and who sends and receives them.
//!
//! A group's members live on stores, or are the members of the placement driver (PD). The two count
//! their ids apart, so an id alone names nobody: an [`Address`] does.
//!
//! Plain values: they are converted to and from the wire in [`crate::driver::wire`], which refuses
//! what contradicts itself.

use std::fmt;

use flotilla_group::RaftMessage;
use flotilla_types::{Region, RegionId, StoreId};

/// Where a member of a Raft group lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// On this store.
    Store(StoreId),
    /// In the process of the PD member with this id, which is never 0.
    Pd(u64),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Store(store) => write!(f, "store {store}"),
            Address::Pd(id) => write!(f, "placement driver {id}"),
        }
    }
}

/// Who a process is to the others of its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster; never 0.
    pub cluster: u64,
    /// Where others reach it.
    pub address: Address,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of cluster {}", self.address, self.cluster)
    }
}

/// The sender or the receiver of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The process.
    pub address: Address,
    /// The id of the group's member there; 0 in a message between processes.
    pub member: u64,
}

/// A message, and where it belongs.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    /// The region whose group the message is for. 0 in a message between processes, and for the
    /// placement driver's group.
    pub region_id: RegionId,
    /// The region's configuration version, as the sender knows it.
    pub conf_ver: u64,
    /// The region of `region_id`, as the sender knows it. A receiver that has no such peer decides
    /// by the region whether to create one. None where the receiver is known to have the peer.
    pub region: Option<Box<Region>>,
    /// The sender.
    pub from: End,
    /// The receiver, at an address of the same kind as the sender's.
    pub to: End,
    /// What is said.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A Raft message, from member to member.
    Message(Box<RaftMessage>),
    /// The receiver is not a member of the region any more, as of the region's epoch.
    Removed,
    /// The leader whose last entry this is sends no heartbeats from here on: its process's beats
    /// stand for them. All members have the entry and know it to be committed.
    Quiesce {
        /// The entry's term.
        term: u64,
        /// The entry's index.
        index: u64,
    },
    /// The sending process lives.
    Beat(Beat),
    /// The sender's directory, and whose it knows: between members of a new group.
    Introduction(Introduction),
}

/// What members of a new group tell each other before they take part in it. A directory is a number
/// that was drawn when it was made; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// The sender's.
    pub directory: u64,
    /// The receiver's, as the sender has it on record; 0 if it has none.
    pub yours: u64,
    /// True if the sender does not take part yet.
    pub is_new: bool,
}

/// A process says that it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Another one after each start of the process; never 0.
    pub incarnation: u64,
    /// True if the beat answers one of a process that shares no region with the sender, as far as
    /// the sender knows.
    pub is_answer: bool,
}

/// Names a received snapshot whose rows are kept on disk until they are installed or discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StagedId(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_and_a_placement_driver_of_one_id_are_told_apart() {
        let told = |address| Identity { cluster: 7, address }.to_string();
        assert_eq!(told(Address::Store(StoreId(3))), "store 3 of cluster 7");
        assert_eq!(told(Address::Pd(3)), "placement driver 3 of cluster 7");
    }
}
