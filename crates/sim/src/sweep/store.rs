//! A store of a sweep: the real worker, with the disk thread's work done on the spot or when the
//! script lets it. Its turns are in `turn`.
//!
//! Store 1 is on a [`SimDisk`]; its opening is `driver/dir.rs` step by step, but for the lock: the
//! log, the state, whose they are, the first region. In one thing it asks for more than
//! `DataDir::open` gives: a log without any group beside no state is what a crash leaves of the
//! very first start, and is no reason to refuse. Its peers are in memory and do not fail.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;
use flotilla_engine::base::ReadView;
use flotilla_engine::sim_disk::SimDisk;
use flotilla_engine::{
    DiskOptions, LogBatch, LogOp, LogOptions, LogStore, MemLog, Order, RunOptions, StateBatch,
    StateStore,
};
use flotilla_group::Timing;
use flotilla_host::core::message::{Body, Envelope};
use flotilla_store::core::carry_out::Outputs;
use flotilla_store::core::limits::StoreLimits;
use flotilla_store::core::records::{self, data_range};
use flotilla_store::core::worker::{self, LogKept, Worker, WorkerConfig};
use flotilla_store::core::{Answer, Input, Install, RequestId, StagedId};
use flotilla_types::heartbeat::IdBlock;
use flotilla_types::proto::{self, StoreIdent};
use flotilla_types::{Millis, PeerId, Region, RegionError, RegionId, StoreId};
use prost::Message;

/// The store on the simulated disk.
pub const SWEPT: StoreId = StoreId(1);

/// The group under which `driver/dir.rs` keeps the log's own record of whose it is.
const IDENT_GROUP: u64 = 0;

/// Small, so that scripts of a few hundred entries fill files and purge them.
const LOG_OPTIONS: LogOptions = LogOptions { file_bytes: 12 * 1024, purge_bytes: 24 * 1024 };

/// Checkpoints of a few rows become runs, smaller ones are written past them, and few runs stay, so
/// that a script sees runs written, merged and dropped.
const STATE_OPTIONS: DiskOptions = DiskOptions {
    cache_bytes: 1024 * 1024,
    runs: RunOptions { rows_min: 4, leaves_min: 0, leaves_max: usize::MAX, kept: 2 },
};

/// Rows as they are stored, in key order.
pub type Rows = Vec<(Bytes, Bytes)>;

/// A message on its way, with a snapshot's rows if it is one.
pub struct Mail {
    /// From which store.
    pub from: StoreId,
    /// To which.
    pub to: StoreId,
    /// The message.
    pub envelope: Envelope,
    pub(super) rows: Option<Rows>,
}

/// What a turn came to.
#[derive(Default)]
pub struct TurnResult {
    /// Messages to other stores.
    pub mails: Vec<Mail>,
    /// Answers to clients.
    pub replies: Vec<(RequestId, Result<Answer, RegionError>)>,
}

/// What is open while the store's process lives.
pub struct Process {
    /// The core.
    pub worker: Worker,
    /// The applied state.
    pub state: Arc<StateStore>,
    /// The Raft log.
    pub log: Arc<dyn LogStore>,
    pub(super) outputs: Outputs,
    pub(super) staged: BTreeMap<StagedId, Rows>,
    staged_count: u64,
    pub(super) exports: BTreeMap<RegionId, (u64, Box<dyn ReadView>)>,
    pub(super) held: Option<(u64, Vec<RegionId>, Vec<Install>)>,
}

/// A store.
pub struct Store {
    /// Its id.
    pub id: StoreId,
    /// What lives while it is up.
    pub process: Option<Process>,
    /// The simulated disk; None for a store in memory.
    pub disk: Option<SimDisk>,
    /// What it takes in its next turn.
    pub inbox: Vec<Input>,
    /// True while checkpoints wait for the script.
    pub holds_checkpoints: bool,
    /// Why it stopped by itself.
    pub stopped: Option<String>,
    starts: u64,
}

