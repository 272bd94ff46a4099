//! What is committed stays: whoever leads has every entry that was committed in an earlier term
//! (leader completeness; Raft, figure 3). So what was acknowledged is looked for as soon as a
//! leader is elected that has lost it, not only when somebody reads it.
//!
//! An entry counts as committed from the moment at which the first peer has applied it. A leader
//! that does not know yet that it was succeeded need not have what its successors committed: only
//! entries of terms before its own count.

use std::collections::BTreeMap;

use flotilla_engine::{LogBounds, LogStore};
use flotilla_store::core::peer::Peer;
use flotilla_types::RegionId;

use super::{Sight, Verdict, broken};

/// Indexes that are known to be committed.
#[derive(Debug, Default)]
pub struct Commits {
    /// The last index of each term.
    last: BTreeMap<RegionId, BTreeMap<u64, u64>>,
}

impl Commits {
    /// The first peer has applied this entry.
    pub fn learned(&mut self, region: RegionId, index: u64, term: u64) {
        self.last.entry(region).or_default().insert(term, index);
    }

    /// The last index that any peer of the region has applied; 0 for none since it began.
    pub fn newest(&self, region: RegionId) -> u64 {
        let last = self.last.get(&region).and_then(|terms| terms.last_key_value());
        last.map_or(0, |(_, index)| *index)
    }

    /// The last index that was committed in a term before `term`, and its term.
    fn before(&self, region: RegionId, term: u64) -> Option<(u64, u64)> {
        let (term, index) = self.last.get(&region)?.range(..term).next_back()?;
        Some((*index, *term))
    }

    /// The peer leads.
    pub fn leads(&self, sight: &Sight<'_>, peer: &Peer) -> Verdict {
        let (region, leads_in) = (peer.region.id, peer.group.role().term);
        let Some((index, term)) = self.before(region, leads_in) else { return Ok(()) };
        let last = peer.group.last_index();
        // What was truncated is not there any more, and what is written in this turn not yet.
        let is_held = |held: &LogBounds| held.first <= index && index <= held.last;
        let entries = match sight.log.bounds(region.0).filter(is_held) {
            Some(_) => sight.log.entries(region.0, index, index + 1, usize::MAX),
            None => Ok(vec![]),
        };
        let found = entries.unwrap_or_default().first().map_or(term, |entry| entry.term);
        let is_kept = index > peer.group.truncated().index;
        if last >= index && (found == term || !is_kept) {
            return Ok(());
        }
        let what = format!(
            "store {}, region {region}: leads in term {leads_in} with a log up to {last} and an \
             entry {index} of term {found}; one of term {term} is committed",
            sight.store
        );
        broken("a leader has all that is committed", what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_answers_for_the_terms_before_its_own() {
        let mut commits = Commits::default();
        let region = RegionId(1);
        commits.learned(region, 6, 5);
        commits.learned(region, 7, 5);
        commits.learned(region, 8, 9);
        assert_eq!(commits.before(region, 5), None);
        assert_eq!(commits.before(region, 9), Some((7, 5)));
        assert_eq!(commits.before(region, 10), Some((8, 9)));
        assert_eq!(commits.newest(region), 8);
        assert_eq!(commits.newest(RegionId(2)), 0);
    }
}
