//! Where a new peer of a region would go, store by store: chosen, or refused by which filter.
//!
//! The filters and scores are those of [`ClusterView::best`], which places peers.

use flotilla_types::explain::{RegionExplanation, StoreVerdict};
use flotilla_types::{Member, Region};

use crate::core::check::{Checked, check, good_voters};
use crate::core::operator_step::OperatorStep;
use crate::core::place::{ClusterView, PlaceFilter};
use crate::core::records::{StoreMode, StoreRecord};

/// What the region lacks, and where a new peer of it would go.
pub(crate) fn explain(view: &ClusterView<'_>, known: &Region) -> RegionExplanation {
    let Some(report) = view.report(known) else {
        let needs = "it has no leader that was heard lately: nothing is planned for it".into();
        let stores = verdicts(view, known, &known.members);
        return RegionExplanation { needs, stores };
    };
    let region = &report.region;
    let staying = good_voters(view, report);
    let needs = match check(view, report) {
        Checked::Whole => "nothing: it is as it should be".into(),
        Checked::Changing => "nothing now: a change of its members is under way".into(),
        Checked::Needs(plan) => {
            plan.steps.iter().map(OperatorStep::describe).collect::<Vec<_>>().join(", then ")
        }
        Checked::Stuck => format!("a new peer, and none can be made: {}", refusals(view, region)),
    };
    RegionExplanation { needs, stores: verdicts(view, region, &staying) }
}

/// Each store that was not removed, in one line: why no new peer of the region goes there.
pub(crate) fn refusals(view: &ClusterView<'_>, region: &Region) -> String {
    let refusal = |store: &StoreRecord| {
        let why = match view.filter(store.id, region) {
            Some(filter) => filter.to_string(),
            None if !view.may_receive(store.id) => RECEIVING.into(),
            None => "it would do".into(),
        };
        format!("store {}: {why}", store.id)
    };
    let stores = view.state.stores().filter(|store| store.mode != StoreMode::Removed);
    stores.map(refusal).collect::<Vec<_>>().join(", ")
}

const RECEIVING: &str = "it is receiving as many peers as it may at once";

fn verdicts(view: &ClusterView<'_>, region: &Region, staying: &[Member]) -> Vec<StoreVerdict> {
    let best = view.best(region, staying).and_then(|id| view.state.store(id));
    let verdict = |store: &StoreRecord| {
        let (shared, regions) = view.cost(store, staying);
        let is_best = best.is_some_and(|best| best.id == store.id);
        let is_chosen = is_best && view.may_receive(store.id);
        let why = match (view.filter(store.id, region), best) {
            (Some(filter), _) => filter.to_string(),
            (None, _) if is_chosen => format!("chosen: {shared} shared labels, {regions} regions"),
            (None, _) if is_best => format!("the best, but {RECEIVING}"),
            (None, None) => PlaceFilter::Silent.to_string(),
            (None, Some(best)) => worse(view, (store, best), staying),
        };
        let (shared_labels, region_count) = (shared as u64, regions);
        StoreVerdict { store_id: store.id, is_chosen, why, shared_labels, region_count }
    };
    let stores = view.state.stores().filter(|store| store.mode != StoreMode::Removed);
    stores.map(verdict).collect()
}

fn worse(
    view: &ClusterView<'_>,
    (store, best): (&StoreRecord, &StoreRecord),
    staying: &[Member],
) -> String {
    let ((shared, regions), (least, fewest)) =
        (view.cost(store, staying), view.cost(best, staying));
    if shared > least {
        format!("shares {shared} labels with the peers that stay; store {} shares {least}", best.id)
    } else if regions > fewest {
        format!("has {regions} regions; store {} has {fewest}", best.id)
    } else {
        format!("as good as store {}, which the ring names first for this region", best.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::operators::Operators;
    use crate::core::testkit::{Kit, NOW};

    fn explained(kit: &Kit, region: u64) -> (String, Vec<String>) {
        let view = ClusterView::new(&kit.state, &kit.reports, &Operators::default(), NOW);
        let known = kit.state.regions().region(flotilla_types::RegionId(region)).expect("known");
        let told = explain(&view, known);
        let chosen = |store: &StoreVerdict| if store.is_chosen { "*" } else { "" };
        let line =
            |store: &StoreVerdict| format!("{}{}: {}", chosen(store), store.store_id, store.why);
        (told.needs, told.stores.iter().map(line).collect())
    }

    #[test]
    fn each_store_is_chosen_or_says_which_filter_refuses_it() {
        let mut kit = Kit::new(7);
        kit.put(kit.region(1, &[1, 2, 3]));
        kit.put(kit.region(2, &[1, 2, 5]));
        kit.set_mode(4, StoreMode::Draining);
        kit.age_heartbeat(6, 11_000);
        for (store, zone) in [(1, "a"), (2, "b"), (5, "c"), (7, "a")] {
            kit.set_labels(store, &[("zone", zone)]);
        }
        let (needs, stores) = explained(&kit, 1);
        assert_eq!(needs, "nothing: it is as it should be");
        let has_peer = "it has a peer of the region";
        let expected = [
            format!("1: {has_peer}"),
            format!("2: {has_peer}"),
            format!("3: {has_peer}"),
            "4: it is being drained".into(),
            "*5: chosen: 0 shared labels, 1 regions".into(),
            "6: it was not heard lately".into(),
            "7: shares 1 labels with the peers that stay; store 5 shares 0".into(),
        ];
        assert_eq!(stores, expected);
    }

    #[test]
    fn a_region_that_cannot_be_repaired_says_why() {
        let mut kit = Kit::new(4);
        kit.put(kit.region(1, &[1, 2, 3]));
        kit.age_heartbeat(3, 61_000);
        kit.age_heartbeat(4, 11_000);
        let (needs, _) = explained(&kit, 1);
        assert!(needs.contains("store 3: it is down, store 4: it was not heard lately"), "{needs}");
    }
}
