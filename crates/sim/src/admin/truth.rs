//! At the end of a seed, when the placement driver and the stores have converged, what the
//! placement driver tells is true: it lists the regions that there are, and it calls the cluster
//! healthy exactly if every region has all its voters, and each on a store that runs.
//!
//! What it tells of leaders follows from heartbeats, so it is asked until it tells the truth, for
//! as long as a few of them take.

use flotilla_types::{Member, MemberRole, Region, StoreId, proto};
use proto::pd_reply::Result as Answer;
use proto::pd_request::Op;

use crate::check::{Verdict, Violation, broken};
use crate::store::SimStore;
use crate::time::{MS, Micros};
use crate::world::World;

/// How long the placement driver may take to know what is true.
const KNOWN_WITHIN: Micros = 20_000 * MS;

/// How often it is asked.
const LOOK: Micros = 500 * MS;

/// Runs the world until the placement driver tells the truth.
pub fn is_told(world: &mut World) -> Verdict {
    let until = world.hub.now() + KNOWN_WITHIN;
    loop {
        let verdict = look(world)?;
        if verdict.is_ok() || world.hub.now() >= until {
            return verdict;
        }
        let soon = world.hub.now() + LOOK;
        world.run(soon)?;
    }
}

/// Whether the truth is told now. The outer error is a violation that the questions lead to.
fn look(world: &mut World) -> Result<Verdict, Violation> {
    let is_silent = |what| Ok(broken("the placement driver answers at the end", what));
    let Some(Answer::ClusterStatus(status)) = ask(world, Op::ClusterStatus(Default::default()))?
    else {
        return is_silent("no cluster status");
    };
    let Some(Answer::Stores(stores)) = ask(world, Op::Stores(Default::default()))? else {
        return is_silent("no stores");
    };
    if let Some(what) = false_state(world, &stores.stores) {
        return Ok(broken("a store is called what it is", what));
    }
    let Some(told) = all_regions(world)? else { return is_silent("no regions") };
    let mut real: Vec<Region> = world.hub.checks.tiling.regions().cloned().collect();
    real.sort_by(|a, b| a.range.start.cmp(&b.range.start));
    if told != real {
        let what = format!("told {told:?}, there are {real:?}");
        return Ok(broken("the regions that there are are listed", what));
    }
    let is_told_healthy = status.region_count > 0 && status.reasons.is_empty();
    if is_told_healthy != is_healthy(world, &real, status.replica_count) {
        let what = format!("{status:?}, {:?}, {real:?}", stores.stores);
        return Ok(broken("a cluster is called healthy if it is", what));
    }
    Ok(Ok(()))
}

/// All regions, page by page. None if a page is missing.
fn all_regions(world: &mut World) -> Result<Option<Vec<Region>>, Violation> {
    let mut regions: Vec<Region> = vec![];
    loop {
        let start_key = regions.last().map(|last| last.range.end.clone()).unwrap_or_default();
        let request = proto::RegionsRequest { start_key, limit: 0 };
        let Some(Answer::Regions(page)) = ask(world, Op::Regions(request))? else {
            return Ok(None);
        };
        let routes = page.routes.into_iter();
        let known = regions.len();
        regions.extend(routes.filter_map(|route| Region::try_from(route.region?).ok()));
        let is_last = regions.last().is_none_or(|last| last.range.end.is_empty());
        if is_last || regions.len() == known {
            return Ok(Some(regions));
        }
    }
}

fn ask(world: &mut World, op: Op) -> Result<Option<Answer>, Violation> {
    Ok(world.ask_leader(op)?.and_then(|reply| reply.result))
}

/// True if every region has all its voters, each on a store that runs, and no other members, and
/// the placement driver waits for no store.
fn is_healthy(world: &World, regions: &[Region], replica_count: u64) -> bool {
    let is_up = |store| world.stores.get(&store).is_some_and(SimStore::is_up);
    let is_whole = regions.iter().all(|region| {
        let members = &region.members;
        let is_live = |peer: &Member| peer.role == MemberRole::Voter && is_up(peer.store_id);
        members.len() as u64 >= replica_count && members.iter().all(is_live)
    });
    is_whole && !world.pd.awaits_ids(world.hub.now())
}

/// A store that is called up or draining and does not run, or is called otherwise and runs.
fn false_state(world: &World, told: &[proto::StoreStatus]) -> Option<String> {
    use proto::StoreState::{Draining, Removed, Up};
    let is_false = |status: &&proto::StoreStatus| {
        let Some(store) = &status.store else { return true };
        let is_up = world.stores.get(&StoreId(store.id)).is_some_and(SimStore::is_up);
        store.state() != Removed && matches!(store.state(), Up | Draining) != is_up
    };
    let status = told.iter().find(is_false)?;
    Some(format!("{status:?}"))
}
