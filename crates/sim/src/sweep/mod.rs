//! The crash-point sweep: the real worker over the real storage code (redb and raft-engine), on a
//! simulated disk that is made to fail at every point.
//!
//! A **script** ([`script`]) is what happens to a store: writes, checkpoints, splits, snapshots,
//! members that come and go. The script runs once undisturbed, which numbers the **points** of its
//! disk: each write, change of length, allocation, create, delete, rename and sync. Then the script
//! runs again for each point and each **variant** of what goes wrong at the point:
//!
//! | variant | at the point | what the restart finds |
//! |---|---|---|
//! | `lost` | the power goes | what was synced |
//! | `kept` | the process dies | everything that was written |
//! | `torn` | the power goes | everything, but half of the last write |
//! | `part-1`, `part-2` | the power goes | blocks of 512 bytes as the disk happened to write them |
//! | `error-lost`, `error-kept` | it fails with an error, once | what was synced; everything |
//! | `full-lost` | the disk is full from here on | what was synced |
//!
//! | `error-kept-lost` | as `error-kept` | and the power goes later: see below |
//!
//! The store is opened again on what is left ([`store`]), compared with its promises ([`ledger`]),
//! and run with its peers, which live on in memory, until it has healed: every key can be written
//! and read and holds what was acknowledged, and all members of each region are level ([`world`]).
//! Then the power goes once more, and the store must open and keep its promises again. After an
//! error the store must stop by itself; the one exception is a failed allocation, which raft-engine
//! takes as a hint that was not followed.
//!
//! One variant runs only if it is named: `error-kept-lost`. A sync fails, the store stops, and the
//! store is started again while the page cache still holds what the sync should have made durable.
//! The store reads these pages and builds on them. No later sync writes the pages, so what the
//! store acknowledges then is lost when the power goes. A store that only reads while it opens
//! cannot notice; only a restart of the machine, or an opening that rewrites the log's last file,
//! makes this case safe.
//!
//! The scenario `recovery` crashes the reopening: for some points of each script, each point
//! between the start and the end of the healing is a second crash. At every seventh of these points
//! the disk also fails or is full, as it was at the first point.
//!
//! The points of a script, and all that follows from a point and a variant, are the same in each
//! run. What raft-engine's two recovery threads do at once is left out of the count (see
//! `flotilla_engine::sim_disk`).
//!
//! Not here: reads that fail; crashes between two stores' disks; other interleavings of the disk
//! thread and the worker than those that scripts make by delaying checkpoints. Flipped bits are in
//! [`flips`].

pub mod flips;
pub mod ledger;
pub mod script;
pub mod store;
pub mod turn;
pub mod world;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use flotilla_engine::sim_disk::{Fault, Loss, PointKind, SimDisk};

use script::{SCRIPTS, Script};
use world::World;

/// The scenario of crashes within the reopening.
pub const RECOVERY: &str = "recovery";

/// One point of a reopening in so many also meets errors: enough to meet each kind of write and
/// sync in a reopening, in a fraction of the time.
const REOPENING_ERROR_EVERY: u64 = 7;

/// What goes wrong at a point; see the module's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The variant's name on the command line.
    pub name: &'static str,
    fault: Fault,
    loss: Loss,
    /// What the second crash loses, after the store has healed.
    later: Loss,
}

impl Variant {
    /// True if the process dies at the point; false if the disk returns an error.
    pub fn is_crash(&self) -> bool {
        self.fault == Fault::Crash
    }
}

const fn variant(name: &'static str, fault: Fault, loss: Loss) -> Variant {
    Variant { name, fault, loss, later: Loss::All }
}

/// The variant that the product does not survive at a failed sync: see the module's header.
pub const UNSURVIVED: Variant = variant("error-kept-lost", Fault::Error, Loss::Nothing);

/// The variants that the product must survive.
pub const VARIANTS: &[Variant] = &[
    variant("lost", Fault::Crash, Loss::All),
    variant("kept", Fault::Crash, Loss::Nothing),
    variant("torn", Fault::Crash, Loss::Torn),
    variant("part-1", Fault::Crash, Loss::Blocks(1)),
    variant("part-2", Fault::Crash, Loss::Blocks(2)),
    variant("error-lost", Fault::Error, Loss::All),
    Variant { name: "error-kept", later: Loss::Nothing, ..UNSURVIVED },
    variant("full-lost", Fault::Full, Loss::All),
];

/// All variants, including those that run only if they are named.
pub fn variants() -> impl Iterator<Item = &'static Variant> {
    VARIANTS.iter().chain([&UNSURVIVED])
}

