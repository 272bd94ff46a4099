//! The thread that owns a member, its log and its state: what reaches the thread, and what the
//! member's outputs come to.
//!
//! All that was proposed in a turn is written and synced as one. Checkpoints are made by the disk
//! thread, so no request and no tick waits for them.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use flotilla_engine::{LogBatch, LogStore};
use flotilla_host::core::carry_out::{Io, Written};
use flotilla_host::core::message::{Address, Envelope, Identity, StagedId};
use flotilla_host::driver::clock::Clock;
use flotilla_host::driver::dir::DataDir;
use flotilla_host::driver::disk::{DiskJob, DiskThread};
use flotilla_host::driver::inbox::InboxReceiver;
use flotilla_host::driver::metrics::HostMetrics;
use flotilla_host::driver::staging::Staging;
use flotilla_host::driver::thread::CoreThread;
use flotilla_types::placement::{PdError, PdReply, PdRequest};
use tokio::sync::watch;

use crate::core::carry_out::{self, Outputs, PdIo};
use crate::core::{CoreConfig, Event, Input, Output, Pd, RequestId};
use crate::driver::StartError;
use crate::driver::disk::{PdDisk, PdJob};
use crate::driver::inbox::{Inbox, Mail, ReplyTo};
use crate::driver::members::{Links, Others};
use crate::driver::metrics::{PdMetrics, op_name};

/// Different each time; for dice and cluster ids, not for secrets.
pub(crate) fn random_seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// The member and all that its outputs go to.
struct DriverIo {
    pd: Pd,
    clock: Clock,
    log: Arc<dyn LogStore>,
    disk: Sender<DiskJob<PdJob>>,
    others: Others,
    replies: BTreeMap<RequestId, Caller>,
    next_request: u64,
    /// Set when the member cannot go on.
    failed: watch::Sender<Option<String>>,
    has_failed: bool,
    metrics: (PdMetrics, HostMetrics),
}

/// Who waits for an answer, to what and since when.
struct Caller {
    reply_to: ReplyTo,
    op: &'static str,
    begun: Instant,
}

impl Io<Pd> for DriverIo {
    fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        self.pd.step(self.clock.now(), input, out);
    }

    fn send(&mut self, message: Envelope) {
        self.others.transport.send(message.to.address, message);
    }

    fn flush_messages(&mut self) {
        self.others.transport.flush();
    }

    fn write_log(&mut self, _turn: u64, batch: LogBatch, sync: bool) -> Written {
        let begun = Instant::now();
        match self.log.write(batch, sync) {
            Ok(()) => {
                if sync {
                    self.metrics.1.log_sync.observe(begun.elapsed());
                }
                Written::Done
            }
            Err(error) => Written::Failed(error.to_string()),
        }
    }

    fn fail(&mut self, reason: String) {
        if !self.has_failed {
            tracing::error!(%reason, "the placement driver stops");
            self.failed.send_replace(Some(reason));
        }
        self.has_failed = true;
    }

    fn has_failed(&self) -> bool {
        self.has_failed
    }
}

impl PdIo for DriverIo {
    fn reply(&mut self, id: RequestId, reply: Result<PdReply, PdError>) {
        if let Some(Caller { reply_to, op, begun }) = self.replies.remove(&id) {
            self.metrics.0.answered(begun.elapsed(), op, &reply);
            // The caller may have given up.
            let _ = reply_to.send(reply);
        }
    }

    fn checkpoint(&mut self, applied: u64, exports: bool, install: Option<StagedId>) {
        self.give_disk(DiskJob::Work(PdJob::Checkpoint { applied, exports, install }));
    }

    fn send_snapshot(&mut self, envelope: Envelope, number: u64) {
        self.others.send_snapshot(envelope, number);
    }

    fn drop_export(&mut self) {
        self.others.view.set(None);
    }

    fn discard_staged(&mut self, staged: StagedId) {
        self.give_disk(DiskJob::Work(PdJob::Discard(staged)));
    }

    fn member_addrs(&mut self, addrs: BTreeMap<u64, String>) {
        self.others.listen_at(addrs);
    }

    fn removed(&mut self) {
        let reason = "this member was removed from the placement drivers for ever; to add another, \
                      start one in an empty directory with a new --id and --join";
        self.fail(reason.to_string());
    }

    fn stranger(&mut self, known_by: u64) {
        let id = self.pd.id();
        self.fail(format!(
            "this directory is not the one that member {id} had: member {known_by} knows another. \
             What was lost with it, votes among it, must not come back in part: start with the \
             directory of before, or remove the member (flotilla ctl pd remove {id}), and let \
             another join in an empty directory, with a new --id and --join"
        ));
    }

    fn event(&mut self, event: &Event) {
        self.metrics.0.note(event);
        log_event(event);
    }
}

impl DriverIo {
    fn give_disk(&mut self, job: DiskJob<PdJob>) {
        if self.disk.send(job).is_err() {
            self.fail("the disk thread has ended".to_string());
        }
    }

    /// Gives a request an id, under which its answer finds the caller.
    fn accept(&mut self, request: PdRequest, reply: ReplyTo) -> Input {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        let op = op_name(&request.op);
        self.replies.insert(id, Caller { reply_to: reply, op, begun: Instant::now() });
        Input::Request { id, request }
    }
}

/// A member as its thread runs it.
struct Runtime {
    io: DriverIo,
    outputs: Outputs,
    is_stopped: bool,
}

impl Runtime {
    fn step(&mut self, input: Input) {
        self.outputs.step(&mut self.io, input);
    }
}

