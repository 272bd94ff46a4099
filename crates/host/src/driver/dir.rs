//! The data directory of a process that hosts Raft groups.
//!
//! ```text
//!   LOCK          locked while a process uses the directory; its text is the label
//!   log/          the Raft log of all groups
//!   state.redb    the applied state
//!   snapshots/    a store's only: rows of snapshots that are being received
//! ```
//!
//! How it is opened:
//!
//! 1. The directory is created if it is not there, and locked.
//! 2. The label must be the owner's. A directory of another owner is refused here, before anything
//!    in it is opened, for opening a log or a state changes files.
//! 3. Log and state are opened. One without the other is refused: such a directory was copied or
//!    cleaned in part, and a peer that lost its log might vote twice.
//! 4. The owner checks what only the owner can read, and then calls [`DataDir::claim`], which
//!    writes the label into a directory that has none.
//!
//! Invariants: one process at a time; one owner for ever; whatever is refused in the steps 1 and 2
//! is left as it was.
//!
//! Not here: which store of which cluster a store's directory belongs to.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Error, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flotilla_engine::{DiskLog, DiskOptions, EngineError, LogOptions, LogStore, Order, StateStore};
use flotilla_types::KeyRange;

use super::label::{self, Owner};

const LOCK_FILE: &str = "LOCK";
const LOG_DIR: &str = "log";
const STATE_FILE: &str = "state.redb";
const SNAPSHOT_DIR: &str = "snapshots";

/// Why a data directory cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DirError {
    /// Another process uses it.
    #[error("data directory {} is in use by another process", .dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// It is another owner's, not whole, or of a format that this version does not read.
    #[error("data directory {}: {reason}", .dir.display())]
    Wrong {
        /// The directory.
        dir: PathBuf,
        /// What does not fit, and what to do where that is not plain.
        reason: String,
    },
    /// The operating system refused.
    #[error("{}: {reason}", .path.display())]
    Io {
        /// The file or directory concerned.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// The disk failed, or the log or the state is damaged.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// How log and state are opened.
#[derive(Clone, Default)]
pub struct DirOptions {
    /// For the Raft log.
    pub log: LogOptions,
    /// For the applied state.
    pub state: DiskOptions,
}

/// An open data directory, locked while this lives.
pub struct DataDir {
    /// Where it is.
    pub path: PathBuf,
    /// The Raft log.
    pub log: Arc<DiskLog>,
    /// The applied state.
    pub state: Arc<StateStore>,
    owner: Owner,
    lock: File,
    is_labelled: bool,
}

impl DataDir {
    /// Opens the directory for `owner`, creating it if it is not there. Its label is not written
    /// yet; see [`DataDir::claim`].
    ///
    /// # Errors
    /// See [`DirError`]. After all but [`DirError::Engine`] nothing in the directory was changed.
    pub fn open(path: &Path, owner: Owner, options: DirOptions) -> Result<DataDir, DirError> {
        fs::create_dir_all(path).map_err(|error| io(path, &error))?;
        let (lock, text) = lock(path)?;
        let is_labelled = !text.is_empty();
        if is_labelled {
            label::check(&text, owner).map_err(|reason| wrong(path, reason))?;
        }
        let (log_dir, state_file) = (path.join(LOG_DIR), path.join(STATE_FILE));
        match owner {
            // The first versions did not label a store's directory.
            Owner::Pd { .. } if !is_labelled && path.join(SNAPSHOT_DIR).exists() => {
                return Err(wrong(path, format!("it belongs to a store, not to '{owner}'")));
            }
            // A member's label is written when both are there.
            Owner::Pd { .. } if is_labelled => check_whole(path)?,
            Owner::Pd { .. } | Owner::Store => {}
        }
        let has_state = state_file.exists();
        if has_state && is_empty(&log_dir) {
            let reason = format!("there is state, but no log in {}", log_dir.display());
            return Err(wrong(path, reason));
        }
        let log = DiskLog::open(&log_dir, options.log)?;
        // A first start that was cut off leaves a log without content, and perhaps no state.
        if !has_state && !log.groups().is_empty() {
            let reason = format!("there is a log, but no {}", state_file.display());
            return Err(wrong(path, reason));
        }
        let state = StateStore::open_disk(&state_file, options.state)?;
        let (log, state) = (Arc::new(log), Arc::new(state));
        Ok(DataDir { path: path.to_path_buf(), log, state, owner, lock, is_labelled })
    }

    /// Says for ever whose directory this is, unless it says so already.
    pub fn claim(&mut self) -> Result<(), DirError> {
        if self.is_labelled {
            return Ok(());
        }
        let path = self.path.join(LOCK_FILE);
        let written = self
            .lock
            .write_all(label::write(self.owner).as_bytes())
            .and_then(|()| self.lock.sync_all())
            .and_then(|()| File::open(&self.path)?.sync_all());
        written.map_err(|error| io(&path, &error))?;
        self.is_labelled = true;
        Ok(())
    }

    /// Refuses a directory that holds data and has no label. For owners whose directories have
    /// always had one.
    pub fn check_labelled_or_unused(&self) -> Result<(), DirError> {
        if self.is_labelled {
            return Ok(());
        }
        let mut is_used = !self.log.groups().is_empty();
        self.state.scan(&KeyRange::all(), Order::Ascending, &mut |_, _| {
            is_used = true;
            false
        })?;
        if is_used {
            let reason = format!("it holds data, and '{LOCK_FILE}' does not say whose; restore it");
            return Err(wrong(&self.path, reason));
        }
        Ok(())
    }

    /// The log's directory.
    pub fn log_path(&self) -> PathBuf {
        self.path.join(LOG_DIR)
    }

    /// Empties the directory for snapshots that are being received, and answers where it is.
    pub fn clear_snapshots(&self) -> Result<PathBuf, DirError> {
        let path = self.path.join(SNAPSHOT_DIR);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io(&path, &error));
            }
            Ok(()) | Err(_) => {}
        }
        fs::create_dir_all(&path).map_err(|error| io(&path, &error))?;
        Ok(path)
    }
}

