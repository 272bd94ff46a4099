//! What the checker makes of one region.

use flotilla_types::{Member, MemberRole, Millis, PeerId, RegionId};

use super::*;
use crate::core::operators::Operators;
use crate::core::records::StoreMode;
use crate::core::testkit::{Kit, NOW};

fn planned(checked: Checked) -> Option<OperatorPlan> {
    match checked {
        Checked::Needs(plan) => Some(plan),
        Checked::Whole | Checked::Changing | Checked::Stuck => None,
    }
}

/// The plan's steps, with stores and peers by their numbers in the kit.
fn checked(kit: &mut Kit, report: ReportedRegion) -> Vec<String> {
    kit.put(report.clone());
    let view = ClusterView::new(&kit.state, &kit.reports, &Operators::default(), NOW);
    let plan = planned(check(&view, &report));
    plan.map_or(vec![], |plan| plan.steps.iter().map(OperatorStep::describe).collect())
}

fn added(kit: &Kit, n: usize) -> Vec<String> {
    vec![format!("add learner 0 on store {}", kit.store(n)), "promote peer 0".into()]
}

/// A replacement on the n-th store of peer `removed`.
fn replaced(kit: &Kit, n: usize, removed: u64) -> Vec<String> {
    vec![
        format!("add learner 0 on store {}", kit.store(n)),
        format!("let peer 0 vote instead of peer {removed}"),
        format!("remove peer {removed}"),
    ]
}

#[test]
fn a_region_that_is_as_it_should_be_is_left_alone() {
    let mut kit = Kit::new(4);
    let report = kit.region(1, &[1, 2, 3]);
    assert_eq!(checked(&mut kit, report), [""; 0]);
}

#[test]
fn a_missing_voter_goes_where_there_are_the_fewest_regions() {
    let mut kit = Kit::new(4);
    kit.put(kit.region(2, &[3, 1, 2]));
    let report = kit.region(1, &[1, 2]);
    let expected = added(&kit, 4);
    assert_eq!(checked(&mut kit, report), expected);
}

#[test]
fn a_missing_voter_goes_where_labels_differ_before_all_else() {
    let mut kit = Kit::new(5);
    for (n, zone) in [(1, "a"), (2, "b"), (3, "a"), (4, "c"), (5, "b")] {
        kit.set_labels(n, &[("zone", zone)]);
    }
    kit.put(kit.region(2, &[4, 1, 2]));
    let report = kit.region(1, &[1, 2]);
    let expected = added(&kit, 4);
    assert_eq!(checked(&mut kit, report), expected);
}

#[test]
fn no_more_voters_are_wanted_than_there_are_stores_and_none_goes_to_a_disconnected_one() {
    let mut kit = Kit::new(2);
    let report = kit.region(1, &[1, 2]);
    assert_eq!(checked(&mut kit, report), [""; 0]);
    let mut kit = Kit::new(3);
    kit.age_heartbeat(3, 20_000);
    let report = kit.region(1, &[1, 2]);
    assert_eq!(checked(&mut kit, report), [""; 0]);
}

#[test]
fn the_replacement_comes_before_the_removal() {
    for is_down in [true, false] {
        let mut kit = Kit::new(4);
        if is_down {
            kit.age_heartbeat(3, 70_000)
        } else {
            kit.set_mode(3, StoreMode::Draining)
        }
        let expected = replaced(&kit, 4, 103);
        let report = kit.region(1, &[1, 2, 3]);
        assert_eq!(checked(&mut kit, report), expected);
        let mut replaced = kit.region(1, &[1, 2, 3, 4]);
        replaced.region.epoch.conf_ver += 2;
        assert_eq!(checked(&mut kit, replaced), ["remove peer 103"]);
    }
}

#[test]
fn without_another_store_a_voter_stays_where_it_is_whatever_its_store() {
    let mut kit = Kit::new(3);
    let report = kit.region(1, &[1, 2, 3]);
    kit.age_heartbeat(3, 70_000);
    assert_eq!(checked(&mut kit, report.clone()), [""; 0]);
    kit.age_heartbeat(3, 0);
    kit.set_mode(3, StoreMode::Draining);
    assert_eq!(checked(&mut kit, report.clone()), [""; 0]);
    kit.set_mode(3, StoreMode::Removed);
    assert_eq!(checked(&mut kit, report), [""; 0], "two voters need both, as two of three do");
}

