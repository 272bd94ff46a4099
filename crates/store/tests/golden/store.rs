//! One store: a worker, its disks, and a driver that carries its outputs out.
//!
//! The driver does what `Output` asks for, in order, on the spot. Writes to the log and
//! checkpoints can be held back, which is how a script gets between a step and its effect. A
//! crash loses the log's unsynced batches and the state's buffers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use flotilla_engine::base::ReadView;
use flotilla_engine::mem_base::MemBase;
use flotilla_engine::{LogBatch, LogStore, MemLog, Order, StateStore};
use flotilla_store::core::records::data_range;
use flotilla_store::core::worker::{Worker, WorkerConfig};
use flotilla_store::core::{Event, Input, Install, Output, RequestId, StagedId};
use flotilla_types::proto::{self, envelope::Body};
use flotilla_types::{KeyRange, Millis, Region, RegionId, StoreId};
use prost::Message;

use crate::requests::Outcome;

/// Rows of a snapshot, in key order, as they are stored.
pub type Rows = Vec<(Bytes, Bytes)>;

/// A message on its way, with a snapshot's rows if it is one.
pub struct Mail {
    pub from: StoreId,
    pub to: StoreId,
    pub envelope: proto::Envelope,
    pub rows: Option<Rows>,
}

/// What one turn of a store came to.
#[derive(Default)]
pub struct TurnResult {
    pub mails: Vec<Mail>,
    pub replies: Vec<(RequestId, Outcome)>,
    pub events: Vec<Event>,
    pub fatal: Option<String>,
}

struct Append {
    turn: u64,
    batch: LogBatch,
    sync: bool,
    then: Vec<(StoreId, proto::Envelope)>,
}

struct Checkpoint {
    number: u64,
    exports: Vec<RegionId>,
    installs: Vec<Install>,
}

struct Export {
    number: u64,
    view: Box<dyn ReadView>,
}

/// See the module's documentation.
pub struct Store {
    pub config: WorkerConfig,
    /// None while it is crashed.
    pub worker: Option<Worker>,
    pub state: Arc<StateStore>,
    pub inbox: Vec<Input>,
    /// The last heartbeat to the placement driver.
    pub heartbeat: Option<proto::StoreHeartbeat>,
    pub holds_log: bool,
    pub holds_checkpoints: bool,
    /// Checkpoints that were made durable since the start.
    pub checkpoint_count: u64,
    /// Each start is leased another block of ids.
    start_count: u64,
    base: MemBase,
    log: MemLog,
    exports: BTreeMap<RegionId, Export>,
    staged: BTreeMap<StagedId, Rows>,
    staged_count: u64,
    held_appends: VecDeque<Append>,
    held_checkpoint: Option<Checkpoint>,
}

impl Store {
    /// A store with empty disks, not started.
    pub fn new(config: WorkerConfig) -> Store {
        let base = MemBase::default();
        Store {
            config,
            worker: None,
            state: open_state(&base),
            inbox: vec![],
            heartbeat: None,
            holds_log: false,
            holds_checkpoints: false,
            checkpoint_count: 0,
            start_count: 0,
            base,
            log: MemLog::default(),
            exports: BTreeMap::new(),
            staged: BTreeMap::new(),
            staged_count: 0,
            held_appends: VecDeque::new(),
            held_checkpoint: None,
        }
    }

    /// Opens the worker over what the disks hold; answers why it cannot.
    pub fn start(&mut self, now: Millis) -> Result<(), String> {
        let log: Arc<dyn LogStore> = Arc::new(self.log.clone());
        let seed = self.config.seed + (self.start_count << 32);
        let config = WorkerConfig { seed, ..self.config.clone() };
        let opened = Worker::open(config, self.state.clone(), log, now);
        let mut worker = opened.map_err(|fatal| fatal.to_string())?;
        let start = self.start_count * 1000 + self.config.store.0 * 100;
        worker.lease_ids(&proto::IdBlock { start, count: 100 });
        self.start_count += 1;
        self.worker = Some(worker);
        Ok(())
    }

    /// Loses everything that is not durable.
    pub fn crash(&mut self) {
        self.worker = None;
        self.log.crash();
        self.state = open_state(&self.base);
        self.inbox.clear();
        self.exports.clear();
        self.staged.clear();
        self.held_appends.clear();
        self.held_checkpoint = None;
        (self.holds_log, self.holds_checkpoints) = (false, false);
    }

    /// Ends in good order: what was applied becomes durable.
    pub fn stop(&mut self, now: Millis) {
        let mut outputs = vec![];
        if let Some(worker) = &mut self.worker {
            worker.step(now, Input::Stop, &mut outputs);
        }
        assert!(outputs.is_empty(), "{outputs:?}");
        self.carry_out_checkpoint();
        for _ in 0..2 {
            self.state.flush().expect("memory does not fail");
            self.state.freeze();
        }
        self.state.flush().expect("memory does not fail");
    }

    /// Puts a message into the inbox.
    pub fn receive(&mut self, mail: Mail) {
        let Mail { envelope, rows, .. } = mail;
        let Some(rows) = rows else {
            self.inbox.push(Input::Envelope(envelope));
            return;
        };
        self.staged_count += 1;
        let staged = StagedId(self.staged_count);
        self.staged.insert(staged, rows);
        self.inbox.push(Input::SnapshotStaged { staged, envelope });
    }

