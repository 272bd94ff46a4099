//! Which regions move, and which do not.

use flotilla_types::{Millis, PeerId};

use super::*;
use crate::core::account::Scheduler;
use crate::core::limits::{ADDITIONS_PER_STORE_MAX, BALANCE_MOVES_MAX};
use crate::core::operator::{Operator, OperatorIds};
use crate::core::records::StoreMode;
use crate::core::testkit::{Kit, NOW};

fn account() -> Account {
    Account::new(Scheduler::BalanceReplicas, 0)
}

/// The moves that are planned, as "region: from -> to", by the numbers of the stores.
fn planned(kit: &Kit, operators: &Operators) -> Vec<String> {
    let mut view = ClusterView::new(&kit.state, &kit.reports, operators, NOW);
    let plans = moves(&mut view, operators, &BTreeMap::new(), BALANCE_MOVES_MAX, &mut account());
    plans.iter().map(|plan| describe(kit, plan)).collect()
}

fn describe(kit: &Kit, plan: &OperatorPlan) -> String {
    let number = |id| kit.state.stores().position(|store| store.id == id).expect("known") + 1;
    let region = kit.state.regions().region(plan.region).expect("known");
    let removed = plan.steps.iter().find_map(|step| step.peers().removed).expect("one goes");
    let from = region.member(removed).expect("a member").store_id;
    let to = plan.new_member().expect("one comes").store_id;
    format!("{}: {} -> {}", plan.region, number(from), number(to))
}

/// Regions 1 to `count` on the stores 1 to 3, of which the first leads, in a cluster of `stores`.
fn kit(stores: u64, count: u64) -> Kit {
    let mut kit = Kit::new(stores);
    for id in 1..=count {
        kit.put(kit.region(id, &[1, 2, 3]));
    }
    kit
}

#[test]
fn regions_move_to_an_idle_store_until_no_move_makes_it_more_even() {
    let kit = kit(4, 4);
    // 4, 4, 4 and 0: of the greatest the last goes first, of its regions one that it does not lead.
    let expected = ["1: 3 -> 4", "2: 2 -> 4", "3: 1 -> 4"];
    let moves = planned(&kit, &Operators::default());
    assert_eq!(moves, expected, "3 each, and a further move would make nothing more even");
}

#[test]
fn a_difference_of_one_is_even() {
    let mut kit = kit(4, 1);
    assert_eq!(planned(&kit, &Operators::default()), [""; 0], "1, 1, 1, 0");
    kit.put(kit.region(2, &[1, 2, 4]));
    assert_eq!(planned(&kit, &Operators::default()), [""; 0], "2, 2, 1, 1");
}

#[test]
fn what_is_under_way_counts_as_done_whatever_part_of_it_is() {
    let mut kit = kit(4, 4);
    let mut operators = Operators::default();
    let mut view = ClusterView::new(&kit.state, &kit.reports, &operators, NOW);
    let plans = moves(&mut view, &operators, &BTreeMap::new(), BALANCE_MOVES_MAX, &mut account());
    for (n, plan) in plans.into_iter().enumerate() {
        let ids = OperatorIds { operator: 500 + n as u64, peer: PeerId(700 + n as u64) };
        operators.start(Operator::start(plan, ids, 1, NOW)).expect("no conflict");
    }
    assert_eq!(planned(&kit, &operators), [""; 0]);
    // The learner of the first is there, and is reported; the range map does not have it yet.
    let mut report = kit.region(1, &[1, 2, 3]);
    report.region.members.push(Member::learner(PeerId(700), kit.store(4)));
    report.region.epoch.conf_ver += 1;
    let store = report.leader.expect("a leader").store_id;
    kit.reports.report(store, report).expect("not stale");
    assert_eq!(planned(&kit, &operators), [""; 0]);
}

#[test]
fn no_store_receives_more_than_it_may_at_once() {
    let kit = kit(4, 40);
    let moves = planned(&kit, &Operators::default());
    assert_eq!(moves.len(), ADDITIONS_PER_STORE_MAX as usize, "{moves:?}");
}

#[test]
fn stores_that_drain_or_are_silent_neither_give_nor_receive() {
    let mut kit = kit(5, 4);
    kit.set_mode(4, StoreMode::Draining);
    kit.age_heartbeat(5, 11_000);
    assert_eq!(planned(&kit, &Operators::default()), [""; 0]);
    let mut kit = Kit::new(4);
    for id in 1..=4 {
        kit.put(kit.region(id, &[2, 1, 3]));
    }
    kit.set_mode(1, StoreMode::Draining);
    let moves = planned(&kit, &Operators::default());
    assert!(moves.iter().all(|planned| !planned.contains("1 ->")), "{moves:?}");
}

#[test]
fn a_region_that_is_not_whole_stays_where_it_is() {
    let mut kit = kit(4, 2);
    let mut lagging = kit.region(1, &[1, 2, 3]);
    lagging.lagging.insert(PeerId(102));
    kit.put(lagging);
    let mut unreachable = kit.region(2, &[1, 2, 3]);
    unreachable.unreachable.insert(PeerId(203), Millis(1));
    kit.put(unreachable);
    assert_eq!(planned(&kit, &Operators::default()), [""; 0]);
}

#[test]
fn no_move_puts_peers_closer_together() {
    let mut kit = kit(4, 4);
    for (store, zone) in [(1, "a"), (2, "b"), (3, "c"), (4, "a")] {
        kit.set_labels(store, &[("zone", zone)]);
    }
    let moves = planned(&kit, &Operators::default());
    let expected = ["1: 1 -> 4", "2: 1 -> 4"];
    assert_eq!(moves, expected, "from the zone's other store alone, until these two are even");
}

#[test]
fn the_leader_moves_where_there_is_no_other() {
    let mut kit = Kit::with_replicas(2, 1);
    for id in 1..=4 {
        kit.put(kit.region(id, &[1]));
    }
    assert_eq!(planned(&kit, &Operators::default()), ["1: 1 -> 2", "2: 1 -> 2"]);
}
