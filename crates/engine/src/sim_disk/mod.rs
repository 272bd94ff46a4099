//! A disk in memory, under the real storage code: redb over [`SimDisk::open_state`], raft-engine
//! over [`SimDisk::open_log`]. Only with the feature `sim`.
//!
//! The disk knows of every byte whether it is durable or only in the page cache (`cells`).
//! Everything that changes it is a **point**: a write, a change of length, an allocation, a
//! create, delete or rename, a sync. Points are numbered from 0 in the order in which they happen;
//! a [`Fault`] can be planned at any of them. Two things are no points, though their effects are
//! subject to loss as any other: a read, and a truncation by raft-engine's recovery, whose threads
//! cut two queues in any order.
//!
//! * [`SimDisk::crash`] is what the next start finds, by [`Loss`].
//! * A failed sync leaves what it was to make durable in the page cache for good, and off the disk
//!   for good: Linux marks such pages clean.
//! * Names are an ordered journal, of which a crash keeps a prefix: so do the journals of ext4 and
//!   XFS. A file's sync makes its own name durable, and the changes of names before that one.
//!
//! raft-engine looks names up in a real directory, and syncs that behind the file system's back;
//! so each disk keeps a directory of empty files with the same names, on a RAM disk if there is
//! one.
//!
//! Not here: which faults to try, and what must survive them; reads that fail.

mod cells;
mod files;

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{fs, io};

use cells::{Cells, Change, NameChange};
use files::{LogFiles, StateFile};

use crate::disk_base::{DiskBase, DiskOptions};
use crate::disk_log::{DiskLog, LogOptions};
use crate::error::EngineError;
use crate::log::LogStore;
use crate::state::StateStore;

pub use cells::Loss;

/// The name of the state's file.
const STATE: &str = "state.redb";
/// Its name while it is being made.
const STATE_UNFINISHED: &str = "state.redb.new";
/// The directory of the log.
const LOG: &str = "log";

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointKind {
    /// Bytes are written.
    Write,
    /// A file is cut or lengthened.
    SetLen,
    /// Space is taken for bytes to come.
    Allocate,
    /// A file comes to be.
    Create,
    /// A name goes.
    Delete,
    /// A file gets another name.
    Rename,
    /// A file's content becomes durable.
    Sync,
}

/// What goes wrong at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process is gone before it happens.
    Crash,
    /// It fails, once.
    Error,
    /// The disk is full: from here on nothing can grow.
    Full,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Power {
    On,
    /// The process is gone; what still runs of it gets errors, and syncs do nothing.
    Off,
    /// Whoever still holds a file may close it, to no effect.
    LetGo,
}

struct Disk {
    cells: Cells,
    points: u64,
    plan: Option<(u64, Fault)>,
    hit: Option<PointKind>,
    power: Power,
    ignores_syncs: bool,
    hash: u64,
}

struct DiskParts {
    names: PathBuf,
    disk: Mutex<Disk>,
}

impl Drop for DiskParts {
    fn drop(&mut self) {
        // Empty files on a temporary disk: what stays behind costs nothing.
        let _ = fs::remove_dir_all(&self.names);
    }
}

/// A handle on a disk. See the module's header.
#[derive(Clone)]
pub struct SimDisk {
    parts: Arc<DiskParts>,
}

impl SimDisk {
    /// An empty disk. An error is one of the real directory of names.
    pub fn new() -> io::Result<SimDisk> {
        SimDisk::with(Cells::default())
    }

    fn with(cells: Cells) -> io::Result<SimDisk> {
        let names = names_directory();
        fs::create_dir_all(names.join(LOG))?;
        for name in cells.names.keys() {
            fs::File::create(names.join(name))?;
        }
        let disk = Disk {
            cells,
            points: 0,
            plan: None,
            hit: None,
            power: Power::On,
            ignores_syncs: false,
            hash: 0,
        };
        Ok(SimDisk { parts: Arc::new(DiskParts { names, disk: Mutex::new(disk) }) })
    }

    /// Opens the state, creating it if there is none: under another name first, as
    /// [`DiskBase::open`] does on a real disk. Unlike that, it makes the name durable at every
    /// opening: the process that gave the name may have died before it came to that.
    pub fn open_state(&self, options: DiskOptions) -> Result<StateStore, EngineError> {
        let path = Path::new(STATE);
        let failed = |error: Error| EngineError::io(path, error);
        if !self.holds(STATE) {
            if self.holds(STATE_UNFINISHED) {
                self.remove(STATE_UNFINISHED).map_err(failed)?;
            }
            let file = self.create(STATE_UNFINISHED).map_err(failed)?;
            let backend = StateFile::new(self.clone(), file);
            drop(DiskBase::open_backend(Path::new(STATE_UNFINISHED), backend, options)?);
            if self.hit().is_some() {
                return Err(EngineError::io(path, "the file could not be closed"));
            }
            self.rename(STATE_UNFINISHED, STATE).map_err(failed)?;
        }
        self.sync_names().map_err(failed)?;
        let file = self.look_up(STATE).map_err(failed)?;
        if self.disk().cells.len(file) == 0 {
            return Err(EngineError::corrupt(path, "the file is empty"));
        }
        let backend = StateFile::new(self.clone(), file);
        StateStore::new(Box::new(DiskBase::open_backend(path, backend, options)?))
    }

