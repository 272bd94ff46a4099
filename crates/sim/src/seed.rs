//! One seed from beginning to end: safety (anything may fail), healing and rest, liveness, the last
//! checks.
//!
//! In: a seed. Out: an [`Outcome`] with the first violation, if there is one. A panic of a core is
//! a violation, too. Single invariants are in [`crate::check`].

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};

use flotilla_client::core::item::Item;
use flotilla_types::{Member, MemberRole, Region, StoreId};

use crate::admin::truth;
use crate::check::availability::Served;
use crate::check::{Verdict, Violation, broken, level, placement, show};
use crate::client::work::{CallWork, Work, final_value, put, stored, value};
use crate::coverage::Coverage;
use crate::healed::{self, DOWN_AFTER_MS_MAX};
use crate::net::Link;
use crate::scenario::{ClusterScenario, Scenario};
use crate::store::SimStore;
use crate::store::disk::Loss;
use crate::time::{MS, Micros};
use crate::trace::{Telling, Trace};
use crate::world::World;

/// The time between healing and the choice of the stores that are left out: elections and changes
/// of members under way come to an end.
const SETTLE: Micros = 3_000 * MS;

/// How long a client waits for a store that is silent.
const ATTEMPT: Micros = 2 * flotilla_client::core::attempt::ATTEMPT_MS_MAX * MS;

/// How long a store is left out: for good, unless `take_back` ends it.
const NEVER: Micros = Micros::MAX / 2;

/// The greatest number of stores left out: a region of five voters keeps a quorum without two.
const LEFT_OUT_MAX: usize = 2;

/// The time between healing and the last calls: longer than any call lasts.
const CALLS_END: Micros = 12_000 * MS;

/// How long repair may take once the placement driver takes a store for down: a few changes for
/// each region, with snapshots that may fail.
const REPAIR: Micros = 60_000 * MS;

/// One seed in so many is shown to the second checker of linearizability, which is much slower.
const SECOND_OPINION_EVERY: u64 = 50;

/// The last calls of one seed in so many are made while the placement driver is gone.
const CALLS_ALONE_EVERY: u64 = 7;

thread_local! {
    static IS_RUNNING: Cell<bool> = const { Cell::new(false) };
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The result of a seed.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The first violation; None if the seed passed.
    pub violation: Option<Violation>,
    /// Counters of what was reached.
    pub coverage: Coverage,
    /// The hash of the trace: equal in every run of the seed.
    pub trace_hash: u64,
    /// The simulated time.
    pub simulated: Micros,
    /// The number of events.
    pub events: u64,
    /// The number of records in the history: one for each key of each call.
    pub records: usize,
    /// The last lines of the trace, if they were kept.
    pub lines: Vec<String>,
    /// How long all regions took to serve again after healing; None if the seed did not get there.
    pub recovery: Option<Micros>,
    /// How available regions were that had a quorum.
    pub served: Served,
}

/// Silences panics within a seed, and remembers where they happened. Call it once, before the first
/// seed.
pub fn catch_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if IS_RUNNING.get() {
            LAST_PANIC.with(|last| *last.borrow_mut() = info.to_string());
        } else {
            usual(info);
        }
    }));
}

/// Runs one seed. The seed decides everything that happens; `telling` decides what is printed.
pub fn run(seed: u64, telling: impl Into<Telling>) -> Outcome {
    run_scenario(Scenario::draw(seed), telling)
}

/// Runs one scenario, which decides everything that happens; `telling` decides what is printed.
pub fn run_scenario(scenario: Scenario, telling: impl Into<Telling>) -> Outcome {
    let seed = scenario.seed;
    let trace = Trace::new(telling.into());
    trace.say(0, || format!("{scenario:#?}"));
    let mut world: Option<World> = None;
    IS_RUNNING.set(true);
    // A world that panicked is only read afterwards, so the world is unwind safe.
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let world = world.insert(World::begin(scenario, trace)?);
        live(world)
    }));
    IS_RUNNING.set(false);
    let violation = match ended {
        Ok(Ok(())) => None,
        Ok(Err(violation)) => Some(violation),
        Err(_) => {
            let what = LAST_PANIC.with(|last| last.borrow().clone());
            Some(Violation { invariant: "no core panics", what })
        }
    };
    outcome(seed, violation, world)
}

