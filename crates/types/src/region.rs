//! [`Region`]: a key range replicated by one Raft group, its [`Member`]s and its [`Epoch`].
//!
//! Invariant: printing a [`KeyRange`] shows lengths and no keys, because keys are the user's.
//!
//! Not here: the map of many regions ([`crate::range_map`]).

use std::fmt;

use bytes::Bytes;
use serde::Serialize;

use crate::id::{PeerId, RegionId, StoreId};

/// The half-open range `[start, end)` of stored keys; an empty `end` is +infinity.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRange {
    /// The first key in the range.
    pub start: Bytes,
    /// The first key after the range; empty for +infinity.
    pub end: Bytes,
}

impl KeyRange {
    /// The range `[start, end)`.
    pub fn new(start: impl Into<Bytes>, end: impl Into<Bytes>) -> KeyRange {
        KeyRange { start: start.into(), end: end.into() }
    }

    /// Every key there is.
    pub fn all() -> KeyRange {
        KeyRange::default()
    }

    /// True if `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && self.ends_after(key)
    }

    /// True if `key` lies before the range's end.
    pub fn ends_after(&self, key: &[u8]) -> bool {
        self.end.is_empty() || key < &self.end[..]
    }

    /// True if every key of `other` lies in this range. An empty `other` counts by its bounds.
    pub fn covers(&self, other: &KeyRange) -> bool {
        self.start <= other.start
            && (self.end.is_empty() || (!other.end.is_empty() && other.end <= self.end))
    }

    /// True if some key lies in both.
    pub fn overlaps(&self, other: &KeyRange) -> bool {
        !self.is_empty()
            && !other.is_empty()
            && self.ends_after(&other.start)
            && other.ends_after(&self.start)
    }

    /// True if no key lies in the range.
    pub fn is_empty(&self) -> bool {
        !self.end.is_empty() && self.start >= self.end
    }

    /// The part that lies in both; empty (by [`KeyRange::is_empty`]) if there is none.
    pub fn intersect(&self, other: &KeyRange) -> KeyRange {
        let start = self.start.clone().max(other.start.clone());
        let end = match (self.end.is_empty(), other.end.is_empty()) {
            (true, _) => other.end.clone(),
            (_, true) => self.end.clone(),
            _ => self.end.clone().min(other.end.clone()),
        };
        KeyRange { start, end }
    }
}

/// Prints lengths only: keys are the user's, and logs are not.
impl fmt::Debug for KeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRange({}B..", self.start.len())?;
        if self.end.is_empty() { write!(f, "inf)") } else { write!(f, "{}B)", self.end.len()) }
    }
}

/// Orders the shapes that one region has had: its ranges and its sets of members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Epoch {
    /// +1 for each membership change.
    pub conf_ver: u64,
    /// +1 for each split or merge.
    pub version: u64,
}

impl Epoch {
    /// The first epoch of a cluster's first region.
    pub const FIRST: Epoch = Epoch { conf_ver: 1, version: 1 };

    /// True if this epoch is behind `other` in either counter.
    pub fn is_behind(&self, other: &Epoch) -> bool {
        self.conf_ver < other.conf_ver || self.version < other.version
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.conf_ver, self.version)
    }
}

/// What a member is in its region's Raft configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MemberRole {
    /// Votes and counts for the quorum.
    #[default]
    Voter,
    /// Receives the log and does not vote.
    Learner,
    /// In a joint change: a voter of the new configuration only.
    IncomingVoter,
    /// In a joint change: a voter of the old configuration only. The member becomes a learner when
    /// the joint configuration is left.
    DemotingVoter,
}

/// One member of a region, on one store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Member {
    /// Unique in the cluster.
    pub id: PeerId,
    /// The store that it is on.
    pub store_id: StoreId,
    /// What the member is in the Raft configuration.
    pub role: MemberRole,
}

impl Member {
    /// A member that votes.
    pub fn voter(id: PeerId, store_id: StoreId) -> Member {
        Member { id, store_id, role: MemberRole::Voter }
    }

    /// A member that receives the log and does not vote.
    pub fn learner(id: PeerId, store_id: StoreId) -> Member {
        Member { id, store_id, role: MemberRole::Learner }
    }
}

/// One shape of a region: which keys it holds, who its members are, and its epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Region {
    /// The region's id, which no other region ever gets, even after a merge.
    pub id: RegionId,
    /// The keys that the region holds.
    pub range: KeyRange,
    /// Orders this shape among the region's shapes.
    pub epoch: Epoch,
    /// The members; at most one on a store.
    pub members: Vec<Member>,
}

impl Region {
    /// The member on `store`; None if there is none.
    pub fn member_on(&self, store: StoreId) -> Option<&Member> {
        self.members.iter().find(|member| member.store_id == store)
    }

    /// The member with this id; None if there is none.
    pub fn member(&self, id: PeerId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// True while a joint membership change is under way.
    pub fn is_joint(&self) -> bool {
        self.members.iter().any(|member| {
            matches!(member.role, MemberRole::IncomingVoter | MemberRole::DemotingVoter)
        })
    }
}

/// Bytes of a region on the wire besides its keys and members: three numbers with their tags.
const REGION_BYTES: usize = 48;

/// Bytes of a member on the wire: two ids and a role, with their tags and lengths.
const MEMBER_BYTES: usize = 26;

/// About how many bytes a region takes on the wire.
pub fn region_bytes(region: &Region) -> usize {
    let keys = region.range.start.len() + region.range.end.len();
    REGION_BYTES + keys + MEMBER_BYTES * region.members.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &'static str, end: &'static str) -> KeyRange {
        KeyRange::new(start, end)
    }

    #[test]
    fn an_empty_end_is_infinity() {
        assert!(range("b", "").contains(b"zzzz"));
        assert!(!range("b", "").contains(b"a"));
        assert!(!range("b", "").is_empty());
        assert!(range("", "").covers(&range("a", "")));
        assert!(!range("", "x").covers(&range("a", "")));
    }

    #[test]
    fn ranges_that_touch_do_not_overlap() {
        assert!(!range("a", "b").overlaps(&range("b", "c")));
        assert!(range("a", "c").overlaps(&range("b", "d")));
        assert!(range("", "").overlaps(&range("b", "d")));
        assert!(!range("c", "b").overlaps(&range("", "")), "an empty range overlaps nothing");
    }

    #[test]
    fn the_intersection_of_disjoint_ranges_is_empty() {
        assert!(range("a", "b").intersect(&range("c", "")).is_empty());
        assert_eq!(range("a", "").intersect(&range("", "m")), range("a", "m"));
    }

    #[test]
    fn an_epoch_is_behind_in_either_counter() {
        let old = Epoch { conf_ver: 2, version: 3 };
        assert!(old.is_behind(&Epoch { conf_ver: 1, version: 4 }));
        assert!(!old.is_behind(&old));
        assert!(!old.is_behind(&Epoch { conf_ver: 2, version: 2 }));
    }
}
