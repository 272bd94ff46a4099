//! The processes of a demo: one placement driver and stores, each a `flotilla` of its own on
//! loopback, in a temporary directory.
//!
//! A process ends with the [`Cluster`], whatever ends the demo: each child is killed by its own id
//! when its handle is dropped. The processes are no part of the terminal's group, so that Ctrl-C
//! reaches the demo alone, which then ends them.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_client::{Client, PdClient, Replica, ReplicaAddr, Route, read_replica};
use flotilla_proxy::{Mesh, free_port};
use flotilla_types::{Member, StoreId};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::sleep;

use crate::failure::{Failure, Tried};

/// How often a condition is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// How long a new cluster may take until it serves.
const BEGIN_MAX: Duration = Duration::from_secs(30);

/// A call of a demo's own client takes no longer.
const CALL_MAX: Duration = Duration::from_secs(20);

/// The processes.
pub struct Cluster {
    pd_addr: String,
    replicas: u64,
    region_bytes: &'static str,
    stores: Vec<Server>,
    mesh: Option<Mesh>,
    pd: PdClient,
    /// Kept for its process.
    _placement_driver: Child,
    // Last, because fields are dropped in their order: processes write here.
    dir: TempDir,
}

/// A store's name and address, and its process while it runs.
struct Server {
    name: String,
    addr: String,
    process: Option<Child>,
}

/// How a demo's cluster is started.
pub struct Plan {
    /// Stores that are started.
    pub stores: usize,
    /// Stores that are started later ([`Cluster::start_store`]).
    pub later: usize,
    /// Replicas of each region.
    pub replicas: u64,
    /// The size at which regions split.
    pub region_bytes: &'static str,
    /// The names of clients that reach the servers over links that can be cut; none: there are no
    /// such links.
    pub clients: &'static [&'static str],
}

impl Cluster {
    /// Starts the processes, and waits until the cluster serves.
    pub async fn start(plan: Plan) -> Result<Cluster, Failure> {
        let dir = tempfile::tempdir().tried("create a temporary directory")?;
        let pd_addr = free_addr()?;
        let mut stores = vec![];
        for number in 1..=plan.stores + plan.later {
            let (name, addr) = (format!("store-{number}"), free_addr()?);
            stores.push(Server { name, addr, process: None });
        }
        let mesh = mesh(&plan, &pd_addr, &stores).await?;
        let args =
            ["pd", "--id", "1", "--addr", &pd_addr, "--replicas", &plan.replicas.to_string()]
                .map(String::from);
        let placement_driver = spawn(dir.path(), "pd", &args)?;
        let pd = PdClient::new([pd_addr.as_str()]).tried("demo")?.with_timeout(CALL_MAX);
        let mut cluster = Cluster {
            pd_addr,
            replicas: plan.replicas,
            region_bytes: plan.region_bytes,
            stores,
            mesh,
            pd,
            _placement_driver: placement_driver,
            dir,
        };
        for index in 0..plan.stores {
            cluster.start_store(index)?;
        }
        cluster.wait_until_whole().await?;
        Ok(cluster)
    }

    /// Starts the store at this index on its directory and address.
    pub fn start_store(&mut self, index: usize) -> Result<(), Failure> {
        let Server { name, addr, .. } = &self.stores[index];
        let mut args = ["store", "--addr", addr, "--pd", &self.pd_addr, "--region-bytes"]
            .map(String::from)
            .to_vec();
        args.push(self.region_bytes.to_string());
        args.extend(self.dials(name));
        let process = spawn(self.dir.path(), name, &args)?;
        self.stores[index].process = Some(process);
        Ok(())
    }

    /// kill -9 of the store at this index.
    pub async fn kill_store(&mut self, index: usize) {
        if let Some(mut process) = self.stores[index].process.take() {
            // An error means that it has ended by itself.
            let _ = process.kill().await;
        }
    }

    /// True if the store at this index runs, as far as the demo knows.
    pub fn runs(&self, index: usize) -> bool {
        self.stores[index].process.is_some()
    }

    /// The options that lead a process over its links.
    fn dials(&self, name: &str) -> Vec<String> {
        self.mesh.as_ref().map(|mesh| mesh.dial_args(name)).unwrap_or_default()
    }

    /// The links.
    pub fn mesh(&self) -> &Mesh {
        self.mesh.as_ref().expect("the plan has clients")
    }

    /// The placement driver's client.
    pub fn pd(&self) -> &PdClient {
        &self.pd
    }

    /// A client of this process, over no link. It repeats a put whose outcome a lost server has
    /// left open, because nobody else writes these rows.
    pub async fn client(&self) -> Result<Client, Failure> {
        let client = Client::builder().endpoints([self.pd_addr.as_str()]).request_timeout(CALL_MAX);
        client.retry_undetermined_writes(true).connect().await.tried("demo")
    }

    /// Runs `flotilla ARGS` as the client of this name, over its links, and answers its exit status
    /// and what it printed.
    pub async fn run_as(&self, client: &str, args: &[&str]) -> Result<(i32, Bytes), Failure> {
        let mut command = flotilla()?;
        command.args(args).args(self.dials(client)).stdin(Stdio::null()).stderr(Stdio::null());
        let output = command.output().await.tried("run flotilla")?;
        Ok((output.status.code().unwrap_or(-1), output.stdout.into()))
    }

    /// The name of the store at this index.
    pub fn store_name(&self, index: usize) -> &str {
        &self.stores[index].name
    }

    /// Where the store at this index listens.
    pub fn store_addr(&self, index: usize) -> &str {
        &self.stores[index].addr
    }

