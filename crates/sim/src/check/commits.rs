//! Leader completeness (Raft, figure 3): a leader has every entry that was committed in an earlier
//! term. The checker finds a lost entry as soon as a leader without the entry is elected, not only
//! when a client reads.
//!
//! An entry counts as committed from the moment at which the first peer has applied it, and in the
//! term of that peer at that moment; the term in which the entry was committed was not later. The
//! entry's own term does not count: a leader that was succeeded without knowing it may have
//! replaced an entry of an older term, which its successor then committed (Raft, figure 8).

use std::collections::BTreeMap;

use flotilla_engine::{LogBounds, LogEntry, LogStore};
use flotilla_group::Group;

use super::group::{GroupId, Node};
use super::{Verdict, Violation, broken};

/// An entry that is known to be committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The entry's index.
    pub index: u64,
    /// The entry's term.
    pub term: u64,
    /// The term of the first peer that applied the entry, when it did.
    pub known_in: u64,
}

/// A leading peer.
pub struct Leading<'a> {
    /// The peer's group.
    pub group: GroupId,
    /// Where the peer is.
    pub node: Node,
    /// The node's log.
    pub log: &'a dyn LogStore,
    /// The number of the group in the log.
    pub number: u64,
    /// The peer's half of the group.
    pub raft: &'a Group,
}

/// All entries that are known to be committed.
#[derive(Debug, Default)]
pub struct Commits {
    /// The last entry that became known to be committed in each term.
    last: BTreeMap<GroupId, BTreeMap<u64, Committed>>,
    newest: BTreeMap<GroupId, u64>,
}

impl Commits {
    /// Takes note of an entry that a first peer has applied.
    pub fn learned(&mut self, group: GroupId, entry: Committed) {
        self.last.entry(group).or_default().insert(entry.known_in, entry);
        self.newest.insert(group, entry.index);
    }

    /// The group's only member was put back from an older copy: what it had committed since is
    /// gone.
    pub fn put_back(&mut self, group: GroupId) {
        self.last.remove(&group);
        self.newest.remove(&group);
    }

    /// The last index that any peer of the group has applied; 0 if none has applied any.
    pub fn newest(&self, group: GroupId) -> u64 {
        self.newest.get(&group).copied().unwrap_or(0)
    }

    /// The entries up to `applied` that no peer of the group was known to have applied, from the
    /// log of a peer in `term` that has. The log knows the group by `number`.
    pub fn news(
        &self,
        log: &dyn LogStore,
        (group, number): (GroupId, u64),
        (applied, term): (u64, u64),
    ) -> Result<Vec<Committed>, Violation> {
        let Some(bounds) = log.bounds(number) else { return Ok(vec![]) };
        let (low, high) = (bounds.first.max(self.newest(group) + 1), applied.min(bounds.last) + 1);
        if low >= high {
            return Ok(vec![]);
        }
        let entries = log.entries(number, low, high, usize::MAX).map_err(|error| Violation {
            invariant: "logs can be read",
            what: error.to_string(),
        })?;
        let committed =
            |entry: &LogEntry| Committed { index: entry.index, term: entry.term, known_in: term };
        Ok(entries.iter().map(committed).collect())
    }

    /// The last entry that was known to be committed in a term before `term`. The greatest index
    /// counts: a peer that lags may be the first to apply an entry when others are already in a
    /// later term.
    fn before(&self, group: GroupId, term: u64) -> Option<Committed> {
        let known = self.last.get(&group)?.range(..term).map(|(_, entry)| *entry);
        known.max_by_key(|entry| entry.index)
    }

    /// Checks that a leading peer has all that was committed before its term.
    pub fn leads(&self, leader: &Leading<'_>) -> Verdict {
        let Leading { group, node, log, number, raft } = *leader;
        let leads_in = raft.role().term;
        let Some(committed) = self.before(group, leads_in) else { return Ok(()) };
        let Committed { index, term, .. } = committed;
        let last = raft.last_index();
        // The log has no truncated entries any more, and not yet the entries of this turn.
        let is_held = |held: &LogBounds| held.first <= index && index <= held.last;
        let entries = match log.bounds(number).filter(is_held) {
            Some(_) => log.entries(number, index, index + 1, usize::MAX),
            None => Ok(vec![]),
        };
        let found = entries.unwrap_or_default().first().map_or(term, |entry| entry.term);
        let is_kept = index > raft.truncated().index;
        if last >= index && (found == term || !is_kept) {
            return Ok(());
        }
        let what = format!(
            "{node}, {group}: leads in term {leads_in} with a log up to {last} and an entry \
             {index} of term {found}; one of term {term} is committed"
        );
        broken("a leader has all that is committed", what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_engine::{LogBatch, LogOp, MemLog};
    use flotilla_types::RegionId;

    fn entry(index: u64, term: u64, known_in: u64) -> Committed {
        Committed { index, term, known_in }
    }

    #[test]
    fn a_leader_answers_for_the_terms_before_its_own() {
        let mut commits = Commits::default();
        let region = GroupId::Region(RegionId(1));
        commits.learned(region, entry(6, 5, 5));
        commits.learned(region, entry(7, 5, 5));
        commits.learned(region, entry(8, 9, 9));
        assert_eq!(commits.before(region, 5), None);
        assert_eq!(commits.before(region, 9), Some(entry(7, 5, 5)));
        assert_eq!(commits.before(region, 10), Some(entry(8, 9, 9)));
        assert_eq!(commits.newest(region), 8);
        assert_eq!(commits.newest(GroupId::Pd), 0);
    }

    #[test]
    fn what_was_not_known_to_be_applied_is_news() {
        let log = MemLog::default();
        let of = |index, term| LogEntry { index, term, ..LogEntry::default() };
        let entries = vec![of(1, 2), of(2, 2), of(3, 4), of(4, 4)];
        let ops = vec![LogOp::Append { group: 1, entries }];
        log.write(LogBatch { ops }, false).expect("a log in memory");
        let mut commits = Commits::default();
        let news = |commits: &Commits, applied| commits.news(&log, (GroupId::Pd, 1), (applied, 5));
        assert_eq!(news(&commits, 2), Ok(vec![entry(1, 2, 5), entry(2, 2, 5)]));
        commits.learned(GroupId::Pd, entry(2, 2, 5));
        assert_eq!(news(&commits, 3), Ok(vec![entry(3, 4, 5)]));
        assert_eq!(news(&commits, 2), Ok(vec![]));
    }

    /// Raft, figure 8: the leader of term 6 replaced an entry of term 5 that the leader of term 7
    /// then committed.
    #[test]
    fn a_leader_that_was_succeeded_need_not_have_what_its_successor_committed() {
        let mut commits = Commits::default();
        let region = GroupId::Region(RegionId(1));
        commits.learned(region, entry(8, 5, 7));
        assert_eq!(commits.before(region, 6), None);
        assert_eq!(commits.before(region, 7), None);
        assert_eq!(commits.before(region, 8), Some(entry(8, 5, 7)));
    }

    #[test]
    fn an_entry_first_applied_by_a_peer_that_is_behind_counts_in_its_term() {
        let mut commits = Commits::default();
        let region = GroupId::Region(RegionId(1));
        commits.learned(region, entry(8, 5, 7));
        commits.learned(region, entry(9, 5, 6));
        assert_eq!(commits.before(region, 7), Some(entry(9, 5, 6)));
        assert_eq!(commits.before(region, 8), Some(entry(9, 5, 6)));
        assert_eq!(commits.newest(region), 9);
    }
}