/// Locks the directory and reads its label; empty if there is none yet.
fn lock(dir: &Path) -> Result<(File, String), DirError> {
    let path = dir.join(LOCK_FILE);
    let mut options = OpenOptions::new();
    // Not truncated: the label of another owner must outlive a refusal.
    options.read(true).write(true).create(true).truncate(false);
    let mut file = options.open(&path).map_err(|error| io(&path, &error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(DirError::InUse { dir: dir.to_path_buf() });
        }
        Err(TryLockError::Error(error)) => return Err(io(&path, &error)),
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(|error| io(&path, &error))?;
    Ok((file, text))
}

fn check_whole(dir: &Path) -> Result<(), DirError> {
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

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).map_or(true, |mut files| files.next().is_none())
}

fn io(path: &Path, error: &Error) -> DirError {
    DirError::Io { path: path.to_path_buf(), reason: error.to_string() }
}

fn wrong(dir: &Path, reason: String) -> DirError {
    DirError::Wrong { dir: dir.to_path_buf(), reason }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::SystemTime;

    use flotilla_engine::StateBatch;

    use super::*;

    const PD: Owner = Owner::Pd { id: 1 };

    fn open(path: &Path, owner: Owner) -> Result<DataDir, DirError> {
        let mut dir = DataDir::open(path, owner, DirOptions::default())?;
        if owner != Owner::Store {
            dir.check_labelled_or_unused()?;
        }
        dir.claim()?;
        Ok(dir)
    }

    fn refusal(path: &Path, owner: Owner) -> String {
        open(path, owner).err().expect("refused").to_string()
    }

    /// Everything below a directory: names, contents, and when they were changed.
    fn contents(path: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(path).expect("readable") {
            let path = entry.expect("an entry").path();
            let meta = fs::metadata(&path).expect("there");
            let changed = meta.modified().expect("a time");
            if meta.is_dir() {
                found.extend(contents(&path));
                found.insert(path, (vec![], changed));
            } else {
                let bytes = fs::read(&path).expect("readable");
                found.insert(path, (bytes, changed));
            }
        }
        found
    }

    fn temporary() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    #[test]
    fn a_directory_is_one_processs_at_a_time_and_one_owners_for_ever() {
        for (owner, others) in
            [(PD, [Owner::Pd { id: 2 }, Owner::Store]), (Owner::Store, [PD, Owner::Pd { id: 2 }])]
        {
            let dir = temporary();
            let first = open(dir.path(), owner).expect("new");
            assert!(refusal(dir.path(), owner).contains("in use"));
            drop(first);
            let before = contents(dir.path());
            for other in others {
                assert!(refusal(dir.path(), other).contains(&format!("belongs to '{owner}'")));
            }
            assert_eq!(contents(dir.path()), before, "a refusal changes nothing");
            drop(open(dir.path(), owner).expect("the same owner again"));
        }
    }

    #[test]
    fn a_later_format_is_refused_and_nothing_is_changed() {
        let dir = temporary();
        drop(open(dir.path(), Owner::Store).expect("new"));
        fs::write(dir.path().join(LOCK_FILE), "flotilla store\nformat 2\n").expect("written");
        let before = contents(dir.path());
        assert!(refusal(dir.path(), Owner::Store).contains("format is 2"));
        assert_eq!(contents(dir.path()), before);
    }

    #[test]
    fn a_store_of_the_first_versions_is_a_stores_and_gets_its_label() {
        let dir = temporary();
        let first = open(dir.path(), Owner::Store).expect("new");
        first.clear_snapshots().expect("the disk works");
        drop(first);
        fs::write(dir.path().join(LOCK_FILE), "").expect("as the first versions left it");
        let before = contents(dir.path());
        assert!(refusal(dir.path(), PD).contains("belongs to a store"));
        assert_eq!(contents(dir.path()), before);
        drop(open(dir.path(), Owner::Store).expect("the owner"));
        assert!(refusal(dir.path(), PD).contains("belongs to 'flotilla store'"));
    }

    #[test]
    fn a_member_of_the_first_versions_is_opened() {
        let dir = temporary();
        drop(open(dir.path(), PD).expect("new"));
        fs::write(dir.path().join(LOCK_FILE), "flotilla pd 1\n").expect("written");
        drop(open(dir.path(), PD).expect("the same member"));
        assert!(refusal(dir.path(), Owner::Pd { id: 2 }).contains("belongs to 'flotilla pd 1'"));
    }

    #[test]
    fn a_members_directory_that_is_not_whole_is_refused() {
        for (missing, is_dir) in [(STATE_FILE, false), (LOG_DIR, true)] {
            let dir = temporary();
            drop(open(dir.path(), PD).expect("new"));
            let path = dir.path().join(missing);
            let removed = if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            removed.expect("removed");
            assert!(refusal(dir.path(), PD).contains(missing));
        }
    }

    #[test]
    fn data_of_nobody_is_refused_and_an_interrupted_creation_is_not() {
        let dir = temporary();
        let put = |dir: &DataDir| {
            let mut batch = StateBatch::default();
            batch.put("a", "1");
            dir.state.write(batch).expect("written");
        };
        let first = open(dir.path(), PD).expect("new");
        put(&first);
        drop(first);
        fs::write(dir.path().join(LOCK_FILE), "").expect("the label is gone");
        let first = open(dir.path(), PD).expect("nothing was flushed, so it is unused");
        put(&first);
        assert!(first.state.freeze());
        first.state.flush().expect("flushed");
        drop(first);
        fs::write(dir.path().join(LOCK_FILE), "").expect("the label is gone");
        assert!(refusal(dir.path(), PD).contains("does not say whose"));
    }
}
