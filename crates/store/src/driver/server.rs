//! A running store: opens the directory, registers, starts the threads, serves.
//!
//! ```text
//!   clients --------> service --+                       +--> disk thread --> views --> snapshots
//!   other members --> members --+--> inbox --> worker --+--> transport --> other members
//!   PD's answers -> heartbeat --+                       +--> heartbeat --> placement driver (PD)
//! ```
//!
//! A stop in good order has two parts: [`StoreServer::hand_over`], after which no client waits for
//! this store, and [`StoreServer::stop`], which ends its threads. A stop without the first part
//! loses nothing either.
//!
//! Tasks and the disk thread report to the worker through its inbox, too. Not here: what any of
//! them does.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use flotilla_host::core::message::{Address, Identity};
use flotilla_host::driver::clock::Clock;
use flotilla_host::driver::disk::{DiskJob, DiskThread};
use flotilla_host::driver::inbox::InboxReceiver;
use flotilla_host::driver::metrics::HostMetrics;
use flotilla_host::driver::own_runtime::{OwnRuntime, Priority};
use flotilla_host::driver::raft_service::RaftService;
use flotilla_host::driver::snapshot::SnapshotSender;
use flotilla_host::driver::staging::Staging;
use flotilla_host::driver::thread::CoreThread;
use flotilla_host::driver::transport::{AddressBook, Transport};
use flotilla_net::apart::Apart;
use flotilla_net::connect::Traffic;
use flotilla_net::listen::{Listener, Services};
use flotilla_net::services::{kv_server, raft_server};
use flotilla_types::StoreId;
use flotilla_types::proto::RegisterStoreReply;
use tokio::sync::{mpsc, watch};
use tonic::service::Routes;
use tracing::{info, warn};

use super::account::Account;
use super::answers::AnswerBudgets;
use super::config::StoreConfig;
use super::dir::StoreDir;
use super::disk::{StoreDisk, StoreJob};
use super::error::StartError;
use super::heartbeat::HeartbeatTask;
use super::inbox::{Inbox, Mail, inbox};
use super::latency::Latency;
use super::members::{Snapshots, WorkerReceiver, on_unreachable};
use super::metrics::{StoreMetrics, register_levels};
use super::register::{Registered, check_certificate, register};
use super::runtime::{Links, Runtime};
use super::service::{KvService, Reads};
use super::views::Views;
use crate::core::Input;
use crate::core::limits::StoreLimits;
use crate::core::permit::ReadPermits;
use crate::core::pressure::Pressure;
use crate::core::worker::{LogKept, Worker, WorkerConfig};

/// After so long without news a region becomes quiescent: two ticks. Becoming quiescent costs as
/// much as one heartbeat, and becoming active costs nothing, so quiescence pays even for a region
/// that is used once a second. A region that is read more often stays active and keeps its lease.
const IDLE_MS: u64 = 200;

/// How long a store that stops waits until the placement driver has its last heartbeat: some round
/// trips. One that is away learns of the stop by the store's silence.
const STOP_TOLD_MS_MAX: u64 = 500;

/// How long a store that is about to stop hands leaderships on and finishes requests. A transfer
/// takes milliseconds, and one that comes to nothing an election timeout; a request that a region
/// without a quorum cannot finish takes as long as its caller has.
const HAND_OVER_MS_MAX: u64 = 5_000;

/// How long clients' streams may take to end after that: a client that does not read its answers
/// keeps its stream open.
const CLOSE_MS_MAX: u64 = 500;

/// A running store.
pub struct StoreServer {
    addr: SocketAddr,
    identity: (u64, StoreId),
    inbox: Inbox,
    handed_over: watch::Receiver<bool>,
    closing: watch::Sender<bool>,
    failed: watch::Receiver<Option<String>>,
    threads: Vec<JoinHandle<()>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    heartbeats: tokio::task::JoinHandle<()>,
    _runtimes: Runtimes,
}

