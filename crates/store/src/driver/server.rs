//! A running store: opens the directory, registers, starts the threads, serves.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use flotilla_host::driver::clock::Clock;
use flotilla_types::limits::MESSAGE_BYTES_MAX;
use flotilla_types::proto::kv_server::KvServer;
use flotilla_types::proto::raft_server::RaftServer;
use flotilla_types::proto::{
    RegisterStoreReply, RegisterStoreRequest, pd_error, pd_reply, pd_request,
};
use flotilla_types::{Region, StoreId};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tracing::{info, warn};

use super::config::StoreConfig;
use super::dir::DataDir;
use super::disk::DiskThread;
use super::error::StartError;
use super::heartbeat::HeartbeatTask;
use super::inbox::{Inbox, InboxReceiver, Mail, inbox};
use super::kv::KvService;
use super::pd::{CallError, PdCaller};
use super::raft::RaftService;
use super::runtime::{Links, Runtime};
use super::snapshot::{RECEIVING_MAX, SnapshotSender, Staging, Views};
use super::transport::{AddressBook, Transport};
use crate::core::Fatal;
use crate::core::checkpoint::LogKept;
use crate::core::permit::ReadPermits;
use crate::core::worker::{Worker, WorkerConfig};

/// How long a starting store waits for the placement driver.
const REGISTER_MS_MAX: u64 = 10_000;

/// After so long without news a region is quiescent: two ticks. Coming to rest costs as much as one
/// heartbeat, and waking nothing, so it pays even for regions that are used once a second. Those
/// that are read more often keep their lease, which is renewed only while they are awake.
const IDLE_MS: u64 = 200;

/// Between two attempts to register.
const REGISTER_INTERVAL_MS: u64 = 200;

/// Streams of one connection; a client needs one, and one for each scan.
const STREAMS_MAX: u32 = 256;

/// A running store.
pub struct StoreServer {
    addr: SocketAddr,
    identity: (u64, StoreId),
    inbox: Inbox,
    failed: watch::Receiver<Option<String>>,
    threads: Vec<JoinHandle<()>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// What starting has come to so far.
struct Starting {
    config: StoreConfig,
    dir: DataDir,
    identity: (u64, StoreId),
    reply: Option<RegisterStoreReply>,
    register: RegisterStoreRequest,
}

impl StoreServer {
    /// Opens the data directory, registers with the placement driver and serves. A store that has
    /// registered before starts without the placement driver, too.
    pub async fn start(mut config: StoreConfig) -> Result<StoreServer, StartError> {
        let listener = bind(&config.addr).await?;
        let addr = listener.local_addr().map_err(|e| bind_error(&config.addr, &e))?;
        if config.addr.ends_with(":0") {
            config.addr = addr.to_string();
        }
        let opening = config.clone();
        let dir = tokio::task::spawn_blocking(move || DataDir::open(&opening))
            .await
            .map_err(|e| dir_error(&config.dir, e.to_string()))??;
        let starting = register(config, dir).await?;
        Self::run(starting, listener, addr)
    }

