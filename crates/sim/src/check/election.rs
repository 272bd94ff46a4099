//! Election safety (Raft, figure 3): at most one leader can be elected in a term of a region.

use std::collections::BTreeMap;

use flotilla_types::{RegionId, StoreId};

use super::{Verdict, broken};

/// The leader of each term of each region.
#[derive(Debug, Default)]
pub struct Election {
    leaders: BTreeMap<(RegionId, u64), StoreId>,
}

impl Election {
    /// Takes note that the peer on `store` leads `region` in `term`.
    pub fn leads(&mut self, region: RegionId, term: u64, store: StoreId) -> Verdict {
        let first = *self.leaders.entry((region, term)).or_insert(store);
        if first == store {
            return Ok(());
        }
        let what = format!("region {region}, term {term}: stores {first} and {store} lead");
        broken("one leader in a term", what)
    }

    /// The newest term of the region in which a leader was elected, and that leader.
    pub fn newest(&self, region: RegionId) -> Option<(u64, StoreId)> {
        let mut terms = self.leaders.range((region, 0)..=(region, u64::MAX));
        terms.next_back().map(|((_, term), store)| (*term, *store))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_leader_of_a_term_is_found() {
        let mut election = Election::default();
        assert!(election.leads(RegionId(1), 2, StoreId(1)).is_ok());
        assert!(election.leads(RegionId(1), 2, StoreId(1)).is_ok());
        assert!(election.leads(RegionId(1), 3, StoreId(2)).is_ok());
        assert!(election.leads(RegionId(1), 2, StoreId(2)).is_err());
        assert_eq!(election.newest(RegionId(1)), Some((3, StoreId(2))));
        assert_eq!(election.newest(RegionId(2)), None);
    }
}