impl StoreServer {
    /// Opens the data directory, registers with the placement driver and serves. A store that has
    /// registered before starts without the placement driver, too.
    pub async fn start(mut config: StoreConfig) -> Result<StoreServer, StartError> {
        let listener = Listener::bind_by(&config.addr, &config.security).await?;
        config.advertise = Some(listener.advertised(config.advertise.as_deref())?);
        check_certificate(&config, None)?;
        let opening = config.clone();
        let mut dir = tokio::task::spawn_blocking(move || StoreDir::open(&opening))
            .await
            .map_err(|e| thread_error(&config.dir, e.to_string()))??;
        let registered = register(&config, &mut dir).await?;
        Self::run(config, dir, registered, listener)
    }

    fn run(
        config: StoreConfig,
        dir: StoreDir,
        registered: Registered,
        listener: Listener,
    ) -> Result<StoreServer, StartError> {
        let Registered { pd, identity, request, reply } = registered;
        let (addr, budgets) = (listener.addr(), AnswerBudgets::new(config.under_way));
        let (inbox, receiver) = inbox(config.under_way.inbox_bytes_max);
        let (failed_sender, failed) = watch::channel(None);
        let (handed_over_sender, handed_over) = watch::channel(false);
        let (closing, _) = watch::channel(false);
        let (heartbeats, heartbeat_queue) = mpsc::unbounded_channel();
        let (queue, outgoing) = mpsc::unbounded_channel();
        let (disk, disk_jobs) = channel();
        let (metrics, host) = count(&config, &dir, identity.1, &inbox);
        let member = Identity { cluster: identity.0, address: Address::Store(identity.1) };
        let addresses = AddressBook::secured(config.security.tls().cloned());
        let runtimes = Runtimes::start(&config.dir, identity.1)?;
        let transport = transport(member, &request.addr, &addresses, (&inbox, &runtimes, &host))
            .bounded(config.under_way.messages_bytes_max);
        let account = account(&config, &dir, (&inbox, &transport, &budgets), &metrics);
        let (views, staging) = (Views::default(), Arc::new(Staging::new(dir.snapshots.clone())));
        let snapshots = Snapshots { views: views.clone(), inbox: inbox.clone(), queue };
        let links = Links {
            log: dir.data.log.clone(),
            disk,
            transport,
            snapshots,
            heartbeats,
            handed_over: handed_over_sender,
            failed: failed_sender,
            metrics: (metrics.clone(), host.clone()),
        };
        let disk_work = (staging.clone(), views, inbox.clone(), host.clone());
        let (own_addr, replicas) = (request.addr.clone(), dir.data.state.clone());
        let heartbeat = HeartbeatTask {
            pd,
            heartbeats: heartbeat_queue,
            inbox: inbox.clone(),
            is_register_due: reply.is_none(),
            register: request,
            dir: dir.data.path.clone(),
            latency: Latency::new(metrics.clone()),
        };
        let sender =
            SnapshotSender { from: member, addresses, counts: host.snapshots_sent.clone() };
        let raft = RaftService::new(member, receiver_of(&config, &dir, &inbox), staging);
        let raft = raft.counted(host);
        let clock = Clock::begin();
        let disk_thread = spawn_disk(&dir, identity.1, disk_work, disk_jobs)?;
        let (worker_thread, permits) =
            spawn_worker((config, dir, identity, reply), clock, receiver, links)?;
        let kv = KvService {
            identity,
            addr: own_addr,
            inbox: inbox.clone(),
            clock,
            reads: Reads::new(permits, clock, budgets),
            metrics,
            account,
            state: replicas,
            closing: closing.clone(),
        };
        let server = tokio::spawn(serve(listener, runtimes.services(kv, raft)));
        let sender = runtimes.members.handle().spawn(sender.run(outgoing));
        info!(store = %identity.1, cluster = identity.0, %addr, "store started");
        Ok(StoreServer {
            addr,
            identity,
            inbox,
            handed_over,
            closing,
            failed,
            threads: vec![disk_thread, worker_thread],
            tasks: vec![sender, server],
            _runtimes: runtimes,
            heartbeats: tokio::spawn(heartbeat.run()),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Which store it is.
    pub fn store_id(&self) -> StoreId {
        self.identity.1
    }

    /// Which cluster it belongs to.
    pub fn cluster_id(&self) -> u64 {
        self.identity.0
    }

    /// Waits until the store cannot go on, and answers why.
    pub async fn failed(&self) -> String {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the worker's thread has ended".to_string(),
        }
    }

    /// Hands leaderships on, finishes what is under way and closes clients' streams, within a few
    /// seconds. The store serves as a follower until it is stopped.
    pub async fn hand_over(&self) {
        self.inbox.report(Mail::from(Input::HandOver));
        let mut handed_over = self.handed_over.clone();
        let limit = Duration::from_millis(HAND_OVER_MS_MAX);
        let done = handed_over.wait_for(|is_done| *is_done);
        match tokio::time::timeout(limit, done).await {
            Ok(_) => info!(store = %self.identity.1, "leaderships are handed on"),
            Err(_) => warn!(store = %self.identity.1, "not all leaderships could be handed on"),
        }
        self.closing.send_replace(true);
        let limit = Duration::from_millis(CLOSE_MS_MAX);
        if tokio::time::timeout(limit, self.closing.closed()).await.is_err() {
            warn!(store = %self.identity.1, "a client does not read its answers");
        }
    }

    /// Stops serving, makes what was applied durable and tells the placement driver.
    pub async fn stop(mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.inbox.report(Mail::Stop);
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().filter_map(|thread| thread.join().err()).count()
        });
        let joined = joined.await;
        // The task ends once it has sent the last heartbeat.
        let limit = Duration::from_millis(STOP_TOLD_MS_MAX);
        if tokio::time::timeout(limit, &mut self.heartbeats).await.is_err() {
            self.heartbeats.abort();
        }
        match joined {
            Ok(0) => info!(store = %self.identity.1, "store stopped"),
            Ok(_) | Err(_) => warn!(store = %self.identity.1, "a thread of the store panicked"),
        }
    }
}