impl Store {
    /// A store that is not up, on `disk` or in memory.
    pub fn new(id: StoreId, disk: Option<SimDisk>) -> Store {
        Store {
            id,
            process: None,
            disk,
            inbox: vec![],
            holds_checkpoints: false,
            stopped: None,
            starts: 0,
        }
    }

    /// Opens the store, making it a store with `first` as its region if it is new. The error says
    /// why it refuses.
    pub fn start(&mut self, now: Millis, first: &Region) -> Result<(), String> {
        let (state, log) = match &self.disk {
            Some(disk) => open_disks(disk)?,
            None => {
                let log: Arc<dyn LogStore> = Arc::new(MemLog::default());
                (Arc::new(StateStore::in_memory()), log)
            }
        };
        self.make_ours(&state, &*log, first)?;
        self.starts += 1;
        let config = WorkerConfig {
            cluster: 1,
            store: self.id,
            timing: Timing::DEFAULT,
            seed: self.id.0 + 100 * self.starts,
            region_bytes_max: u64::MAX,
            checkpoint_bytes: 1024 * 1024,
            idle_ms: u64::MAX,
            log_kept: LogKept::default(),
            limits: StoreLimits::default(),
        };
        let opened = Worker::open(config, state.clone(), log.clone(), now);
        let mut worker = opened.map_err(|fatal| fatal.to_string())?;
        let start = self.starts * 1000 + self.id.0 * 100;
        worker.lease_ids(IdBlock { start, count: 100 });
        self.process = Some(Process {
            worker,
            state,
            log,
            outputs: Outputs::default(),
            staged: BTreeMap::new(),
            staged_count: 0,
            exports: BTreeMap::new(),
            held: None,
        });
        self.stopped = None;
        self.holds_checkpoints = false;
        Ok(())
    }

    /// `DataDir::set_ident` and `DataDir::bootstrap`.
    fn make_ours(
        &self,
        state: &StateStore,
        log: &dyn LogStore,
        first: &Region,
    ) -> Result<(), String> {
        let ident = StoreIdent { cluster_id: 1, store_id: self.id.0 };
        let in_log: Bytes = ident.encode_to_vec().into();
        let found = log.state(IDENT_GROUP).map_err(told)?;
        match records::load_ident(state).map_err(told)? {
            Some(ours) if ours == (1, self.id) && found == Some(in_log.clone()) => {}
            Some(_) => return Err(format!("the log says it is {found:?}'s")),
            None if log.groups().iter().all(|group| *group == IDENT_GROUP) => {
                let op = LogOp::SetState { group: IDENT_GROUP, state: in_log };
                log.write(LogBatch { ops: vec![op] }, true).map_err(told)?;
                let mut batch = StateBatch::default();
                records::put_ident(&mut batch, 1, self.id);
                state.write(batch).map_err(told)?;
                make_durable(state)?;
            }
            None => return Err("there is a log, and the state does not say whose".to_string()),
        }
        let has_regions = !records::load_peers(state).map_err(told)?.is_empty()
            || !records::load_tombstones(state).map_err(told)?.is_empty();
        if !has_regions && first.member_on(self.id).is_some() {
            worker::bootstrap(state, self.id, first).map_err(told)?;
            make_durable(state)?;
        }
        Ok(())
    }

    /// Ends the process. The disk sees what a process does that closes its files, unless it is off.
    pub fn close(&mut self) {
        let process = self.process.take();
        if let Some(disk) = self.disk.as_ref().filter(|disk| disk.is_off()) {
            disk.let_go();
        }
        // raft-engine panics where a sync fails, in closing too; redb takes it quietly.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(process)));
        self.inbox.clear();
    }

    /// True if the power is off.
    pub fn is_gone(&self) -> bool {
        self.disk.as_ref().is_some_and(SimDisk::is_off)
    }

