//! Placement at the end of a seed: the placement driver's range map agrees with the stores, and
//! each region has the members that it should have.
//!
//! * Every peer on a live store is a member of its region in the placement driver's map, with the
//!   same range and epoch: no peer is left over.
//! * Every member on a live store has a peer there, with state: no peer is missing.
//! * Every region has as many voters as it should, and no learners. Voters on dead stores count if
//!   no store can replace them, or if the placement driver takes stores for down too late.
//!
//! * The load of each region that is led is told as none, for nobody asks any more.
//!
//! * Every peer is level with its leader ([`super::level`]), unless its region has an operator.
//!
//! Operators that an administrator ordered are cancelled first, as an administrator would cancel an
//! operator that is stuck: one that can never be done (a split of a region with one row) holds up
//! repair until it expires, and no seed lasts that long.
//!
//! Reports travel by heartbeats and repairs take time, so the rules become true a while after
//! everything was healed: within `CONVERGED` and [`queued`], during which the world goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use flotilla_types::{Member, MemberRole, RangeMap, Region, RegionId, StoreId, proto};

use super::level::{self, Level};
use super::{Verdict, Violation, broken, show};
use crate::time::{MS, Micros};
use crate::world::World;

/// How long the world may take to converge: one peer added, promoted and removed for each region of
/// a store, after the minute in which the placement driver waits for an unreachable learner.
const CONVERGED: Micros = 150_000 * MS;

/// How long one operator may take in a cluster without faults: a snapshot of few rows, and some
/// heartbeats.
const OPERATOR: Micros = 6_000 * MS;

/// How often the world is checked until it converges.
const LOOK: Micros = 500 * MS;

/// A placement driver that takes a store for down later than this does not do so within a seed.
const DOWN_AFTER_MS_MAX: u64 = 60_000;

/// Runs the world until the placement driver and the stores agree. Regions with an operator still
/// under way by then may have any members: an operator has ten minutes, and may wait for a store
/// that has died.
pub fn converge(world: &mut World) -> Verdict {
    cancel_ordered(world)?;
    let mut level = Level::default();
    let until = world.hub.now() + CONVERGED + queued(world);
    while world.hub.now() < until {
        if check(world, &BTreeSet::new()).is_ok() {
            world.survey();
            return Ok(());
        }
        level.look(world, &[])?;
        let soon = world.hub.now() + LOOK;
        world.run(soon)?;
    }
    world.survey();
    let under_way = operators(world)?;
    check(world, &under_way.values().map(|operator| RegionId(operator.region_id)).collect())
}

/// How long the last operator may wait for its turn, if every region needs one for each of its
/// voters and one more, and each of its voters is moved to even the stores out: the bounds of the
/// placement driver let only so many run at once.
pub fn queued(world: &World) -> Micros {
    let (limits, cluster) = (&world.hub.bounds.pd, &world.hub.scenario.cluster);
    let additions_max = limits.additions_per_store_max * cluster.stores;
    let at_once = additions_max.min(limits.operators_max as u64);
    let regions = world.hub.checks.tiling.regions().count() as u64;
    let repairs = OPERATOR * regions * (cluster.replica_count + 1) / at_once;
    match limits.balance_moves_max as u64 {
        0 => repairs,
        moves_max => repairs + OPERATOR * regions * cluster.replica_count / moves_max.min(at_once),
    }
}

/// Cancels the operators that an administrator ordered.
pub fn cancel_ordered(world: &mut World) -> Verdict {
    for (id, operator) in operators(world)? {
        if operator.kind.starts_with("admin") {
            let request = proto::CancelOperatorRequest { operator_id: id };
            world.ask_leader(proto::pd_request::Op::CancelOperator(request))?;
        }
    }
    Ok(())
}

/// The operators under way, by id.
pub fn operators(world: &mut World) -> Result<BTreeMap<u64, proto::OperatorStatus>, Violation> {
    let op = proto::pd_request::Op::Operators(proto::OperatorsRequest {});
    let listed = world.ask_leader(op)?.and_then(|reply| reply.result);
    let Some(proto::pd_reply::Result::Operators(listed)) = listed else {
        return Ok(BTreeMap::new());
    };
    Ok(listed.operators.into_iter().map(|operator| (operator.id, operator)).collect())
}

/// Checks the world as it stands; the regions `changing` may have any members.
fn check(world: &World, changing: &BTreeSet<RegionId>) -> Verdict {
    let Some(map) = world.pd.regions() else {
        return broken("the placement driver serves", "it is down");
    };
    world.stores.keys().try_for_each(|store| check_store(world, map, *store))?;
    map.iter().try_for_each(|region| {
        check_peers(world, region)?;
        if changing.contains(&region.id) { Ok(()) } else { check_members(world, region) }
    })?;
    check_loads(world)?;
    level::check(world, changing)
}

