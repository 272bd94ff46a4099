//! The cluster under test: three members of the placement driver and five stores as processes, each
//! of which reaches every other one over a link of its own.
//!
//! This process reaches the servers in two ways: by the addresses that they are known as, over
//! links that faults cut as well (the workload), and as `localhost`, which no link stands in the
//! way of (the nemesis and the judges).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use flotilla_client::{PdClient, Route};
use flotilla_net::connect::dial_by;
use flotilla_tests::free_port;
use flotilla_types::keys::{DEFAULT_KEYSPACE, stored_key};
use flotilla_types::placement::OperatorRequest;
use flotilla_types::proto;
use tokio::time::sleep;

use crate::disk::{self, Disk};
use crate::links::{CLIENT, Links};
use crate::server::{Server, Usage, in_words};
use crate::timeline::Timeline;

/// Members of the placement driver.
pub const PDS: usize = 3;

/// Stores that the cluster begins with.
pub const STORES: usize = 5;

/// Stores that stand by for one whose disk is lost.
const SPARES: usize = 8;

/// Small, so that regions split while the workload runs.
const REGION_BYTES: &str = "256KiB";

/// How often it is looked whether a process has ended by itself, and what each holds.
const WATCH_INTERVAL: Duration = Duration::from_millis(200);

/// How long the administrator's calls take at most.
const ADMIN_MAX: Duration = Duration::from_secs(3);

/// How long a cluster may take until it is healthy.
const HEALTHY_MAX: Duration = Duration::from_secs(90);

/// All processes and links.
pub struct Cluster {
    /// Where data, logs and the timeline are.
    pub root: PathBuf,
    /// Members of the placement driver.
    pub pds: Vec<Server>,
    /// Stores, and after them those that stand by.
    pub stores: Vec<Server>,
    /// The links.
    pub links: Links,
    /// What happens.
    pub timeline: Arc<Timeline>,
    /// The build that servers may change to and back, if there is one.
    pub other_binary: Option<PathBuf>,
    /// The disks of servers, by the names of these; none without a library in front of them.
    disks: BTreeMap<String, Disk>,
    /// How many of the stores are in use: those that stand by come last.
    used: AtomicUsize,
    claimed: Mutex<BTreeSet<String>>,
    /// Administrative calls, past all links.
    pub pd: PdClient,
}

/// Servers that one fault has for itself, until it is dropped.
pub struct Claim<'a> {
    cluster: &'a Cluster,
    names: Vec<String>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut claimed = self.cluster.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        claimed.retain(|name| !self.names.contains(name));
    }
}

impl Cluster {
    /// A cluster in `root` of which nothing runs yet.
    pub async fn new(
        root: &Path,
        binary: &Path,
        timeline: Arc<Timeline>,
    ) -> Result<Cluster, String> {
        for dir in ["data", "logs"] {
            let made = fs::create_dir_all(root.join(dir));
            made.map_err(|error| format!("{}: {error}", root.display()))?;
        }
        let server = |name: String| Server::new(root, name, (addr(), addr()), binary);
        let pds: Vec<Server> = (1..=PDS).map(|id| server(format!("pd{id}"))).collect();
        let stores: Vec<Server> =
            (1..=STORES + SPARES).map(|number| server(format!("store{number}"))).collect();
        let all = pds.iter().chain(&stores);
        let all: Vec<_> = all.map(|server| (server.name.clone(), server.addr.clone())).collect();
        let links = Links::open(&all).await.map_err(|error| format!("links: {error}"))?;
        dial_by(&links.mesh().dials(CLIENT)).map_err(|error| format!("links: {error:?}"))?;
        let pd = pds.iter().map(|pd| past_links(&pd.addr));
        let pd = PdClient::new(pd).map_err(|error| error.to_string())?.with_timeout(ADMIN_MAX);
        let addrs: Vec<String> = pds.iter().map(|pd| pd.addr.clone()).collect();
        let pds = pds.into_iter().enumerate().map(|(at, pd)| with_pd_args(pd, at, &addrs, &links));
        let pds = pds.collect();
        let stores = stores.into_iter().map(|store| with_store_args(store, &addrs, &links));
        Ok(Cluster {
            root: root.to_path_buf(),
            pds,
            stores: stores.collect(),
            links,
            timeline,
            other_binary: None,
            disks: BTreeMap::new(),
            used: AtomicUsize::new(STORES),
            claimed: Mutex::default(),
            pd,
        })
    }