#[test]
fn a_voter_on_a_removed_store_goes_if_that_lowers_the_majority() {
    let mut kit = Kit::with_replicas(5, 5);
    kit.set_mode(4, StoreMode::Removed);
    kit.set_mode(5, StoreMode::Removed);
    let of_five = kit.region(1, &[1, 2, 3, 4, 5]);
    assert_eq!(checked(&mut kit, of_five), [""; 0], "three of five are as many as three of four");
    let mut kit = Kit::with_replicas(4, 5);
    kit.set_mode(4, StoreMode::Removed);
    let of_four = kit.region(1, &[1, 2, 3, 4]);
    assert_eq!(checked(&mut kit, of_four), ["remove peer 104"]);
}

#[test]
fn a_voter_that_its_leader_does_not_hear_stays_as_long_as_its_store_is_heard() {
    for stores in [3, 4] {
        let mut kit = Kit::new(stores);
        let mut report = kit.region(1, &[1, 2, 3]);
        report.unreachable.insert(PeerId(102), Millis(0));
        assert_eq!(checked(&mut kit, report), [""; 0], "{stores} stores; it may live");
    }
}

#[test]
fn a_voter_that_its_own_store_has_lost_is_replaced_elsewhere() {
    let mut kit = Kit::new(4);
    let report = kit.region(1, &[1, 2, 3]);
    kit.lose(3, RegionId(1), 103);
    let expected = replaced(&kit, 4, 103);
    assert_eq!(checked(&mut kit, report), expected);
}

#[test]
fn a_lost_voter_goes_first_only_if_no_other_store_can_take_its_place_and_the_others_are_whole() {
    let mut kit = Kit::new(3);
    let mut report = kit.region(1, &[1, 2, 3]);
    kit.lose(3, RegionId(1), 103);
    assert_eq!(checked(&mut kit, report.clone()), ["remove peer 103"]);
    report.lagging.insert(PeerId(102));
    assert_eq!(checked(&mut kit, report.clone()), [""; 0], "two voters are left, and need both");
    report.lagging.clear();
    report.unreachable.insert(PeerId(102), NOW);
    assert_eq!(checked(&mut kit, report.clone()), [""; 0]);
    report.unreachable.clear();
    kit.lose(3, RegionId(1), 102);
    assert_eq!(checked(&mut kit, report.clone()), [""; 0], "another incarnation");
    // The other store receives as many peers as it may; it can take this one later.
    let mut kit = Kit::new(4);
    kit.lose(3, RegionId(1), 103);
    kit.age_heartbeat(4, 20_000);
    assert_eq!(checked(&mut kit, report), [""; 0], "it is only disconnected");
}

#[test]
fn of_two_voters_to_replace_the_lost_one_is_replaced_first() {
    let mut kit = Kit::new(4);
    kit.set_mode(2, StoreMode::Draining);
    let report = kit.region(1, &[1, 2, 3]);
    kit.lose(3, RegionId(1), 103);
    let expected = replaced(&kit, 4, 103);
    assert_eq!(checked(&mut kit, report), expected);
}

#[test]
fn a_replacement_is_dropped_when_the_voters_store_is_heard_again() {
    let mut kit = Kit::new(4);
    kit.age_heartbeat(3, 70_000);
    let report = kit.region(1, &[1, 2, 3]);
    kit.put(report.clone());
    let view = ClusterView::new(&kit.state, &kit.reports, &Operators::default(), NOW);
    let plan = planned(check(&view, &report)).expect("store 3 is down");
    let ids = crate::core::operator::OperatorIds { operator: 900, peer: PeerId(901) };
    let start = |plan: OperatorPlan| Operator::start(plan, ids, 2, NOW);
    let operator = start(plan.clone());
    assert!(!is_regretted(view.stores(), &report, &operator));
    let by_admin = start(OperatorPlan { origin: Origin::Admin, ..plan });
    kit.age_heartbeat(3, 0);
    let view = ClusterView::new(&kit.state, &kit.reports, &Operators::default(), NOW);
    assert!(is_regretted(view.stores(), &report, &operator));
    assert!(!is_regretted(view.stores(), &report, &by_admin), "an administrator knows why");
    let mut demoted = report;
    demoted.region.members[2].role = MemberRole::Learner;
    assert!(!is_regretted(view.stores(), &demoted, &operator), "it votes no more");
}