/// Checks that no load is told of a region whose leader lives to say that there is none.
fn check_loads(world: &World) -> Verdict {
    let processes = || world.stores.values().filter_map(|store| store.process.as_ref());
    let is_led = |region: RegionId| {
        let mut peers = processes().filter_map(|process| process.worker.peer(region));
        peers.any(|peer| peer.is_leader())
    };
    match world.pd.loads().find(|(region, load)| !load.is_none() && is_led(*region)) {
        None => Ok(()),
        Some((region, load)) => {
            broken("no load is told where nobody asks", format!("region {region}: {load:?}"))
        }
    }
}

/// Checks that no peer of the store is left over or differs from the placement driver's map.
fn check_store(world: &World, map: &RangeMap, store: StoreId) -> Verdict {
    let Some(process) = world.stores.get(&store).and_then(|store| store.process.as_ref()) else {
        return Ok(());
    };
    for region in process.worker.regions() {
        let Some(peer) = process.worker.peer(region.id) else { continue };
        let known = map.region(region.id);
        let is_member =
            known.is_some_and(|known| known.member_on(store).map(|p| p.id) == Some(peer.id));
        if !is_member {
            let known = known.map_or("nothing".into(), show);
            let what = format!("store {store}: {}; the placement driver has {known}", show(region));
            return broken("no peer is left over", what);
        }
        if known != Some(region) || !peer.has_state() {
            let known = known.map_or("nothing".into(), show);
            let what = format!("store {store}: {}; the placement driver has {known}", show(region));
            return broken("peers are what the placement driver knows", what);
        }
    }
    Ok(())
}

/// Checks that no peer of the region is missing.
fn check_peers(world: &World, region: &Region) -> Verdict {
    for peer in &region.members {
        let store = world.stores.get(&peer.store_id);
        let process = store.and_then(|store| store.process.as_ref());
        if process.is_some_and(|process| process.worker.peer(region.id).is_none()) {
            let what = format!("store {} has no peer of {}", peer.store_id, show(region));
            return broken("no peer is missing", what);
        }
    }
    Ok(())
}

/// Checks the number and the roles of the region's members.
fn check_members(world: &World, region: &Region) -> Verdict {
    let is_live = |store: &StoreId| world.stores.get(store).is_some_and(|store| store.is_up());
    let scenario = &world.hub.scenario.cluster;
    let live = world.stores.keys().filter(|store| is_live(store)).count() as u64;
    let repairs = live >= scenario.replica_count && scenario.down_after_ms < DOWN_AFTER_MS_MAX;
    let counts = |store: &StoreId| is_live(store) || !repairs;
    // A missing peer can only be added on a live store.
    let least = if repairs { scenario.replica_count } else { scenario.replica_count.min(live) };
    if is_as_it_should_be(region, least..=scenario.replica_count, counts) {
        return Ok(());
    }
    let what = format!(
        "{}, with {} voters wanted and {live} of {} stores alive",
        show(region),
        scenario.replica_count,
        world.stores.len()
    );
    broken("every region has the members it should have", what)
}

/// True if the number of members is as wanted and all are voters on stores that count.
fn is_as_it_should_be(
    region: &Region,
    wanted: RangeInclusive<u64>,
    counts: impl Fn(&StoreId) -> bool,
) -> bool {
    let is_good = |peer: &Member| peer.role == MemberRole::Voter && counts(&peer.store_id);
    wanted.contains(&(region.members.len() as u64)) && region.members.iter().all(is_good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::PeerId;

    fn region(peers: &[(u64, MemberRole)]) -> Region {
        let peer = |(store, role): &(u64, MemberRole)| Member {
            id: PeerId(10 + store),
            store_id: StoreId(*store),
            role: *role,
        };
        Region { members: peers.iter().map(peer).collect(), ..Region::default() }
    }

    #[test]
    fn a_learner_left_over_a_dead_member_and_a_wrong_number_are_found() {
        use MemberRole::{Learner, Voter};
        let all = |_: &StoreId| true;
        let whole = region(&[(1, Voter), (2, Voter), (3, Voter)]);
        assert!(is_as_it_should_be(&whole, 3..=3, all));
        assert!(!is_as_it_should_be(&whole, 3..=3, |store| *store != StoreId(3)), "3 is dead");
        assert!(!is_as_it_should_be(&whole, 5..=5, all), "too few");
        assert!(!is_as_it_should_be(&whole, 2..=2, all), "too many");
        let learner = region(&[(1, Voter), (2, Voter), (3, Learner)]);
        assert!(!is_as_it_should_be(&learner, 3..=3, all));
    }
}
