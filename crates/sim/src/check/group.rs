//! Names of what the checkers of Raft look at: a group, and a node that holds one of its logs. The
//! groups of regions and the placement driver's are judged by the same files.
//!
//! Not here: peers and incarnations, which the logs themselves tell apart.

use std::fmt;

use flotilla_group::Membership;
use flotilla_pd::core::pd::PD_GROUP;
use flotilla_types::{Member, MemberRole, Region, RegionId, StoreId};

/// A Raft group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GroupId {
    /// A region's.
    Region(RegionId),
    /// The placement driver's.
    Pd,
}

/// Whose log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// A store's: the logs of all its peers.
    Store(StoreId),
    /// The log of a member of the placement driver, by the member's id.
    Pd(u64),
}

impl Node {
    /// True if a Raft group has this number in the node's log.
    pub fn has_group(self, number: u64) -> bool {
        match self {
            Node::Store(_) => true,
            Node::Pd(_) => number == PD_GROUP,
        }
    }

    /// The group that has this number in the node's log.
    pub fn group(self, number: u64) -> GroupId {
        match self {
            Node::Store(_) => GroupId::Region(RegionId(number)),
            Node::Pd(_) => GroupId::Pd,
        }
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GroupId::Region(region) => write!(f, "region {region}"),
            GroupId::Pd => write!(f, "the placement driver"),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::Store(store) => write!(f, "store {store}"),
            Node::Pd(member) => write!(f, "member {member}"),
        }
    }
}

/// A voter: the node that holds its log, and its id in the group.
pub type Voter = (Node, u64);

/// The voters of a group. In a joint configuration both halves count, each by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// The voters; of a joint configuration, the new ones.
    pub voters: Vec<Voter>,
    /// The old voters of a joint configuration; empty for any other.
    pub outgoing: Vec<Voter>,
}

impl Configuration {
    /// The configuration that a region's members make up.
    pub fn of(region: &Region) -> Configuration {
        let with = |roles: &[MemberRole]| {
            let is_in = |member: &&Member| roles.contains(&member.role);
            let voter = |member: &Member| (Node::Store(member.store_id), member.id.0);
            region.members.iter().filter(is_in).map(voter).collect::<Vec<Voter>>()
        };
        let voters = with(&[MemberRole::Voter, MemberRole::IncomingVoter]);
        let outgoing = match region.is_joint() {
            true => with(&[MemberRole::Voter, MemberRole::DemotingVoter]),
            false => vec![],
        };
        Configuration { voters, outgoing }
    }

    /// The configuration of the placement driver's group.
    pub fn of_pd(membership: &Membership) -> Configuration {
        let named = |ids: &[u64]| ids.iter().map(|id| (Node::Pd(*id), *id)).collect();
        Configuration { voters: named(&membership.voters), outgoing: named(&membership.outgoing) }
    }
}
