//! One store: a worker, its disks, and the loop that ships, which carries its outputs out.
//!
//! Everything is done on the spot, but for writes to the log and checkpoints that are kept waiting,
//! which is how a script gets between a step and its effect. A store whose log is kept waiting
//! takes no turns, for its thread waits for the disk. A crash loses the log's unsynced batches and
//! the state's buffers.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use flotilla_engine::base::ReadView;
use flotilla_engine::mem_base::MemBase;
use flotilla_engine::{LogBatch, LogStore, MemLog, Order, StateStore};
use flotilla_host::core::carry_out::{Io, Written};
use flotilla_host::core::message::{Body, Envelope};
use flotilla_store::core::carry_out::{self, Outputs, StoreIo};
use flotilla_store::core::records::data_range;
use flotilla_store::core::worker::{Worker, WorkerConfig};
use flotilla_store::core::{Event, Input, Install, Output, RequestId, StagedId};
use flotilla_types::heartbeat::{HeartbeatReply, IdBlock, StoreAddr, StoreHeartbeat};
use flotilla_types::{KeyRange, Millis, Region, RegionId, StoreId, proto};
use prost::Message;

use crate::requests::Outcome;

/// Rows of a snapshot, in key order, as they are stored.
pub type Rows = Vec<(Bytes, Bytes)>;

/// A message on its way, with a snapshot's rows if it is one.
pub struct Mail {
    pub from: StoreId,
    pub to: StoreId,
    pub envelope: Envelope,
    pub rows: Option<Rows>,
}

