//! Reads see what came before them, at the moment at which they are served, whatever key they are
//! of: no client has to look at the right one.
//!
//! * A read that a store answers reflects every entry that any peer of the region had applied when
//!   the store took the read up, so all that had been acknowledged by then. That holds for reads
//!   under the lease and for those that a round of heartbeats confirms.
//! * While a store serves a read under its lease in a term, nobody has been elected in a later
//!   term: by true time at most one store at a time holds the lease of a region.
//!
//! Why the second is sound: the quorum that answered the round which the lease stands on does not
//! vote for anybody else before the lease is over, and was in no later term when it answered.
//!
//! A read that was confirmed by a round may be served after another leader was elected, so the
//! second rule is not for it. What the rows of the answer are is for [`super::model`] (the state
//! at an index is what the entries say) and [`super::linear`].

use std::collections::BTreeMap;
use std::fmt;

use flotilla_store::core::peer::Peer;
use flotilla_store::core::{Answer, RequestId};
use flotilla_types::{RegionError, RegionId, StoreId};

use super::commits::Commits;
use super::election::Election;
use super::{Verdict, broken};

/// Reads that stores have taken up.
#[derive(Debug, Default)]
pub struct Reads {
    waiting: BTreeMap<(StoreId, RequestId), Waiting>,
}

/// A read, and what was committed when it was taken up.
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
    /// Answered in the step in which it was taken up, which only the lease allows.
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
    /// A store's process has begun anew: what it had taken up is gone.
    pub fn reborn(&mut self, store: StoreId) {
        self.waiting.retain(|(other, _), _| *other != store);
    }

    /// A store takes a read up.
    pub fn taken_up(&mut self, at: (StoreId, RequestId), region: RegionId, commits: &Commits) {
        let committed = commits.newest(region);
        self.waiting.insert(at, Waiting { region, committed });
    }

    /// A store answers a request, perhaps a read; `peer` finds its peers.
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

fn judge(waiting: Waiting, served: Served, election: &Election) -> Verdict {
    if served.applied < waiting.committed {
        let what = format!("{served}; {} was committed before", waiting.committed);
        return broken("a read sees what was committed before it", what);
    }
    match election.newest(served.region).filter(|_| served.is_at_once) {
        Some((term, leader)) if term > served.term => {
            let what = format!("{served}; store {leader} was elected in term {term}");
            broken("at most one store serves reads under the lease", what)
        }
        Some(_) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION: RegionId = RegionId(1);

    fn judged(committed: u64, applied: u64, term: u64, is_at_once: bool) -> Verdict {
        let mut election = Election::default();
        election.leads(REGION, 4, StoreId(1)).expect("the first");
        election.leads(REGION, 6, StoreId(2)).expect("another term");
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