    /// Puts a library in front of the disks of all servers, so that they can fail. Where it cannot
    /// be built, they do not.
    pub fn put_disks(&mut self) {
        let library = match disk::build(&self.root) {
            Ok(library) => library,
            Err(why) => return self.timeline.note(format!("no faults of disks: {why}")),
        };
        for server in self.pds.iter().chain(&self.stores) {
            let disk = Disk::new(&self.root, &server.name);
            server.set_env(disk.env(&library, &server.dir));
            self.disks.insert(server.name.clone(), disk);
        }
    }

    /// The disk of this server, if it can fail.
    pub fn disk(&self, name: &str) -> Option<&Disk> {
        self.disks.get(name)
    }

    /// True if disks can fail.
    pub fn has_disks(&self) -> bool {
        !self.disks.is_empty()
    }

    /// Starts all that are in use, and waits until the cluster is healthy.
    pub async fn start(&self) -> Result<(), String> {
        self.start_all()?;
        self.wait_healthy(HEALTHY_MAX).await.map(drop)
    }

    /// Starts each server in use that does not run.
    pub fn start_all(&self) -> Result<(), String> {
        for server in self.pds.iter().chain(self.used_stores()) {
            server.start().map_err(|error| format!("{}: {error}", server.name))?;
        }
        Ok(())
    }

    /// Stores that are in use; one whose disk was lost is none any more.
    pub fn used_stores(&self) -> impl Iterator<Item = &Server> {
        let used = self.used.load(Ordering::SeqCst);
        self.stores.iter().take(used).filter(|store| !store.is_retired())
    }

    /// Takes the next store that stands by into use.
    pub fn next_spare(&self) -> Option<&Server> {
        let at = self.used.load(Ordering::SeqCst);
        let spare = self.stores.get(at)?;
        self.used.store(at + 1, Ordering::SeqCst);
        Some(spare)
    }

    /// The names of stores in use.
    pub fn store_names(&self) -> Vec<String> {
        self.used_stores().map(|store| store.name.clone()).collect()
    }

    /// The names of the placement driver's members.
    pub fn pd_names(&self) -> Vec<String> {
        self.pds.iter().map(|pd| pd.name.clone()).collect()
    }

    /// The addresses of the placement driver's members, over links.
    pub fn pd_addrs(&self) -> Vec<String> {
        self.pds.iter().map(|pd| pd.addr.clone()).collect()
    }

    /// The server of this name.
    pub fn server(&self, name: &str) -> Option<&Server> {
        self.pds.iter().chain(&self.stores).find(|server| server.name == name)
    }