    /// The index of the store that PD knows by this id.
    pub async fn index_of(&self, store: StoreId) -> Result<usize, Failure> {
        let known = self.pd.stores().await.tried("demo")?;
        let addr = known.into_iter().filter_map(|known| known.store).find(|s| s.id == store.0);
        let index = addr.and_then(|known| self.stores.iter().position(|s| s.addr == known.addr));
        index.ok_or_else(|| Failure::Server(format!("store {store} is none of this demo's")))
    }

    /// How many regions each store has, by id.
    pub async fn region_counts(&self) -> Result<Vec<(StoreId, u64)>, Failure> {
        let stores = self.pd.stores().await.tried("demo")?;
        let count = |status: &flotilla_types::proto::StoreStatus| {
            let id = status.store.as_ref().map(|store| StoreId(store.id))?;
            Some((id, status.region_count))
        };
        Ok(stores.iter().filter_map(count).collect())
    }

    /// The first region.
    pub async fn first_region(&self) -> Result<Route, Failure> {
        let regions = self.pd.all_regions().await.tried("demo")?;
        let first = regions.into_iter().next();
        first.ok_or_else(|| Failure::Server("the cluster has no region".into()))
    }

    /// What the replicas of the first region have applied, each read from its own store; those on
    /// stores that do not run are left out. `keys` are read as well.
    pub async fn replicas(&self, keys: &[Bytes]) -> Result<Vec<(Member, Replica)>, String> {
        let regions = self.pd.all_regions().await.map_err(|error| error.to_string())?;
        let region = regions.into_iter().next().ok_or("the cluster has no region")?.region;
        let known = self.pd.stores().await.map_err(|error| error.to_string())?;
        let cluster_id = self.pd.cluster_status().await.map_err(|error| error.to_string())?;
        let cluster_id = cluster_id.cluster_id;
        let mut replicas = vec![];
        for member in &region.members {
            let mut stores = known.iter().filter_map(|status| status.store.as_ref());
            let store = stores.find(|store| store.id == member.store_id.0);
            let store = store.ok_or(format!("store {} is not known", member.store_id))?;
            let runs = self.stores.iter().any(|s| s.addr == store.addr && s.process.is_some());
            if !runs {
                continue;
            }
            let (addr, region) = (store.addr.as_str(), region.id);
            let at = ReplicaAddr { cluster_id, store: member.store_id, addr, region };
            let replica = read_replica(at, keys).await.map_err(|error| error.to_string())?;
            replicas.push((*member, replica));
        }
        Ok(replicas)
    }

    /// Waits until every region has its replicas and a leader, and a store each.
    async fn wait_until_whole(&self) -> Result<(), Failure> {
        wait(BEGIN_MAX, "the cluster to begin", async || {
            let status = self.pd.cluster_status().await.map_err(|error| error.to_string())?;
            let reasons: Vec<&str> = status.reasons.iter().map(|why| why.what.as_str()).collect();
            let is_whole = status.region_count > 0 && status.awaited.is_empty();
            let has_all = status.replica_count == self.replicas;
            if is_whole && has_all && reasons.is_empty() { Ok(()) } else { Err(reasons.join("; ")) }
        })
        .await
    }
}

/// Waits until the condition answers a value. The failure says what was awaited, and the last
/// reason against it.
pub async fn wait<T>(
    limit: Duration,
    what: &str,
    condition: impl AsyncFn() -> Result<T, String>,
) -> Result<T, Failure> {
    let began = Instant::now();
    loop {
        match condition().await {
            Ok(value) => return Ok(value),
            Err(why) if began.elapsed() > limit => {
                let limit = limit.as_secs();
                let line = format!("waited {limit} s for {what}; last seen: {why}");
                return Err(Failure::Server(line));
            }
            Err(_) => sleep(POLL_INTERVAL).await,
        }
    }
}

async fn mesh(plan: &Plan, pd_addr: &str, stores: &[Server]) -> Result<Option<Mesh>, Failure> {
    if plan.clients.is_empty() {
        return Ok(None);
    }
    let mut servers = vec![("pd".to_string(), pd_addr.to_string())];
    servers.extend(stores.iter().map(|store| (store.name.clone(), store.addr.clone())));
    let names = stores.iter().map(|store| store.name.clone());
    let callers: Vec<String> =
        names.chain(plan.clients.iter().map(|name| name.to_string())).collect();
    Mesh::open(&callers, &servers).await.map(Some).tried("open the links")
}

/// This binary.
fn flotilla() -> Result<Command, Failure> {
    let binary = std::env::current_exe().tried("find this binary")?;
    let mut command = Command::new(binary);
    command.kill_on_drop(true).process_group(0);
    // What is meant for the demo is not meant for its processes.
    for meant_for_the_demo in ["PD", "DIAL", "TLS_DIR", "TLS_CERT", "TLS_KEY", "TLS_CA"] {
        command.env_remove(format!("FLOTILLA_{meant_for_the_demo}"));
    }
    Ok(command)
}

fn spawn(dir: &Path, name: &str, args: &[String]) -> Result<Child, Failure> {
    let log = std::fs::File::create(dir.join(format!("{name}.log"))).tried("create a log file")?;
    let mut command = flotilla()?;
    command.args(args).arg("--dir").arg(dir.join(name));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().tried("start flotilla")
}

/// An address on loopback that nobody listens on.
fn free_addr() -> Result<String, Failure> {
    let port = free_port().ok_or_else(|| Failure::Server("there is no free port".into()))?;
    Ok(format!("127.0.0.1:{port}"))
}
