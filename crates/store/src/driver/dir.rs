//! The data directory: lock, identity, opening.
//!
//! ```text
//!   LOCK          locked while a process uses the directory
//!   state.redb    applied state and records
//!   log/          the Raft log of all regions
//!   snapshots/    rows of snapshots that are being received; emptied at start
//! ```

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use flotilla_engine::{
    DiskLog, DiskOptions, LogBatch, LogOp, LogOptions, LogStore, StateBatch, StateStore,
};
use flotilla_types::proto::StoreIdent;
use flotilla_types::{Region, StoreId};
use prost::Message;

use super::config::StoreConfig;
use super::error::StartError;
use crate::core::{Fatal, records, worker};

/// An open data directory.
pub struct DataDir {
    /// Where it is.
    pub path: PathBuf,
    /// Applied state and records.
    pub state: Arc<StateStore>,
    /// The Raft log.
    pub log: Arc<dyn LogStore>,
    /// The cluster and the store whose it is, if it ever was one's.
    pub ident: Option<(u64, StoreId)>,
    _lock: File,
}

impl DataDir {
    /// Opens the directory, creating it if it is not there.
    pub fn open(config: &StoreConfig) -> Result<DataDir, StartError> {
        let path = config.dir.clone();
        let refuse = |reason: String| StartError::Dir { dir: path.clone(), reason };
        fs::create_dir_all(&path).map_err(|e| refuse(e.to_string()))?;
        let lock = lock(&path).map_err(refuse)?;
        let (state_file, log_dir) = (path.join("state.redb"), path.join("log"));
        let has_state = state_file.exists();
        if has_state && fs::read_dir(&log_dir).map_or(true, |mut files| files.next().is_none()) {
            return Err(refuse(format!("there is state, but no log in {}", log_dir.display())));
        }
        clear(&path.join("snapshots")).map_err(|e| refuse(e.to_string()))?;
        let options = LogOptions { purge_bytes: config.log_purge_bytes(), ..LogOptions::default() };
        let log = DiskLog::open(&log_dir, options).map_err(Fatal::from)?;
        // A first start that was cut off leaves a log without content, and perhaps no state.
        if !has_state && !log.groups().is_empty() {
            return Err(refuse(format!("there is a log, but no {}", state_file.display())));
        }
        let options = DiskOptions { cache_bytes: config.cache_bytes, ..DiskOptions::default() };
        let state = StateStore::open_disk(&state_file, options).map_err(Fatal::from)?;
        let ident = records::load_ident(&state)?;
        check_log_ident(&log, ident)?
            .map_err(|reason| refuse(format!("{} {reason}", log_dir.display())))?;
        Ok(DataDir { path, state: Arc::new(state), log: Arc::new(log), ident, _lock: lock })
    }

    /// Says for ever which store this is: in the log first, then in the state, which counts.
    pub fn set_ident(&mut self, cluster: u64, store: StoreId) -> Result<(), StartError> {
        let ident = LogOp::SetState { group: IDENT_GROUP, state: log_ident(cluster, store) };
        self.log.write(LogBatch { ops: vec![ident] }, true).map_err(Fatal::from)?;
        let mut batch = StateBatch::default();
        records::put_ident(&mut batch, cluster, store);
        self.state.write(batch).map_err(Fatal::from)?;
        self.make_durable()?;
        self.ident = Some((cluster, store));
        Ok(())
    }

    /// Creates the cluster's first region, unless this store has, or ever had, a region.
    pub fn bootstrap(&self, store: StoreId, region: &Region) -> Result<(), StartError> {
        let is_new = records::load_peers(&self.state)?.is_empty()
            && records::load_tombstones(&self.state)?.is_empty();
        if is_new {
            worker::bootstrap(&self.state, store, region)?;
            self.make_durable()?;
        }
        Ok(())
    }

    fn make_durable(&self) -> Result<(), StartError> {
        self.state.freeze();
        Ok(self.state.flush().map_err(Fatal::from)?)
    }
}

/// The log's own record of whose it is, kept as the hard state of a group that no region has. A
/// log that was emptied, or is another store's, would let peers vote twice.
const IDENT_GROUP: u64 = 0;

fn log_ident(cluster: u64, store: StoreId) -> Bytes {
    StoreIdent { cluster_id: cluster, store_id: store.0 }.encode_to_vec().into()
}

/// The inner error says why the log and the state are not of one store.
fn check_log_ident(
    log: &dyn LogStore,
    ident: Option<(u64, StoreId)>,
) -> Result<Result<(), &'static str>, Fatal> {
    let found = log.state(IDENT_GROUP)?;
    Ok(match ident {
        Some((cluster, store)) if found == Some(log_ident(cluster, store)) => Ok(()),
        Some(_) if found.is_none() => Err("has lost what was in it, this store's name included"),
        Some(_) => Err("is the log of another store"),
        None if log.groups().iter().all(|group| *group == IDENT_GROUP) => Ok(()),
        None => Err("holds a Raft log, and the state does not say whose"),
    })
}

fn lock(path: &Path) -> Result<File, String> {
    let file = File::create(path.join("LOCK")).map_err(|e| e.to_string())?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err("in use by another process".to_string()),
        Err(TryLockError::Error(e)) => Err(e.to_string()),
    }
}

fn clear(path: &Path) -> std::io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    fs::create_dir_all(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path) -> StoreConfig {
        StoreConfig::new(dir.join("store"), "127.0.0.1:1".into(), vec![])
    }

    #[test]
    fn a_first_start_that_was_cut_off_is_done_again() {
        let dir = tempfile::tempdir().expect("a directory");
        drop(DataDir::open(&config(dir.path())).expect("a new directory"));
        fs::remove_file(dir.path().join("store/state.redb")).expect("it was created");
        DataDir::open(&config(dir.path())).expect("nothing was said yet that could be lost");
    }

    #[test]
    fn either_half_of_a_store_without_the_other_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut opened = DataDir::open(&config(dir.path())).expect("a new directory");
        opened.set_ident(7, StoreId(1)).expect("the disk works");
        drop(opened);
        let (state, kept) = (dir.path().join("store/state.redb"), dir.path().join("kept"));
        fs::rename(&state, &kept).expect("it was created");
        let refusal = DataDir::open(&config(dir.path())).err().expect("a log without state");
        assert!(refusal.to_string().contains("there is a log, but no"), "{refusal}");
        fs::rename(&kept, &state).expect("it was kept");
        fs::remove_dir_all(dir.path().join("store/log")).expect("it was created");
        let refusal = DataDir::open(&config(dir.path())).err().expect("state without a log");
        assert!(refusal.to_string().contains("there is state, but no log"), "{refusal}");
    }
}
