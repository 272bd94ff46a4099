//! Committed means held durably by a quorum: when the first peer applies an entry, a quorum of the
//! configuration in force, of both halves of a joint one, has the entry in its durable log, with
//! the entry's term.
//!
//! The logs are those of [`super::ballot`], which counts what was synced. A lost disk does not take
//! away what it once held: between the commit of an entry and the first look at a peer that applied
//! it, a disk may end. Nor may the peer be destroyed in between that held it, because a peer ends
//! by a later entry of the same log.
//!
//! Which configuration is in force: the `raft` crate counts votes by the last change that the
//! leader has applied. A leader has at most one change in its log that it has not applied, for it
//! proposes none before it has applied all earlier ones. So the leader counted by the configuration
//! before the entry, or by the one before the last change of that.
//!
//! What the checker cannot see: an entry that was committed by too few and reached a quorum before
//! anybody applied it.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::ballot::Ballots;
use super::commits::Committed;
use super::group::{Configuration, GroupId, Voter};
use super::{Verdict, broken};

/// The most voters of one of these configurations that hold the entry, both halves together.
pub fn holders(
    ballots: &Ballots,
    group: GroupId,
    entry: Committed,
    configurations: &[Arc<Configuration>],
) -> usize {
    let holds = |(node, peer): &Voter| ballots.holds(*node, (group, *peer), entry);
    let count = |one: &Arc<Configuration>| {
        let all: BTreeSet<&Voter> = one.voters.iter().chain(&one.outgoing).collect();
        all.into_iter().filter(|voter| holds(voter)).count()
    };
    configurations.iter().map(count).max().unwrap_or(0)
}

/// Checks an entry that a first peer has applied. `configurations` are those that may have been in
/// force, the newest first.
pub fn check(
    ballots: &Ballots,
    group: GroupId,
    entry: Committed,
    configurations: &[Arc<Configuration>],
) -> Verdict {
    let holds = |(node, peer): &Voter| ballots.holds(*node, (group, *peer), entry);
    let has_quorum =
        |voters: &[Voter]| voters.iter().filter(|voter| holds(voter)).count() * 2 > voters.len();
    let commits = |one: &Arc<Configuration>| {
        has_quorum(&one.voters) && (one.outgoing.is_empty() || has_quorum(&one.outgoing))
    };
    if configurations.iter().any(commits) {
        return Ok(());
    }
    let Some(now) = configurations.first() else { return Ok(()) };
    let all = now.voters.iter().chain(&now.outgoing);
    let who: Vec<String> =
        all.map(|voter| format!("{} holds it: {}", voter.0, holds(voter))).collect();
    let Committed { index, term, .. } = entry;
    let what = format!("{group}, entry {index} of term {term}: {}; {now:?}", who.join(", "));
    broken("what is applied is durable on a quorum", what)
}

#[cfg(test)]
mod tests {
    use super::super::ballot::tests::{appended, of_peer};
    use super::super::group::Node;
    use super::*;
    use flotilla_group::Membership;
    use flotilla_types::{RegionId, StoreId};

    const GROUP: GroupId = GroupId::Region(RegionId(1));
    const ENTRY: Committed = Committed { index: 6, term: 5, known_in: 5 };

    fn voters(ids: &[u64]) -> Vec<Voter> {
        ids.iter().map(|id| (Node::Store(StoreId(*id)), *id)).collect()
    }

    /// The first stores have the entry durable; the last one has written it and not synced it.
    fn checked(durable: &[u64], term: u64, one: Configuration) -> Verdict {
        let mut ballots = Ballots::default();
        for id in [1, 2, 3, 4, 5] {
            let node = Node::Store(StoreId(id));
            ballots.write(node, of_peer(id));
            ballots.write(node, appended(6, term));
            if durable.contains(&id) {
                ballots.sync(node).expect("nothing goes back");
            }
        }
        check(&ballots, GROUP, ENTRY, &[Arc::new(one)])
    }

    #[test]
    fn an_entry_that_too_few_voters_have_synced_is_found() {
        let three = || Configuration { voters: voters(&[1, 2, 3]), outgoing: vec![] };
        assert!(checked(&[1, 3], 5, three()).is_ok());
        assert!(checked(&[1, 4, 5], 5, three()).is_err(), "others do not count");
        assert!(checked(&[1, 2, 3], 4, three()).is_err(), "another entry");
    }

    #[test]
    fn both_halves_of_a_joint_configuration_must_have_it() {
        let joint = || Configuration { voters: voters(&[1, 2, 3]), outgoing: voters(&[3, 4, 5]) };
        assert!(checked(&[2, 3, 4], 5, joint()).is_ok());
        assert!(checked(&[1, 2, 3], 5, joint()).is_err());
        assert!(checked(&[3, 4, 5], 5, joint()).is_err());
    }

    #[test]
    fn an_entry_that_a_member_of_the_placement_driver_has_not_synced_is_found() {
        let mut ballots = Ballots::default();
        let membership = Membership::of_voters(&[7]);
        let one = [Arc::new(Configuration::of_pd(&membership))];
        let node = Node::Pd(7);
        ballots.write(node, of_peer(7));
        ballots.write(node, appended(6, 5));
        assert!(check(&ballots, GroupId::Pd, ENTRY, &one).is_err());
        ballots.sync(node).expect("nothing goes back");
        assert!(check(&ballots, GroupId::Pd, ENTRY, &one).is_ok());
    }

    #[test]
    fn an_earlier_incarnation_does_not_count() {
        let mut one = Configuration { voters: voters(&[1, 2, 3]), outgoing: vec![] };
        one.voters.iter_mut().for_each(|(_, peer)| *peer += 10);
        assert!(checked(&[1, 2, 3], 5, one).is_err());
    }

    #[test]
    fn the_configuration_before_the_last_change_counts_too() {
        let one = |ids: &[u64]| Arc::new(Configuration { voters: voters(ids), outgoing: vec![] });
        let mut ballots = Ballots::default();
        let node = Node::Store(StoreId(1));
        ballots.write(node, of_peer(1));
        ballots.write(node, appended(6, 5));
        ballots.sync(node).expect("nothing goes back");
        let (now, before) = (one(&[1, 2]), one(&[1]));
        assert!(check(&ballots, GROUP, ENTRY, &[now.clone(), before]).is_ok());
        assert!(check(&ballots, GROUP, ENTRY, &[now]).is_err());
    }
}