/// One run: a script, the point at which it is disturbed, and the variant.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The scenario: the script's name, or [`RECOVERY`].
    pub scenario: &'static str,
    /// The point's number within the scenario.
    pub point: u64,
    /// The variant of what goes wrong at the point.
    pub variant: Variant,
    script: &'static Script,
    at: u64,
    /// The second crash, counted in points of the reopened disk.
    again: Option<u64>,
}

impl Case {
    /// True if the case also runs when its variant is not named.
    pub fn is_usual(&self) -> bool {
        self.variant != UNSURVIVED
    }
}

/// A broken piece of the world in place of a sound one: the sweep must notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Planted {
    /// Nothing is broken.
    #[default]
    Nothing,
    /// The disk answers syncs without carrying them out.
    IgnoredSyncs,
    /// The ledger takes note of an acknowledged write that no client has made.
    FalseAcknowledgement,
}

/// The result of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ran {
    /// The number of times the store was opened again.
    pub restarts: u64,
    /// The points of the first reopened disk until the store has healed.
    pub reopening_points: u64,
    /// False if the fault did not happen: an error planned beyond the last point, or a full disk
    /// after which nothing grows.
    pub was_hit: bool,
}

/// The points of a script's undisturbed run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measure {
    /// The first point that is swept.
    pub first: u64,
    /// The number of points of the run: a crash at this point finds the script done.
    pub end: u64,
    /// A digest of everything that was written.
    pub hash: u64,
}

/// The name of each scenario, with what the scenario is about.
pub fn scenarios() -> impl Iterator<Item = (&'static str, &'static str)> {
    let recovery = (RECOVERY, "a second crash while the store recovers from the first");
    SCRIPTS.iter().map(|script| (script.name, script.about)).chain([recovery])
}

/// Runs a script undisturbed. The error says what is wrong without any fault.
pub fn measure(script: &Script) -> Result<Measure, String> {
    on_new_thread(|| {
        let (mut world, disk) = begin(script, Planted::Nothing)?;
        world.start_swept()?;
        let first = if script.sweeps_start { 0 } else { disk.points() };
        play(&mut world, script)?;
        if let Some(reason) = &world.swept().stopped {
            return Err(format!("the store stops: {reason}"));
        }
        let (end, hash) = (disk.points(), disk.hash());
        world.heal()?;
        Ok(Measure { first, end, hash })
    })
}

/// The cases of every `stride`th point of a scenario, by point and variant.
pub fn cases(scenario: &'static str, stride: u64) -> Result<Vec<Case>, String> {
    match SCRIPTS.iter().find(|script| script.name == scenario) {
        Some(script) => script_cases(script, stride),
        None => recovery_cases(stride),
    }
}

fn script_cases(script: &'static Script, stride: u64) -> Result<Vec<Case>, String> {
    let Measure { first, end, .. } = measure(script)?;
    let case = |at: u64, variant: &Variant| Case {
        scenario: script.name,
        point: at,
        variant: *variant,
        script,
        at,
        again: None,
    };
    let points = (first..=end).step_by(stride.max(1) as usize);
    let of_point = |at: u64| {
        // Nothing can fail after the last point.
        let variants = variants().filter(move |variant| variant.is_crash() || at < end);
        variants.map(move |variant| case(at, variant))
    };
    Ok(points.flat_map(of_point).collect())
}

fn recovery_cases(stride: u64) -> Result<Vec<Case>, String> {
    let crashes: Vec<&Variant> = VARIANTS.iter().filter(|variant| variant.is_crash()).collect();
    let mut cases = vec![];
    let mut point = 0;
    for script in SCRIPTS {
        let Measure { first, end, .. } = measure(script)?;
        let step = (end - first).div_ceil(script.reopened_points).max(1);
        for (number, at) in (first..=end).step_by(step as usize).enumerate() {
            let variant = *crashes[number % crashes.len()];
            let mut case = Case { scenario: RECOVERY, point, variant, script, at, again: None };
            let reopening = run(&case, Planted::Nothing)?.reopening_points;
            for again in 0..reopening {
                (case.point, case.again) = (point, Some(again));
                if point % stride.max(1) == 0 {
                    let is_sampled = again % REOPENING_ERROR_EVERY == 0;
                    let may_be = |second: &&Variant| second.is_crash() || is_sampled;
                    let second = VARIANTS.iter().filter(may_be);
                    cases.extend(second.map(|second| Case { variant: *second, ..case }));
                }
                point += 1;
            }
        }
    }
    Ok(cases)
}

