//! The [`LogStore`] on disk: raft-engine.
//!
//! raft-engine 0.4.2 is a sound log with surprising behaviour in places. This module works around
//! these:
//!
//! * Its cache of the last block read is one per *thread*, keyed by file number and offset, and
//!   shared by all engines of the process: two stores in one process, or one log opened twice,
//!   may read each other's bytes. Each thread belongs to the first log that reads on it; any other
//!   log reads on a thread of its own (`on_own_thread` below).
//! * `Engine::sync` does nothing, as does a synced write of an empty batch. An empty batch to sync
//!   is written as a mark.
//! * A truncation is lost with the file that holds it, while the truncated entries may remain in
//!   the rewrite queue. A reopening would bring them back; if the log was empty, even entries that
//!   had been overwritten. So the truncation index is kept as a value of the group and enforced at
//!   opening, and a truncation that empties a log is written as a clean followed by the values
//!   that remain, which raft-engine carries over.
//! * A purge deletes files whose content has been replaced, even by writes that are not synced yet.
//!   After a power loss both would be gone, and a group might be without its vote. So a purge syncs
//!   first, and every batch written while it runs is synced. A clean is synced at any time, because
//!   the next purge makes it durable without the rest of its batch.
//! * The last writes of a killed process may be in the page cache only. Opening syncs, so that a
//!   power loss cannot take anything that the log has reported.
//! * It panics on appends with a hole or below the first entry (asserted here first, with the
//!   numbers) and on a failed fsync (caught; the log is poisoned).
//!
//! Recovery cuts a torn tail off the newest file. Damage in any older file is refused, and so is a
//! missing file, which raft-engine would skip together with all older ones. Damage in the middle
//! of the newest file looks like a torn write, and what follows it is lost.
//!
//! Not here: caching of entries; which entries may be truncated.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{panic, thread};

use bytes::Bytes;
use protobuf::well_known_types::BytesValue;
use raft_engine::env::{DefaultFileSystem, FileSystem};
use raft_engine::{Command, Config, Engine, MessageExt, ReadableSize, RecoveryMode};

use crate::entry::{self, assert_held, bounds_after_append};
use crate::error::EngineError;
use crate::log::{LogBatch, LogBounds, LogEntry, LogOp, LogStore};
use crate::poison::{Poison, catch_panic};

/// The group's hard state.
const STATE_KEY: &[u8] = b"s";
/// The greatest index that was truncated, 8 bytes big-endian.
const TRUNCATED_KEY: &[u8] = b"t";
/// Written when a sync is due and there is nothing to write.
const MARK_KEY: &[u8] = b"m";

/// Holds marks; not for callers.
const RESERVED_GROUP: u64 = u64::MAX;

/// Two cores are what a small machine has, and 64 MiB of log are read in well under a second.
const RECOVERY_THREADS: usize = 2;

/// How to open a [`DiskLog`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// A file is closed once it is this long. Space is given back by the file, so it is small next
    /// to `purge_bytes`; closing one costs a sync, so it is not tiny.
    pub file_bytes: u64,
    /// [`LogStore::purge`] begins to give space back once the files exceed this: what a restart
    /// has to read, and far below raft-engine's own 10 GB.
    pub purge_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions { file_bytes: 16 * 1024 * 1024, purge_bytes: 64 * 1024 * 1024 }
    }
}

/// An open raft-engine directory. See the module's header.
pub struct DiskLog<F: FileSystem = DefaultFileSystem> {
    engine: Engine<F>,
    directory: PathBuf,
    /// The number of this log within the process; see [`DiskLog::on_own_thread`].
    instance: u64,
    writer: Mutex<Writer>,
    poison: Poison,
}

/// Held while a batch is written, so that a purge on another thread knows what is synced.
#[derive(Debug, Default)]
struct Writer {
    /// True if a batch was written since the last sync.
    is_unsynced: bool,
    /// True while a purge runs: every batch is synced.
    is_purging: bool,
    /// The bounds of the groups that were written to. For other groups, raft-engine has them.
    bounds: HashMap<u64, Option<LogBounds>>,
}