/// The threads of traffic that is told apart.
struct Runtimes {
    members: OwnRuntime,
    scans: OwnRuntime,
}

impl Runtimes {
    fn start(dir: &std::path::Path, store: StoreId) -> Result<Runtimes, StartError> {
        let start = |of: &str, priority| {
            let started = OwnRuntime::start(&format!("store-{store}-{of}"), priority);
            started.map_err(|error| thread_error(dir, error.to_string()))
        };
        let members = start("raft", Priority::Usual)?;
        Ok(Runtimes { members, scans: start("scans", Priority::Yielding)? })
    }

    fn services(&self, kv: KvService, raft: RaftService) -> Services {
        let (scans, calls) = (Routes::new(kv_server(kv.clone())), Routes::new(kv_server(kv)));
        let members = Routes::new(raft_server(raft.clone()));
        let apart = |traffic, routes, runtime: &OwnRuntime| {
            let on = runtime.handle().clone();
            Apart { traffic, routes, on }
        };
        let apart = vec![
            apart(Traffic::Members, members, &self.members),
            apart(Traffic::Scans, scans, &self.scans),
        ];
        Services { callers: calls.add_service(raft_server(raft)), apart }
    }
}

/// Registers what the store and its host count.
fn count(
    config: &StoreConfig,
    dir: &StoreDir,
    store: StoreId,
    inbox: &Inbox,
) -> (StoreMetrics, HostMetrics) {
    let registry = &config.metrics;
    let metrics = StoreMetrics::new(registry, store);
    register_levels(registry, store, inbox, (&dir.data.state, config.checkpoint_bytes));
    (metrics, HostMetrics::new(registry, "store", store.0))
}

/// The account of the store's memory, told at `/metrics`, too.
fn account(
    config: &StoreConfig,
    dir: &StoreDir,
    (inbox, transport, budgets): (&Inbox, &Transport, &AnswerBudgets),
    metrics: &StoreMetrics,
) -> Account {
    let held = (&dir.data.state, transport.queued());
    let account = Account::new(config, inbox, held, budgets);
    metrics.ask(&config.metrics, account.clone());
    account
}

