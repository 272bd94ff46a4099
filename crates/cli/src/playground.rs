//! `flotilla playground`: PD's members, stores and the HTTP API in one process on loopback.
//!
//! The servers are the real ones, on real sockets; only the process is shared. With `--dir` the
//! data stays. A playground that is started again has PD on the port that was asked for, and its
//! stores on ports of the system's choice: a store's identity is the id in its directory, and a
//! store that starts tells PD its address.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use clap::Args;
use flotilla_client::PdClient;
use flotilla_gateway::{Gateway, GatewayConfig, views};
use flotilla_metrics::Registry;
use flotilla_net::principal::{CertRole, Principal};
use flotilla_net::tls::{Security, Tls};
use flotilla_pd::{PdConfig, PdServer};
use flotilla_store::{StoreConfig, StoreServer};

use crate::args::region_bytes;
use crate::cert;
use crate::failure::{Failure, Tried};
use crate::gateway::registry;
use crate::output;
use crate::serve::died;
use crate::signals::StopSignals;

/// Stores of a new playground.
const STORES_DEFAULT: usize = 3;

/// A bound on what one process starts: what more stores than this would show, fewer show, too.
const STORES_MAX: usize = 64;

/// Memory for pages and for one checkpoint of each store. A playground has several stores in one
/// process and runs beside the other programs of a laptop, so this is less than a store's default.
const CACHE_BYTES: usize = 16 * 1024 * 1024;
const CHECKPOINT_BYTES: usize = 8 * 1024 * 1024;

/// How often PD is asked whether the cluster is ready.
const READY_POLL_INTERVAL: Duration = Duration::from_millis(25);

/// Arguments of `flotilla playground`.
#[derive(Args)]
pub struct PlaygroundArgs {
    /// Number of stores; regions of a new playground have 3 replicas, or 1 if there are fewer
    /// stores [default: 3, or as many as DIR holds]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=STORES_MAX as u64))]
    stores: Option<u64>,
    /// Number of placement drivers: 1, 3 or 5 [default: 1, or as many as DIR holds]
    #[arg(long, value_name = "N", value_parser = placement_drivers)]
    pds: Option<usize>,
    /// Data directory, kept at the end [default: a temporary one, removed at the end]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Port that PD listens on; if there are several, each has the port after the last one's. 0 for
    /// any that are free
    #[arg(long, default_value_t = 2379)]
    pd_port: u16,
    /// Port of the HTTP API; 0 for any that is free
    #[arg(long, default_value_t = 8080)]
    http_port: u16,
    /// Size at which a region splits
    #[arg(long, value_name = "BYTES", default_value = "96MiB", value_parser = region_bytes)]
    region_bytes: u64,
    /// Use TLS on every port, with certificates in DIR/tls that are made at the first start; those
    /// of DIR/tls/admin are for --tls-dir of other commands
    #[arg(long)]
    tls: bool,
}

/// The servers of one process, in the order they were started.
struct Playground {
    pds: Vec<PdServer>,
    stores: Vec<StoreServer>,
    gateway: Option<Gateway>,
    metrics: Registry,
    /// Where certificates are; None without TLS.
    tls_dir: Option<PathBuf>,
}

/// Runs a playground until a signal or a fatal error.
pub async fn run(args: PlaygroundArgs) -> Result<(), Failure> {
    let mut stop = StopSignals::new()?;
    let temporary = match args.dir {
        None => Some(tempfile::tempdir().tried("create a temporary directory")?),
        Some(_) => None,
    };
    let dir = match (&args.dir, &temporary) {
        (Some(dir), _) => dir.as_path(),
        (None, Some(temporary)) => temporary.path(),
        (None, None) => return Err(Failure::Usage("no data directory".into())),
    };
    let stores = store_count(dir, args.stores)?;
    let playground = tokio::select! {
        () = stop.received() => return Ok(()),
        playground = Playground::start(dir, stores, &args) => playground?,
    };
    let outcome = tokio::select! {
        () = stop.received() => Ok(()),
        failure = playground.failed() => Err(failure),
        failure = playground.announce(dir) => Err(failure),
    };
    stop.at_most(playground.stop()).await?;
    outcome
}

