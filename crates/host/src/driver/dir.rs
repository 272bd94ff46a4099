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
//! 1. What is there is looked at. A directory of another owner, or one with files of another
//!    program, is refused here, before anything in it is created, locked or opened.
//! 2. The directory is created if it is not there, and locked. The label, which may have been
//!    written meanwhile, must be the owner's.
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
use std::io::{Error, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flotilla_engine::{DiskLog, DiskOptions, EngineError, LogOptions, LogStore, Order, StateStore};
use flotilla_types::KeyRange;

use super::label::{self, Owner};

const LOCK_FILE: &str = "LOCK";
const LOG_DIR: &str = "log";
const STATE_FILE: &str = "state.redb";
const SNAPSHOT_DIR: &str = "snapshots";
/// What a new file system holds.
const LOST_FOUND_DIR: &str = "lost+found";
/// What a data directory may hold whose label was not written yet.
const UNLABELLED: [&str; 5] = [LOST_FOUND_DIR, LOCK_FILE, LOG_DIR, STATE_FILE, SNAPSHOT_DIR];

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
        check_owner(path, owner)?;
        fs::create_dir_all(path).map_err(|error| io(path, &error))?;
        let (lock, text) = lock(path)?;
        let is_labelled = !text.is_empty();
        if is_labelled {
            label::check(&text, owner).map_err(|reason| wrong(path, reason))?;
        }
        let (log_dir, state_file) = (path.join(LOG_DIR), path.join(STATE_FILE));
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
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(io(&path, &error));
            }
            Ok(()) | Err(_) => {}
        }
        fs::create_dir_all(&path).map_err(|error| io(&path, &error))?;
        Ok(path)
    }
}

/// Refuses a directory that is not the owner's, by looking alone.
///
/// The label's file is the first that is created, so a directory without it is new or another
/// program's. A label that is still empty was being written when a first start was cut off, or is
/// the lock file of another program, whose other files have other names.
fn check_owner(path: &Path, owner: Owner) -> Result<(), DirError> {
    let names = match names(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        names => names.map_err(|error| io(path, &error))?,
    };
    let label_file = path.join(LOCK_FILE);
    let text = match fs::read(&label_file) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        text => Some(text.map_err(|error| io(&label_file, &error))?),
    };
    let text = text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    match text.as_deref() {
        None => check_names(path, &names, &[LOST_FOUND_DIR])?,
        Some("") => check_names(path, &names, &UNLABELLED)?,
        Some(label) => label::check(label, owner).map_err(|reason| wrong(path, reason))?,
    }
    let has_label = text.is_some_and(|text| !text.is_empty());
    match owner {
        // The first versions did not label a store's directory.
        Owner::Pd { .. } if !has_label && path.join(SNAPSHOT_DIR).exists() => {
            Err(wrong(path, label::refusal("flotilla store", owner)))
        }
        // A member's label is written when both are there.
        Owner::Pd { .. } if has_label => check_whole(path),
        Owner::Pd { .. } | Owner::Store => Ok(()),
    }
}

fn check_names(path: &Path, names: &[String], allowed: &[&str]) -> Result<(), DirError> {
    match names.iter().find(|name| !allowed.contains(&name.as_str())) {
        Some(name) => Err(wrong(path, foreign(name))),
        None => Ok(()),
    }
}

/// The names in a directory, in order.
fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let mut names = vec![];
    for entry in fs::read_dir(dir)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn foreign(name: &str) -> String {
    format!(
        "it is not empty, holding '{name}' for example, and no '{LOCK_FILE}' says that it is \
         flotilla's; nothing in it was changed. Name an empty directory or a new one. If it is a \
         data directory whose '{LOCK_FILE}' got lost, put that file back"
    )
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

    fn modified(path: &Path) -> SystemTime {
        fs::metadata(path).expect("there").modified().expect("a time")
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
    fn a_directory_of_another_program_is_refused_and_nothing_in_it_is_changed() {
        let foreign: [&[(&str, &str)]; 4] = [
            &[("notes.txt", "mine")],
            // A lock file that is empty, or says something else.
            &[("LOCK", ""), ("000004.log", "rows")],
            &[("LOCK", "pid 7\n"), ("log", "text")],
            // A data directory without its label.
            &[("state.redb", "rows")],
        ];
        for files in foreign {
            for owner in [PD, Owner::Store] {
                let dir = temporary();
                for (name, text) in files {
                    fs::write(dir.path().join(name), text).expect("written");
                }
                let (before, files_at) = (contents(dir.path()), modified(dir.path()));
                let refusal = refusal(dir.path(), owner);
                assert!(refusal.contains("Name an empty directory"), "{refusal}");
                assert_eq!((contents(dir.path()), modified(dir.path())), (before, files_at));
            }
        }
    }

    #[test]
    fn an_empty_file_system_is_an_empty_directory() {
        let dir = temporary();
        fs::create_dir(dir.path().join(LOST_FOUND_DIR)).expect("created");
        drop(open(dir.path(), PD).expect("new"));
        drop(open(dir.path(), PD).expect("the same owner again"));
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
        assert!(refusal(dir.path(), PD).contains("belongs to 'flotilla store'"));
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