impl DiskLog {
    /// Opens the log in `directory`, creating both if there is none.
    /// [`EngineError::Corrupt`] if files are missing or damaged beyond a torn tail,
    /// [`EngineError::Io`] if they cannot be read or another log has the directory open.
    pub fn open(directory: &Path, options: LogOptions) -> Result<DiskLog, EngineError> {
        DiskLog::open_with_file_system(directory, options, Arc::new(DefaultFileSystem))
    }
}

impl<F: FileSystem> DiskLog<F> {
    /// Opens the log with another file system for the contents of its files. Names are always
    /// looked up in the real directory, which must therefore exist there too.
    pub fn open_with_file_system(
        directory: &Path,
        options: LogOptions,
        file_system: Arc<F>,
    ) -> Result<DiskLog<F>, EngineError> {
        fs::create_dir_all(directory).map_err(|error| EngineError::io(directory, error))?;
        check_files(directory)?;
        let config = config(directory, options)?;
        let opened = catch_panic(|| Engine::open_with_file_system(config, file_system));
        let engine = match opened {
            Ok(result) => result.map_err(|error| engine_error(directory, error))?,
            Err(panic) => return Err(EngineError::corrupt(directory, panic)),
        };
        let log = DiskLog {
            engine,
            directory: directory.to_path_buf(),
            instance: next_instance(),
            writer: Mutex::default(),
            poison: Poison::default(),
        };
        log.truncate_again()?;
        log.writer().is_unsynced = true;
        log.write(LogBatch::default(), true)?;
        Ok(log)
    }

    /// Bytes on disk, rounded up to whole files.
    pub fn disk_bytes(&self) -> u64 {
        self.engine.get_used_size() as u64
    }

    /// Truncates again the entries whose truncation was lost with its file.
    fn truncate_again(&self) -> Result<(), EngineError> {
        let mut native = raft_engine::LogBatch::default();
        for group in self.engine.raft_groups() {
            let (held, through) = (self.bounds(group), self.truncated(group)?);
            let (Some(held), Some(through)) = (held, through) else { continue };
            if held.first <= through {
                native.add_command(group, Command::Compact { index: through + 1 });
            }
        }
        self.write_native(&mut native, &mut self.writer(), false)
    }

    /// The greatest index that was truncated; None if none was.
    fn truncated(&self, group: u64) -> Result<Option<u64>, EngineError> {
        let Some(bytes) = self.engine.get(group, TRUNCATED_KEY) else { return Ok(None) };
        let through = bytes.try_into().map(u64::from_be_bytes).map_err(|_| {
            EngineError::corrupt(&self.directory, format!("group {group} has a malformed mark"))
        })?;
        Ok(Some(through))
    }

    /// Writes the batch, or a mark if the batch is empty and a sync is due.
    fn write_native(
        &self,
        native: &mut raft_engine::LogBatch,
        writer: &mut Writer,
        sync: bool,
    ) -> Result<(), EngineError> {
        if native.is_empty() {
            if !sync || !writer.is_unsynced {
                return self.poison.check();
            }
            put(native, RESERVED_GROUP, MARK_KEY, Vec::new());
        }
        self.poison.run(|| match self.engine.write(native, sync) {
            Ok(_) => Ok(()),
            Err(error) => Err(engine_error(&self.directory, error)),
        })?;
        writer.is_unsynced = !sync;
        Ok(())
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        // With the lock held, only assertions panic, and they come before any change.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fetch(
        &self,
        group: u64,
        low: u64,
        high: u64,
        bytes_max: usize,
    ) -> Result<Vec<LogEntry>, EngineError> {
        let mut messages: Vec<BytesValue> = Vec::new();
        self.engine
            .fetch_entries_to::<StoredEntry>(group, low, high, Some(bytes_max), &mut messages)
            .map_err(|error| engine_error(&self.directory, error))?;
        let decode = |(index, message): (u64, BytesValue)| {
            entry::decode(message.value.into()).ok_or_else(|| {
                EngineError::corrupt(
                    &self.directory,
                    format!("entry {index} of group {group} is malformed"),
                )
            })
        };
        (low..).zip(messages).map(decode).collect()
    }