impl CoreThread for Runtime {
    type Mail = Mail;

    fn step_mail(&mut self, mail: Mail) -> usize {
        match mail {
            Mail::Call { request, reply } => {
                let input = self.io.accept(*request, reply);
                self.step(input);
            }
            Mail::Input(input) => self.step(input),
            Mail::Messages(envelopes) => {
                // A batch without a message counts, too: a turn takes a bounded number of batches.
                let count = envelopes.len().max(1);
                envelopes.into_iter().for_each(|envelope| self.step(Input::Message(envelope)));
                return count;
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
    }

    fn is_over(&self) -> bool {
        self.is_stopped || self.io.has_failed()
    }

    /// Callers are answered, and what was applied becomes durable.
    fn end(mut self) {
        carry_out::stop(&mut self.outputs, &mut self.io);
        if !self.io.has_failed() {
            self.io.give_disk(DiskJob::Finish);
        }
    }
}

/// A member that was opened, and the work of its two threads.
pub(crate) struct PdThreads {
    runtime: Runtime,
    disk: DiskThread<PdDisk>,
    jobs: Receiver<DiskJob<PdJob>>,
    tick: Duration,
    /// Locked until both threads have ended.
    dir: DataDir,
    identity: Identity,
    staging: Arc<Staging>,
}

impl PdThreads {
    /// Opens the member that the directory holds. Reports of its disk thread go to `inbox`;
    /// `failed` is set when the member cannot go on.
    pub(crate) fn open(
        config: CoreConfig,
        dir: DataDir,
        (inbox, links, metrics): (Inbox, Links, PdMetrics),
        failed: watch::Sender<Option<String>>,
    ) -> Result<PdThreads, StartError> {
        let id = config.id;
        let tick = Duration::from_millis(config.timing.raft.tick_ms);
        let clock = Clock::begin();
        let log: Arc<dyn LogStore> = dir.log.clone();
        let pd = Pd::open(config, log.clone(), dir.state.clone(), clock.now())?;
        let (jobs_sender, jobs) = channel();
        let identity = Identity { cluster: pd.members().group_id(), address: Address::Pd(id) };
        let staging = Arc::new(Staging::new(dir.clear_snapshots()?));
        let host_metrics = links.metrics.clone();
        let others = Others::new(identity, links, inbox.clone());
        let view = others.view.clone();
        let work = PdDisk {
            state: dir.state.clone(),
            staging: staging.clone(),
            view,
            inbox,
            metrics: host_metrics.clone(),
        };
        let disk = DiskThread { state: dir.state.clone(), log: log.clone(), work };
        let io = DriverIo {
            pd,
            clock,
            log,
            disk: jobs_sender,
            others,
            replies: BTreeMap::new(),
            next_request: 0,
            failed,
            has_failed: false,
            metrics: (metrics, host_metrics),
        };
        let runtime = Runtime { io, outputs: Outputs::default(), is_stopped: false };
        Ok(PdThreads { runtime, disk, jobs, tick, dir, identity, staging })
    }

    /// Who the member is to the others, and where what they send is kept.
    pub(crate) fn receives_for(&self) -> (Identity, Arc<Staging>) {
        (self.identity, self.staging.clone())
    }

    /// Works until it is stopped or fails. Ends when the disk thread has ended, too.
    pub(crate) fn run(self, inbox: &mut InboxReceiver<Mail>) {
        let PdThreads { mut runtime, disk, jobs, tick, dir, .. } = self;
        let name = format!("{}-disk", thread::current().name().unwrap_or("pd"));
        thread::scope(|scope| {
            let spawned =
                thread::Builder::new().name(name).spawn_scoped(scope, move || disk.run(&jobs));
            if let Err(error) = spawned {
                runtime.io.fail(format!("cannot start a thread: {error}"));
            }
            runtime.run(inbox, tick);
        });
        drop(dir);
    }
}

fn log_event(event: &Event) {
    match event {
        Event::LeadershipBegan { term } => tracing::info!(term, "leading"),
        Event::LeadershipEnded { term } => tracing::warn!(term, "no longer leading"),
        Event::StoreRegistered { store } => tracing::info!(%store, "store registered"),
        Event::OtherCluster { wanted, cluster, store } => {
            let who = store.map_or("a caller".to_string(), |store| format!("store {store}"));
            tracing::warn!(
                "{who} of cluster {wanted} asks, and this is cluster {cluster}: nothing of the \
                 other cluster is taken over; check the address there and the directory here"
            );
        }
        Event::Awaits { what } => tracing::warn!("{what}"),
        Event::FirstRegion { region, stores, is_crowded } => {
            let stores: Vec<u64> = stores.iter().map(|store| store.0).collect();
            tracing::info!(%region, ?stores, "the cluster begins");
            if *is_crowded {
                tracing::warn!(?stores, "too few label values: two replicas share one");
            }
        }
        Event::Decides { id } => tracing::trace!(?id, "leadership confirmed"),
        Event::HeartbeatOvertaken { store } => tracing::debug!(%store, "heartbeat overtaken"),
        // Late reports are normal after every failover and split.
        Event::ReportIgnored { store, region, reason } => {
            tracing::debug!(%store, %region, reason, "report ignored");
        }
        Event::OperatorStarted { id, region, name } => {
            tracing::info!(operator = id, %region, name, "operator started");
        }
        Event::OperatorEnded { id, region, outcome } => {
            tracing::info!(operator = id, %region, outcome, "operator ended");
        }
    }
}