/// How many stores to start: the number asked for, else as many as `dir` holds. Fewer than `dir`
/// holds are refused, because the regions of a store that is left out would lack a replica.
fn store_count(dir: &Path, asked: Option<u64>) -> Result<usize, Failure> {
    let kept = (1..).take_while(|number| store_dir(dir, *number).exists()).count();
    match asked.map(|asked| asked as usize) {
        Some(asked) if asked < kept => Err(Failure::Usage(format!(
            "--stores {asked}: {} holds {kept} stores; ask for that many or more, or drain and \
             remove some first",
            dir.display()
        ))),
        Some(asked) => Ok(asked),
        None if kept > 0 => Ok(kept),
        None => Ok(STORES_DEFAULT),
    }
}

/// Replicas of a new playground's regions; None for what a kept one has.
fn replicas(dir: &Path, stores: usize) -> Option<u64> {
    let is_new = !store_dir(dir, 1).exists();
    is_new.then_some(if stores < STORES_DEFAULT { 1 } else { 3 })
}

fn placement_drivers(text: &str) -> Result<usize, String> {
    let count = text.parse::<usize>().ok().filter(|count| matches!(count, 1 | 3 | 5));
    count.ok_or_else(|| "1, 3 or 5 placement drivers".to_string())
}

/// How many placement drivers to start: as many as `dir` holds, or the number asked for.
fn pd_count(dir: &Path, asked: Option<usize>) -> Result<usize, Failure> {
    let kept = (1..).take_while(|number| pd_dir(dir, *number).exists()).count();
    match asked {
        Some(asked) if kept != 0 && asked != kept => Err(Failure::Usage(format!(
            "--pds {asked}: {} holds {kept} placement drivers; leave the option out",
            dir.display()
        ))),
        Some(asked) => Ok(asked),
        None => Ok(kept.max(1)),
    }
}

fn pd_dir(dir: &Path, number: usize) -> PathBuf {
    dir.join(if number == 1 { "pd".to_string() } else { format!("pd-{number}") })
}

/// Where the placement drivers listen, by id. Each must know where the others do before any
/// listens, so free ports are found first.
fn pd_addrs(count: usize, first_port: u16) -> Result<BTreeMap<u64, String>, Failure> {
    let what = "find free ports for the placement drivers";
    let mut kept = vec![];
    let mut addrs = BTreeMap::new();
    for number in 0..count as u16 {
        let port = if first_port == 0 { 0 } else { first_port.saturating_add(number) };
        let addr = if port == 0 && count > 1 {
            let listener = TcpListener::bind("127.0.0.1:0").tried(what)?;
            let addr = listener.local_addr().tried(what)?.to_string();
            kept.push(listener);
            addr
        } else {
            format!("127.0.0.1:{port}")
        };
        addrs.insert(u64::from(number) + 1, addr);
    }
    Ok(addrs)
}

/// Who has a certificate in a playground, and under which name. A store learns its id when it
/// registers, so its certificate names none.
fn principals(pds: usize, stores: usize) -> Vec<(String, Principal)> {
    let of = |role, id| Principal { role, id };
    let pds = (1..=pds as u64).map(|id| (format!("pd-{id}"), of(CertRole::Pd, Some(id))));
    let stores = (1..=stores).map(|n| (format!("store-{n}"), of(CertRole::Store, None)));
    let others = [("gateway", CertRole::Client), ("admin", CertRole::Admin)];
    let others = others.map(|(name, role)| (name.to_string(), of(role, None)));
    pds.chain(stores).chain(others).collect()
}

fn store_dir(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("store-{number}"))
}

