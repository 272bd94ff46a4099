//! The directory of one PD member.
//!
//! ```text
//!   LOCK         locked while in use; names the member once the other two exist
//!   log/         the Raft log
//!   state.redb   the applied state
//! ```
//!
//! Invariants: one process at a time; one member for ever; log and state come and go together. An
//! unnamed directory was never used for anything: both are empty in it, or it is refused.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flotilla_engine::{DiskLog, DiskOptions, LogOptions, LogStore, Order, StateStore};
use flotilla_types::KeyRange;

use crate::driver::StartError;

const LOCK_FILE: &str = "LOCK";
const LOG_DIR: &str = "log";
const STATE_FILE: &str = "state.redb";

/// An open directory, locked while this lives.
pub(crate) struct DataDir {
    pub log: Arc<DiskLog>,
    pub state: Arc<StateStore>,
    _lock: File,
}

impl DataDir {
    /// Locks the directory for member `id` and opens what is in it.
    pub(crate) fn claim(dir: &Path, id: u64) -> Result<DataDir, StartError> {
        fs::create_dir_all(dir).map_err(|error| io(dir, &error))?;
        let (mut lock, named) = lock(dir)?;
        let identity = format!("flotilla pd {id}\n");
        let is_new = named.is_empty();
        if !is_new && named != identity {
            let found = named.trim_end();
            return Err(wrong(dir, format!("it belongs to '{found}', not to 'flotilla pd {id}'")));
        }
        if !is_new {
            check_whole(dir)?;
        }
        let log = DiskLog::open(&dir.join(LOG_DIR), LogOptions::default())?;
        let state = StateStore::open_disk(&dir.join(STATE_FILE), DiskOptions::default())?;
        if is_new {
            check_unused(dir, &log, &state)?;
            write_identity(dir, &mut lock, &identity)?;
        }
        Ok(DataDir { log: Arc::new(log), state: Arc::new(state), _lock: lock })
    }
}

/// Locks the directory and reads which member it belongs to; empty for none yet.
fn lock(dir: &Path) -> Result<(File, String), StartError> {
    let path = dir.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&path).map_err(|error| io(&path, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(StartError::DirInUse { dir: dir.to_path_buf() });
        }
        Err(TryLockError::Error(error)) => return Err(io(&path, &error)),
    }
    let mut named = String::new();
    file.read_to_string(&mut named).map_err(|error| io(&path, &error))?;
    Ok((file, named))
}

/// One without the other is a directory that was copied or cleaned in part.
fn check_whole(dir: &Path) -> Result<(), StartError> {
    for (missing, other) in [(LOG_DIR, STATE_FILE), (STATE_FILE, LOG_DIR)] {
        if !dir.join(missing).exists() {
            let reason = format!(
                "'{missing}' is missing beside '{other}'; restore the whole directory, or use an \
                 empty one"
            );
            return Err(wrong(dir, reason));
        }
    }
    Ok(())
}

fn check_unused(dir: &Path, log: &DiskLog, state: &StateStore) -> Result<(), StartError> {
    let mut is_used = !log.groups().is_empty();
    state.scan(&KeyRange::all(), Order::Ascending, &mut |_, _| {
        is_used = true;
        false
    })?;
    if is_used {
        let reason = format!("it holds data, and '{LOCK_FILE}' does not say whose; restore it");
        return Err(wrong(dir, reason));
    }
    Ok(())
}

fn write_identity(dir: &Path, lock: &mut File, identity: &str) -> Result<(), StartError> {
    let path = dir.join(LOCK_FILE);
    let written = lock
        .rewind()
        .and_then(|()| lock.write_all(identity.as_bytes()))
        .and_then(|()| lock.sync_all())
        .and_then(|()| File::open(dir)?.sync_all());
    written.map_err(|error| io(&path, &error))
}

fn io(path: &Path, error: &std::io::Error) -> StartError {
    StartError::Io { path: path.to_path_buf(), reason: error.to_string() }
}

fn wrong(dir: &Path, reason: String) -> StartError {
    StartError::WrongDir { dir: PathBuf::from(dir), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim_error(dir: &Path, id: u64) -> String {
        DataDir::claim(dir, id).err().expect("refused").to_string()
    }

    #[test]
    fn a_directory_is_one_members_and_one_processs() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = DataDir::claim(dir.path(), 1).expect("new");
        assert!(claim_error(dir.path(), 1).contains("in use"));
        drop(first);
        assert!(claim_error(dir.path(), 2).contains("belongs to 'flotilla pd 1'"));
        drop(DataDir::claim(dir.path(), 1).expect("the same member again"));
    }

    #[test]
    fn a_directory_that_is_not_whole_is_refused() {
        for (missing, is_dir) in [(STATE_FILE, false), (LOG_DIR, true)] {
            let dir = tempfile::tempdir().expect("a temporary directory");
            drop(DataDir::claim(dir.path(), 1).expect("new"));
            let path = dir.path().join(missing);
            let removed = if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            removed.expect("removed");
            assert!(claim_error(dir.path(), 1).contains(missing));
        }
    }

    #[test]
    fn data_of_nobody_is_refused_and_an_interrupted_creation_is_not() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let first = DataDir::claim(dir.path(), 1).expect("new");
        let mut batch = flotilla_engine::StateBatch::default();
        batch.put("a", "1");
        first.state.write(batch).expect("written");
        drop(first);
        fs::write(dir.path().join(LOCK_FILE), "").expect("the name is gone");
        let first = DataDir::claim(dir.path(), 1).expect("nothing was flushed, so it is unused");
        let mut batch = flotilla_engine::StateBatch::default();
        batch.put("a", "1");
        first.state.write(batch).expect("written");
        assert!(first.state.freeze());
        first.state.flush().expect("flushed");
        drop(first);
        fs::write(dir.path().join(LOCK_FILE), "").expect("the name is gone");
        assert!(claim_error(dir.path(), 1).contains("does not say whose"));
    }
}
