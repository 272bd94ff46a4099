//! What the checker makes of one region.

use flotilla_types::{Member, MemberRole, Millis, PeerId};

use super::*;
use crate::core::operators::Operators;
use crate::core::records::StoreMode;
use crate::core::testkit::{Kit, NOW};

/// The plan's steps, with stores and peers by their numbers in the kit.
fn checked(kit: &mut Kit, report: ReportedRegion) -> Vec<String> {
    kit.put(report.clone());
    let view = ClusterView::new(&kit.state, &kit.reports, &Operators::default(), NOW);
    let plan = check(&view, &report);
    plan.map_or(vec![], |plan| plan.steps.iter().map(OperatorStep::describe).collect())
}

fn added(kit: &Kit, n: usize) -> Vec<String> {
    vec![format!("add learner 0 on store {}", kit.store(n)), "promote peer 0".into()]
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
        let expected = added(&kit, 4);
        let report = kit.region(1, &[1, 2, 3]);
        assert_eq!(checked(&mut kit, report), expected);
        let mut replaced = kit.region(1, &[1, 2, 3, 4]);
        replaced.region.epoch.conf_ver += 2;
        assert_eq!(checked(&mut kit, replaced), ["remove peer 103"]);
    }
}

#[test]
fn without_another_store_a_down_or_draining_voter_stays_and_a_removed_one_goes() {
    let mut kit = Kit::new(3);
    let report = kit.region(1, &[1, 2, 3]);
    kit.age_heartbeat(3, 70_000);
    assert_eq!(checked(&mut kit, report.clone()), [""; 0]);
    kit.age_heartbeat(3, 0);
    kit.set_mode(3, StoreMode::Draining);
    assert_eq!(checked(&mut kit, report.clone()), [""; 0]);
    kit.set_mode(3, StoreMode::Removed);
    assert_eq!(checked(&mut kit, report), ["remove peer 103"]);
}

#[test]
fn a_voter_that_its_live_store_has_lost_is_replaced() {
    let mut kit = Kit::new(4);
    let mut report = kit.region(1, &[1, 2, 3]);
    let lost = report.region.members[2].id;
    report.unreachable.insert(lost, Millis(NOW.0 - 20_000));
    assert_eq!(checked(&mut kit, report.clone()), [""; 0], "it may come back");
    report.unreachable.insert(lost, Millis(0));
    let expected = added(&kit, 4);
    let mut kit = Kit::new(4);
    assert_eq!(checked(&mut kit, report.clone()), expected);
    let mut kit = Kit::new(3);
    assert_eq!(
        checked(&mut kit, report),
        [format!("remove unreachable peer {lost}")],
        "no other store"
    );
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
    assert_eq!(checked(&mut kit, unreachable), ["remove unreachable peer 101"]);
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
    assert_eq!(checked(&mut kit, needed), ["remove peer 103"]);
}

#[test]
fn nothing_is_planned_during_a_joint_change() {
    let mut kit = Kit::new(4);
    let mut report = kit.region(1, &[1, 2]);
    report.region.members[1].role = MemberRole::IncomingVoter;
    assert_eq!(checked(&mut kit, report), [""; 0]);
}