    /// Runs `read`, which reads entries, on a thread whose block cache no other log has filled: the
    /// present thread, or a new one if the present thread belongs to another log. A process that
    /// gives each log its own threads never starts one.
    fn on_own_thread<T: Send>(&self, read: impl FnOnce() -> T + Send) -> T {
        thread_local! {
            static READER: Cell<Option<u64>> = const { Cell::new(None) };
        }
        let reader = READER.get().unwrap_or(self.instance);
        READER.set(Some(reader));
        if reader == self.instance {
            return read();
        }
        let read_elsewhere = thread::scope(|scope| scope.spawn(read).join());
        read_elsewhere.unwrap_or_else(|payload| panic::resume_unwind(payload))
    }
}

impl<F: FileSystem> LogStore for DiskLog<F> {
    fn groups(&self) -> Vec<u64> {
        let mut groups = self.engine.raft_groups();
        groups.retain(|&group| {
            let has_state = || self.engine.get(group, STATE_KEY).is_some();
            group != RESERVED_GROUP && (self.bounds(group).is_some() || has_state())
        });
        groups.sort_unstable();
        groups
    }

    fn state(&self, group: u64) -> Result<Option<Bytes>, EngineError> {
        self.poison.check()?;
        Ok(self.engine.get(group, STATE_KEY).map(Bytes::from))
    }

    fn bounds(&self, group: u64) -> Option<LogBounds> {
        let (first, last) = (self.engine.first_index(group)?, self.engine.last_index(group)?);
        Some(LogBounds { first, last })
    }

    fn entries(
        &self,
        group: u64,
        low: u64,
        high: u64,
        bytes_max: usize,
    ) -> Result<Vec<LogEntry>, EngineError> {
        self.poison.check()?;
        if low >= high {
            return Ok(Vec::new());
        }
        assert_held(group, self.bounds(group), low, high);
        self.on_own_thread(|| {
            // A purge on another thread may have moved the entries between the look-up of their
            // places and the read; the second look-up finds the new ones.
            self.fetch(group, low, high, bytes_max)
                .or_else(|_| self.fetch(group, low, high, bytes_max))
        })
    }

    fn write(&self, batch: LogBatch, sync: bool) -> Result<(), EngineError> {
        self.poison.check()?;
        let mut writer = self.writer();
        // If the batch is refused, the bounds are dropped here, and found anew later.
        let bounds = std::mem::take(&mut writer.bounds);
        let mut translated = Translation::new(self, bounds).translate(batch)?;
        let sync = sync || writer.is_purging || translated.has_clean;
        if translated.has_clean {
            translated.bounds.retain(|_, held| held.is_some());
        }
        writer.bounds = translated.bounds;
        self.write_native(&mut translated.native, &mut writer, sync)
    }

    fn purge(&self) -> Result<Vec<u64>, EngineError> {
        let mut writer = self.writer();
        self.write_native(&mut raft_engine::LogBatch::default(), &mut writer, true)?;
        writer.is_purging = true;
        drop(writer);
        let purge = || self.engine.purge_expired_files();
        let purged = self.poison.run(|| {
            self.on_own_thread(purge).map_err(|error| engine_error(&self.directory, error))
        });
        self.writer().is_purging = false;
        let mut groups = purged?;
        groups.retain(|&group| group != RESERVED_GROUP);
        groups.sort_unstable();
        Ok(groups)
    }
}

