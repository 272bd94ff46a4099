//! A store's data directory: which store of which cluster it belongs to.
//!
//! Stands on [`flotilla_host::driver::dir`], which locks and opens it. The cluster's and the
//! store's id are written once, when the placement driver has given them out: into the log, and
//! into the state. A log that was emptied, or is another store's, is refused.

use std::path::PathBuf;

use bytes::Bytes;
use flotilla_engine::{DiskOptions, LogBatch, LogOp, LogOptions, LogStore, StateBatch};
use flotilla_host::driver::dir::{DataDir, DirError, DirOptions};
use flotilla_host::driver::label::Owner;
use flotilla_types::StoreId;
use flotilla_types::proto::StoreIdent;
use prost::Message;

use super::config::StoreConfig;
use super::error::StartError;
use crate::core::{Fatal, records};

/// A store's open data directory.
pub struct StoreDir {
    /// Log, state and lock.
    pub data: DataDir,
    /// Where rows of snapshots are kept while they are received. Empty after the start.
    pub snapshots: PathBuf,
    /// The cluster and the store that the directory belongs to, if it ever belonged to one.
    pub ident: Option<(u64, StoreId)>,
}

impl StoreDir {
    /// Opens the directory, creating it if it is not there.
    pub fn open(config: &StoreConfig) -> Result<StoreDir, StartError> {
        let options = DirOptions {
            log: LogOptions { purge_bytes: config.log_purge_bytes(), ..LogOptions::default() },
            state: DiskOptions { cache_bytes: config.cache_bytes, ..DiskOptions::default() },
        };
        let mut data = DataDir::open(&config.dir, Owner::Store, options)?;
        let ident = records::load_ident(&data.state)?;
        check_log_ident(&*data.log, ident)?.map_err(|reason| DirError::Wrong {
            dir: config.dir.clone(),
            reason: format!("{} {reason}", data.log_path().display()),
        })?;
        data.claim()?;
        let snapshots = data.clear_snapshots()?;
        Ok(StoreDir { data, snapshots, ident })
    }

    /// Says for ever which store this is: in the log first, then in the state, which counts.
    pub fn set_ident(&mut self, cluster: u64, store: StoreId) -> Result<(), StartError> {
        let ident = LogOp::SetState { group: IDENT_GROUP, state: log_ident(cluster, store) };
        self.data.log.write(LogBatch { ops: vec![ident] }, true).map_err(Fatal::from)?;
        let mut batch = StateBatch::default();
        records::put_ident(&mut batch, cluster, store);
        self.data.state.write(batch).map_err(Fatal::from)?;
        self.make_durable()?;
        self.ident = Some((cluster, store));
        Ok(())
    }

    fn make_durable(&self) -> Result<(), StartError> {
        self.data.state.freeze();
        Ok(self.data.state.flush().map_err(Fatal::from)?)
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn config(dir: &Path) -> StoreConfig {
        StoreConfig::new(dir.join("store"), "127.0.0.1:1".into(), vec![])
    }

    #[test]
    fn a_first_start_that_was_cut_off_is_done_again() {
        let dir = tempfile::tempdir().expect("a directory");
        drop(StoreDir::open(&config(dir.path())).expect("a new directory"));
        fs::remove_file(dir.path().join("store/state.redb")).expect("it was created");
        StoreDir::open(&config(dir.path())).expect("nothing was said yet that could be lost");
    }

    #[test]
    fn either_half_of_a_store_without_the_other_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut opened = StoreDir::open(&config(dir.path())).expect("a new directory");
        opened.set_ident(7, StoreId(1)).expect("the disk works");
        drop(opened);
        let (state, kept) = (dir.path().join("store/state.redb"), dir.path().join("kept"));
        fs::rename(&state, &kept).expect("it was created");
        let refusal = StoreDir::open(&config(dir.path())).err().expect("a log without state");
        assert!(refusal.to_string().contains("there is a log, but no"), "{refusal}");
        fs::rename(&kept, &state).expect("it was kept");
        fs::remove_dir_all(dir.path().join("store/log")).expect("it was created");
        let refusal = StoreDir::open(&config(dir.path())).err().expect("state without a log");
        assert!(refusal.to_string().contains("there is state, but no log"), "{refusal}");
    }
}
