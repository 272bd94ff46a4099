//! `flotilla pd` and `flotilla store`: one server, until it is told to stop.
//!
//! SIGINT and SIGTERM stop a server cleanly, within ten seconds; a second signal ends it at once.
//! SIGKILL is safe too: nothing that a server has acknowledged depends on a clean stop. A server
//! that cannot continue, for example because its disk failed or a thread panicked, ends with status
//! 3 and prints the reason.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use flotilla_gateway::Gateway;
use flotilla_pd::{PdConfig, PdServer};
use flotilla_store::{StoreConfig, StoreServer};
use tracing::info;

use crate::args::{
    ListenArgs, TlsArgs, address, label, label_map, memory_bytes, region_bytes, replicas,
    store_memory_bytes,
};
use crate::failure::Failure;
use crate::gateway::{self, HttpArgs};
use crate::signals::StopSignals;

/// Arguments of `flotilla pd`.
#[derive(Args)]
pub struct PdArgs {
    /// This member's id
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
    /// Data directory; created if it does not exist
    #[arg(long)]
    dir: PathBuf,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    http: HttpArgs,
    /// Replicas of each region: 1, 3 or 5. Counts when the cluster is created, which begins once as
    /// many stores run; another number is refused from then on [default: 3]
    #[arg(long, value_name = "N", value_parser = replicas)]
    replicas: Option<u64>,
    /// A member of PD's group, this one among them; the same list for each member at its first
    /// start. Without it, PD has one member, or those that the directory was created with
    #[arg(long = "peer", value_name = "ID=HOST:PORT", value_parser = peer)]
    peers: Vec<(u64, String)>,
    /// Join the running PD of these members, under an id that none of them has had; counts while
    /// DIR is new
    #[arg(long, value_name = "HOST:PORT[,...]", value_delimiter = ',', value_parser = address)]
    #[arg(conflicts_with_all = ["peers", "replicas"])]
    join: Vec<String>,
}

/// Arguments of `flotilla store`, beside `--pd`.
#[derive(Args)]
pub struct StoreArgs {
    /// Data directory; created if it does not exist
    #[arg(long)]
    dir: PathBuf,
    #[command(flatten)]
    listen: ListenArgs,
    #[command(flatten)]
    http: HttpArgs,
    /// What replicas are spread by, such as zone=a; may be repeated
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// Size at which a region splits
    #[arg(long, value_name = "BYTES", default_value = "96MiB", value_parser = region_bytes)]
    region_bytes: u64,
    /// Memory that is divided among pages of the state file, writes that are not in it yet, and
    /// what is under way. It sets the two below unless they are given
    #[arg(long, value_name = "BYTES", default_value = "512MiB", value_parser = store_memory_bytes)]
    memory: usize,
    /// Memory for pages of the state file [default: 3/16 of --memory]
    #[arg(long, value_name = "BYTES", value_parser = memory_bytes)]
    cache_bytes: Option<usize>,
    /// Applied writes that are gathered in memory before they go to the state file; up to four
    /// times as much while the disk is slow. More means fewer bytes written, and a longer restart
    /// [default: 1/16 of --memory]
    #[arg(long, value_name = "BYTES", value_parser = memory_bytes)]
    checkpoint_bytes: Option<usize>,
    /// Threads that take and answer requests; reads that wait for the disk have others [default:
    /// half of the processors]
    #[arg(long, value_name = "N")]
    pub io_threads: Option<NonZeroUsize>,
}

/// Runs a PD member until a signal or a fatal error.
pub async fn pd(args: PdArgs, tls: &TlsArgs) -> Result<(), Failure> {
    let mut stop = StopSignals::new()?;
    let security = tls.security(args.listen.insecure.insecure)?;
    let called = args.listen.advertise_addr.clone().unwrap_or(args.listen.addr.clone());
    let tried = format!("start the placement driver in {}", args.dir.display());
    let mut config = PdConfig::new(args.id, args.dir, args.listen.addr);
    config.advertise = args.listen.advertise_addr;
    config.security = security.clone();
    config.replica_count = args.replicas;
    config.members = members(args.id, args.peers)?;
    config.join = args.join;
    config.metrics = gateway::registry("pd");
    let metrics = config.metrics.clone();
    let others: Vec<String> = config.members.values().chain(&config.join).cloned().collect();
    let server = PdServer::start(config).await;
    let server = server.map_err(|error| Failure::Server(format!("{tried}: {error}")))?;
    info!(addr = %server.addr(), "placement driver started");
    // A certificate is valid for the name that others use, and perhaps not for the address.
    let own = if security.tls().is_some() { called } else { own_addr(server.addr()) };
    let endpoints = [vec![own], others].concat();
    let gateway = match gateway::start_beside(args.http, security, endpoints, metrics).await {
        Ok(gateway) => gateway,
        Err(failure) => {
            server.stop().await;
            return Err(failure);
        }
    };
    let outcome = tokio::select! {
        () = stop.received() => Ok(()),
        reason = server.failed() => Err(died("placement driver", reason)),
    };
    let stopping = async {
        stop_gateway(gateway).await;
        server.stop().await;
    };
    stop.at_most(stopping).await?;
    info!("placement driver stopped");
    outcome
}