    /// Steps the inbox, ends the turn and carries out what it asks for.
    pub fn turn(&mut self, now: Millis) -> TurnResult {
        let mut result = TurnResult::default();
        let Some(mut worker) = self.worker.take() else { return result };
        let mut outputs = vec![];
        for input in std::mem::take(&mut self.inbox) {
            worker.step(now, input, &mut outputs);
        }
        worker.step(now, Input::Flush, &mut outputs);
        self.worker = Some(worker);
        for output in outputs {
            self.carry_out(output, &mut result);
        }
        result
    }

    fn carry_out(&mut self, output: Output, result: &mut TurnResult) {
        let from = self.config.store;
        match output {
            Output::Reply { id, result: outcome } => result.replies.push((id, outcome)),
            Output::Send { to, envelope } => {
                result.mails.push(Mail { from, to, envelope, rows: None });
            }
            Output::Append { turn, batch, sync, then } => {
                self.held_appends.push_back(Append { turn, batch, sync, then });
                self.carry_out_appends(result);
            }
            Output::Checkpoint { number, exports, installs } => {
                let checkpoint = Checkpoint { number, exports, installs };
                let earlier = self.held_checkpoint.replace(checkpoint);
                assert!(earlier.is_none(), "one checkpoint at a time");
                if !self.holds_checkpoints {
                    self.carry_out_checkpoint();
                }
            }
            Output::SendSnapshot { to, envelope, number } => {
                let rows = Some(self.exported_rows(&envelope, number));
                result.mails.push(Mail { from, to, envelope, rows });
            }
            Output::DropExport { region } => drop(self.exports.remove(&region)),
            Output::DiscardStaged { staged } => {
                assert!(self.staged.remove(&staged).is_some(), "{staged:?} is there, once");
            }
            Output::Heartbeat(heartbeat) => {
                self.heartbeat = Some(heartbeat);
                let reply = proto::HeartbeatReply::default();
                self.inbox.push(Input::HeartbeatReply(Some(reply)));
            }
            Output::StoreAddrs(_) => {}
            Output::Event(event) => result.events.push(*event),
            Output::Fatal { reason } => result.fatal = Some(reason),
        }
    }

    /// Writes what waits for the log, unless it is held back.
    pub fn carry_out_appends(&mut self, result: &mut TurnResult) {
        while let Some(append) = self.held_appends.pop_front() {
            if self.holds_log {
                self.held_appends.push_front(append);
                return;
            }
            self.log.write(append.batch, append.sync).expect("memory does not fail");
            let from = self.config.store;
            let mail = |(to, envelope)| Mail { from, to, envelope, rows: None };
            result.mails.extend(append.then.into_iter().map(mail));
            self.inbox.push(Input::Persisted { turn: append.turn });
        }
    }

    /// Makes the frozen state durable and installs snapshots. False if none is held.
    pub fn carry_out_checkpoint(&mut self) -> bool {
        let Some(Checkpoint { number, exports, installs }) = self.held_checkpoint.take() else {
            return false;
        };
        self.state.flush().expect("memory does not fail");
        self.checkpoint_count += 1;
        for Install { staged, clear, records, .. } in installs {
            let rows = self.staged.remove(&staged).expect("the rows are kept until installed");
            let mut rows = rows.into_iter();
            let installed = self.state.install(&clear, &mut || Ok(rows.next()), records);
            installed.expect("memory does not fail");
        }
        for region in exports {
            let view = self.state.view().expect("memory does not fail");
            self.exports.insert(region, Export { number, view });
        }
        self.inbox.push(Input::Checkpointed { number });
        true
    }

    fn exported_rows(&mut self, envelope: &proto::Envelope, number: u64) -> Rows {
        let region = snapshot_region(envelope);
        let Some(Body::Message(message)) = &envelope.body else { panic!("a snapshot message") };
        let sent = Input::SnapshotSent {
            region: region.id,
            peer: flotilla_types::PeerId(message.to),
            is_ok: true,
        };
        self.inbox.push(sent);
        let export = self.exports.get(&region.id).expect("the view is kept while it is needed");
        assert_eq!(export.number, number, "the view that was asked for");
        let mut rows = vec![];
        let mut take = |key: &[u8], value: &[u8]| {
            rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            true
        };
        let scanned = export.view.scan(&data_range(&region.range), Order::Ascending, &mut take);
        scanned.expect("memory does not fail");
        rows
    }

    /// The rows of a range, as they are stored.
    pub fn rows(&self, range: &KeyRange) -> Rows {
        let mut rows = vec![];
        let mut take = |key: &[u8], value: &[u8]| {
            rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            true
        };
        let scanned = self.state.scan(&data_range(range), Order::Ascending, &mut take);
        scanned.expect("memory does not fail");
        rows
    }
}

fn open_state(base: &MemBase) -> Arc<StateStore> {
    Arc::new(StateStore::new(Box::new(base.clone())).expect("a view of memory does not fail"))
}

/// The region as of the snapshot that the envelope carries.
fn snapshot_region(envelope: &proto::Envelope) -> Region {
    let Some(Body::Message(message)) = &envelope.body else { panic!("a snapshot message") };
    let meta = message.snapshot.clone().expect("a snapshot message has one");
    let region = proto::Region::decode(meta.data).expect("written by the core");
    Region::try_from(region).expect("written by the core")
}
