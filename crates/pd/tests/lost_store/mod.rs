//! A store that never runs again, beside a lone placement driver that waits for the ids it used.

use flotilla_types::placement::{HealthKind, PdOp, PdReply, StoreState};

use crate::refusal;
use crate::world::{Cluster, set_store};

#[test]
fn a_silent_store_that_ids_are_awaited_of_is_named_and_can_be_removed_as_lost() {
    let mut cluster = Cluster::new(4);
    cluster.settle();
    let lost = cluster.alive.pop().expect("four stores");
    let mut cluster = cluster.crash_pd();
    let remove = PdOp::SetStoreState { store_id: lost, state: StoreState::Removed, is_lost: true };
    let reason = refusal(cluster.member.error(remove.clone()));
    assert!(reason.contains("stop the store first"), "nobody can know yet: {reason}");
    (0..50).for_each(|_| cluster.round(100));
    let reasons = cluster.member.status().reasons;
    let awaited = reasons.iter().find(|reason| reason.what.contains("--lost"));
    let awaited = awaited.unwrap_or_else(|| panic!("{reasons:?}"));
    assert_eq!((awaited.kind, &awaited.stores), (HealthKind::Unknown, &vec![lost]));
    cluster.member.error(PdOp::AllocateIds { count: 1 });
    let reason = refusal(cluster.member.error(set_store(lost, StoreState::Removed)));
    assert!(reason.contains("drain it first"), "{reason}");

    // A store that runs is not lost, whatever is said of it.
    let alive = cluster.alive[0];
    let op = PdOp::SetStoreState { store_id: alive, state: StoreState::Removed, is_lost: true };
    let reason = refusal(cluster.member.error(op));
    assert!(reason.contains("was heard"), "{reason}");

    assert!(matches!(cluster.member.call(remove), PdReply::SetStoreState));
    cluster.settle();
    assert_eq!(cluster.member.status().reasons, []);
    let ids = cluster.member.ids(1);
    assert!(cluster.member.ids(1).start > ids.start);
    assert!(!cluster.voter_stores(0).contains(&lost.0));
}