/// A group's values beside its entries, as of some operation within a batch. None means the value
/// that raft-engine has; most batches only append, and need none.
#[derive(Default)]
struct GroupView {
    state: Option<Option<Vec<u8>>>,
    truncated: Option<Option<u64>>,
}

/// Translates a batch into raft-engine's operations, and tracks each group's state through it.
struct Translation<'a, F: FileSystem> {
    log: &'a DiskLog<F>,
    bounds: HashMap<u64, Option<LogBounds>>,
    groups: BTreeMap<u64, GroupView>,
    native: raft_engine::LogBatch,
    /// True if a group was cleaned: see the module's header for why that is always synced.
    has_clean: bool,
}

impl<'a, F: FileSystem> Translation<'a, F> {
    fn new(log: &'a DiskLog<F>, bounds: HashMap<u64, Option<LogBounds>>) -> Translation<'a, F> {
        let native = raft_engine::LogBatch::default();
        Translation { log, bounds, groups: BTreeMap::new(), native, has_clean: false }
    }

    fn translate(mut self, batch: LogBatch) -> Result<Self, EngineError> {
        for op in batch.ops {
            match op {
                LogOp::Append { group, entries } => self.append(group, &entries)?,
                LogOp::SetState { group, state } => {
                    assert!(group != RESERVED_GROUP, "group {group} is reserved");
                    self.view(group).state = Some(Some(state.to_vec()));
                    put(&mut self.native, group, STATE_KEY, state.to_vec());
                }
                LogOp::Truncate { group, through } => self.truncate(group, through),
                LogOp::Clear { group } => {
                    *self.bounds(group) = None;
                    *self.view(group) = GroupView { state: Some(None), truncated: Some(None) };
                    self.clean(group);
                }
            }
        }
        Ok(self)
    }

    fn view(&mut self, group: u64) -> &mut GroupView {
        self.groups.entry(group).or_default()
    }

    fn bounds(&mut self, group: u64) -> &mut Option<LogBounds> {
        assert!(group != RESERVED_GROUP, "group {group} is reserved");
        self.bounds.entry(group).or_insert_with(|| self.log.bounds(group))
    }

    fn clean(&mut self, group: u64) {
        self.native.add_command(group, Command::Clean);
        self.has_clean = true;
    }

    fn append(&mut self, group: u64, entries: &[LogEntry]) -> Result<(), EngineError> {
        let held = self.bounds(group);
        let was_empty = held.is_none();
        let bounds = bounds_after_append(group, *held, entries);
        *held = Some(bounds);
        if was_empty {
            self.begin_again(group, bounds.first)?;
        }
        let messages: Vec<BytesValue> = entries.iter().map(message).collect();
        self.native
            .add_entries::<StoredEntry>(group, &messages)
            .map_err(|error| engine_error(&self.log.directory, error))
    }

    /// An empty log begins at `first`, which may lie further down than where it was truncated.
    fn begin_again(&mut self, group: u64, first: u64) -> Result<(), EngineError> {
        let truncated = match self.view(group).truncated {
            Some(truncated) => truncated,
            None => self.log.truncated(group)?,
        };
        if truncated.is_some_and(|through| first <= through) {
            let through = first.saturating_sub(1);
            self.view(group).truncated = Some(Some(through));
            put_truncated(&mut self.native, group, through);
        }
        Ok(())
    }

    fn truncate(&mut self, group: u64, through: u64) {
        let Some(held) = self.bounds(group).filter(|held| held.first <= through) else { return };
        self.view(group).truncated = Some(Some(through));
        if through < held.last {
            *self.bounds(group) = Some(LogBounds { first: through + 1, last: held.last });
            self.native.add_command(group, Command::Compact { index: through + 1 });
        } else {
            *self.bounds(group) = None;
            let engine = &self.log.engine;
            let state =
                self.view(group).state.clone().unwrap_or_else(|| engine.get(group, STATE_KEY));
            self.clean(group);
            if let Some(state) = state {
                put(&mut self.native, group, STATE_KEY, state);
            }
        }
        put_truncated(&mut self.native, group, through);
    }
}

fn put(native: &mut raft_engine::LogBatch, group: u64, key: &[u8], value: Vec<u8>) {
    native.put(group, key.to_vec(), value).expect("our keys do not begin with the reserved __");
}

fn put_truncated(native: &mut raft_engine::LogBatch, group: u64, through: u64) {
    put(native, group, TRUNCATED_KEY, through.to_be_bytes().to_vec());
}

/// How raft-engine finds the index in an encoded entry.
struct StoredEntry;

impl MessageExt for StoredEntry {
    type Entry = BytesValue;

