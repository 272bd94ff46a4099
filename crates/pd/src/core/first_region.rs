//! How a cluster begins: with a first region that has all its voters from its first entry on.
//!
//! 1. Stores register; none of them gets a region. The cluster waits, and says for what
//!    ([`awaited`]).
//! 2. Once replica_count stores in service were heard lately, the leader chooses as many of them
//!    ([`choose`]): those that share the fewest labels. It waits a moment after a registration, so
//!    that stores which start together count. With one replica there is nothing to wait for.
//! 3. `CreateFirst` with these stores is committed, and checked again when it is applied
//!    ([`crate::core::state`]).
//! 4. While the range map is empty, each answer to a heartbeat of one of these stores tells it of
//!    the region (`heartbeat`). The stores create it, each its own peer.
//! 5. The first report of the region ends the telling.
//!
//! The group never has fewer voters than replica_count, so no write is ever acknowledged by fewer
//! than a majority of these. The stores are never chosen anew: the region may lead on those that
//! are silent.

use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Millis, StoreId};

use crate::core::records::{StoreMode, StoreRecord};
use crate::core::reports::Reports;
use crate::core::state::State;

/// A store that is to hold the first region was heard this lately.
const HEARD_MS: u64 = 3_000;

/// The time from the last registration to the choice.
const SETTLE_MS: u64 = 500;

/// The stores that may hold the first region now.
fn ready<'a>(state: &'a State, reports: &Reports, now: Millis) -> Vec<&'a StoreRecord> {
    let is_heard = |store: &&StoreRecord| {
        let last = reports.last_heartbeat_at(store.id);
        store.mode == StoreMode::Up && last.is_some_and(|last| now.since(last) <= HEARD_MS)
    };
    state.stores().filter(is_heard).collect()
}

/// What the cluster waits for before it has a region; None once it has one.
pub(crate) fn awaited(state: &State, reports: &Reports, now: Millis) -> Option<String> {
    if !state.regions().is_empty() {
        return None;
    }
    if let Some(region) = state.first_region() {
        let stores: Vec<String> =
            region.members.iter().map(|member| member.store_id.to_string()).collect();
        return Some(format!(
            "the first region is being created; most of the stores {} have to run for that",
            stores.join(", ")
        ));
    }
    let (wanted, ready) = (state.replica_count(), ready(state, reports, now).len() as u64);
    let missing = wanted.saturating_sub(ready);
    Some(match missing {
        0 => "the cluster is about to begin".to_string(),
        _ => format!(
            "the cluster begins once {wanted} stores run, one for each replica, and {missing} of \
             them {} missing; start as many, or start anew with fewer --replicas",
            if missing == 1 { "is" } else { "are" }
        ),
    })
}

/// The stores of the first region's voters, the one that is to lead first; None while there are too
/// few. `registered_at` is when a store registered last, if one has since this leader began.
pub(crate) fn choose(
    state: &State,
    reports: &Reports,
    registered_at: Option<Millis>,
    now: Millis,
) -> Option<Vec<StoreId>> {
    // A member that was put back from an older copy may have no region, and its stores have some.
    let holds_peers = |store: &StoreRecord| reports.usage(store.id).peer_count > 0;
    let has_begun = state.first_region().is_some()
        || !state.regions().is_empty()
        || state.stores().any(holds_peers);
    let wanted = match planted(Mutant::BeginAlone) {
        true => 1,
        false => state.replica_count() as usize,
    };
    let is_settled = wanted <= 1 || registered_at.is_none_or(|at| now.since(at) >= SETTLE_MS);
    let ready = ready(state, reports, now);
    if state.cluster_id() == 0 || has_begun || !is_settled || ready.len() < wanted {
        return None;
    }
    let mut chosen: Vec<&StoreRecord> = vec![];
    while chosen.len() < wanted {
        let others = ready.iter().filter(|store| !chosen.iter().any(|c| c.id == store.id));
        chosen.push(others.min_by_key(|store| (crowding(store, &chosen), store.id))?);
    }
    Some(chosen.into_iter().map(|store| store.id).collect())
}

