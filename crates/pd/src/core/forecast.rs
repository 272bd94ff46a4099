//! What draining a store takes: the placement of each of its peers on a view of the cluster in
//! which the store is being drained already.
//!
//! In: such a view ([`ClusterView::leaving`]). Out: how much moves, and which regions could not.
//! A region is blocked if no store will have its peer, if the one that would have it has no room on
//! its disk for it besides what goes there before, or if nobody leads it.
//!
//! Not here: how long it takes. Nothing is started, and what is under way counts as done.

use std::collections::BTreeMap;

use flotilla_types::explain::{BlockedRegion, DrainForecast};
use flotilla_types::{Member, Region, StoreId};

use crate::core::check::good_voters;
use crate::core::place::ClusterView;
use crate::core::verdicts::refusals;

/// Blocked regions that a forecast names; all are counted.
const BLOCKED_MAX: usize = 64;

/// The forecast for `store`.
pub(crate) fn forecast(view: &mut ClusterView<'_>, store: StoreId) -> DrainForecast {
    let mut forecast = DrainForecast::default();
    let mut arriving: BTreeMap<StoreId, u64> = BTreeMap::new();
    let state = view.state;
    let on_store = state.regions().iter().filter(|region| region.member_on(store).is_some());
    for known in on_store {
        forecast.region_count += 1;
        let bytes = view.reports.region(known.id).map_or(0, |report| report.approximate_bytes);
        forecast.bytes += bytes;
        if let Err(why) = leave(view, known, &mut arriving) {
            forecast.blocked_count += 1;
            if forecast.blocked.len() < BLOCKED_MAX {
                forecast.blocked.push(BlockedRegion { region_id: known.id, why });
            }
        }
    }
    forecast
}

/// Places the region's peer elsewhere, and counts what arrives there.
fn leave(
    view: &mut ClusterView<'_>,
    known: &Region,
    arriving: &mut BTreeMap<StoreId, u64>,
) -> Result<(), String> {
    let Some(report) = view.report(known) else {
        return Err("it has no leader that was heard lately".into());
    };
    // A peer that is on its way counts: with it the region has as many as it wants.
    let members = report.region.members.iter();
    let others = members.filter(|member| view.stores().is_good(report, member)).count();
    if others >= view.state.replica_count() as usize {
        return Ok(());
    }
    let staying = good_voters(view, report);
    let Some(to) = view.best(&report.region, &staying) else {
        return Err(refusals(view, &report.region));
    };
    let usage = view.reports.usage(to);
    let arrives = arriving.entry(to).or_default();
    let needed = arrives.saturating_add(report.approximate_bytes);
    let free = usage.capacity_bytes.saturating_sub(usage.used_bytes);
    if usage.capacity_bytes > 0 && needed > free {
        return Err(format!("store {to} has {free} bytes free of {needed} that would come there"));
    }
    *arrives = needed;
    view.counts.note_addition(Member { store_id: to, ..Member::default() });
    Ok(())
}

#[cfg(test)]
mod tests {
    use flotilla_types::heartbeat::{HeartbeatId, StoreUsage};
    use flotilla_types::{MemberRole, RegionId};

    use super::*;
    use crate::core::operators::Operators;
    use crate::core::testkit::{Kit, NOW};

    fn told(kit: &Kit, store: usize) -> DrainForecast {
        let view = ClusterView::new(&kit.state, &kit.reports, &Operators::default(), NOW);
        forecast(&mut view.leaving(kit.store(store)), kit.store(store))
    }

    fn kit(stores: u64) -> Kit {
        let mut kit = Kit::new(stores);
        for id in 1..=3 {
            let mut report = kit.region(id, &[1, 2, 3]);
            report.approximate_bytes = 100;
            kit.put(report);
        }
        kit
    }

    #[test]
    fn with_a_free_store_all_can_leave() {
        let expected = DrainForecast { region_count: 3, bytes: 300, ..DrainForecast::default() };
        assert_eq!(told(&kit(4), 1), expected);
        assert_eq!(told(&kit(4), 4), DrainForecast::default(), "it holds nothing");
    }

    #[test]
    fn without_one_each_region_says_which_filter_refuses_each_store() {
        let told = told(&kit(3), 1);
        assert_eq!((told.blocked_count, told.blocked.len()), (3, 3));
        let has_peer = "it has a peer of the region";
        let expected =
            format!("store 1: it is being drained, store 2: {has_peer}, store 3: {has_peer}");
        assert_eq!(told.blocked[0].why, expected);
    }

    #[test]
    fn a_disk_that_is_full_before_the_end_blocks_the_rest() {
        let mut kit = kit(4);
        let usage = StoreUsage { used_bytes: 700, capacity_bytes: 950, ..StoreUsage::default() };
        kit.reports.heartbeat(NOW, kit.store(4), HeartbeatId::default(), usage, true);
        let told = told(&kit, 2);
        let blocked: Vec<RegionId> = told.blocked.iter().map(|region| region.region_id).collect();
        assert_eq!(blocked, [RegionId(3)]);
        assert!(told.blocked[0].why.contains("250 bytes free of 300"), "{told:?}");
    }

    #[test]
    fn a_peer_that_is_on_its_way_is_one_that_stays() {
        let mut kit = Kit::new(4);
        let mut report = kit.region(1, &[1, 2, 3, 4]);
        let arriving = report.region.members.last_mut().expect("four members");
        arriving.role = MemberRole::Learner;
        kit.put(report);
        assert_eq!(told(&kit, 2).blocked, []);
        assert_eq!(told(&kit, 4).blocked, [], "it is wanted no more");
    }

    #[test]
    fn a_region_without_leader_is_blocked() {
        let mut kit = kit(4);
        kit.age_heartbeat(1, 11_000);
        assert_eq!(told(&kit, 2).blocked_count, 3);
    }
}