fn outcome(seed: u64, violation: Option<Violation>, world: Option<World>) -> Outcome {
    let Some(mut world) = world else {
        let coverage = Coverage::default();
        let (trace_hash, simulated, events, records, lines) = (0, 0, 0, 0, vec![]);
        let (recovery, served) = (None, Served::default());
        return Outcome {
            seed,
            violation,
            coverage,
            trace_hash,
            simulated,
            events,
            records,
            lines,
            recovery,
            served,
        };
    };
    let model = &world.hub.checks.model;
    world.hub.coverage.add("regions at the end", model.region_count() as u64);
    world.hub.coverage.add("writes refused at apply", model.refused());
    let answers = world.hub.checks.answers.counts;
    world.hub.coverage.add("answers compared with the log", answers.judged);
    Outcome {
        seed,
        violation,
        trace_hash: world.hub.trace.hash(),
        simulated: world.hub.now(),
        events: world.events(),
        records: world.history.records.len(),
        lines: world.hub.trace.kept(),
        recovery: world.hub.checks.recovery.took(),
        served: world.hub.checks.availability.served,
        coverage: world.hub.coverage,
    }
}

fn live(world: &mut World) -> Verdict {
    let safety = world.hub.scenario.safety;
    world.run(safety)?;
    world.heal()?;
    for client in &mut world.clients {
        client.is_free = false;
    }
    healed::recover(world)?;
    world.run(safety + SETTLE)?;
    healed::rest(world)?;
    let left_out = leave_a_quorum(world)?;
    // Calls under way end by their deadlines, before the last calls begin.
    let calls_begin = (safety + CALLS_END).max(world.hub.now() + SETTLE);
    world.run(calls_begin)?;
    // An order to drain a store may have arrived since.
    world.set_all_up()?;
    // A client whose cache holds few regions asks a store that is left out anew for each key.
    let asked_in_vain = left_out.len() as u64 * u64::from(world.hub.scenario.clients.keys);
    let liveness = world.hub.scenario.liveness + asked_in_vain * ATTEMPT;
    call_at_last(world, calls_begin + liveness)?;
    let still: Vec<StoreId> = left_out.iter().map(|(store, _)| *store).collect();
    level::await_level(world, &still)?;
    take_back(world, left_out);
    await_repair(world)?;
    placement::converge(world)?;
    truth::is_told(world)?;
    let (seed, keys) = (world.hub.scenario.seed, world.hub.scenario.clients.keys);
    let is_crossed = seed.is_multiple_of(SECOND_OPINION_EVERY);
    let checks = &world.hub.checks;
    let (skipped, compared) = checks.check_history(keys, &world.history, is_crossed)?;
    world.hub.coverage.add("keys skipped by the second checker", skipped);
    world.hub.coverage.add("keys compared by the second checker", compared);
    Ok(())
}

/// Clients read and write every key. In some seeds the placement driver is gone meanwhile: stores
/// tell them where the regions are. All are done by `until`.
fn call_at_last(world: &mut World, until: Micros) -> Verdict {
    if world.hub.scenario.seed.is_multiple_of(CALLS_ALONE_EVERY) {
        world.hub.coverage.hit("last calls without a placement driver");
        world.pd.crash_all(&mut world.hub, NEVER)?;
    }
    final_calls(world);
    world.run_until(until, &|world| world.clients.iter().all(|client| client.is_idle()))?;
    check_liveness(world)?;
    world.pd.start(&mut world.hub)
}

/// In most seeds only a random quorum stays well: each of the other stores is dead for good, cut
/// off from every endpoint, or paused. Returns the stores that can come back, with their cut links.
fn leave_a_quorum(world: &mut World) -> Result<Vec<(StoreId, Vec<Link>)>, Violation> {
    let mut ids: Vec<StoreId> = world.stores.keys().copied().collect();
    world.hub.dice.acts.shuffle(&mut ids);
    let wanted = world.hub.dice.acts.between(0, LEFT_OUT_MAX as u64 + 1) as usize;
    let mut chosen: Vec<StoreId> = vec![];
    for id in ids {
        let with_it = [chosen.as_slice(), &[id]].concat();
        if chosen.len() < wanted && are_expendable(world, &with_it) {
            chosen = with_it;
        }
    }
    if chosen.is_empty() || world.has_removal()? {
        return Ok(vec![]);
    }
    let mut left_out = vec![];
    for id in chosen {
        let links = match world.hub.dice.acts.between(0, 3) {
            0 => {
                world.hub.coverage.hit("stores left dead");
                world.crash_store(id, Loss::All, NEVER)?;
                continue;
            }
            1 => {
                world.hub.coverage.hit("stores left cut off");
                world.links_to_all(id)
            }
            _ => {
                world.hub.coverage.hit("stores left standing still");
                let store = world.stores.get_mut(&id).and_then(|store| store.process.as_mut());
                store.into_iter().for_each(|process| process.paused_until = NEVER);
                vec![]
            }
        };
        world.hub.say(|| format!("store {id} is left out, {} links cut", links.len()));
        world.hub.net.cut(&links);
        left_out.push((id, links));
    }
    Ok(left_out)
}