/// How many label values the store shares with `others`.
fn crowding(store: &StoreRecord, others: &[&StoreRecord]) -> usize {
    others.iter().map(|other| store.shared_labels(other)).sum()
}

/// True if two of these stores share a label value: what fails with it takes more than one replica.
pub(crate) fn is_crowded(state: &State, stores: &[StoreId]) -> bool {
    let stores: Vec<&StoreRecord> = stores.iter().filter_map(|id| state.store(*id)).collect();
    let mut after = stores.as_slice();
    while let Some((store, rest)) = after.split_first() {
        if crowding(store, rest) > 0 {
            return true;
        }
        after = rest;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::command::PdCommand;
    use crate::core::state::{Applied, Refusal};
    use crate::core::testkit::{Kit, NOW};

    fn chosen(kit: &Kit, registered_at: Option<Millis>) -> Option<Vec<u64>> {
        let stores = choose(&kit.state, &kit.reports, registered_at, NOW)?;
        Some(stores.into_iter().map(|store| store.0).collect())
    }

    fn waits_for(kit: &Kit) -> String {
        awaited(&kit.state, &kit.reports, NOW).expect("it has no region")
    }

    #[test]
    fn a_cluster_waits_for_as_many_stores_as_replicas() {
        let kit = Kit::unborn(2, 3);
        assert_eq!(chosen(&kit, None), None);
        assert!(waits_for(&kit).contains("1 of them is missing"), "{}", waits_for(&kit));
        let mut kit = Kit::unborn(4, 3);
        assert_eq!(chosen(&kit, None), Some(vec![1, 2, 3]));
        assert_eq!(chosen(&kit, Some(Millis(NOW.0 - 499))), None, "another may be about to come");
        assert_eq!(chosen(&kit, Some(Millis(NOW.0 - 500))), Some(vec![1, 2, 3]));
        kit.age_heartbeat(1, HEARD_MS + 1);
        assert_eq!(chosen(&kit, None), Some(vec![2, 3, 4]), "the silent one is not chosen");
        kit.set_mode(2, StoreMode::Draining);
        assert_eq!(chosen(&kit, None), None);
        assert_eq!(chosen(&Kit::unborn(1, 1), Some(NOW)), Some(vec![1]), "one replica, at once");
    }

    #[test]
    fn labels_keep_the_voters_apart_as_far_as_they_can() {
        let mut kit = Kit::unborn(4, 3);
        for (store, zone) in [(1, "a"), (2, "a"), (3, "b"), (4, "c")] {
            kit.set_labels(store, &[("zone", zone)]);
        }
        assert_eq!(chosen(&kit, None), Some(vec![1, 3, 4]));
        assert!(!is_crowded(&kit.state, &[StoreId(1), StoreId(3), StoreId(4)]));
        kit.set_labels(4, &[("zone", "b")]);
        assert_eq!(chosen(&kit, None), Some(vec![1, 3, 2]), "too few zones, and it begins");
        assert!(is_crowded(&kit.state, &[StoreId(1), StoreId(3), StoreId(2)]));
    }

    #[test]
    fn the_stores_are_chosen_once() {
        let mut kit = Kit::unborn(4, 3);
        let stores = |ids: &[u64]| ids.iter().map(|id| StoreId(*id)).collect::<Vec<_>>();
        assert_eq!(kit.apply(PdCommand::CreateFirst(stores(&[1, 2, 3]))), Applied::Done);
        let again = kit.apply(PdCommand::CreateFirst(stores(&[2, 3, 4])));
        assert_eq!(again, Applied::Refused(Refusal::HasBegun));
        assert_eq!(chosen(&kit, None), None);
        assert!(waits_for(&kit).contains("1, 2, 3"), "{}", waits_for(&kit));
    }
}
