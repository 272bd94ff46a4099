//! Election safety (Raft, figure 3): at most one leader can be elected in a term of a group.

use std::collections::BTreeMap;

use super::group::{GroupId, Node};
use super::{Verdict, broken};

/// The leader of each term of each group.
#[derive(Debug, Default)]
pub struct Election {
    leaders: BTreeMap<(GroupId, u64), Node>,
}

impl Election {
    /// Takes note that the peer on `node` leads `group` in `term`.
    pub fn leads(&mut self, group: GroupId, term: u64, node: Node) -> Verdict {
        let first = *self.leaders.entry((group, term)).or_insert(node);
        if first == node {
            return Ok(());
        }
        let what = format!("{group}, term {term}: {first} and {node} lead");
        broken("one leader in a term", what)
    }

    /// The newest term of the group in which a leader was elected, and that leader.
    pub fn newest(&self, group: GroupId) -> Option<(u64, Node)> {
        let mut terms = self.leaders.range((group, 0)..=(group, u64::MAX));
        terms.next_back().map(|((_, term), node)| (*term, *node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::{RegionId, StoreId};

    #[test]
    fn a_second_leader_of_a_term_is_found() {
        let group = |id| GroupId::Region(RegionId(id));
        let store = |id| Node::Store(StoreId(id));
        let mut election = Election::default();
        assert!(election.leads(group(1), 2, store(1)).is_ok());
        assert!(election.leads(group(1), 2, store(1)).is_ok());
        assert!(election.leads(group(1), 3, store(2)).is_ok());
        assert!(election.leads(group(1), 2, store(2)).is_err());
        assert_eq!(election.newest(group(1)), Some((3, store(2))));
        assert_eq!(election.newest(group(2)), None);
        assert!(election.leads(GroupId::Pd, 2, Node::Pd(1)).is_ok());
        assert!(election.leads(GroupId::Pd, 2, Node::Pd(2)).is_err());
    }
}
