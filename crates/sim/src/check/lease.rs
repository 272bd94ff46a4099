//! Reads and leases: a read reflects what came before it, checked in the moment in which the read
//! is served. Every read is checked, whichever key it reads.
//!
//! * A read that a store answers reflects every entry that any peer of the region had applied when
//!   the store took up the read, and so every write acknowledged by then. This holds for reads
//!   under the lease and for reads that a round of heartbeats confirms.
//! * While a store serves a read under its lease in a term, no leader has been elected in a later
//!   term: by true time at most one store at a time holds the lease of a region.
//! * While a peer holds the lease, whether it serves a read or not, no leader has been elected in a
//!   later term. Looked at when a peer changes, and of all peers when a leader is elected.
//! * A read that is answered under a permit was of a peer that has the shape by which the read was
//!   routed, in the moment in which the state was read.
//!
//! Why the second and the third rule are sound: the quorum that answered the lease's round votes
//! for no other candidate before the lease ends, and was in no later term when it answered.
//!
//! A read that a round confirmed may be served after another leader was elected, so the second rule
//! does not apply to it. Which rows an answer has is for [`super::model`] (the state at an index is
//! what the entries say) and [`super::linear`].

use std::collections::BTreeMap;
use std::fmt;

use flotilla_store::core::peer::Peer;
use flotilla_store::core::{Answer, Request, RequestId};
use flotilla_types::{Millis, RegionError, RegionId, StoreId};

use super::commits::Commits;
use super::election::Election;
use super::group::GroupId;
use super::{Verdict, broken};

/// Reads that stores have taken up and not answered.
#[derive(Debug, Default)]
pub struct Reads {
    waiting: BTreeMap<(StoreId, RequestId), Waiting>,
}

/// A read, and the last index applied anywhere when the store took up the read.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    region: RegionId,
    committed: u64,
}

/// A read that is being answered.
#[derive(Clone, Copy)]
struct Served {
    store: StoreId,
    region: RegionId,
    term: u64,
    applied: u64,
    /// True if the read is answered in the step that took it up, which only the lease allows.
    is_at_once: bool,
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Served { store, region, term, applied, is_at_once } = self;
        let how = if *is_at_once { "under its lease" } else { "after a round" };
        write!(f, "store {store} serves region {region} in term {term} at index {applied} {how}")
    }
}

impl Reads {
    /// A store's process has started anew: the reads that it had taken up are lost.
    pub fn reborn(&mut self, store: StoreId) {
        self.waiting.retain(|(other, _), _| *other != store);
    }

    /// Takes note of a read that a store takes up.
    pub fn taken_up(&mut self, at: (StoreId, RequestId), region: RegionId, commits: &Commits) {
        let committed = commits.newest(GroupId::Region(region));
        self.waiting.insert(at, Waiting { region, committed });
    }

    /// Checks a store's answer to a request, if the request is a read; `peer` finds a peer of the
    /// store.
    pub fn answered<'a>(
        &mut self,
        (store, id): (StoreId, RequestId),
        (result, is_at_once): (&Result<Answer, RegionError>, bool),
        peer: impl Fn(RegionId) -> Option<&'a Peer>,
        election: &Election,
    ) -> Verdict {
        let Some(waiting) = self.waiting.remove(&(store, id)) else { return Ok(()) };
        let region = waiting.region;
        let (Ok(_), Some(peer)) = (result, peer(region)) else { return Ok(()) };
        let (term, applied) = (peer.group.role().term, peer.applied.index);
        judge(waiting, Served { store, region, term, applied, is_at_once }, election)
    }
}

/// Checks a read that was answered under a permit, in the moment in which the state was read: the
/// store's peer of the region has the shape by which the read was routed.
///
/// Why that is sound: the permit is for that shape, a store takes the permit back in the step in
/// which the peer's shape changes or the peer ends, and the read found the permit afterwards.
pub fn under_permit(store: StoreId, read: &Request, peer: Option<&Peer>) -> Verdict {
    let version = read.epoch.version;
    if peer.is_some_and(|peer| peer.has_state() && peer.region.epoch.version == version) {
        return Ok(());
    }
    let shape = peer.map(|peer| super::show(&peer.region));
    let what = format!("store {store} reads region {} at {}: {shape:?}", read.region, read.epoch);
    broken("a read under a permit is of the region that the permit is for", what)
}

/// Checks that a peer whose lease holds is the leader of the newest term. `now` is the present by
/// the store's clock.
pub fn holds(store: StoreId, peer: &Peer, now: Millis, election: &Election) -> Verdict {
    let (region, role) = (peer.region.id, peer.group.role());
    if !role.is_leader || !peer.group.lease_holds(now) {
        return Ok(());
    }
    match election.newest(GroupId::Region(region)) {
        Some((term, leader)) if term > role.term => {
            let held = role.term;
            let what = format!(
                "store {store} holds the lease of region {region} in term {held}; {leader} was \
                 elected in term {term}"
            );
            broken("at most one store holds the lease", what)
        }
        Some(_) | None => Ok(()),
    }
}

fn judge(waiting: Waiting, served: Served, election: &Election) -> Verdict {
    if served.applied < waiting.committed {
        let what = format!("{served}; {} was committed before", waiting.committed);
        return broken("a read sees what was committed before it", what);
    }
    match election.newest(GroupId::Region(served.region)).filter(|_| served.is_at_once) {
        Some((term, leader)) if term > served.term => {
            let what = format!("{served}; {leader} was elected in term {term}");
            broken("at most one store serves reads under the lease", what)
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::group::Node;
    use super::*;

    const REGION: RegionId = RegionId(1);

    #[test]
    fn a_read_under_a_permit_without_a_peer_is_found() {
        let (id, region) = (RequestId(1), REGION);
        let epoch = flotilla_types::Epoch { conf_ver: 1, version: 2 };
        let (deadline, op) = (Millis(0), flotilla_store::core::Op::Get(vec![]));
        let read = Request { id, region, epoch, deadline, op };
        assert!(under_permit(StoreId(1), &read, None).is_err());
    }

    fn judged(committed: u64, applied: u64, term: u64, is_at_once: bool) -> Verdict {
        let mut election = Election::default();
        election.leads(GroupId::Region(REGION), 4, Node::Store(StoreId(1))).expect("the first");
        election.leads(GroupId::Region(REGION), 6, Node::Store(StoreId(2))).expect("another term");
        let waiting = Waiting { region: REGION, committed };
        let store = StoreId(1);
        judge(waiting, Served { store, region: REGION, term, applied, is_at_once }, &election)
    }

    #[test]
    fn a_read_of_an_older_state_is_found() {
        assert!(judged(7, 7, 6, true).is_ok());
        assert!(judged(7, 6, 6, true).is_err());
        assert!(judged(7, 6, 6, false).is_err(), "a round does not excuse it");
    }

    #[test]
    fn a_lease_beside_another_leader_is_found_before_that_one_commits_anything() {
        assert!(judged(7, 7, 4, true).is_err());
        assert!(judged(7, 7, 4, false).is_ok(), "a round was confirmed before");
    }
}