/// What takes other members' messages.
fn receiver_of(config: &StoreConfig, dir: &StoreDir, inbox: &Inbox) -> Arc<WorkerReceiver> {
    let pressure = Pressure::new(dir.data.state.clone(), config.checkpoint_bytes);
    Arc::new(WorkerReceiver { inbox: inbox.clone(), pressure })
}

fn transport(
    from: Identity,
    listens_at: &str,
    book: &AddressBook,
    (inbox, runtimes, metrics): (&Inbox, &Runtimes, &HostMetrics),
) -> Transport {
    let (on_unreachable, on) = (on_unreachable(inbox.clone()), runtimes.members.handle().clone());
    let transport = Transport::new(from, listens_at, book.clone(), on_unreachable, on);
    transport.counted(metrics.messages.clone())
}

fn thread_error(dir: &std::path::Path, reason: String) -> StartError {
    StartError::Thread { dir: dir.to_path_buf(), reason }
}

fn spawn_thread(
    dir: &std::path::Path,
    store: StoreId,
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    let name = format!("store-{store}-{name}");
    let spawned = std::thread::Builder::new().name(name).spawn(body);
    spawned.map_err(|e| thread_error(dir, e.to_string()))
}

fn spawn_disk(
    dir: &StoreDir,
    store: StoreId,
    (staging, views, inbox, metrics): (Arc<Staging>, Views, Inbox, HostMetrics),
    jobs: Receiver<DiskJob<StoreJob>>,
) -> Result<JoinHandle<()>, StartError> {
    let data = &dir.data;
    let work = StoreDisk { state: data.state.clone(), staging, views, inbox, metrics };
    let thread = DiskThread { state: data.state.clone(), log: data.log.clone(), work };
    spawn_thread(&data.path, store, "disk", move || thread.run(&jobs))
}

/// Opens the worker on its own thread, for that thread alone is to read the log, and waits until
/// it is open. Answers what reads are served by without it, too.
fn spawn_worker(
    (config, dir, identity, reply): (
        StoreConfig,
        StoreDir,
        (u64, StoreId),
        Option<RegisterStoreReply>,
    ),
    clock: Clock,
    mut receiver: InboxReceiver<Mail>,
    links: Links,
) -> Result<(JoinHandle<()>, Arc<ReadPermits>), StartError> {
    let (opened, is_open) = channel();
    let path: PathBuf = config.dir.clone();
    let tick = Duration::from_millis(config.timing.tick_ms);
    let thread = spawn_thread(&path, identity.1, "worker", move || {
        let worker_config = WorkerConfig {
            cluster: identity.0,
            store: identity.1,
            timing: config.timing,
            seed: seed(),
            region_bytes_max: config.region_bytes_max,
            checkpoint_bytes: config.checkpoint_bytes,
            idle_ms: IDLE_MS,
            log_kept: LogKept::default(),
            limits: StoreLimits::default(),
        };
        let worker =
            Worker::open(worker_config, dir.data.state.clone(), dir.data.log.clone(), clock.now());
        match worker {
            Ok(mut worker) => {
                if let Some(ids) = reply.and_then(|reply| reply.ids) {
                    worker.lease_ids(ids.into());
                }
                let _ = opened.send(Ok(worker.permits()));
                Runtime::new(worker, clock, links).run(&mut receiver, tick);
            }
            Err(fatal) => drop(opened.send(Err(fatal))),
        }
        // The directory stays locked until its last user is gone.
        drop(dir);
    })?;
    match is_open.recv() {
        Ok(opened) => Ok((thread, opened?)),
        Err(_) => Err(thread_error(&path, "its worker panicked while opening".into())),
    }
}

/// Election timeouts must differ between stores, and so must the processes of one store.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0).max(1)
}

async fn serve(listener: Listener, services: Services) {
    // Streams stay open, so no call is cut off; the task is aborted when the store stops.
    let served = listener.serve(services, std::future::pending()).await;
    if let Err(reason) = served {
        warn!(%reason, "the listener ended");
    }
}
