//! The plan: which operators to start now.
//!
//! [`plan`] is a pure function. It asks the checker for every region in key order (repair, and
//! the emptying of draining stores, which is repair as well), then evens out leaders. What is
//! under way counts as done, so that a plan repeated a moment later adds nothing.
//!
//! Deliberately not here: balancing regions by number or size. Peers move only to repair, to
//! drain, or because an administrator says so.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_types::{Millis, PeerId, RegionId, StoreId};

use crate::core::check::check;
use crate::core::operator::{Draft, Kind, Origin, Step};
use crate::core::operators::{OPERATORS_MAX, Operators};
use crate::core::place::{Picture, is_current};
use crate::core::state::State;
use crate::core::view::View;

/// The most leaderships that are moved at once to even them out: each stops its region's writes
/// for a moment.
pub const BALANCE_TRANSFERS_MAX: usize = 4;

/// The least difference in leaders between two stores that is evened out. Moving one at a
/// difference of 1 would only swap the two stores.
const LEADER_DIFFERENCE_MIN: u64 = 2;

/// What came of planning.
#[derive(Debug)]
pub struct Plan {
    /// What should be started now.
    pub drafts: Vec<Draft>,
    /// Stores that hold peers of regions without a known leader; for those nothing was planned.
    pub unled: BTreeSet<StoreId>,
}

/// Plans for all regions, given what is under way.
pub fn plan(state: &State, view: &View, operators: &Operators, now: Millis) -> Plan {
    let mut picture = Picture::new(state, view, operators, now);
    let under_way = operators.len() - operators.count(Origin::Admin);
    let mut room = OPERATORS_MAX.saturating_sub(under_way);
    let mut drafts: BTreeMap<RegionId, Draft> = BTreeMap::new();
    for (region, report) in std::mem::take(&mut picture.led) {
        if room == 0 {
            break;
        }
        if operators.on(region.id).is_some() || !is_current(region, report) {
            continue;
        }
        if let Some(draft) = check(&picture, report) {
            picture.note(&draft);
            drafts.insert(region.id, draft);
            room -= 1;
        }
    }
    let transfers = BALANCE_TRANSFERS_MAX.saturating_sub(operators.count(Origin::Balance));
    count_transfers(&mut picture, operators);
    for _ in 0..transfers.min(room) {
        let is_free =
            |region: RegionId| operators.on(region).is_none() && !drafts.contains_key(&region);
        let Some(draft) = balance_leader(&mut picture, &is_free) else { break };
        drafts.insert(draft.region, draft);
    }
    Plan { drafts: drafts.into_values().collect(), unled: picture.unled }
}

/// Counts the transfers under way as done.
fn count_transfers(picture: &mut Picture<'_>, operators: &Operators) {
    for operator in operators.iter().filter(|operator| operator.kind == Kind::TransferLeader) {
        let known = picture.state.regions().region(operator.region);
        let Some(report) = known.and_then(|known| picture.report(known)) else { continue };
        let Some(from) = report.leader.map(|leader| leader.store_id) else { continue };
        let Some(Step::TransferLeader(to)) = operator.steps.last() else { continue };
        if let Some(to) = report.region.member(*to) {
            picture.load.note_transfer(from, to.store_id);
        }
    }
}

/// One transfer from a store with more leaders to one with fewer, the greatest difference first.
fn balance_leader(picture: &mut Picture<'_>, is_free: &dyn Fn(RegionId) -> bool) -> Option<Draft> {
    let mut stores: Vec<StoreId> =
        picture.state.stores().map(|store| store.id).filter(|id| picture.is_target(*id)).collect();
    stores.sort_by_key(|store| (picture.load.leaders(*store), *store));
    let mut sources = stores.clone();
    sources.sort_by_key(|store| (u64::MAX - picture.load.leaders(*store), *store));
    for from in sources {
        for to in &stores {
            if picture.load.leaders(from) < picture.load.leaders(*to) + LEADER_DIFFERENCE_MIN {
                break;
            }
            if let Some((region, peer)) = movable(picture, from, *to, is_free) {
                picture.load.note_transfer(from, *to);
                let steps = vec![Step::TransferLeader(peer)];
                let (kind, origin) = (Kind::TransferLeader, Origin::Balance);
                return Some(Draft { region, kind, origin, steps });
            }
        }
    }
    None
}

/// A region led on `from` that a voter on `to` could lead, the first in key order.
fn movable(
    picture: &Picture<'_>,
    from: StoreId,
    to: StoreId,
    is_free: &dyn Fn(RegionId) -> bool,
) -> Option<(RegionId, PeerId)> {
    picture
        .state
        .regions()
        .iter()
        .filter(|region| is_free(region.id))
        .filter_map(|region| picture.report(region))
        .filter(|report| report.leader.is_some_and(|leader| leader.store_id == from))
        .filter(|report| !report.region.is_joint())
        .find_map(|report| {
            let peer = report.voters().find(|peer| peer.store_id == to)?;
            report.is_ready(peer.id).then_some((report.region.id, peer.id))
        })
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