/// What one turn of a store came to.
#[derive(Default)]
pub struct TurnResult {
    pub mails: Vec<Mail>,
    pub replies: Vec<(RequestId, Outcome)>,
    pub events: Vec<Event>,
    /// Whether the store has handed its leaderships on.
    pub has_handed_over: bool,
    pub fatal: Option<String>,
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
    pub heartbeat: Option<StoreHeartbeat>,
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
    outputs: Outputs,
    /// The write that is kept waiting.
    held_write: Option<(LogBatch, bool)>,
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
            outputs: Outputs::default(),
            held_write: None,
            held_checkpoint: None,
        }
    }

    /// True if it was never started.
    pub fn is_new(&self) -> bool {
        self.start_count == 0
    }

    /// Opens the worker over what the disks hold; answers why it cannot.
    pub fn start(&mut self, now: Millis) -> Result<(), String> {
        let log: Arc<dyn LogStore> = Arc::new(self.log.clone());
        let seed = self.config.seed + (self.start_count << 32);
        let config = WorkerConfig { seed, ..self.config.clone() };
        let opened = Worker::open(config, self.state.clone(), log, now);
        let mut worker = opened.map_err(|fatal| fatal.to_string())?;
        let start = self.start_count * 1000 + self.config.store.0 * 100;
        worker.lease_ids(IdBlock { start, count: 100 });
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
        self.outputs = Outputs::default();
        self.held_write = None;
        self.held_checkpoint = None;
        (self.holds_log, self.holds_checkpoints) = (false, false);
    }

    /// Ends in good order: what was applied becomes durable.
    pub fn stop(&mut self, now: Millis) {
        let result = self.run(now, |outputs, turn| carry_out::stop(outputs, turn));
        assert!(result.fatal.is_none() && result.mails.is_empty() && result.replies.is_empty());
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

    /// True if the store is up and its thread does not wait for the log.
    pub fn takes_turns(&self) -> bool {
        self.worker.is_some() && !self.outputs.is_waiting()
    }

    /// Steps the inbox, ends the turn and carries out what it asks for, and what that leads to.
    pub fn turn(&mut self, now: Millis) -> TurnResult {
        if !self.takes_turns() {
            return TurnResult::default();
        }
        let inbox = std::mem::take(&mut self.inbox);
        self.run(now, |outputs, turn| {
            inbox.into_iter().for_each(|input| outputs.step(turn, input));
            carry_out::end_turn(outputs, turn);
        })
    }

    /// Writes what was kept waiting, and lets the thread go on.
    pub fn release_log(&mut self, now: Millis) -> TurnResult {
        self.holds_log = false;
        let Some((batch, sync)) = self.held_write.take() else { return TurnResult::default() };
        self.log.write(batch, sync).expect("memory does not fail");
        self.run(now, |outputs, turn| carry_out::written(outputs, turn))
    }

    fn run(&mut self, now: Millis, act: impl FnOnce(&mut Outputs, &mut Turn<'_>)) -> TurnResult {
        let mut outputs = std::mem::take(&mut self.outputs);
        let mut turn = Turn { store: self, now, result: TurnResult::default() };
        act(&mut outputs, &mut turn);
        let result = turn.result;
        self.outputs = outputs;
        result
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

    fn exported_rows(&mut self, envelope: &Envelope, number: u64) -> Rows {
        let region = snapshot_region(envelope);
        let Body::Message(message) = &envelope.body else { panic!("a snapshot message") };
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

/// A store in its turn.
pub struct Turn<'a> {
    store: &'a mut Store,
    now: Millis,
    result: TurnResult,
}

impl Io<Worker> for Turn<'_> {
    fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        if let Some(worker) = &mut self.store.worker {
            worker.step(self.now, input, out);
        }
    }

    fn send(&mut self, (to, envelope): (StoreId, Envelope)) {
        let from = self.store.config.store;
        self.result.mails.push(Mail { from, to, envelope, rows: None });
    }

    fn flush_messages(&mut self) {}

    fn write_log(&mut self, _turn: u64, batch: LogBatch, sync: bool) -> Written {
        if self.store.holds_log {
            self.store.held_write = Some((batch, sync));
            return Written::Later;
        }
        self.store.log.write(batch, sync).expect("memory does not fail");
        Written::Done
    }

    fn fail(&mut self, reason: String) {
        self.result.fatal = Some(reason);
    }

    fn has_failed(&self) -> bool {
        self.result.fatal.is_some()
    }
}

impl StoreIo for Turn<'_> {
    fn reply(&mut self, id: RequestId, outcome: Outcome) {
        self.result.replies.push((id, outcome));
    }

    fn checkpoint(&mut self, number: u64, exports: Vec<RegionId>, installs: Vec<Install>) {
        let checkpoint = Checkpoint { number, exports, installs };
        let earlier = self.store.held_checkpoint.replace(checkpoint);
        assert!(earlier.is_none(), "one checkpoint at a time");
        if !self.store.holds_checkpoints {
            self.store.carry_out_checkpoint();
        }
    }

    fn send_snapshot(&mut self, to: StoreId, envelope: Envelope, number: u64) {
        let from = self.store.config.store;
        let rows = Some(self.store.exported_rows(&envelope, number));
        self.result.mails.push(Mail { from, to, envelope, rows });
    }

    fn drop_export(&mut self, region: RegionId) {
        self.store.exports.remove(&region);
    }

    fn discard_staged(&mut self, staged: StagedId) {
        assert!(self.store.staged.remove(&staged).is_some(), "{staged:?} is there, once");
    }

    fn heartbeat(&mut self, heartbeat: StoreHeartbeat) {
        self.store.heartbeat = Some(heartbeat);
        let reply = HeartbeatReply::default();
        self.store.inbox.push(Input::HeartbeatReply(Some(reply)));
    }

    fn store_addrs(&mut self, _: Vec<StoreAddr>) {}

    fn handed_over(&mut self) {
        self.result.has_handed_over = true;
    }

    fn event(&mut self, event: &Event) {
        self.result.events.push(event.clone());
    }
}

fn open_state(base: &MemBase) -> Arc<StateStore> {
    Arc::new(StateStore::new(Box::new(base.clone())).expect("a view of memory does not fail"))
}

/// The region as of the snapshot that the envelope carries.
fn snapshot_region(envelope: &Envelope) -> Region {
    let Body::Message(message) = &envelope.body else { panic!("a snapshot message") };
    let meta = message.snapshot.clone().expect("a snapshot message has one");
    let region = proto::Region::decode(meta.data).expect("written by the core");
    Region::try_from(region).expect("written by the core")
}
