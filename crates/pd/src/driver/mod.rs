//! Threads, sockets and files around the core.
//!
//! ```text
//!   gRPC tasks (tokio)  --- bounded inbox --->  one thread: Pd and its log  ---> the disk thread:
//!                       <-- a oneshot each ---                              <---  checkpoints
//! ```
//!
//! In: a [`PdConfig`]. Out: a [`PdServer`] that listens once [`PdServer::start`] has returned.
//!
//! A failed write or sync stops the server: it is logged once and [`PdServer::failed`] answers.
//!
//! Architecture invariant: no decision about the protocol is made here.

mod data_dir;
mod disk;
mod inbox;
mod join;
mod members;
mod metrics;
mod runtime;
mod server;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use flotilla_host::driver::dir::DirError;
use flotilla_host::driver::metrics::HostMetrics;
use flotilla_host::driver::own_runtime::{OwnRuntime, Priority};
use flotilla_host::driver::raft_service::RaftService;
use flotilla_host::driver::snapshot::SnapshotSender;
use flotilla_host::driver::transport::AddressBook;
use flotilla_metrics::Registry;
use flotilla_net::listen::{AdvertiseError, BindError, Listener};
use flotilla_net::principal::CertRole;
use flotilla_net::tls::{Security, TlsError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::core::limits::PdLimits;
use crate::core::{CoreConfig, OpenError, PdTiming};
use crate::driver::inbox::{Inbox, Mail};
use crate::driver::members::{Links, MemberReceiver};
use crate::driver::metrics::{PdMetrics, ask_thread};
use crate::driver::runtime::PdThreads;

/// How long calls under way may take to end when the server stops; then they are cut off.
const GRACE: Duration = Duration::from_secs(2);

/// What a placement driver is told when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PdConfig {
    /// The member's id; never 0, and the same each time a directory is used.
    pub id: u64,
    /// Where its data is; created if there is none.
    pub dir: PathBuf,
    /// Where it listens, `host:port`; port 0 for any that is free.
    pub addr: String,
    /// Where others should call it; None for where it listens.
    pub advertise: Option<String>,
    /// Who may connect, and what the member shows whom it calls.
    pub security: Security,
    /// The members of PD's group and where they listen, this one among them: the same list for all
    /// of them. Empty for a member that is alone, or that was started with the list before.
    pub members: BTreeMap<u64, String>,
    /// Members of a running group that this one is to join, if its directory is new; empty for a
    /// member of a new group.
    pub join: Vec<String>,
    /// Voters that every region should have: 1, 3 or 5. A cluster that was created with another
    /// number is refused; None for what the cluster has, or 3 if it is new.
    pub replica_count: Option<u64>,
    /// A store that is silent for longer is down: its peers are replaced.
    pub down_after_ms: u64,
    /// All other times.
    pub timing: PdTiming,
    /// Where the member registers what it counts.
    pub metrics: Registry,
}

impl PdConfig {
    /// The configuration of a cluster with three replicas, which gives a store up after 30 minutes.
    pub fn new(id: u64, dir: impl Into<PathBuf>, addr: impl Into<String>) -> PdConfig {
        PdConfig {
            id,
            dir: dir.into(),
            addr: addr.into(),
            advertise: None,
            security: Security::default(),
            members: BTreeMap::new(),
            join: vec![],
            replica_count: None,
            down_after_ms: 30 * 60 * 1_000,
            timing: PdTiming::default(),
            metrics: Registry::default(),
        }
    }

    fn check(&self) -> Result<(), StartError> {
        let is_both = !self.members.is_empty() && !self.join.is_empty();
        let is_listed = self.members.is_empty() || self.members.contains_key(&self.id);
        let reason = match (self.id, self.replica_count) {
            (0, _) => "the id must not be 0",
            _ if is_both => "a member is listed for a new group, or joins one that runs, not both",
            _ if !is_listed => "the list of members must name this member, too",
            (_, None | Some(1 | 3 | 5)) => return Ok(()),
            (_, Some(_)) => "the replica count must be 1, 3 or 5",
        };
        Err(StartError::Config { reason })
    }
}