impl Playground {
    async fn start(dir: &Path, stores: usize, args: &PlaygroundArgs) -> Result<Self, Failure> {
        fs::create_dir_all(dir).tried(&format!("create {}", dir.display()))?;
        let replicas = replicas(dir, stores);
        let addrs = pd_addrs(pd_count(dir, args.pds)?, args.pd_port)?;
        let mut playground = Playground {
            pds: Vec::new(),
            stores: Vec::new(),
            gateway: None,
            metrics: registry("playground"),
            tls_dir: args.tls.then(|| dir.join("tls")),
        };
        if let Some(tls_dir) = &playground.tls_dir {
            cert::playground(tls_dir, &principals(addrs.len(), stores))?;
        }
        for id in addrs.keys() {
            if let Err(failure) = playground.start_pd(dir, *id, &addrs, replicas).await {
                playground.stop().await;
                return Err(failure);
            }
        }
        for number in 1..=stores {
            if let Err(failure) = playground.start_store(dir, number, args.region_bytes).await {
                playground.stop().await;
                return Err(failure);
            }
        }
        if let Err(failure) = playground.start_gateway(args.http_port).await {
            playground.stop().await;
            return Err(failure);
        }
        Ok(playground)
    }

    async fn start_gateway(&mut self, port: u16) -> Result<(), Failure> {
        let addr = format!("127.0.0.1:{port}");
        let (endpoints, drain_time) = (self.pd_addrs(), Duration::ZERO);
        let (metrics, security) = (self.metrics.clone(), self.security("gateway")?);
        let hosts = vec![];
        let config = GatewayConfig { addr, security, endpoints, hosts, drain_time, metrics };
        let gateway = Gateway::start(config).await;
        self.gateway = Some(gateway.map_err(|error| {
            Failure::Server(format!(
                "start the HTTP API: {error}; if the port is taken, choose another with --http-port"
            ))
        })?);
        Ok(())
    }

    async fn start_pd(
        &mut self,
        dir: &Path,
        id: u64,
        addrs: &BTreeMap<u64, String>,
        replicas: Option<u64>,
    ) -> Result<(), Failure> {
        let addr = addrs.get(&id).cloned().unwrap_or_default();
        let mut config = PdConfig::new(id, pd_dir(dir, id as usize), addr.clone());
        config.security = self.security(&format!("pd-{id}"))?;
        config.replica_count = replicas;
        config.metrics = self.metrics.clone();
        if addrs.len() > 1 {
            config.members = addrs.clone();
        }
        let pd = PdServer::start(config).await;
        self.pds.push(pd.map_err(|error| {
            Failure::Server(format!(
                "start the placement driver on {addr}: {error}; if the port is taken, choose \
                 another with --pd-port"
            ))
        })?);
        Ok(())
    }

    /// The certificates of this name, if there are any.
    fn security(&self, name: &str) -> Result<Security, Failure> {
        let Some(dir) = &self.tls_dir else { return Ok(Security::LoopbackOnly) };
        let tls = Tls::from_dir(dir.join(name));
        tls.map(Security::Tls).map_err(|error| Failure::Server(error.to_string()))
    }

    fn pd_addrs(&self) -> Vec<String> {
        self.pds.iter().map(|pd| pd.addr().to_string()).collect()
    }

    async fn start_store(&mut self, dir: &Path, number: usize, bytes: u64) -> Result<(), Failure> {
        let pd = self.pd_addrs();
        let dir = store_dir(dir, number);
        let tried = format!("start the store in {}", dir.display());
        let mut config = StoreConfig::new(dir, "127.0.0.1:0".into(), pd);
        config.security = self.security(&format!("store-{number}"))?;
        config.region_bytes_max = bytes;
        config.cache_bytes = CACHE_BYTES;
        config.checkpoint_bytes = CHECKPOINT_BYTES;
        config.metrics = self.metrics.clone();
        let store = StoreServer::start(config).await;
        self.stores.push(store.map_err(|error| Failure::Server(format!("{tried}: {error}")))?);
        Ok(())
    }

    /// Prints the endpoints, prints `ready` once every region has all its replicas, and then waits
    /// for ever. Returns only if one of these steps fails.
    async fn announce(&self, dir: &Path) -> Failure {
        match self.try_announce(dir).await {
            Ok(()) => std::future::pending().await,
            Err(failure) => failure,
        }
    }