/// The address by which this machine calls a server that listens on `addr`.
fn own_addr(addr: SocketAddr) -> String {
    let loopback: IpAddr = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(loopback, addr.port()).to_string()
}

/// The members that `--peer` names.
fn members(id: u64, peers: Vec<(u64, String)>) -> Result<BTreeMap<u64, String>, Failure> {
    let mut members = BTreeMap::new();
    for (peer, addr) in peers {
        if members.insert(peer, addr).is_some() {
            return Err(Failure::Usage(format!("--peer {peer}=...: the id is given twice")));
        }
    }
    if !members.is_empty() && !members.contains_key(&id) {
        return Err(Failure::Usage(format!(
            "--id {id}: --peer must name every member, this one, too"
        )));
    }
    if !members.is_empty() && members.len().is_multiple_of(2) {
        tracing::warn!(
            members = members.len(),
            "an even number of members survives no more failures than one member less"
        );
    }
    Ok(members)
}

fn peer(text: &str) -> Result<(u64, String), String> {
    let (id, addr) = text.split_once('=').ok_or("give ID=HOST:PORT")?;
    let id = id.parse::<u64>().ok().filter(|id| *id > 0).ok_or("an id is a number from 1 on")?;
    Ok((id, address(addr)?))
}

/// Runs a store until a signal or a fatal error.
pub async fn store(args: StoreArgs, pd: Vec<String>, tls: &TlsArgs) -> Result<(), Failure> {
    let mut stop = StopSignals::new()?;
    let security = tls.security(args.listen.insecure.insecure)?;
    let tried = format!("start the store in {}", args.dir.display());
    let metrics = gateway::registry("store");
    let (http, shown) = (args.http, security.clone());
    let gateway = gateway::start_beside(http, shown, pd.clone(), metrics.clone()).await?;
    let mut config = StoreConfig::new(args.dir, args.listen.addr, pd);
    config.advertise = args.listen.advertise_addr;
    config.security = security;
    config.labels = label_map(args.labels)?;
    config.region_bytes_max = args.region_bytes;
    config.divide_memory(args.memory);
    config.cache_bytes = args.cache_bytes.unwrap_or(config.cache_bytes);
    config.checkpoint_bytes = args.checkpoint_bytes.unwrap_or(config.checkpoint_bytes);
    config.metrics = metrics;
    // A store may wait long for its PD, so a signal must end the start, too.
    let server = tokio::select! {
        () = stop.received() => return Ok(()),
        server = StoreServer::start(config) => server,
    };
    let server = server.map_err(|error| Failure::Server(format!("{tried}: {error}")))?;
    info!(store = %server.store_id(), addr = %server.addr(), "store started");
    let outcome = tokio::select! {
        () = stop.received() => Ok(()),
        reason = server.failed() => Err(died(&format!("store {}", server.store_id()), reason)),
    };
    let is_asked = outcome.is_ok();
    let stopping = async {
        stop_gateway(gateway).await;
        if is_asked {
            server.hand_over().await;
        }
        server.stop().await;
    };
    stop.at_most(stopping).await?;
    info!("store stopped");
    outcome
}

/// The HTTP API ends before its server, so that its requests can still be carried out.
async fn stop_gateway(gateway: Option<Gateway>) {
    if let Some(gateway) = gateway {
        gateway.stop().await;
    }
}

/// The failure of a server that stopped without a signal.
pub fn died(who: &str, reason: impl std::fmt::Display) -> Failure {
    Failure::Server(format!("{who} stopped: {reason}"))
}
