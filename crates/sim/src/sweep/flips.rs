//! Bit rot: one bit of one durable block is flipped after a script, and the store is opened.
//!
//! The store must refuse to open, or read everything as before. What the engine declares that it
//! cannot find is counted apart:
//!
//! * Damage in the newest file of either queue of the log cannot be told from a torn write, and
//!   loses what follows it (`disk_log.rs`).
//! * A page of the state is not verified when it is read (`disk_base/mod.rs`).
//!
//! Even there, an entry that was never written is a divergence, and so is any difference after
//! damage in an older file.

use std::collections::BTreeMap;

use flotilla_engine::sim_disk::{Loss, SimDisk};
use flotilla_engine::{LogEntry, LogStore};
use flotilla_types::dice::Dice;

use super::script::Script;
use super::store::Process;
use super::world::World;
use super::{Planted, begin, guarded, play};

/// The number of bits flipped in each file.
const FLIPS_PER_FILE: u64 = 40;

/// The results of the flips.
#[derive(Clone, Debug, Default)]
pub struct Flips {
    /// The flips after which everything reads as before.
    pub intact: u64,
    /// The flips after which the store does not open, or a read fails.
    pub refused: u64,
    /// The flips after which something is lost or wrong that the engine declares it cannot find.
    pub declared: u64,
    /// Any other result, with the file, the byte and the bit.
    pub divergences: Vec<String>,
}

type Logs = BTreeMap<u64, Vec<LogEntry>>;

/// Flips bits after a script. The error is a failure of the undisturbed script.
pub fn sweep(script: &Script) -> Result<Flips, String> {
    guarded(|| {
        let (mut world, _) = begin(script, Planted::Nothing)?;
        world.start_swept()?;
        play(&mut world, script)?;
        world.crash(Loss::All)?;
        let sound = world.disk();
        let logs = look(&mut world, &sound)??;
        let mut dice = Dice::new(script.acts.len() as u64);
        let mut flips = Flips::default();
        for (name, _) in sound.files() {
            let blocks = sound.used_blocks(&name).map_err(|error| error.to_string())?;
            for _ in 0..FLIPS_PER_FILE {
                let Some(block) = dice.pick(&blocks).copied() else { break };
                let (byte, bit) = (block + dice.between(0, 512), dice.between(0, 8) as u32);
                let rotten = sound.crash(Loss::All).map_err(|error| error.to_string())?;
                rotten.flip(&name, byte, bit).map_err(|error| error.to_string())?;
                let is_declared = is_declared(&sound, &name);
                flips.note(judge(&mut world, &rotten, &logs, is_declared), &name, (byte, bit));
            }
        }
        Ok(flips)
    })
}

enum Found {
    Intact,
    Refused,
    Declared,
    Wrong(String),
}

impl Flips {
    fn note(&mut self, found: Found, name: &str, (byte, bit): (u64, u32)) {
        match found {
            Found::Intact => self.intact += 1,
            Found::Refused => self.refused += 1,
            Found::Declared => self.declared += 1,
            Found::Wrong(what) => {
                self.divergences.push(format!("bit {bit} of byte {byte} of {name}: {what}"));
            }
        }
    }
}

/// True for files whose damage the engine may not find.
fn is_declared(disk: &SimDisk, name: &str) -> bool {
    let suffix = name.rsplit('.').next().unwrap_or_default();
    let newest = disk.files().into_iter().map(|(name, _)| name).filter(|n| n.ends_with(suffix));
    newest.max().as_deref() == Some(name)
}

fn judge(world: &mut World, rotten: &SimDisk, logs: &Logs, is_declared: bool) -> Found {
    // A panic stops a store, as an error does.
    match guarded(|| look(world, rotten)) {
        Err(_) => Found::Refused,
        Ok(Ok(found)) if found == *logs => Found::Intact,
        Ok(Ok(found)) => match (invented(logs, &found), is_declared) {
            (Some(what), _) => Found::Wrong(what),
            (None, true) => Found::Declared,
            (None, false) => Found::Wrong("entries are lost".to_string()),
        },
        Ok(Err(_)) if is_declared => Found::Declared,
        Ok(Err(what)) => Found::Wrong(what),
    }
}

/// Opens the store on `disk` and reads all that it holds. The outer error is the store's refusal,
/// the inner error a broken promise.
fn look(world: &mut World, disk: &SimDisk) -> Result<Result<Logs, String>, String> {
    world.swept().close();
    world.swept().disk = Some(disk.crash(Loss::All).map_err(|error| error.to_string())?);
    world.start_swept()?;
    let logs = world.swept().process.as_ref().map_or(Ok(Logs::new()), read_logs)?;
    Ok(world.check_reopened().map(|()| logs))
}

fn read_logs(process: &Process) -> Result<Logs, String> {
    let log: &dyn LogStore = &*process.log;
    let mut logs = Logs::new();
    for group in log.groups() {
        if let Some(bounds) = log.bounds(group) {
            let entries = log.entries(group, bounds.first, bounds.last + 1, usize::MAX);
            logs.insert(group, entries.map_err(|error| error.to_string())?);
        }
    }
    Ok(logs)
}

/// An entry that reads as it was never written. An entry that is missing at either end of a log is
/// lost, not invented.
fn invented(sound: &Logs, found: &Logs) -> Option<String> {
    found.iter().find_map(|(group, entries)| {
        let held = sound.get(group).map_or(&[][..], Vec::as_slice);
        let unknown = entries.iter().find(|entry| !held.contains(entry))?;
        Some(format!("group {group} reads entry {} as it never was", unknown.index))
    })
}
