//! What a seed does between healing and the last calls, while no client calls: it measures the
//! recovery of all regions, then waits until the cluster comes to rest, and watches a window in
//! which nothing may happen ([`crate::check::recovery`], [`crate::check::quiet`]).

use std::collections::BTreeSet;

use flotilla_pd::core::records::StoreMode;
use flotilla_types::RegionId;

use crate::check::level::Level;
use crate::check::quiet::{CALM, MARGIN, NOTHING_HAPPENS};
use crate::check::{Verdict, balance, broken, level, placement, recovery};
use crate::event::{Event, Relief};
use crate::scenario::{ClusterScenario, by_the_slowest_clock};
use crate::store::SimStore;
use crate::time::{MS, Micros};
use crate::world::World;

/// How long recovery is awaited before the seed gives it up.
const RECOVERED_MAX: Micros = 120_000 * MS;

/// How long orders may be under way that were given before healing.
const LATE_ORDERS: Micros = 15_000 * MS;

/// How long the cluster may take to come to rest, counted from when all that was planned before
/// healing has happened.
const REST_MAX: Micros = 150_000 * MS;

/// The length of the window.
const WINDOW: Micros = 4_000 * MS;

/// The invariant of the time before the window.
const COMES_TO_REST: &str = "a cluster that nobody uses comes to rest";

/// What happens once a store counts as down is awaited only in seeds in which that takes no longer.
pub(crate) const DOWN_AFTER_MS_MAX: u64 = 15_000;

/// How often a store sends a heartbeat to the placement driver when nothing happens.
const HEARTBEAT: Micros = 1_000 * MS;

/// Runs the world until the cluster has a region: enough stores run, and the placement driver.
fn begin(world: &mut World) -> Verdict {
    let has_region = |world: &World| world.hub.checks.tiling.regions().next().is_some();
    for wait in [LATE_ORDERS, RECOVERED_MAX] {
        world.run_until(world.hub.now() + wait, &has_region)?;
        if has_region(world) {
            return Ok(());
        }
        // An order to drain a store may have arrived since healing.
        world.set_all_up()?;
    }
    world.survey();
    broken("a cluster with enough stores begins", "it has no region long after healing")
}

/// Runs the world until every region has served a write and a read since healing.
pub fn recover(world: &mut World) -> Verdict {
    begin(world)?;
    world.end_removed()?;
    let now = world.hub.now();
    let carries = world.hub.net.held_until().max(now);
    world.hub.checks.recovery.mended(carries);
    world.hub.checks.recovery.begin(carries);
    let ready = world.regions_with_quorum();
    let has_quiescence = world.hub.scenario.cluster.idle_ms != u64::MAX;
    world.hub.checks.quiet.begin(now, has_quiescence);
    let planned = world.hub.agenda.last_planned(outlasts_healing).unwrap_or(now);
    world.hub.checks.quiet.expect(planned);
    let until = now + RECOVERED_MAX;
    world.run_until(until, &|world| world.hub.checks.recovery.took().is_some())?;
    let installs_max = world.hub.checks.recovery.installs_max();
    let bound = recovery::bound(&world.hub.scenario, installs_max);
    // A region without a time was split off since all others served: the event that ends the wait
    // may ask the placement driver, while the world goes on.
    let has_recovered = world.hub.checks.recovery.took().is_some();
    let is_late = |region: &RegionId| match world.hub.checks.recovery.of_region(*region) {
        Some(took) => took > bound && ready.contains(region),
        None => !has_recovered,
    };
    let regions = world.hub.checks.tiling.regions();
    let Some(late) = regions.map(|region| region.id).find(is_late) else { return Ok(()) };
    world.survey();
    let took = world.hub.checks.recovery.of_region(late).map(|took| took / MS);
    let what = format!("region {late} took {took:?} ms, {} ms are allowed", bound / MS);
    broken("every region serves soon after healing", what)
}

/// True for what was planned before healing and has an effect after it.
fn outlasts_healing(event: &Event) -> bool {
    match event {
        Event::Arrive(_) | Event::Report { .. } | Event::SendSnapshot { .. } => true,
        Event::Relief(relief) => !matches!(
            relief,
            Relief::Links(_)
                | Relief::CutOff(_)
                | Relief::Fast(_)
                | Relief::Undrain(_)
                | Relief::Crash(_)
                | Relief::Disks
                | Relief::OldPd
                | Relief::PdRoom
                | Relief::Room(_)
        ),
        _ => false,
    }
}

/// Runs the world until it has come to rest, and through the quiet window.
pub fn rest(world: &mut World) -> Verdict {
    world.hub.checks.orders.balance.begin();
    let verdict = come_to_rest(world);
    world.hub.checks.orders.balance.end();
    world.hub.checks.quiet.end();
    verdict
}