    async fn try_announce(&self, dir: &Path) -> Result<(), Failure> {
        output::line(&format!("pd       {}", self.pd_addrs().join(",")))?;
        for store in &self.stores {
            output::line(&format!("store {:<2} {}", store.store_id().0, store.addr()))?;
        }
        if let Some(gateway) = &self.gateway {
            let scheme = if self.tls_dir.is_some() { "https" } else { "http" };
            output::line(&format!("http     {scheme}://{}", gateway.addr()))?;
        }
        if let Some(tls_dir) = &self.tls_dir {
            output::line(&format!("tls-dir  {}", tls_dir.join("admin").display()))?;
        }
        output::line(&format!("data     {}", dir.display()))?;
        self.wait_ready().await?;
        output::line("ready")
    }

    /// Returns once every store is registered and every region has a leader and all its replicas.
    async fn wait_ready(&self) -> Result<(), Failure> {
        let what = "playground";
        let tls = self.security("admin")?.tls().cloned();
        let pd = PdClient::secured(self.pd_addrs(), tls).tried(what)?;
        loop {
            let status = pd.cluster_status().await.tried(what)?;
            if views::is_healthy(&status) && status.store_count >= self.stores.len() as u64 {
                return Ok(());
            }
            tokio::time::sleep(READY_POLL_INTERVAL).await;
        }
    }

    /// Returns when a server has stopped without a signal, with the reason.
    async fn failed(&self) -> Failure {
        type Ends<'a> = Pin<Box<dyn Future<Output = Failure> + Send + 'a>>;
        let mut ends: Vec<Ends<'_>> = vec![];
        for pd in &self.pds {
            ends.push(Box::pin(async { died("placement driver", pd.failed().await) }));
        }
        for store in &self.stores {
            let who = format!("store {}", store.store_id());
            ends.push(Box::pin(async move { died(&who, store.failed().await) }));
        }
        std::future::poll_fn(|context| {
            for end in &mut ends {
                if let Poll::Ready(failure) = end.as_mut().poll(context) {
                    return Poll::Ready(failure);
                }
            }
            Poll::Pending
        })
        .await
    }

    async fn stop(self) {
        if let Some(gateway) = self.gateway {
            gateway.stop().await;
        }
        for store in self.stores {
            store.stop().await;
        }
        for pd in self.pds {
            pd.stop().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_playground_comes_back_with_all_its_stores() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(store_count(dir.path(), None).expect("new"), 3);
        assert_eq!(store_count(dir.path(), Some(1)).expect("new"), 1);
        assert_eq!(
            [1, 2, 3, 5].map(|stores| replicas(dir.path(), stores)),
            [Some(1), Some(1), Some(3), Some(3)]
        );
        for number in 1..=4 {
            fs::create_dir(store_dir(dir.path(), number)).expect("create");
        }
        assert_eq!(store_count(dir.path(), None).expect("kept"), 4);
        assert_eq!(replicas(dir.path(), 4), None, "it keeps what it has");
        assert_eq!(store_count(dir.path(), Some(5)).expect("one more"), 5);
        assert!(store_count(dir.path(), Some(3)).is_err());
    }

    #[test]
    fn placement_drivers_are_as_many_as_the_directory_holds() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(pd_count(dir.path(), None).expect("new"), 1);
        assert_eq!(pd_count(dir.path(), Some(3)).expect("new"), 3);
        for number in 1..=3 {
            fs::create_dir(pd_dir(dir.path(), number)).expect("create");
        }
        assert_eq!(pd_count(dir.path(), None).expect("kept"), 3);
        assert!(pd_count(dir.path(), Some(1)).is_err());
        assert!(placement_drivers("2").is_err() && placement_drivers("5").is_ok());
    }

    #[test]
    fn placement_drivers_have_ports_of_their_own() {
        let addrs = pd_addrs(3, 0).expect("free ports");
        let distinct: std::collections::BTreeSet<&String> = addrs.values().collect();
        assert_eq!(distinct.len(), 3, "{addrs:?}");
        let addrs = pd_addrs(3, 2379).expect("ports");
        assert_eq!(addrs.get(&3).map(String::as_str), Some("127.0.0.1:2381"));
        assert_eq!(pd_addrs(1, 0).expect("one").get(&1).map(String::as_str), Some("127.0.0.1:0"));
    }
}
