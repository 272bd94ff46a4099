//! What is healthy, and what is said of what is not.

use flotilla_types::heartbeat::{HeartbeatId, StoreUsage};
use flotilla_types::placement::HealthKind::{
    Beginning, Changing, Lagging, Unavailable, UnderReplicated, Unknown,
};
use flotilla_types::{KeyRange, Millis, PeerId};

use super::*;
use crate::core::records::StoreMode;
use crate::core::reports::Reports;
use crate::core::testkit::{Kit, NOW, TIMEOUTS};

/// Three stores and one region, 5, whose first voter leads.
fn kit() -> Kit {
    let mut kit = Kit::new(3);
    kit.put(whole(&kit));
    kit
}

fn whole(kit: &Kit) -> ReportedRegion {
    let mut report = kit.region(5, &[1, 2, 3]);
    report.region.range = KeyRange::all();
    report.region.epoch.conf_ver = 100;
    report.region.epoch.version = 100;
    report
}

fn judge(kit: &Kit) -> Health {
    health(StoreView::new(&kit.state, &kit.reports, NOW), None)
}

/// The one reason: its kind and the stores that it names.
fn only(kit: &Kit) -> (HealthKind, Vec<StoreId>, String) {
    let health = judge(kit);
    let [reason] = health.reasons.as_slice() else { panic!("one reason: {health:?}") };
    assert_eq!((health.unhealthy_region_count, reason.region_count), (1, 1));
    assert_eq!(reason.regions, [RegionId(5)]);
    (reason.kind, reason.stores.clone(), reason.what.clone())
}

#[test]
fn a_region_with_all_its_voters_is_healthy() {
    let mut kit = kit();
    assert_eq!(judge(&kit), Health::default());
    kit.age_heartbeat(2, HEARD_MS_MAX);
    assert_eq!(judge(&kit), Health::default());
}

#[test]
fn a_silent_voter_is_under_replicated_and_a_silent_leader_is_unavailable() {
    let mut kit = kit();
    kit.age_heartbeat(2, HEARD_MS_MAX + 1);
    let (kind, stores, what) = only(&kit);
    assert_eq!((kind, stores), (UnderReplicated, vec![kit.store(2)]));
    assert!(what.contains("was last heard 3 s ago"), "{what}");
    kit.age_heartbeat(1, 20_000);
    let (kind, stores, what) = only(&kit);
    assert_eq!((kind, stores), (Unavailable, vec![kit.store(1)]));
    assert!(what.contains("the leader's store is silent"), "{what}");
}

#[test]
fn a_store_that_says_that_it_stops_is_silent_at_once() {
    let mut kit = kit();
    let id = HeartbeatId { process: 0, number: 1 };
    kit.reports.note_stopped(NOW, kit.store(2), id);
    let (kind, stores, what) = only(&kit);
    assert_eq!((kind, stores), (UnderReplicated, vec![kit.store(2)]));
    assert!(what.contains("has stopped"), "{what}");
    kit.beat(kit.store(2), NOW);
    assert_eq!(judge(&kit), Health::default());
}

#[test]
fn a_leader_without_a_majority_is_unavailable() {
    let mut kit = kit();
    kit.age_heartbeat(2, 4_000);
    kit.age_heartbeat(3, 5_000);
    let (kind, stores, _) = only(&kit);
    assert_eq!((kind, stores), (Unavailable, vec![kit.store(2), kit.store(3)]));
}

#[test]
fn a_leader_whose_process_has_started_anew_does_not_lead() {
    let mut kit = kit();
    let id = HeartbeatId { process: 9, number: 1 };
    let usage = StoreUsage::default();
    kit.reports.heartbeat(NOW, kit.store(1), id, usage, false);
    let (kind, stores, what) = only(&kit);
    assert_eq!((kind, stores), (Unavailable, vec![kit.store(1)]));
    assert!(what.contains("has started anew"), "{what}");
    kit.put(ReportedRegion { term: 7, ..whole(&kit) });
    assert_eq!(judge(&kit), Health::default());
}

#[test]
fn a_voter_that_is_behind_or_unheard_lags() {
    let mut kit = kit();
    let lagging = [PeerId(502)].into();
    kit.put(ReportedRegion { lagging, ..whole(&kit) });
    assert_eq!(only(&kit).0, Lagging);
    let unreachable = [(PeerId(503), Millis(1))].into();
    kit.put(ReportedRegion { unreachable, ..whole(&kit) });
    let (kind, stores, _) = only(&kit);
    assert_eq!((kind, stores), (Lagging, vec![kit.store(3)]));
}

#[test]
fn a_learner_is_a_change_and_a_missing_voter_is_not() {
    let mut kit = Kit::new(4);
    kit.put(whole(&kit));
    let mut report = whole(&kit);
    report.region.epoch.conf_ver += 1;
    report.region.members.pop();
    kit.put(report.clone());
    assert_eq!(only(&kit), (UnderReplicated, vec![], "fewer voters than 3".to_string()));
    report.region.epoch.conf_ver += 2;
    report.region.members = whole(&kit).region.members;
    report.region.members.push(Member::learner(PeerId(504), kit.store(4)));
    kit.put(report);
    let (kind, stores, _) = only(&kit);
    assert_eq!((kind, stores), (Changing, vec![kit.store(4)]));
}

#[test]
fn a_voter_that_its_store_has_lost_or_that_is_on_a_removed_store_is_missing() {
    let mut kit = kit();
    kit.lose(3, RegionId(5), 503);
    let (kind, stores, what) = only(&kit);
    assert_eq!((kind, stores), (UnderReplicated, vec![kit.store(3)]));
    assert!(what.contains("has lost it"), "{what}");
    kit.set_mode(3, StoreMode::Removed);
    assert!(only(&kit).2.contains("was removed"));
}

#[test]
fn a_voter_on_a_draining_store_that_lives_is_a_voter() {
    let mut kit = kit();
    kit.set_mode(3, StoreMode::Draining);
    assert_eq!(judge(&kit), Health::default());
}

#[test]
fn without_reports_nothing_is_known_at_first_and_then_nobody_leads() {
    let mut kit = kit();
    kit.reports = Reports::new(Millis(NOW.0 - 1_000), TIMEOUTS);
    let (kind, stores, _) = only(&kit);
    assert_eq!((kind, stores.len()), (Unknown, 3));
    let now = Millis(NOW.0 + 20_000);
    let late = health(StoreView::new(&kit.state, &kit.reports, now), None);
    assert_eq!(late.reasons.first().map(|reason| reason.kind), Some(Unavailable));
}

#[test]
fn a_cluster_without_regions_says_what_it_waits_for() {
    let kit = Kit::unborn(1, 3);
    let view = StoreView::new(&kit.state, &kit.reports, NOW);
    let health = health(view, Some("two more stores".to_string()));
    let told: Vec<_> = health.reasons.iter().map(|r| (r.kind, r.what.as_str())).collect();
    assert_eq!(told, [(Beginning, "two more stores")]);
}

#[test]
fn regions_that_lack_the_same_share_a_reason() {
    let mut kit = Kit::new(3);
    let mut left = whole(&kit);
    left.region.range = KeyRange::new("", "m");
    let mut right = kit.region(6, &[1, 2, 3]);
    right.region.range = KeyRange::new("m", "");
    right.region.epoch = left.region.epoch;
    kit.put(left);
    kit.put(right);
    kit.age_heartbeat(3, 9_000);
    let health = judge(&kit);
    assert_eq!((health.reasons.len(), health.unhealthy_region_count), (1, 2));
    assert_eq!(health.reasons[0].regions, [RegionId(5), RegionId(6)]);
}
