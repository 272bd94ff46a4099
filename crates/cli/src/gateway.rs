//! `flotilla gateway`: the HTTP API of a cluster; and the same beside a server, by `--http-addr`.
//!
//! A gateway keeps nothing, so any number of them may run, and each may be stopped at any time.

use std::time::Duration;

use clap::Args;
use flotilla_gateway::{Gateway, GatewayConfig};
use flotilla_metrics::{Registry, process};
use flotilla_net::tls::Security;
use tracing::info;

use crate::args::{InsecureArg, TlsArgs, address, duration};
use crate::failure::Failure;
use crate::signals::StopSignals;

/// Arguments of `flotilla gateway`, beside `--pd`.
#[derive(Args)]
pub struct GatewayArgs {
    /// Address to listen on
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080", value_parser = address)]
    addr: String,
    /// How long it goes on serving after a signal, while /readyz says that it is not ready
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    drain_time: Duration,
    #[command(flatten)]
    insecure: InsecureArg,
    #[command(flatten)]
    names: NameArgs,
}

/// The HTTP API beside a server.
#[derive(Args)]
pub struct HttpArgs {
    /// Address to serve the HTTP API on [default: not served]
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    http_addr: Option<String>,
    #[command(flatten)]
    names: NameArgs,
}

/// What requests call the HTTP API by.
#[derive(Args)]
pub struct NameArgs {
    /// A name that HTTP requests may call this server by, beside its addresses, localhost and the
    /// name that it listens on; may be repeated. Others are refused, because a page of another site
    /// could otherwise read rows
    #[arg(long = "http-host", value_name = "NAME")]
    http_hosts: Vec<String>,
}

/// Runs a gateway until a signal.
pub async fn run(args: GatewayArgs, pd: Vec<String>, tls: &TlsArgs) -> Result<(), Failure> {
    let mut stop = StopSignals::new()?;
    let (addr, hosts, drain_time) = (args.addr, args.names.http_hosts, args.drain_time);
    let metrics = registry("gateway");
    let (endpoints, security) = (pd, tls.security(args.insecure.insecure)?);
    let config = GatewayConfig { addr, security, endpoints, hosts, drain_time, metrics };
    let gateway = start(config).await?;
    stop.received().await;
    stop.at_most(gateway.stop()).await?;
    info!("gateway stopped");
    Ok(())
}

/// Starts the HTTP API of the cluster at `endpoints` if `args` ask for it. It tells `metrics`.
pub async fn start_beside(
    args: HttpArgs,
    security: Security,
    endpoints: Vec<String>,
    metrics: Registry,
) -> Result<Option<Gateway>, Failure> {
    let Some(addr) = args.http_addr else { return Ok(None) };
    let (hosts, drain_time) = (args.names.http_hosts, Duration::ZERO);
    let config = GatewayConfig { addr, security, endpoints, hosts, drain_time, metrics };
    start(config).await.map(Some)
}

/// Where the servers of this process register what they count; it tells of the process itself.
pub fn registry(role: &str) -> Registry {
    let registry = Registry::default();
    process::register(&registry);
    let labels = [("role", role), ("version", env!("CARGO_PKG_VERSION"))];
    let help = "Always 1; the labels tell what runs here";
    registry.gauge("flotilla_build_info", help, &labels).set(1.0);
    registry
}

async fn start(config: GatewayConfig) -> Result<Gateway, Failure> {
    let gateway = Gateway::start(config).await;
    let gateway =
        gateway.map_err(|error| Failure::Server(format!("start the HTTP API: {error}")))?;
    info!(addr = %gateway.addr(), "HTTP API started");
    Ok(gateway)
}
