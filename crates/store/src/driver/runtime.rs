//! The worker's thread: drains the inbox, steps the core, carries its outputs out in order.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use flotilla_engine::LogStore;
use flotilla_host::driver::clock::Clock;
use flotilla_types::proto::StoreHeartbeat;
use flotilla_types::{RegionError, RegionId};
use tokio::sync::{mpsc, watch};
use tracing::{debug, error, info};

use super::disk::DiskJob;
use super::inbox::{Mail, Outlet, ReplyTo};
use super::snapshot::{Outgoing, Views};
use super::transport::Transport;
use crate::core::worker::Worker;
use crate::core::{Event, Input, Output, Request, RequestId};

/// Inputs in one turn, about, so that a turn ends before the next tick is long overdue.
const TURN_INPUTS_MAX: usize = 4 * 1024;

/// What the thread hands work to.
pub struct Hands {
    /// The Raft log.
    pub log: Arc<dyn LogStore>,
    /// The disk thread.
    pub disk: Sender<DiskJob>,
    /// Messages to other stores.
    pub transport: Transport,
    /// Snapshots to other stores.
    pub snapshots: mpsc::UnboundedSender<Outgoing>,
    /// The views they are read from.
    pub views: Views,
    /// Heartbeats.
    pub heartbeats: mpsc::UnboundedSender<StoreHeartbeat>,
    /// Set when the store cannot go on.
    pub failed: watch::Sender<Option<String>>,
}

/// The worker's thread.
pub struct Runtime {
    worker: Worker,
    clock: Clock,
    tick: Duration,
    outlet: Outlet,
    hands: Hands,
    replies: HashMap<RequestId, ReplyTo>,
    next_request: u64,
    outputs: Vec<Output>,
    is_over: bool,
}

impl Runtime {
    /// A runtime for `worker`, which ticks every `tick`.
    pub fn new(
        worker: Worker,
        (clock, tick): (Clock, Duration),
        outlet: Outlet,
        hands: Hands,
    ) -> Runtime {
        Runtime {
            worker,
            clock,
            tick,
            outlet,
            hands,
            replies: HashMap::new(),
            next_request: 1,
            outputs: vec![],
            is_over: false,
        }
    }

    /// Runs until it is stopped, or cannot go on.
    pub fn run(mut self) {
        let mut ticked = Instant::now();
        self.settle();
        while !self.is_over {
            let wait = self.tick.saturating_sub(ticked.elapsed());
            match self.outlet.wait(wait) {
                Ok(Some(mail)) => self.turn(mail),
                Ok(None) => {}
                Err(()) => break,
            }
            // A late tick is not made up for: the lease counts on ticks not coming too fast.
            if ticked.elapsed() >= self.tick {
                ticked = Instant::now();
                self.step(Input::Tick);
            }
            self.settle();
        }
        self.end();
    }

    fn turn(&mut self, first: Mail) {
        let mut taken = self.take(first);
        while taken < TURN_INPUTS_MAX
            && let Some(mail) = self.outlet.take()
        {
            taken += self.take(mail);
        }
    }

    /// Answers how many inputs there were.
    fn take(&mut self, mail: Mail) -> usize {
        match mail {
            Mail::Input(input) => self.step(*input),
            Mail::Messages(envelopes) => {
                let count = envelopes.len();
                envelopes.into_iter().for_each(|envelope| self.step(Input::Envelope(envelope)));
                return count;
            }
            Mail::Request(request, reply_to) => {
                let id = RequestId(self.next_request);
                self.next_request += 1;
                self.replies.insert(id, reply_to);
                self.step(Input::Request(Request { id, ..request }));
            }
            Mail::Failed(reason) => self.fail(reason),
            Mail::Stop => self.is_over = true,
        }
        1
    }

    fn step(&mut self, input: Input) {
        self.worker.step(self.clock.now(), input, &mut self.outputs);
    }

    /// Ends the turn, and the turns that follow from what it made durable.
    fn settle(&mut self) {
        self.step(Input::Flush);
        while !self.outputs.is_empty() && !self.has_failed() {
            let mut has_appended = false;
            for output in std::mem::take(&mut self.outputs) {
                has_appended |= matches!(output, Output::Append { .. });
                self.carry_out(output);
            }
            self.hands.transport.flush();
            if has_appended {
                self.step(Input::Flush);
            }
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Reply { id, result } => {
                if let Some(reply_to) = self.replies.remove(&id) {
                    reply_to.send(result);
                }
            }
            Output::Send { to, envelope } => self.hands.transport.send(to, envelope),
            Output::Append { turn, batch, sync, then } => {
                self.hands.transport.flush();
                if let Err(error) = self.hands.log.write(batch, sync) {
                    self.fail(error.to_string());
                    return;
                }
                for (to, envelope) in then {
                    self.hands.transport.send(to, envelope);
                }
                self.hands.transport.flush();
                self.step(Input::Persisted { turn });
            }
            Output::Checkpoint { number, exports, installs } => {
                self.give_disk(DiskJob::Checkpoint { number, exports, installs });
            }
            Output::SendSnapshot { to, envelope, number } => {
                let _ = self.hands.snapshots.send(Outgoing { to, envelope, number });
            }
            Output::DropExport { region } => self.drop_view(region),
            Output::DiscardStaged { staged } => self.give_disk(DiskJob::Discard(staged)),
            Output::Heartbeat(heartbeat) => {
                let _ = self.hands.heartbeats.send(heartbeat);
            }
            Output::StoreAddrs(addrs) => self.hands.transport.learn(addrs),
            Output::Event(event) => tell(&event),
            Output::Fatal { reason } => self.fail(reason),
        }
    }

    fn drop_view(&self, region: RegionId) {
        self.hands.views.remove(region);
    }

    fn give_disk(&mut self, job: DiskJob) {
        if self.hands.disk.send(job).is_err() {
            self.fail("the disk thread has ended".to_string());
        }
    }

    fn has_failed(&self) -> bool {
        self.hands.failed.borrow().is_some()
    }

    fn fail(&mut self, reason: String) {
        self.is_over = true;
        if !self.has_failed() {
            error!(%reason, "the store stops");
            self.hands.failed.send_replace(Some(reason));
        }
    }

    /// Whoever still waits learns that the outcome is not known; what was applied becomes
    /// durable, to save the next start the work.
    fn end(mut self) {
        for (_, reply_to) in self.replies.drain() {
            reply_to.send(Err(RegionError::Undetermined { region_id: RegionId(0) }));
        }
        self.step(Input::Stop);
        for output in std::mem::take(&mut self.outputs) {
            self.carry_out(output);
        }
        if !self.has_failed() {
            self.give_disk(DiskJob::Finish);
        }
    }
}

fn tell(event: &Event) {
    match event {
        Event::BecameLeader { region, term } => debug!(%region, term, "leads"),
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
    }
}
