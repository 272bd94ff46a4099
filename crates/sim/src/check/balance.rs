//! Balancing: regions move to stores in service, none moves to and fro, and in a cluster at rest
//! the stores hold the same number of regions, but for one.
//!
//! * A move that the placement driver begins to even the cluster out leads to a store that is in
//!   service and, as far as heartbeats tell, not down.
//! * Once everything is healed and no client calls, no region is moved onto one store more often
//!   than `ONTO_ONE_STORE_MAX`. An order that is late, or the repair of what it did, may make a
//!   region come back once.
//! * In the quiet window any two stores in service differ by at most one region. Sound because of
//!   two stores that differ by more, one holds a region that the other lacks; stores of a simulated
//!   cluster have no labels, and each region that is whole may be moved. Asked only if all are.
//!
//! What it cannot see: how long the evening out takes.

use std::collections::BTreeMap;

use flotilla_pd::core::operator::{Operator, OperatorKind, Origin};
use flotilla_pd::core::records::StoreMode;
use flotilla_types::{Member, MemberRole, Region, RegionId, StoreId};

use super::operators::PdSight;
use super::{Verdict, broken};

const TARGETS: &str = "regions move to stores in service";
const TO_AND_FRO: &str = "no region moves to and fro";
const EVEN: &str = "stores of a cluster at rest hold the same number of regions";

/// How often a region may be moved onto one store while the cluster comes to rest.
const ONTO_ONE_STORE_MAX: u32 = 2;

/// The moves since everything was healed.
#[derive(Debug, Default)]
pub struct Balance {
    is_on: bool,
    moves: BTreeMap<(RegionId, StoreId), u32>,
}

impl Balance {
    /// Everything is healed, and no client calls.
    pub fn begin(&mut self) {
        self.is_on = true;
    }

    /// The account is closed.
    pub fn end(&mut self) {
        *self = Balance::default();
    }

    /// The placement driver begins an operator.
    pub fn started(&mut self, sight: &PdSight<'_>, operator: &Operator) -> Verdict {
        let is_move = operator.kind == OperatorKind::MovePeer;
        if operator.origin != Origin::Balance || !is_move {
            return Ok(());
        }
        let Some(to) = operator.new_member().map(|member| member.store_id) else { return Ok(()) };
        let mode = sight.pd.state().store(to).map(|store| store.mode);
        if mode != Some(StoreMode::Up) {
            return broken(TARGETS, format!("{operator:?}: store {to} is {mode:?}"));
        }
        self.moved(operator.region, to)
    }

    fn moved(&mut self, region: RegionId, to: StoreId) -> Verdict {
        if !self.is_on {
            return Ok(());
        }
        let count = self.moves.entry((region, to)).or_default();
        *count += 1;
        if *count > ONTO_ONE_STORE_MAX {
            return broken(TO_AND_FRO, format!("region {region} onto store {to}, {count} times"));
        }
        Ok(())
    }
}

/// Checks a cluster at rest. `stores` are those that run and are in service, and each region has
/// `voters` voters.
pub fn check_even<'a>(
    regions: impl Iterator<Item = &'a Region>,
    stores: &[StoreId],
    voters: usize,
) -> Verdict {
    let mut counts: BTreeMap<StoreId, u64> = stores.iter().map(|store| (*store, 0)).collect();
    for region in regions {
        let is_good = |member: &Member| {
            member.role == MemberRole::Voter && counts.contains_key(&member.store_id)
        };
        if region.members.len() != voters || !region.members.iter().all(is_good) {
            return Ok(());
        }
        for member in &region.members {
            *counts.entry(member.store_id).or_default() += 1;
        }
    }
    let (least, most) = (counts.values().min(), counts.values().max());
    if most.zip(least).is_some_and(|(most, least)| most - least > 1) {
        return broken(EVEN, format!("regions by store: {counts:?}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::PeerId;

    fn check(regions: &[&[u64]], stores: u64) -> Verdict {
        let member = |store: &u64| Member::voter(PeerId(10 + store), StoreId(*store));
        let region =
            |on: &&[u64]| Region { members: on.iter().map(member).collect(), ..Region::default() };
        let regions: Vec<Region> = regions.iter().map(region).collect();
        let stores: Vec<StoreId> = (1..=stores).map(StoreId).collect();
        check_even(regions.iter(), &stores, 3)
    }

    #[test]
    fn a_difference_of_two_is_found_unless_a_region_is_not_whole() {
        assert!(check(&[&[1, 2, 3], &[1, 2, 4]], 4).is_ok());
        assert!(check(&[&[1, 2, 3], &[1, 2, 3]], 4).is_err());
        assert!(check(&[&[1, 2, 3], &[1, 2, 3], &[1, 2]], 4).is_ok());
    }

    #[test]
    fn a_region_that_is_moved_to_and_fro_is_found_and_only_after_healing() {
        let mut balance = Balance::default();
        let shuttle = |balance: &mut Balance| {
            (0..6).try_for_each(|n| balance.moved(RegionId(1), StoreId(n % 2)))
        };
        assert!(shuttle(&mut balance).is_ok());
        balance.begin();
        assert!(shuttle(&mut balance).is_err());
        balance.end();
        assert!(shuttle(&mut balance).is_ok());
    }
}