/// Why a placement driver does not start. Says what to do where that is not plain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The configuration makes no sense.
    #[error("placement driver: {reason}")]
    Config {
        /// What is wrong.
        reason: &'static str,
    },
    /// Nothing can listen there, most often because something does already.
    #[error(transparent)]
    Listen(#[from] BindError),
    /// Others cannot be told of the address.
    #[error(transparent)]
    Advertise(#[from] AdvertiseError),
    /// The certificate is not this member's.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The operating system refused.
    #[error("{}: {reason}", .path.display())]
    Io {
        /// The file or directory concerned.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    Dir(#[from] DirError),
    /// The running group does not take the member.
    #[error("cannot join the placement drivers: {0}")]
    Join(String),
    /// Log and state cannot be read or do not fit together.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// A running placement driver. Dropping it stops it too, without waiting for the end.
pub struct PdServer {
    addr: SocketAddr,
    inbox: Inbox,
    failure: watch::Receiver<Option<String>>,
    running: Option<Running>,
}

/// What has to be ended.
struct Running {
    shutdown: oneshot::Sender<()>,
    server: JoinHandle<()>,
    worker: thread::JoinHandle<()>,
    _member_runtime: OwnRuntime,
}

impl PdServer {
    /// Starts a placement driver. When this returns it listens; it answers as soon as it leads,
    /// which for a single member takes a few milliseconds, and tells callers to try again until
    /// then.
    pub async fn start(config: PdConfig) -> Result<PdServer, StartError> {
        config.check()?;
        let listener = Listener::bind_by(&config.addr, &config.security).await?;
        let addr = listener.addr();
        let (inbox, mut receiver) = inbox::inbox();
        let (failed, failure) = watch::channel(None);
        let core = core_config(&config, listener.advertised(config.advertise.as_deref())?);
        let tls = config.security.tls().cloned();
        if let Some(tls) = &tls {
            tls.check_server(CertRole::Pd, Some(config.id), &core.addr)?;
        }
        let (dir, id, join) = (config.dir.clone(), config.id, config.join.clone());
        let (opened, is_open) = oneshot::channel();
        let reports = inbox.clone();
        let addresses = AddressBook::secured(tls.clone());
        let (snapshots, outgoing) = mpsc::unbounded_channel();
        let (told, members) = watch::channel(vec![]);
        let host_metrics = HostMetrics::new(&config.metrics, "pd", id);
        let metrics = PdMetrics::new(&config.metrics, id);
        ask_thread(&config.metrics, id, &inbox);
        let member_runtime = OwnRuntime::start(&format!("pd-{id}-raft"), Priority::Usual);
        let member_runtime = member_runtime.map_err(|error| thread_error(&config.dir, &error))?;
        let members_on = member_runtime.handle().clone();
        let links = Links {
            listens_at: core.addr.clone(),
            addresses: addresses.clone(),
            told,
            snapshots,
            tasks: members_on.clone(),
            metrics: host_metrics.clone(),
        };
        let worker = thread::Builder::new().name(format!("pd-{id}")).spawn(move || {
            let threads = data_dir::open(&dir, id).map_err(StartError::from).and_then(|dir| {
                let core = join::join(core, &dir, (join, tls), &links.tasks)?;
                PdThreads::open(core, dir, (reports, links, metrics), failed)
            });
            // A caller that is gone stops the server, so nobody misses the news.
            match threads {
                Err(error) => drop(opened.send(Err(error))),
                Ok(threads) => {
                    let _ = opened.send(Ok(threads.receives_for()));
                    threads.run(&mut receiver);
                }
            }
        });
        let worker = worker.map_err(|error| thread_error(&config.dir, &error))?;
        let (identity, staging) = is_open.await.map_err(|_| StartError::Io {
            path: config.dir.clone(),
            reason: "opening it panicked".into(),
        })??;
        let (shutdown, stopped) = oneshot::channel();
        let receiver = MemberReceiver { inbox: inbox.clone(), addresses: addresses.clone() };
        let raft = RaftService::new(identity, Arc::new(receiver), staging);
        let raft = raft.counted(host_metrics.clone());
        let counts = host_metrics.snapshots_sent;
        let sender = SnapshotSender { from: identity, addresses, counts };
        members_on.spawn(sender.run(outgoing));
        let services = (inbox.clone(), raft, members_on);
        let serving = server::serve(listener, services, members, until(stopped, failure.clone()));
        let server = tokio::spawn(serving);
        tracing::info!(id, %addr, dir = %config.dir.display(), "placement driver started");
        let running = Running { shutdown, server, worker, _member_runtime: member_runtime };
        Ok(PdServer { addr, inbox, failure, running: Some(running) })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Waits until the placement driver cannot go on, and answers why. It has been logged then,
    /// and nothing listens any more. Never answers while all is well.
    pub async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        match failure.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the placement driver's thread panicked".into(),
        }
    }

    /// Stops it: calls under way are answered, the state is made durable, the directory is free
    /// when this returns.
    pub async fn stop(mut self) {
        let Some(Running { shutdown, mut server, worker, _member_runtime }) = self.running.take()
        else {
            return;
        };
        let _ = shutdown.send(());
        if tokio::time::timeout(GRACE, &mut server).await.is_err() {
            server.abort();
        }
        let inbox = self.inbox.clone();
        let ended = tokio::task::spawn_blocking(move || {
            inbox.report(Mail::Stop);
            worker.join()
        });
        if !matches!(ended.await, Ok(Ok(()))) {
            tracing::error!("the placement driver's thread panicked");
        }
    }
}

impl Drop for PdServer {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.server.abort();
            // Connections live on without it; the thread's end makes them answer so.
            self.inbox.report(Mail::Stop);
        }
    }
}

impl fmt::Debug for PdServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PdServer").field("addr", &self.addr).finish_non_exhaustive()
    }
}

fn thread_error(dir: &Path, error: &io::Error) -> StartError {
    StartError::Io { path: dir.into(), reason: format!("cannot start a thread: {error}") }
}

fn core_config(config: &PdConfig, addr: String) -> CoreConfig {
    CoreConfig {
        id: config.id,
        addr,
        members: config.members.clone(),
        joins: None,
        seed: runtime::random_seed(),
        replica_count: config.replica_count,
        down_after_ms: config.down_after_ms,
        timing: config.timing,
        limits: PdLimits::default(),
    }
}

/// Ends when the server is to stop, or has failed.
async fn until(stopped: oneshot::Receiver<()>, mut failure: watch::Receiver<Option<String>>) {
    tokio::select! {
        _ = stopped => {}
        _ = failure.wait_for(Option::is_some) => {}
    }
}