    /// Takes servers for one fault; None if another one has one of them.
    pub fn claim(&self, names: &[String]) -> Option<Claim<'_>> {
        let mut claimed = self.claimed.lock().unwrap_or_else(PoisonError::into_inner);
        if names.iter().any(|name| claimed.contains(name)) {
            return None;
        }
        claimed.extend(names.iter().cloned());
        Some(Claim { cluster: self, names: names.to_vec() })
    }

    /// The member that leads the placement driver, if it is known.
    pub async fn pd_leader(&self) -> Option<&Server> {
        let group = self.pd.members().await.ok()?;
        let leader = group.members.into_iter().find(|member| member.leader)?;
        self.pds.iter().find(|pd| pd.addr == leader.addr)
    }

    /// All regions as the placement driver knows them.
    pub async fn regions(&self) -> Result<Vec<Route>, String> {
        self.pd.all_regions().await.map_err(|error| error.to_string())
    }

    /// Stores as the placement driver knows them, with the server of each.
    pub async fn known_stores(&self) -> Result<Vec<(proto::StoreStatus, &Server)>, String> {
        let known = self.pd.stores().await.map_err(|error| error.to_string())?;
        let server = |status: proto::StoreStatus| {
            let addr = status.store.as_ref()?.addr.clone();
            let server = self.stores.iter().find(|server| server.addr == addr)?;
            Some((status, server))
        };
        Ok(known.into_iter().filter_map(server).collect())
    }

    /// Waits until each region has a leader and all its replicas: how long that took.
    pub async fn wait_healthy(&self, limit: Duration) -> Result<Duration, String> {
        let began = Instant::now();
        loop {
            let why = match self.is_healthy().await {
                Ok(()) => return Ok(began.elapsed()),
                Err(why) => why,
            };
            if began.elapsed() > limit {
                return Err(format!("not healthy after {} s: {why}", limit.as_secs()));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Ok if each region has a leader and all its replicas.
    pub async fn is_healthy(&self) -> Result<(), String> {
        let status = self.pd.cluster_status().await.map_err(|error| error.to_string())?;
        let reasons: Vec<&str> = status.reasons.iter().map(|why| why.what.as_str()).collect();
        let has_begun = status.region_count > 0 && status.awaited.is_empty();
        if has_begun && reasons.is_empty() {
            return Ok(());
        }
        Err(format!("{} regions; {}; {}", status.region_count, status.awaited, reasons.join("; ")))
    }

    /// Splits regions until one begins at each of these user keys.
    pub async fn split_at(&self, keys: &[&str]) -> Result<(), String> {
        for key in keys {
            let key = stored_key(DEFAULT_KEYSPACE, key.as_bytes());
            let began = Instant::now();
            loop {
                let regions = self.regions().await?;
                let ranges = || regions.iter().map(|route| (&route.region.range, route.region.id));
                if ranges().any(|(range, _)| range.start == key) {
                    break;
                }
                if began.elapsed() > HEALTHY_MAX {
                    return Err(format!("no region begins at {key:?}"));
                }
                if let Some((_, region)) = ranges().find(|(range, _)| range.contains(&key)) {
                    // It is refused while another order is carried out.
                    let _ = self.pd.add_operator(region, OperatorRequest::Split(key.clone())).await;
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    /// What the servers have held at most, each by itself.
    pub fn peak(&self) -> Usage {
        let mut peak = Usage::default();
        for usage in self.pds.iter().chain(&self.stores).map(Server::usage) {
            peak.memory_bytes = peak.memory_bytes.max(usage.memory_bytes);
            peak.descriptors = peak.descriptors.max(usage.descriptors);
        }
        peak
    }

    /// Tells each process that ended by itself, and starts it again. Runs until it is dropped.
    pub async fn watch(&self) {
        loop {
            for server in self.pds.iter().chain(&self.stores) {
                server.usage();
                if let Some(status) = server.ended_by_itself() {
                    let how = in_words(status);
                    self.timeline.wrong(format!("{} ended by itself with {how}", server.name));
                    if let Err(error) = server.start() {
                        self.timeline.wrong(format!("{}: {error}", server.name));
                    }
                }
            }
            sleep(WATCH_INTERVAL).await;
        }
    }
}

/// The address of a server that is known by this one, past all links.
pub fn past_links(addr: &str) -> String {
    addr.replace("127.0.0.1", "localhost")
}

fn addr() -> String {
    format!("127.0.0.1:{}", free_port())
}

fn with_pd_args(pd: Server, at: usize, addrs: &[String], links: &Links) -> Server {
    let mut args = vec!["--id".into(), (at + 1).to_string(), "--replicas".into(), "3".into()];
    for (at, addr) in addrs.iter().enumerate() {
        args.extend(["--peer".into(), format!("{}={addr}", at + 1)]);
    }
    args.extend(links.mesh().dial_args(&pd.name));
    pd.with_args("pd", &args)
}

fn with_store_args(store: Server, pds: &[String], links: &Links) -> Server {
    let args = ["--pd", &pds.join(","), "--region-bytes", REGION_BYTES, "--memory", "128MiB"];
    let args = [args.map(String::from).to_vec(), links.mesh().dial_args(&store.name)].concat();
    store.with_args("store", &args)
}