/// Stores that were cut off or paused come back.
fn take_back(world: &mut World, left_out: Vec<(StoreId, Vec<Link>)>) {
    for (id, links) in left_out {
        world.hub.say(|| format!("store {id} is back"));
        world.hub.net.mend(&links);
        let store = world.stores.get_mut(&id).and_then(|store| store.process.as_mut());
        store.into_iter().for_each(|process| process.resume(&mut world.hub));
    }
}

/// True if the stores `ids` can be left out: every region keeps a quorum without them, as each of
/// its peers sees the members; no region has a peer on a disk that has ended; and no change of
/// members is pending or not yet durable.
///
/// Why no change of members: a change that only a dead store knows to be committed may need that
/// store, and a second voter that dies while it is promoted takes the quorum with it.
pub(crate) fn are_expendable(world: &World, ids: &[StoreId]) -> bool {
    let has_ended = |store: StoreId| world.stores.get(&store).is_none_or(|s| s.end.is_some());
    // A peer that waits for its first state has nothing to go on from.
    let has_state = |region: &Region, member: &Member| {
        let process = world.stores.get(&member.store_id).and_then(|store| store.process.as_ref());
        let peer = process.and_then(|process| process.worker.peer(region.id));
        peer.is_some_and(|peer| peer.id == member.id && peer.has_state())
    };
    let has_quorum = |region: &Region| {
        let (lost, all) = region.members.iter().fold((0, 0), |(lost, all), peer| {
            let is_lost = ids.contains(&peer.store_id) || !has_state(region, peer);
            (lost + usize::from(is_lost), all + 1)
        });
        let is_whole = region
            .members
            .iter()
            .all(|peer| peer.role == MemberRole::Voter && !has_ended(peer.store_id));
        is_whole && (all - lost) * 2 > all
    };
    let is_settled = |store: &SimStore| {
        store.process.as_ref().filter(|process| !process.is_syncing()).is_some_and(|process| {
            process.worker.regions().all(|region| {
                let settled = !process.has_pending_change(&store.disk, region.id);
                settled && has_quorum(region)
            })
        })
    };
    !ids.iter().any(|id| has_ended(*id))
        && world.stores.values().filter(|store| store.end.is_none()).all(is_settled)
}

/// Reads, writes and reads every key.
fn final_calls(world: &mut World) {
    let count = world.clients.len();
    let timeout_ms = world.hub.scenario.liveness / MS - 1_000;
    let bytes = world.hub.scenario.clients.value_bytes;
    for key in 0..world.hub.scenario.clients.keys {
        let Some(client) = world.clients.get_mut(usize::from(key) % count) else { continue };
        let get = Item::Get(stored(key));
        let put = put(stored(key), value(final_value(key), bytes));
        for item in [get.clone(), put, get] {
            // A store that is cut off never reveals the outcome of a write, so the client repeats
            // the write at another store.
            let work =
                CallWork { items: vec![item], timeout_ms, may_repeat: true, must_succeed: true };
            client.queue.push_back(Work::Call(work));
        }
    }
    for client in &mut world.clients {
        client.nudge(&mut world.hub);
    }
}

/// If stores died for good and the placement driver takes them for down in time, every region must
/// get all its voters back, on live stores.
fn await_repair(world: &mut World) -> Verdict {
    let live = world.stores.values().filter(|store| store.is_up()).count() as u64;
    let ClusterScenario { replica_count, down_after_ms, .. } = world.hub.scenario.cluster;
    let is_due = live >= replica_count && down_after_ms <= DOWN_AFTER_MS_MAX;
    if !is_due || live == world.stores.len() as u64 {
        return Ok(());
    }
    let until = world.hub.now() + REPAIR + placement::queued(world) + down_after_ms * MS;
    while let Some(region) = unrepaired(world) {
        if world.hub.now() >= until {
            world.survey();
            return broken("every region is repaired", show(&region));
        }
        let soon = world.hub.now() + 500 * MS;
        world.run(soon)?;
    }
    world.hub.coverage.hit("regions repaired at the end");
    Ok(())
}

fn unrepaired(world: &World) -> Option<Region> {
    let is_firm = |peer: &Member| {
        let is_up = world.stores.get(&peer.store_id).is_some_and(SimStore::is_up);
        is_up && peer.role == MemberRole::Voter
    };
    let wanted = world.hub.scenario.cluster.replica_count as usize;
    let is_whole =
        |region: &Region| region.members.len() >= wanted && region.members.iter().all(is_firm);
    world.hub.checks.tiling.regions().find(|region| !is_whole(region)).cloned()
}

fn check_liveness(world: &World) -> Verdict {
    world.survey();
    for client in &world.clients {
        if let Some(unhappy) = client.unhappy.first() {
            return broken("every key is readable and writable after healing", unhappy.clone());
        }
        if !client.is_idle() {
            let what = format!("client {} is not done in time", client.number);
            return broken("every key is readable and writable after healing", what);
        }
    }
    Ok(())
}