    /// Puts a message into the inbox.
    pub fn receive(&mut self, mail: Mail) {
        let Some(process) = &mut self.process else { return };
        let Mail { envelope, rows, .. } = mail;
        let Some(rows) = rows else {
            self.inbox.push(Input::Envelope(envelope));
            return;
        };
        process.staged_count += 1;
        let staged = StagedId(process.staged_count);
        process.staged.insert(staged, rows);
        self.inbox.push(Input::SnapshotStaged { staged, envelope });
    }

    /// The store stops by itself; the first reason counts.
    pub fn stop(&mut self, reason: String) {
        self.stopped.get_or_insert(reason);
    }

    /// Makes the frozen state durable, installs snapshots and keeps views.
    pub fn try_checkpoint(
        &mut self,
        number: u64,
        exports: Vec<RegionId>,
        installs: Vec<Install>,
    ) -> Result<(), String> {
        let Some(process) = &mut self.process else { return Ok(()) };
        process.state.flush().map_err(told)?;
        for Install { staged, clear, records, .. } in installs {
            let rows = process.staged.remove(&staged).ok_or("the staged rows are gone")?;
            let mut rows = rows.into_iter();
            process.state.install(&clear, &mut || Ok(rows.next()), records).map_err(told)?;
        }
        for region in exports {
            let view = process.state.view().map_err(told)?;
            process.exports.insert(region, (number, view));
        }
        Ok(())
    }

    /// Gives space of the log back, as the disk thread does every few seconds.
    pub fn purge(&mut self) {
        let purged = self.process.as_ref().map(|process| process.log.purge());
        if let Some(Err(error)) = purged {
            self.stop(error.to_string());
        }
    }

    /// The rows of the snapshot that the envelope carries; none if the view is gone.
    pub fn exported_rows(&mut self, envelope: &Envelope, number: u64) -> Rows {
        let Body::Message(message) = &envelope.body else { return vec![] };
        let meta = message.snapshot.clone().unwrap_or_default();
        let region = proto::Region::decode(meta.data).ok().and_then(|r| Region::try_from(r).ok());
        let (Some(region), Some(process)) = (region, &self.process) else { return vec![] };
        let view = process.exports.get(&region.id).filter(|(held, _)| *held == number);
        let peer = PeerId(message.to);
        self.inbox.push(Input::SnapshotSent { region: region.id, peer, is_ok: view.is_some() });
        let mut rows = vec![];
        if let Some((_, view)) = view {
            let scanned = view.scan(&data_range(&region.range), Order::Ascending, &mut |k, v| {
                rows.push((Bytes::copy_from_slice(k), Bytes::copy_from_slice(v)));
                true
            });
            scanned.expect("memory does not fail, and the swept store sends no snapshot");
        }
        rows
    }
}

impl Process {
    /// A region's rows; the error is the disk's.
    pub fn rows(&self, region: &Region) -> Result<Rows, String> {
        let mut rows = vec![];
        let scanned =
            self.state.scan(&data_range(&region.range), Order::Ascending, &mut |key, value| {
                rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
                true
            });
        scanned.map_err(told)?;
        Ok(rows)
    }
}

/// `DataDir::open`, without the lock and the staged snapshots.
fn open_disks(disk: &SimDisk) -> Result<(Arc<StateStore>, Arc<dyn LogStore>), String> {
    if disk.has_state() && !disk.has_log() {
        return Err("there is state, but no log".to_string());
    }
    let log = disk.open_log(LOG_OPTIONS).map_err(told)?;
    if !disk.has_state() && !log.groups().is_empty() {
        return Err("there is a log, but no state".to_string());
    }
    let state = disk.open_state(STATE_OPTIONS).map_err(told)?;
    Ok((Arc::new(state), log))
}

/// Makes all of the state durable.
pub fn make_durable(state: &StateStore) -> Result<(), String> {
    state.freeze();
    state.flush().map_err(told)
}

/// An error, for people.
pub fn told(error: impl std::fmt::Display) -> String {
    error.to_string()
}