    /// Opens the log, creating it if there is none.
    pub fn open_log(&self, options: LogOptions) -> Result<Arc<dyn LogStore>, EngineError> {
        let directory = self.parts.names.join(LOG);
        let files = Arc::new(LogFiles::new(self.clone()));
        Ok(Arc::new(DiskLog::open_with_file_system(&directory, options, files)?))
    }

    /// True if there is a state, in any form.
    pub fn has_state(&self) -> bool {
        self.holds(STATE)
    }

    /// True if there is any file of a log.
    pub fn has_log(&self) -> bool {
        self.disk().cells.names.keys().any(|name| name.starts_with(LOG))
    }

    /// Points so far.
    pub fn points(&self) -> u64 {
        self.disk().points
    }

    /// A digest of all points so far, with what was written.
    pub fn hash(&self) -> u64 {
        self.disk().hash
    }

    /// Makes `fault` happen at the point with this number.
    pub fn plan(&self, at: u64, fault: Fault) {
        self.disk().plan = Some((at, fault));
    }

    /// Where the planned fault has happened; None if it has not.
    pub fn hit(&self) -> Option<PointKind> {
        self.disk().hit
    }

    /// True if the planned crash has happened.
    pub fn is_off(&self) -> bool {
        self.disk().power != Power::On
    }

    /// The process is gone, and everything that it held may be dropped to no effect.
    pub fn let_go(&self) {
        self.disk().power = Power::LetGo;
    }

    /// From now on syncs are answered and not carried out: a broken disk, for tests of tests.
    pub fn ignore_syncs(&self) {
        self.disk().ignores_syncs = true;
    }

    /// The disk as the next start finds it, with no fault planned.
    pub fn crash(&self, loss: Loss) -> io::Result<SimDisk> {
        let cells = self.disk().cells.crash(loss);
        SimDisk::with(cells)
    }

    /// The files and their lengths, by name.
    pub fn files(&self) -> Vec<(String, u64)> {
        let disk = self.disk();
        let names = disk.cells.names.iter();
        names.map(|(name, file)| (name.clone(), disk.cells.len(*file))).collect()
    }

    /// Where the blocks of a file begin that hold anything but zeros.
    pub fn used_blocks(&self, name: &str) -> io::Result<Vec<u64>> {
        let file = self.look_up(name)?;
        Ok(self.disk().cells.used_blocks(file))
    }