#[test]
fn the_voter_too_many_is_never_the_leader_and_shares_the_most_labels() {
    let mut kit = Kit::new(4);
    let report = kit.region(1, &[4, 1, 2, 3]);
    assert_eq!(checked(&mut kit, report), ["remove peer 103"], "the youngest but the leader");
    for (n, zone) in [(1, "a"), (2, "a"), (3, "b"), (4, "a")] {
        kit.set_labels(n, &[("zone", zone)]);
    }
    let report = kit.region(1, &[4, 1, 2, 3]);
    assert_eq!(checked(&mut kit, report), ["remove peer 102"]);
    let mut unreachable = kit.region(1, &[4, 1, 2, 3]);
    unreachable.unreachable.insert(PeerId(101), Millis(0));
    assert_eq!(checked(&mut kit, unreachable), ["remove peer 101"]);
}

#[test]
fn leadership_moves_away_from_a_draining_store_first() {
    let mut kit = Kit::new(4);
    kit.set_mode(1, StoreMode::Draining);
    let mut report = kit.region(1, &[1, 2, 3, 4]);
    report.lagging.insert(PeerId(102));
    let steps = checked(&mut kit, report.clone());
    assert_eq!(steps, ["transfer leadership to peer 103", "remove peer 101"]);
    report.lagging.extend([PeerId(103), PeerId(104)]);
    assert_eq!(checked(&mut kit, report), [""; 0], "no voter can lead");
}

#[test]
fn a_learner_left_over_is_promoted_or_removed() {
    let learner = |kit: &Kit, on: &[usize]| {
        let mut report = kit.region(1, on);
        let last = report.region.members.last_mut().expect("a member");
        *last = Member::learner(last.id, last.store_id);
        report
    };
    let mut kit = Kit::new(4);
    let needed = learner(&kit, &[1, 2, 3]);
    assert_eq!(checked(&mut kit, needed.clone()), ["promote peer 103"]);
    let mut unreachable = needed.clone();
    unreachable.unreachable.insert(PeerId(103), NOW);
    assert_eq!(checked(&mut kit, unreachable.clone()), ["promote peer 103"], "perhaps a snapshot");
    let mut kit = Kit::new(4);
    unreachable.unreachable.insert(PeerId(103), Millis(NOW.0 - UNREACHABLE_LEARNER_MS - 1));
    assert_eq!(checked(&mut kit, unreachable), ["remove peer 103"]);
    let unneeded = learner(&kit, &[1, 2, 3, 4]);
    assert_eq!(checked(&mut kit, unneeded), ["remove peer 104"]);
    kit.set_mode(3, StoreMode::Draining);
    assert_eq!(checked(&mut kit, needed.clone()), ["remove peer 103"]);
    kit.set_mode(3, StoreMode::Up);
    kit.lose(3, RegionId(1), 103);
    assert_eq!(checked(&mut kit, needed), ["remove peer 103"], "its store has lost it");
}

#[test]
fn a_learner_that_is_to_be_removed_and_becomes_a_voter_stays() {
    let mut kit = Kit::new(4);
    kit.age_heartbeat(3, 70_000);
    let mut report = kit.region(1, &[1, 2, 3]);
    report.region.members[2].role = MemberRole::Learner;
    kit.put(report.clone());
    let view = ClusterView::new(&kit.state, &kit.reports, &Operators::default(), NOW);
    let plan = planned(check(&view, &report)).expect("its store is down");
    let ids = crate::core::operator::OperatorIds { operator: 900, peer: PeerId(901) };
    let removal = Operator::start(plan, ids, 2, NOW);
    assert_eq!(removal.outgoing(), Some(PeerId(103)));
    assert!(!is_regretted(view.stores(), &report, &removal));
    // The promotion of an operator that has ended stood in the leader's log.
    report.region.members[2].role = MemberRole::Voter;
    assert!(is_regretted(view.stores(), &report, &removal), "two of three voters would be left");
    report.region.members.push(Member::voter(PeerId(104), kit.store(4)));
    assert!(!is_regretted(view.stores(), &report, &removal), "three of four are left");
}

#[test]
fn a_learner_left_over_takes_the_place_of_a_voter_that_is_to_be_replaced() {
    let mut kit = Kit::new(4);
    let mut report = kit.region(1, &[1, 2, 3, 4]);
    let last = report.region.members.last_mut().expect("a member");
    *last = Member::learner(last.id, last.store_id);
    kit.set_mode(2, StoreMode::Draining);
    let steps = checked(&mut kit, report);
    assert_eq!(steps, ["let peer 104 vote instead of peer 102", "remove peer 102"]);
}

#[test]
fn nothing_is_planned_during_a_joint_change() {
    let mut kit = Kit::new(4);
    let mut report = kit.region(1, &[1, 2]);
    report.region.members[1].role = MemberRole::IncomingVoter;
    assert_eq!(checked(&mut kit, report), [""; 0]);
}