/// Runs one case. The error is a divergence: what was expected and what was found.
pub fn run(case: &Case, planted: Planted) -> Result<Ran, String> {
    on_new_thread(|| {
        let (mut world, disk) = begin(case.script, planted)?;
        disk.plan(case.at, case.variant.fault);
        if let Err(reason) = world.start_swept() {
            if disk.hit().is_none() {
                return Err(reason);
            }
            world.swept().stopped = Some(reason);
        }
        if !world.is_down() {
            play(&mut world, case.script)?;
        }
        must_have_stopped(&mut world, &disk)?;
        if planted == Planted::FalseAcknowledgement {
            world.ledger.acknowledged(&"k000".into(), &"nobody wrote this".into());
        }
        let mut ran = Ran { restarts: 2, was_hit: disk.hit().is_some(), ..Ran::default() };
        world.crash(case.variant.loss)?;
        if !revive(&mut world, case.again.map(|at| (at, case.variant.fault)))? {
            ran.restarts += 1;
            world.crash(case.variant.loss)?;
            revive(&mut world, None)?;
        }
        ran.reopening_points = world.disk().points();
        world.crash(case.variant.later)?;
        world.start_swept().map_err(|reason| format!("at the end it refuses: {reason}"))?;
        world.check_reopened()?;
        world.swept().close();
        Ok(ran)
    })
}

fn begin(script: &Script, planted: Planted) -> Result<(World, SimDisk), String> {
    let disk = SimDisk::new().map_err(|error| error.to_string())?;
    if planted == Planted::IgnoredSyncs {
        disk.ignore_syncs();
    }
    let mut world = World::new(disk.clone(), script.region());
    world.start_others()?;
    Ok((world, disk))
}

/// Runs the script until it ends or the swept store is down.
fn play(world: &mut World, script: &Script) -> Result<(), String> {
    world.settle()?;
    for act in script.acts {
        if world.is_down() {
            break;
        }
        world.act(act)?;
    }
    Ok(())
}

/// Checks that an error of the disk, and nothing else, has stopped the store.
fn must_have_stopped(world: &mut World, disk: &SimDisk) -> Result<(), String> {
    let stopped = world.swept().stopped.clone();
    match (disk.hit(), stopped) {
        (Some(kind), None) if !disk.is_off() && kind != PointKind::Allocate => {
            Err(format!("the store goes on after a failed {kind:?}"))
        }
        (None, Some(reason)) => Err(format!("the store stops without a cause: {reason}")),
        (Some(_) | None, _) => Ok(()),
    }
}

/// Opens the store, checks its promises and lets the world heal. False if the store went down once
/// more, as planned.
fn revive(world: &mut World, again: Option<(u64, Fault)>) -> Result<bool, String> {
    let disk = world.disk();
    if let Some((at, fault)) = again {
        disk.plan(at, fault);
    }
    let started = world.start_swept();
    if disk.is_off() {
        return Ok(false);
    }
    match started {
        Err(_) if disk.hit().is_some() => return Ok(false),
        started => started.map_err(|reason| format!("it refuses to open: {reason}"))?,
    }
    world.check_reopened()?;
    world.heal()?;
    if disk.is_off() {
        return Ok(false);
    }
    if let (Some(kind), true) = (disk.hit(), again.is_some()) {
        let has_stopped = world.swept().stopped.is_some();
        return match has_stopped || kind == PointKind::Allocate {
            true => Ok(!has_stopped),
            false => Err(format!("the store goes on after a failed {kind:?} in its reopening")),
        };
    }
    match &world.swept().stopped {
        Some(reason) => Err(format!("after the restart the store stops: {reason}")),
        None => Ok(true),
    }
}

/// Runs `work`, and turns a panic into an error: an uncaught panic is a divergence, too.
fn guarded<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    // A world that panicked is dropped, so the world is unwind safe.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| Err(panic_text(&*payload)))
}

/// Runs `work` on a thread of its own. A thread's cache of log blocks belongs to the first log that
/// is read on the thread; reads of any other log start a thread each (see
/// `flotilla_engine::disk_log`).
fn on_new_thread<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    let joined = std::thread::scope(|scope| scope.spawn(|| guarded(work)).join());
    joined.unwrap_or_else(|payload| Err(panic_text(&*payload)))
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| payload.downcast_ref::<&str>().map(|text| text.to_string()));
    format!("a panic: {}", text.unwrap_or_default())
}

/// Silences panics. raft-engine panics on a failed sync, and the sweep turns the panic into an
/// error.
pub fn hush_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}
