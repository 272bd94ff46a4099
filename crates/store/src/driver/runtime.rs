//! The worker's thread: drains the inbox, steps the core, carries its outputs out in order.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use flotilla_engine::{LogBatch, LogStore};
use flotilla_host::core::carry_out::{Io, Written};
use flotilla_host::core::message::{Address, Envelope};
use flotilla_host::driver::clock::Clock;
use flotilla_host::driver::disk::DiskJob;
use flotilla_host::driver::metrics::HostMetrics;
use flotilla_host::driver::thread::CoreThread;
use flotilla_host::driver::transport::Transport;
use flotilla_types::heartbeat::{StoreAddr, StoreHeartbeat};
use flotilla_types::{RegionError, RegionId, StoreId};
use tokio::sync::{mpsc, watch};
use tracing::{debug, error, info};

use super::disk::StoreJob;
use super::inbox::{Mail, ReplyTo, RequestResult};
use super::members::{Snapshots, addresses};
use super::metrics::StoreMetrics;
use super::waiting::Waiting;
use crate::core::carry_out::{self, Outputs, StoreIo};
use crate::core::worker::Worker;
use crate::core::{Event, Input, Install, Output, Request, RequestId, StagedId};

/// What the worker's thread hands work to.
pub struct Links {
    /// The Raft log.
    pub log: Arc<dyn LogStore>,
    /// The disk thread.
    pub disk: Sender<DiskJob<StoreJob>>,
    /// Messages to other stores.
    pub transport: Transport,
    /// Snapshots to other stores.
    pub snapshots: Snapshots,
    /// Heartbeats.
    pub heartbeats: mpsc::UnboundedSender<StoreHeartbeat>,
    /// Told when the store has handed its leaderships on.
    pub handed_over: watch::Sender<bool>,
    /// Set when the store cannot go on.
    pub failed: watch::Sender<Option<String>>,
    /// What the store counts, and what its host does.
    pub metrics: (StoreMetrics, HostMetrics),
}

/// The worker and all that its outputs go to.
struct DriverIo {
    worker: Worker,
    clock: Clock,
    links: Links,
    waiting: Waiting,
    has_failed: bool,
}

impl Io<Worker> for DriverIo {
    fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        let asked = match &input {
            Input::Request(request) => Some(request.id),
            Input::Flush => {
                self.waiting.flush();
                None
            }
            _ => None,
        };
        self.worker.step(self.clock.now(), input, out);
        if let Some(id) = asked {
            self.waiting.stepped(id, out);
        }
    }

    fn send(&mut self, (to, envelope): (StoreId, Envelope)) {
        self.links.transport.send(Address::Store(to), envelope);
    }

    fn flush_messages(&mut self) {
        self.links.transport.flush();
    }

    fn write_log(&mut self, _turn: u64, batch: LogBatch, sync: bool) -> Written {
        let begun = Instant::now();
        match self.links.log.write(batch, sync) {
            Ok(()) => {
                let done = Instant::now();
                if sync {
                    self.links.metrics.1.log_sync.observe(done - begun);
                }
                self.waiting.log_written(done);
                Written::Done
            }
            Err(error) => Written::Failed(error.to_string()),
        }
    }

    fn fail(&mut self, reason: String) {
        if !self.has_failed {
            error!(%reason, "the store stops");
            self.links.failed.send_replace(Some(reason));
        }
        self.has_failed = true;
    }

    fn has_failed(&self) -> bool {
        self.has_failed
    }
}

impl StoreIo for DriverIo {
    fn reply(&mut self, id: RequestId, result: RequestResult) {
        self.waiting.reply(id, result);
    }

    fn checkpoint(&mut self, number: u64, exports: Vec<RegionId>, installs: Vec<Install>) {
        self.give_disk(DiskJob::Work(StoreJob::Checkpoint { number, exports, installs }));
    }

    fn send_snapshot(&mut self, to: StoreId, envelope: Envelope, number: u64) {
        self.links.snapshots.send(to, envelope, number);
    }

    fn drop_export(&mut self, region: RegionId) {
        self.links.snapshots.views.remove(region);
    }

    fn discard_staged(&mut self, staged: StagedId) {
        self.give_disk(DiskJob::Work(StoreJob::Discard(staged)));
    }

    fn heartbeat(&mut self, heartbeat: StoreHeartbeat) {
        // The heartbeat's task ends only with the process.
        let _ = self.links.heartbeats.send(heartbeat);
    }