fn come_to_rest(world: &mut World) -> Verdict {
    world.end_removed()?;
    placement::cancel_ordered(world)?;
    let begin = world.hub.now().max(world.hub.checks.quiet.expected());
    let rest_max = REST_MAX + placement::queued(world);
    let mut level = Level::default();
    while let Some(why) = is_restless(world)? {
        level.look(world, &[])?;
        if world.hub.now() >= begin + rest_max {
            world.survey();
            return broken(COMES_TO_REST, why);
        }
        let soon = world.hub.now() + 500 * MS;
        world.run(soon)?;
    }
    let now = world.hub.now();
    world.hub.say(|| "the quiet window begins".into());
    world.hub.coverage.hit("quiet windows");
    world.hub.checks.quiet.open();
    world.run(now + WINDOW)?;
    // Clocks are at most five percent fast; one more heartbeat may be at either end. If the
    // placement driver is about to plan, it asks for the next heartbeat soon.
    let heartbeats = 2 * (WINDOW * 105 / 100 / HEARTBEAT + 1);
    let running = world.stores.values().filter(|store| store.is_up()).count() as u64;
    // One that holds fewer requests than there are stores refuses heartbeats that come at once. A
    // store that is refused tells everything again, and its regions are looked for meanwhile.
    let is_crowded = world.hub.bounds.pd.waiting_max as u64 <= running;
    let heartbeats_max = if is_crowded { u64::MAX } else { heartbeats * running };
    world.hub.checks.quiet.close(heartbeats_max)?;
    check_rest(world)
}

/// Why the quiet window cannot begin yet; None if it can.
fn is_restless(world: &mut World) -> Result<Option<String>, crate::check::Violation> {
    world.pd.end_removed(&mut world.hub)?;
    let idle_ms = world.hub.scenario.cluster.idle_ms;
    let active = if idle_ms == u64::MAX { 0 } else { idle_ms * MS };
    // A follower that a late message made active stands for election within two timeouts.
    let election = 2 * by_the_slowest_clock(world.hub.scenario.timing.election());
    let checkpoint = by_the_slowest_clock(world.hub.bounds.store.checkpoint_ms_max * MS);
    let calm = CALM.max(MARGIN + checkpoint).max(election) + active;
    if !world.hub.checks.quiet.is_calm(world.hub.now(), calm) {
        return Ok(Some(format!("last, at {}", world.hub.checks.quiet.last())));
    }
    let mut running = world.stores.values().filter_map(|store| store.process.as_ref());
    if let Some(process) = running.find(|process| !process.jobs.is_idle()) {
        return Ok(Some(format!("store {} writes a checkpoint", process.id)));
    }
    if let Some(region) = uncounted(world) {
        return Ok(Some(format!("region {region} is to be counted")));
    }
    let has_long = world.hub.scenario.cluster.down_after_ms > DOWN_AFTER_MS_MAX;
    if !has_long && world.pd.awaits_ids(world.hub.now()) {
        return Ok(Some("the placement driver waits for the ids of stores that are gone".into()));
    }
    if let Some(operator) = placement::operators(world)?.values().next() {
        return Ok(Some(format!("{operator:?}")));
    }
    Ok(level::check(world, &BTreeSet::new()).err().map(|violation| violation.what))
}

fn check_even(world: &World) -> Verdict {
    let ClusterScenario { balance_moves_max, replica_count, .. } = world.hub.scenario.cluster;
    let Some(map) = world.pd.regions().filter(|_| balance_moves_max > 0) else { return Ok(()) };
    let mut stores = world.pd.stores_in(StoreMode::Up);
    stores.retain(|id| world.stores.get(id).is_some_and(SimStore::is_up));
    balance::check_even(map.iter(), &stores, replica_count as usize)
}

/// A region that its leader counts, or will: a store counts one in each turn.
fn uncounted(world: &World) -> Option<RegionId> {
    let bytes_max = world.hub.scenario.cluster.region_bytes_max;
    let running = world.stores.values().filter_map(|store| store.process.as_ref());
    let peers = running.flat_map(|process| {
        process.worker.regions().filter_map(|region| process.worker.peer(region.id))
    });
    let mut due = peers.filter(|peer| peer.is_leader() && peer.size.is_due(bytes_max));
    due.next().map(|peer| peer.region.id)
}

/// At the end of the window: regions are quiescent, nobody waits for an answer, and stores hold the
/// same number of regions.
fn check_rest(world: &World) -> Verdict {
    check_even(world)?;
    let has_quiescence = world.hub.scenario.cluster.idle_ms != u64::MAX;
    for process in world.stores.values().filter_map(|store| store.process.as_ref()) {
        if let Some(owed) = process.owed_replies() {
            return broken(NOTHING_HAPPENS, format!("store {}: {owed}", process.id));
        }
        for region in process.worker.regions() {
            let Some(peer) = process.worker.peer(region.id) else { continue };
            let is_restless = has_quiescence && !peer.is_quiescent();
            if is_restless || peer.has_callers() {
                let why = if is_restless { "is not quiescent" } else { "has callers that wait" };
                let what = format!("store {}: {} {why}", process.id, crate::check::show(region));
                return broken(NOTHING_HAPPENS, what);
            }
        }
    }
    Ok(())
}
