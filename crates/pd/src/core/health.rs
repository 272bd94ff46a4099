//! Whether the cluster is healthy, and if not, why.
//!
//! A pure function of what is committed and what stores have reported. A region is healthy if
//!
//! 1. its leader is known, and the leader's store was heard within [`HEARD_MS_MAX`], by the process
//!    that leads;
//! 2. most of its voters are on stores that were heard as lately;
//! 3. it has `replica_count` voters or more, all of them on such stores, none of which has lost it;
//! 4. no change of its members is under way;
//! 5. no voter lags, and the leader hears all of them.
//!
//! The first of these that does not hold is the region's [`HealthKind`]. Regions that lack the same
//! because of the same stores share one reason. The cluster is healthy if it has regions for all
//! keys and there is no reason.
//!
//! What comes from reports is as fresh as the last heartbeats: see [`crate::core::reports`].
//!
//! Not here: what to do about it ([`crate::core::check`]). A store that is silent for some seconds
//! is a reason, and no cause for a repair.

use std::collections::BTreeMap;

use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::placement::{HealthKind, HealthReason};
use flotilla_types::{Member, MemberRole, Region, RegionId, StoreId};

use crate::core::place::{StoreHealth, StoreView, is_current};
use crate::core::reports::{Liveness, ReportedRegion};

/// A store whose last heartbeat is older is silent: three of the intervals in which a store sends
/// heartbeats when nothing happens.
pub const HEARD_MS_MAX: u64 = 3_000;

/// The most regions that a reason names; it counts the others.
pub const REGIONS_NAMED_MAX: usize = 10;

/// The most reasons. More would be different sets of stores that fail at once.
pub const REASONS_MAX: usize = 32;

/// What [`health`] finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Why the cluster is not healthy, the worst first; empty if it is. At most [`REASONS_MAX`].
    pub reasons: Vec<HealthReason>,
    /// Regions that are not healthy.
    pub unhealthy_region_count: u64,
}

/// What a region lacks, and the stores because of which it does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Lack {
    kind: HealthKind,
    why: Why,
    stores: Vec<StoreId>,
}

impl Lack {
    fn new(kind: HealthKind, why: Why, mut stores: Vec<StoreId>) -> Lack {
        stores.sort();
        Lack { kind, why, stores }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Why {
    NotReported,
    NoLeader,
    LeaderSilent,
    NoMajority,
    VotersGone,
    TooFewVoters,
    Changing,
    Unheard,
    Behind,
}

/// Judges the cluster. `awaited`: what it waits for before it has a region.
pub fn health(view: StoreView<'_>, awaited: Option<String>) -> Health {
    let regions = view.state.regions();
    if regions.is_empty() {
        let what = awaited.unwrap_or_else(|| "no region was reported yet".to_string());
        let kind = HealthKind::Beginning;
        let reason = HealthReason { kind, what, ..HealthReason::default() };
        return Health { reasons: vec![reason], unhealthy_region_count: 0 };
    }
    let mut lacks: BTreeMap<Lack, Vec<RegionId>> = BTreeMap::new();
    for region in regions.iter() {
        if let Some(lack) = lack(view, region) {
            lacks.entry(lack).or_default().push(region.id);
        }
    }
    let lacking: usize = lacks.values().map(Vec::len).sum();
    let mut reasons = vec![];
    // A range that no heartbeat has covered yet is a region that has no leader.
    let has_hole = regions.first_hole().is_some();
    if has_hole {
        let what = "no store has reported a region for a part of the keys".to_string();
        let kind = HealthKind::Unavailable;
        reasons.push(HealthReason { kind, what, region_count: 1, ..HealthReason::default() });
    }
    reasons.extend(lacks.into_iter().map(|(lack, regions)| reason(view, lack, &regions)));
    reasons.sort_by_key(|reason| reason.kind);
    reasons.truncate(REASONS_MAX);
    let unhealthy_region_count = lacking as u64 + u64::from(has_hole);
    Health { reasons, unhealthy_region_count }
}

/// What the region lacks; None if it is healthy.
fn lack(view: StoreView<'_>, region: &Region) -> Option<Lack> {
    match led(view, region) {
        Err(lack) => Some(lack),
        Ok(report) => {
            lack_of_voters(view, region, report).or_else(|| lack_of_progress(region, report))
        }
    }
}

/// Rules 1 and 2: what the leader has reported, or why the region counts as unavailable.
fn led<'a>(view: StoreView<'a>, region: &Region) -> Result<&'a ReportedRegion, Lack> {
    let silent = stores(region, &|voter| !is_heard(view, voter.store_id));
    let report = view.reports.region(region.id).filter(|report| is_current(region, report));
    let Some((report, leader)) = report.and_then(|report| Some((report, report.leader?))) else {
        let unmet = stores(region, &|voter| is_unmet(view, voter.store_id));
        if unmet.is_empty() {
            return Err(Lack::new(HealthKind::Unavailable, Why::NoLeader, silent));
        }
        return Err(Lack::new(HealthKind::Unknown, Why::NotReported, unmet));
    };
    let is_leading = view.reports.process(leader.store_id) == report.process;
    if !is_leading || !is_heard(view, leader.store_id) {
        let stores = vec![leader.store_id];
        return Err(Lack::new(HealthKind::Unavailable, Why::LeaderSilent, stores));
    }
    let has_majority = |without: MemberRole| {
        let voters = voters(region).filter(|voter| voter.role != without);
        let heard = voters.clone().filter(|voter| is_heard(view, voter.store_id));
        heard.count() * 2 > voters.count()
    };
    if has_majority(MemberRole::IncomingVoter) && has_majority(MemberRole::DemotingVoter) {
        return Ok(report);
    }
    Err(Lack::new(HealthKind::Unavailable, Why::NoMajority, silent))
}