    fn store_addrs(&mut self, addrs: Vec<StoreAddr>) {
        self.links.transport.learn(addresses(addrs));
    }

    fn handed_over(&mut self) {
        self.links.handed_over.send_replace(true);
    }

    fn event(&mut self, event: &Event) {
        self.links.metrics.0.note(event);
        log_event(event);
    }
}

impl DriverIo {
    fn give_disk(&mut self, job: DiskJob<StoreJob>) {
        if self.links.disk.send(job).is_err() {
            self.fail("the disk thread has ended".to_string());
        }
    }

    fn accept(&mut self, request: Request, reply_to: ReplyTo, offered_at: Instant) -> Input {
        Input::Request(self.waiting.accept(request, reply_to, offered_at))
    }
}

/// The worker's thread.
pub struct Runtime {
    io: DriverIo,
    outputs: Outputs,
    is_stopped: bool,
}

impl Runtime {
    /// A runtime for `worker`.
    pub fn new(worker: Worker, clock: Clock, links: Links) -> Runtime {
        let waiting = Waiting::new(links.metrics.0.clone());
        let io = DriverIo { worker, clock, links, waiting, has_failed: false };
        Runtime { io, outputs: Outputs::default(), is_stopped: false }
    }

    fn step(&mut self, input: Input) {
        self.outputs.step(&mut self.io, input);
    }
}

impl CoreThread for Runtime {
    type Mail = Mail;

    fn step_mail(&mut self, mail: Mail) -> usize {
        match mail {
            Mail::Input(input) => self.step(*input),
            Mail::Messages(envelopes) => {
                // A batch without a message counts, too: a turn takes a bounded number of batches.
                let count = envelopes.len().max(1);
                envelopes.into_iter().for_each(|envelope| self.step(Input::Envelope(envelope)));
                return count;
            }
            Mail::Request(request, reply_to, offered_at) => {
                let input = self.io.accept(request, reply_to, offered_at);
                self.step(input);
            }
            Mail::Routes(key, limit, sink) => {
                // A caller that is gone does not mind.
                let _ = sink.send(self.io.worker.routes(&key, limit));
            }
            Mail::Census(sink) => drop(sink.send(self.io.worker.census())),
            Mail::Replica(region, sink) => {
                let _ = sink.send(self.io.worker.replica(region));
            }
            Mail::Failed(reason) => self.io.fail(reason),
            Mail::Stop => self.is_stopped = true,
        }
        1
    }

    fn tick(&mut self) {
        self.step(Input::Tick);
    }

    fn end_turn(&mut self) {
        carry_out::end_turn(&mut self.outputs, &mut self.io);
        self.io.links.metrics.0.take_over(self.io.worker.counts());
    }

    fn is_over(&self) -> bool {
        self.is_stopped || self.io.has_failed()
    }

    /// Callers that still wait learn that the outcome of their request is not known. What was
    /// applied becomes durable, so that the next start need not redo it.
    fn end(mut self) {
        self.io.waiting.reply_all(&Err(RegionError::Undetermined { region_id: RegionId(0) }));
        carry_out::stop(&mut self.outputs, &mut self.io);
        if !self.io.has_failed() {
            self.io.give_disk(DiskJob::Finish);
        }
    }
}

fn log_event(event: &Event) {
    match event {
        Event::BecameLeader { region, term } => debug!(%region, term, "leads"),
        Event::FirstRegion { region } => {
            let stores: Vec<u64> = region.members.iter().map(|peer| peer.store_id.0).collect();
            info!(region = %region.id, ?stores, "the cluster begins");
        }
        Event::Split { left, right } => {
            info!(left = %left.id, right = %right.id, epoch = %left.epoch, "split");
        }
        Event::MembersChanged { region } => {
            let members: Vec<String> = region
                .members
                .iter()
                .map(|peer| format!("{}@{}:{:?}", peer.id, peer.store_id, peer.role))
                .collect();
            info!(region = %region.id, epoch = %region.epoch, ?members, "members changed");
        }
        Event::PeerCreated { region, peer } => info!(%region, %peer, "peer created"),
        Event::PeerDestroyed { region, peer } => info!(%region, %peer, "peer destroyed"),
        Event::SnapshotInstalled { region, index } => info!(%region, index, "snapshot installed"),
        Event::EntriesHeldBack { region } => {
            debug!(%region, "holds entries back, the disk is behind")
        }
        Event::EntriesRefused { region } => debug!(%region, "refuses entries, the disk is behind"),
    }
}