    fn run(
        starting: Starting,
        listener: TcpListener,
        addr: SocketAddr,
    ) -> Result<StoreServer, StartError> {
        let Starting { config, dir, identity, reply, register } = starting;
        let (inbox, receiver) = inbox();
        let clock = Clock::begin();
        let staging = Arc::new(Staging::new(dir.path.join("snapshots")));
        let views = Views::default();
        let addresses = AddressBook::default();
        let (heartbeats, heartbeat_queue) = mpsc::unbounded_channel();
        let (snapshots, snapshot_queue) = mpsc::unbounded_channel();
        let (disk, disk_jobs) = channel();
        let (failed_sender, failed) = watch::channel(None);

        let disk_thread = DiskThread {
            state: dir.state.clone(),
            log: dir.log.clone(),
            staging: staging.clone(),
            views: views.clone(),
            inbox: inbox.clone(),
        };
        let links = Links {
            log: dir.log.clone(),
            disk,
            transport: Transport::new(
                identity,
                addresses.clone(),
                inbox.clone(),
                Handle::current(),
            ),
            snapshots,
            views: views.clone(),
            heartbeats,
            failed: failed_sender,
        };
        let heartbeat = HeartbeatTask {
            pd: PdCaller::new(config.pd.clone(), identity.0),
            heartbeats: heartbeat_queue,
            inbox: inbox.clone(),
            register: reply.is_none().then_some(register),
            dir: dir.path.clone(),
        };
        let sender = SnapshotSender { from: identity, views, addresses, inbox: inbox.clone() };
        let raft = RaftService {
            identity,
            inbox: inbox.clone(),
            staging,
            receiving: Arc::new(Semaphore::new(RECEIVING_MAX)),
        };
        let disk_thread =
            spawn_thread(&config.dir, identity.1, "disk", move || disk_thread.run(disk_jobs))?;
        let (worker_thread, permits) =
            spawn_worker((config, dir, identity, reply), clock, receiver, links)?;
        let kv = KvService { identity, inbox: inbox.clone(), clock, permits };
        let threads = vec![disk_thread, worker_thread];
        let tasks = vec![
            tokio::spawn(heartbeat.run()),
            tokio::spawn(sender.run(snapshot_queue)),
            tokio::spawn(serve(listener, kv, raft)),
        ];
        info!(store = %identity.1, cluster = identity.0, %addr, "store started");
        Ok(StoreServer { addr, identity, inbox, failed, threads, tasks })
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

    /// Stops serving, and makes what was applied durable.
    pub async fn stop(self) {
        for task in &self.tasks {
            task.abort();
        }
        self.inbox.report(Mail::Stop);
        let threads = self.threads;
        let joined = tokio::task::spawn_blocking(move || {
            threads.into_iter().filter_map(|thread| thread.join().err()).count()
        });
        match joined.await {
            Ok(0) => info!(store = %self.identity.1, "store stopped"),
            Ok(_) | Err(_) => warn!(store = %self.identity.1, "a thread of the store panicked"),
        }
    }
}

async fn bind(addr: &str) -> Result<TcpListener, StartError> {
    TcpListener::bind(addr).await.map_err(|e| bind_error(addr, &e))
}

fn bind_error(addr: &str, error: &std::io::Error) -> StartError {
    StartError::Bind { addr: addr.to_string(), reason: error.to_string() }
}

fn dir_error(dir: &std::path::Path, reason: String) -> StartError {
    StartError::Dir { dir: dir.to_path_buf(), reason }
}

/// Makes the directory a store's, if it is not yet; asks whether the placement driver agrees.
async fn register(config: StoreConfig, mut dir: DataDir) -> Result<Starting, StartError> {
    let (cluster, store) = dir.ident.unwrap_or_default();
    let register = RegisterStoreRequest {
        store_id: store.0,
        addr: config.addr.clone(),
        labels: config.labels.clone().into_iter().collect(),
    };
    let mut pd = PdCaller::new(config.pd.clone(), cluster);
    let mut waited_ms = 0;
    let answer = loop {
        let op = pd_request::Op::RegisterStore(register.clone());
        match pd.call(op).await {
            Err(error) if waited_ms < REGISTER_MS_MAX && is_worth_waiting(&error, &dir) => {
                tokio::time::sleep(Duration::from_millis(REGISTER_INTERVAL_MS)).await;
                waited_ms += REGISTER_INTERVAL_MS;
            }
            answer => break answer,
        }
    };
    let reply = match answer {
        Ok(pd_reply::Result::RegisterStore(reply)) => Some(reply),
        Err(CallError::Unreachable(reason) | CallError::Busy(reason)) if dir.ident.is_some() => {
            warn!(%reason, "the placement driver is not reached; starting without it");
            None
        }
        Err(CallError::Unreachable(reason) | CallError::Busy(reason)) => {
            return Err(StartError::PdUnreachable { tried: pd.endpoints().to_vec(), reason });
        }
        Err(CallError::Refused(kind)) => return Err(refused(&config, &dir, kind)),
        Ok(_) => {
            return Err(dir_error(&config.dir, "the placement driver answered nonsense".into()));
        }
    };
    if let (Some(reply), None) = (&reply, dir.ident) {
        dir.set_ident(reply.cluster_id, StoreId(reply.store_id))?;
    }
    let identity = dir.ident.unwrap_or_default();
    if let Some(region) = reply.as_ref().and_then(|reply| reply.first_region.clone()) {
        let region = Region::try_from(region)
            .map_err(|source| Fatal::Unreadable { what: "the first region".to_string(), source })?;
        dir.bootstrap(identity.1, &region)?;
    }
    Ok(Starting { config, dir, identity, reply, register })
}

/// A new store needs the placement driver; one that has registered before waits for it only if it
/// is there.
fn is_worth_waiting(error: &CallError, dir: &DataDir) -> bool {
    match error {
        CallError::Busy(_) => true,
        CallError::Unreachable(_) => dir.ident.is_none(),
        CallError::Refused(_) => false,
    }
}

fn refused(config: &StoreConfig, dir: &DataDir, kind: pd_error::Kind) -> StartError {
    let reason = match kind {
        pd_error::Kind::ClusterMismatch(mismatch) => {
            let (cluster, store) = dir.ident.unwrap_or_default();
            return StartError::OtherCluster {
                dir: config.dir.clone(),
                store,
                cluster,
                pd_cluster: mismatch.cluster_id,
            };
        }
        pd_error::Kind::Refused(refused) => refused.reason,
        pd_error::Kind::NotFound(not_found) => format!("it does not know {}", not_found.what),
        pd_error::Kind::Busy(busy) => busy.reason,
        pd_error::Kind::Unsupported(unsupported) => {
            format!("its version does not know {}", unsupported.what)
        }
        pd_error::Kind::NotLeader(_) => "no member leads".to_string(),
    };
    StartError::Refused { dir: config.dir.clone(), reason }
}

fn spawn_thread(
    dir: &std::path::Path,
    store: StoreId,
    name: &str,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, StartError> {
    let name = format!("store-{store}-{name}");
    let spawned = std::thread::Builder::new().name(name).spawn(body);
    spawned.map_err(|e| dir_error(dir, e.to_string()))
}

/// Opens the worker on its own thread, for that thread alone is to read the log, and waits until
/// it is open. Answers what reads are served by without it, too.
fn spawn_worker(
    (config, dir, identity, reply): (
        StoreConfig,
        DataDir,
        (u64, StoreId),
        Option<RegisterStoreReply>,
    ),
    clock: Clock,
    receiver: InboxReceiver,
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
        };
        let worker = Worker::open(worker_config, dir.state.clone(), dir.log.clone(), clock.now());
        match worker {
            Ok(mut worker) => {
                if let Some(ids) = reply.and_then(|reply| reply.ids) {
                    worker.lease_ids(&ids);
                }
                let _ = opened.send(Ok(worker.permits()));
                Runtime::new(worker, (clock, tick), receiver, links).run();
            }
            Err(fatal) => drop(opened.send(Err(fatal))),
        }
        // The directory stays locked until its last user is gone.
        drop(dir);
    })?;
    match is_open.recv() {
        Ok(opened) => Ok((thread, opened?)),
        Err(_) => Err(dir_error(&path, "its worker panicked while opening".into())),
    }
}

/// Election timeouts must differ between stores, and so must the processes of one store.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0).max(1)
}

async fn serve(listener: TcpListener, kv: KvService, raft: RaftService) {
    let kv = KvServer::new(kv)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let raft = RaftServer::new(raft)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let served = Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .add_service(kv)
        .add_service(raft)
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await;
    if let Err(error) = served {
        warn!(%error, "the listener ended");
    }
}
