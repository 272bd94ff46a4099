//! What is planned for a whole cluster.

use flotilla_types::PeerId;

use super::*;
use crate::core::limits::{BALANCE_TRANSFERS_MAX, OPERATORS_MAX};
use crate::core::operator::{Operator, OperatorIds};
use crate::core::records::StoreMode;
use crate::core::testkit::{Kit, NOW};

fn planned(kit: &Kit, operators: &Operators) -> Vec<String> {
    let describe = |plan: OperatorPlan| format!("{}: {}", plan.region, plan.steps[0].describe());
    plan(&kit.state, &kit.reports, operators, NOW).operators.into_iter().map(describe).collect()
}

/// Starts all that is planned.
fn start(kit: &Kit, operators: &mut Operators) -> usize {
    let plans = plan(&kit.state, &kit.reports, operators, NOW).operators;
    let count = plans.len();
    for (n, plan) in plans.into_iter().enumerate() {
        let ids = OperatorIds { operator: 500 + n as u64, peer: PeerId(700 + n as u64) };
        operators.start(Operator::start(plan, ids, 1, NOW)).expect("no conflict");
    }
    count
}

#[test]
fn a_plan_is_repeated_without_doing_anything_twice() {
    let mut kit = Kit::new(3);
    for id in 1..=3 {
        kit.put(kit.region(id, &[1, 2]));
    }
    let mut operators = Operators::default();
    assert_eq!(start(&kit, &mut operators), 3);
    assert_eq!(planned(&kit, &operators), [""; 0]);
}

#[test]
fn additions_to_one_store_and_operators_are_bounded() {
    let mut kit = Kit::new(3);
    for id in 1..=9 {
        kit.put(kit.region(id, &[1, 2]));
    }
    let mut operators = Operators::default();
    start(&kit, &mut operators);
    let additions = crate::core::limits::ADDITIONS_PER_STORE_MAX as usize;
    assert_eq!(operators.additions().count(), additions);
    assert_eq!(operators.count(Origin::Balance), BALANCE_TRANSFERS_MAX);

    let mut kit = Kit::new(4);
    for id in 1..=(OPERATORS_MAX as u64 + 6) {
        kit.put(kit.region(id, &[1, 2, 3, 4]));
    }
    let plans = plan(&kit.state, &kit.reports, &Operators::default(), NOW).operators;
    assert_eq!(plans.len(), OPERATORS_MAX);
}

#[test]
fn leaders_move_from_the_store_with_most_to_the_one_with_least() {
    let mut kit = Kit::new(3);
    for id in 1..=4 {
        kit.put(kit.region(id, &[1, 2, 3]));
    }
    let mut operators = Operators::default();
    let expected = ["1: transfer leadership to peer 102", "2: transfer leadership to peer 203"];
    assert_eq!(planned(&kit, &operators), expected, "4, 0, 0 becomes 2, 1, 1");
    start(&kit, &mut operators);
    assert_eq!(planned(&kit, &operators), [""; 0], "what is under way counts as done");
}

#[test]
fn leaders_do_not_move_to_peers_or_stores_that_are_not_able() {
    let mut kit = Kit::new(3);
    kit.set_mode(2, StoreMode::Draining);
    for id in 1..=3 {
        let mut report = kit.region(id, &[1, 2, 3]);
        report.lagging.insert(PeerId(100 * id + 3));
        kit.put(report);
    }
    assert_eq!(planned(&kit, &Operators::default()), [""; 0]);
    let mut kit = Kit::new(3);
    kit.put(kit.region(1, &[1, 2, 3]));
    assert_eq!(planned(&kit, &Operators::default()), [""; 0], "a difference of 1 is even");
}

#[test]
fn a_region_whose_leaders_store_is_disconnected_is_not_planned_for() {
    let mut kit = Kit::new(3);
    kit.put(kit.region(1, &[1, 2]));
    assert_eq!(planned(&kit, &Operators::default()).len(), 1);
    kit.age_heartbeat(1, 11_000);
    assert_eq!(planned(&kit, &Operators::default()), [""; 0]);
}

#[test]
fn a_report_behind_the_range_map_is_not_planned_for() {
    let mut kit = Kit::new(3);
    kit.put(kit.region(1, &[1, 2]));
    let mut ahead = kit.region(1, &[1, 2, 3]);
    ahead.region.epoch.conf_ver += 1;
    kit.apply(crate::core::command::PdCommand::PutRegions(vec![ahead.region]));
    assert_eq!(planned(&kit, &Operators::default()), [""; 0]);
}