    /// Flips one bit of a file's byte.
    pub fn flip(&self, name: &str, byte: u64, bit: u32) -> io::Result<()> {
        let file = self.look_up(name)?;
        self.disk().cells.flip(file, byte, bit);
        Ok(())
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        // Nothing panics with the lock held.
        self.parts.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holds(&self, name: &str) -> bool {
        self.disk().cells.names.contains_key(name)
    }

    fn look_up(&self, name: &str) -> io::Result<u64> {
        self.disk().cells.names.get(name).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// The name within this disk of a path in its directory of names.
    fn name(&self, path: &Path) -> io::Result<String> {
        let name = path.strip_prefix(&self.parts.names).ok().and_then(Path::to_str);
        name.map(str::to_string).ok_or_else(|| ErrorKind::InvalidInput.into())
    }

    fn create(&self, name: &str) -> io::Result<u64> {
        let mut disk = self.disk();
        if let Some(file) = disk.cells.names.get(name) {
            return Ok(*file);
        }
        if disk.point(PointKind::Create, true, name.as_bytes())? {
            fs::File::create(self.parts.names.join(name))?;
        }
        Ok(disk.cells.create(name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut disk = self.disk();
        if disk.point(PointKind::Delete, false, name.as_bytes())? {
            fs::remove_file(self.parts.names.join(name))?;
            disk.cells.rename(NameChange::Delete(name.to_string()));
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut disk = self.disk();
        if disk.point(PointKind::Rename, false, to.as_bytes())? {
            fs::rename(self.parts.names.join(from), self.parts.names.join(to))?;
            disk.cells.rename(NameChange::Rename(from.to_string(), to.to_string()));
        }
        Ok(())
    }

    /// Makes all names durable.
    fn sync_names(&self) -> io::Result<()> {
        let mut disk = self.disk();
        if disk.point(PointKind::Sync, false, b"names")? && !disk.ignores_syncs {
            disk.cells.sync_names();
        }
        Ok(())
    }

    fn sync(&self, file: u64) -> io::Result<()> {
        let mut disk = self.disk();
        match disk.point(PointKind::Sync, false, &file.to_le_bytes()) {
            Ok(true) if !disk.ignores_syncs => disk.cells.sync(file),
            Ok(_) => {}
            Err(error) => {
                if disk.power == Power::On {
                    disk.cells.fail_sync(file);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn change(&self, file: u64, kind: PointKind, change: Change) -> io::Result<()> {
        let mut disk = self.disk();
        let grows = change.end() > disk.cells.len(file);
        if disk.point(kind, grows, change.data())? {
            disk.cells.change(file, change);
        }
        Ok(())
    }

    /// A cut by raft-engine's recovery: not a point, see the module's header.
    fn cut(&self, file: u64, len: u64) -> io::Result<()> {
        let mut disk = self.disk();
        match disk.power {
            Power::On => disk.cells.change(file, Change::SetLen(len)),
            Power::LetGo => {}
            Power::Off => return Err(gone()),
        }
        Ok(())
    }
}

impl Disk {
    /// Passes a point: true if it is to be carried out, false if it is to no effect.
    fn point(&mut self, kind: PointKind, grows: bool, content: &[u8]) -> io::Result<bool> {
        match self.power {
            // Two failed syncs in closing two queues would be a panic within a panic.
            Power::Off if kind == PointKind::Sync => return Ok(false),
            Power::Off => return Err(gone()),
            Power::LetGo => return Ok(false),
            Power::On => {}
        }
        let number = self.points;
        let planned = self.plan.filter(|(at, _)| number >= *at);
        match planned {
            Some((_, Fault::Crash)) => {
                self.hit = Some(kind);
                self.power = Power::Off;
                return Err(gone());
            }
            Some((at, Fault::Error)) if at == number => {
                self.hit = Some(kind);
                self.points += 1;
                return Err(Error::other("the simulated disk fails"));
            }
            Some((_, Fault::Full)) if grows => {
                self.hit.get_or_insert(kind);
                self.points += 1;
                return Err(ErrorKind::StorageFull.into());
            }
            Some((_, Fault::Error | Fault::Full)) | None => {}
        }
        self.points += 1;
        for byte in [kind as u8].iter().chain(content) {
            // FNV-1a.
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(true)
    }
}

fn gone() -> Error {
    Error::other("the simulated process is gone")
}

/// A directory that nobody else uses, on a RAM disk if there is one.
fn names_directory() -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    parent.join(format!("flotilla-sim-disk-{}-{number}", std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::StateBatch;
    use crate::log::{LogBatch, LogEntry, LogOp};

    fn entry(index: u64) -> LogBatch {
        let entries = vec![LogEntry { index, term: 1, ..LogEntry::default() }];
        LogBatch { ops: vec![LogOp::Append { group: 7, entries }] }
    }

    fn last(disk: &SimDisk) -> u64 {
        let log = disk.open_log(LogOptions::default()).expect("the log opens");
        log.bounds(7).map_or(0, |bounds| bounds.last)
    }

    #[test]
    fn a_crash_takes_what_was_not_synced_and_nothing_else() {
        let disk = SimDisk::new().expect("a directory of names");
        let log = disk.open_log(LogOptions::default()).expect("the log opens");
        log.write(entry(1), true).expect("a sound disk");
        log.write(entry(2), false).expect("a sound disk");
        assert_eq!(last(&disk.crash(Loss::All).expect("a directory")), 1);
        assert_eq!(last(&disk.crash(Loss::Nothing).expect("a directory")), 2);
        assert_eq!(last(&disk.crash(Loss::Torn).expect("a directory")), 1);
        disk.let_go();
    }

    #[test]
    fn a_failed_sync_poisons_and_what_it_was_to_save_is_not_durable() {
        let disk = SimDisk::new().expect("a directory of names");
        let log = disk.open_log(LogOptions::default()).expect("the log opens");
        // An allocation, a write, the sync.
        disk.plan(disk.points() + 1, Fault::Error);
        assert!(log.write(entry(1), true).is_err());
        assert_eq!(disk.hit(), Some(PointKind::Sync));
        assert!(log.write(entry(1), true).is_err());
        assert_eq!(last(&disk.crash(Loss::All).expect("a directory")), 0);
        disk.let_go();
    }

    #[test]
    fn the_state_is_created_whole_or_not_at_all() {
        let disk = SimDisk::new().expect("a directory of names");
        disk.open_state(DiskOptions::default()).expect("a sound disk");
        for at in 0..disk.points() {
            let disk = SimDisk::new().expect("a directory of names");
            disk.plan(at, Fault::Crash);
            drop(disk.open_state(DiskOptions::default()));
            assert!(disk.is_off());
            let after = disk.crash(Loss::Blocks(at)).expect("a directory");
            let state = after.open_state(DiskOptions::default()).expect("it opens");
            let mut batch = StateBatch::default();
            batch.put("k", "v");
            state.write(batch).expect("a sound disk");
            disk.let_go();
        }
    }
}