/// Rules 3 and 4.
fn lack_of_voters(view: StoreView<'_>, region: &Region, report: &ReportedRegion) -> Option<Lack> {
    let gone = stores(region, &|voter| is_gone(view, report, voter));
    if !gone.is_empty() {
        return Some(Lack::new(HealthKind::UnderReplicated, Why::VotersGone, gone));
    }
    let mut wanted = view.state.replica_count() as usize;
    if planted(Mutant::HealthyTooSoon) {
        wanted = wanted.saturating_sub(1);
    }
    if voters(region).count() < wanted {
        return Some(Lack::new(HealthKind::UnderReplicated, Why::TooFewVoters, vec![]));
    }
    let changing = region.members.iter().filter(|member| member.role != MemberRole::Voter);
    let changing: Vec<StoreId> = changing.map(|member| member.store_id).collect();
    (!changing.is_empty()).then(|| Lack::new(HealthKind::Changing, Why::Changing, changing))
}

/// Rule 5.
fn lack_of_progress(region: &Region, report: &ReportedRegion) -> Option<Lack> {
    if planted(Mutant::LaggingUnseen) {
        return None;
    }
    let unheard = stores(region, &|voter| report.unreachable.contains_key(&voter.id));
    if !unheard.is_empty() {
        return Some(Lack::new(HealthKind::Lagging, Why::Unheard, unheard));
    }
    let behind = stores(region, &|voter| report.lagging.contains(&voter.id));
    (!behind.is_empty()).then(|| Lack::new(HealthKind::Lagging, Why::Behind, behind))
}

/// The members that vote before or after a joint change, or both.
fn voters(region: &Region) -> impl Iterator<Item = &Member> + Clone {
    region.members.iter().filter(|member| member.role != MemberRole::Learner)
}

/// The stores of those voters that are meant.
fn stores(region: &Region, is_meant: &dyn Fn(&Member) -> bool) -> Vec<StoreId> {
    voters(region).filter(|voter| is_meant(voter)).map(|voter| voter.store_id).collect()
}

/// True if the store has sent a heartbeat lately, and did not say that it stops.
fn is_heard(view: StoreView<'_>, store: StoreId) -> bool {
    if planted(Mutant::StatusForgetsSilent) {
        return view.reports.last_heartbeat_at(store).is_some();
    }
    let last = view.reports.last_heartbeat_at(store);
    let is_recent = last.is_some_and(|last| view.now.since(last) <= HEARD_MS_MAX);
    is_recent && !view.reports.has_stopped(store)
}

/// True if this leader cannot know yet what the store would say.
fn is_unmet(view: StoreView<'_>, store: StoreId) -> bool {
    view.reports.last_heartbeat_at(store).is_none()
        && view.reports.liveness(store, view.now) == Liveness::Up
        && view.health(store) != StoreHealth::Removed
}

/// True if the voter is on a store that is silent or was removed, or that says that the voter never
/// lives there again.
fn is_gone(view: StoreView<'_>, report: &ReportedRegion, voter: &Member) -> bool {
    !is_heard(view, voter.store_id)
        || view.health(voter.store_id) == StoreHealth::Removed
        || view.is_lost(report, voter)
}

fn reason(view: StoreView<'_>, lack: Lack, regions: &[RegionId]) -> HealthReason {
    let silence: Vec<String> = lack.stores.iter().map(|store| silence(view, *store)).collect();
    let (silence, named) = (silence.join(", "), named(&lack.stores));
    let what = match lack.why {
        Why::NotReported => format!("no leader is known yet; not heard so far: {named}"),
        Why::NoLeader if silence.is_empty() => "no leader is known".to_string(),
        Why::NoLeader => format!("no leader is known; {silence}"),
        Why::LeaderSilent if lack.stores.iter().all(|store| is_heard(view, *store)) => {
            format!("{named} led, and has started anew")
        }
        Why::LeaderSilent => format!("the leader's store is silent: {silence}"),
        Why::NoMajority => format!("no majority of the voters: {silence}"),
        Why::VotersGone => format!("a voter is missing: {silence}"),
        Why::TooFewVoters => format!("fewer voters than {}", view.state.replica_count()),
        Why::Changing => format!("a replica is being added, moved or removed: {named}"),
        Why::Unheard => format!("the leader does not hear the voter on {named}"),
        Why::Behind => format!("the voter is far behind its leader on {named}"),
    };
    HealthReason {
        kind: lack.kind,
        stores: lack.stores,
        region_count: regions.len() as u64,
        regions: regions.iter().take(REGIONS_NAMED_MAX).copied().collect(),
        what,
    }
}

fn named(stores: &[StoreId]) -> String {
    stores.iter().map(|store| format!("store {store}")).collect::<Vec<_>>().join(", ")
}

/// Since when a store says nothing, or else what is wrong with the voter on it.
fn silence(view: StoreView<'_>, store: StoreId) -> String {
    if view.health(store) == StoreHealth::Removed {
        return format!("store {store} was removed");
    }
    match view.reports.last_heartbeat_at(store) {
        None => format!("store {store} was not heard since this placement driver began to lead"),
        Some(_) if view.reports.has_stopped(store) => format!("store {store} has stopped"),
        Some(_) if is_heard(view, store) => format!("store {store} has lost it"),
        Some(last) => {
            format!("store {store} was last heard {} s ago", view.now.since(last) / 1_000)
        }
    }
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