    fn index(message: &BytesValue) -> u64 {
        // 0 is no entry's index: raft-engine's own check then reports the mismatch.
        entry::peek_index(&message.value).unwrap_or(0)
    }
}

fn message(entry: &LogEntry) -> BytesValue {
    let mut message = BytesValue::new();
    message.set_value(entry::encode(entry));
    message
}

fn next_instance() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn config(directory: &Path, options: LogOptions) -> Result<Config, EngineError> {
    let Some(name) = directory.to_str() else {
        return Err(EngineError::io(directory, "raft-engine needs a path that is valid UTF-8"));
    };
    Ok(Config {
        dir: name.to_string(),
        recovery_mode: RecoveryMode::TolerateTailCorruption,
        recovery_threads: RECOVERY_THREADS,
        // Off: values are often compressed already, and the processor is what a store runs out of
        // first. A batch is read back as a whole to get at one entry, unpacking it each time.
        batch_compression_threshold: ReadableSize(0),
        target_file_size: ReadableSize(options.file_bytes),
        purge_threshold: ReadableSize(options.purge_bytes.max(options.file_bytes)),
        // Off: a recycled file is full of old batches, in which a torn tail and a missing file
        // look like the normal course of things.
        enable_log_recycle: false,
        ..Config::default()
    })
}

/// Refuses a directory in which a file is missing between others, or all of the append queue.
fn check_files(directory: &Path) -> Result<(), EngineError> {
    let appended = file_numbers(directory, ".raftlog")?;
    let rewritten = file_numbers(directory, ".rewrite")?;
    if appended.is_empty() && !rewritten.is_empty() {
        return Err(EngineError::corrupt(
            directory,
            "there are .rewrite files and no .raftlog files",
        ));
    }
    for (numbers, suffix) in [(appended, ".raftlog"), (rewritten, ".rewrite")] {
        for pair in numbers.windows(2) {
            if pair[0] + 1 != pair[1] {
                let missing = directory.join(format!("{:016}{suffix}", pair[0] + 1));
                return Err(EngineError::corrupt(
                    &missing,
                    "the file is missing between older and newer ones",
                ));
            }
        }
    }
    Ok(())
}

/// The numbers of the log files with this suffix, ascending.
fn file_numbers(directory: &Path, suffix: &str) -> Result<Vec<u64>, EngineError> {
    let mut numbers = Vec::new();
    for file in fs::read_dir(directory).map_err(|error| EngineError::io(directory, error))? {
        let name = file.map_err(|error| EngineError::io(directory, error))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(suffix));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn engine_error(directory: &Path, error: raft_engine::Error) -> EngineError {
    match &error {
        raft_engine::Error::Io(cause) => match cause.kind() {
            // Cut short, or a repair attempted on a file that is open for reading only.
            ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput => {
                EngineError::corrupt(directory, error)
            }
            _ => EngineError::io(directory, error),
        },
        raft_engine::Error::Corruption(_)
        | raft_engine::Error::Codec(_)
        | raft_engine::Error::Protobuf(_)
        | raft_engine::Error::EntryCompacted
        | raft_engine::Error::EntryNotFound => EngineError::corrupt(directory, error),
        _ => EngineError::io(directory, error),
    }
}
