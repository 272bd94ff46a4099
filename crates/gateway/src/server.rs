//! The listener: accepts connections up to a bound, serves HTTP/1.1, stops gracefully.
//!
//! A connection that sends no head of a request for some time is closed, so idle ones free their
//! place. A stop has two steps: while it drains, the gateway serves on and says that it is not
//! ready; then the listener and idle connections are closed, and requests under way have some time
//! to end.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use flotilla_client::PdClient;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, warn};

use crate::app::{App, States, connect};
use crate::hosts::Hosts;
use crate::limits::{CONNECTIONS_MAX, HEAD_BYTES_MAX, HEAD_TIME_MAX, STOP_TIME_MAX};
use crate::routes;

/// The pause after a connection could not be accepted, most often because the process has no
/// descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What a gateway needs to start.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Where to listen, `HOST:PORT`; port 0 for any that is free.
    pub addr: String,
    /// Addresses of placement drivers or stores of its cluster, `HOST:PORT`.
    pub endpoints: Vec<String>,
    /// Names that requests may call the gateway by, beside addresses, `localhost` and the name in
    /// `addr`.
    pub hosts: Vec<String>,
    /// How long a gateway that was told to stop goes on serving, not ready, so that load balancers
    /// send requests elsewhere before it is gone.
    pub drain_time: Duration,
}

/// Why a gateway did not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// Nothing can listen there, most often because another process does.
    #[error("cannot listen on {addr}: {reason}")]
    Bind {
        /// The address as it was given.
        addr: String,
        /// What the operating system said.
        reason: String,
    },
    /// The addresses of the cluster cannot be read.
    #[error("the cluster's addresses: {reason}")]
    Endpoints {
        /// What is wrong with which.
        reason: String,
    },
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    addr: SocketAddr,
    drain_time: Duration,
    drain: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    connecting: JoinHandle<()>,
    serving: JoinHandle<()>,
}

impl Gateway {
    /// Listens, and serves from then on. The cluster may come later: until it answers, requests
    /// are refused as unavailable.
    ///
    /// # Errors
    /// [`StartError::Bind`]: choose another address. [`StartError::Endpoints`]: correct them.
    pub async fn start(config: GatewayConfig) -> Result<Gateway, StartError> {
        let refused = |error: std::io::Error| StartError::Bind {
            addr: config.addr.clone(),
            reason: error.to_string(),
        };
        let listener = TcpListener::bind(&config.addr).await.map_err(refused)?;
        let addr = listener.local_addr().map_err(refused)?;
        let names = config.hosts.iter().chain([&config.addr]);
        let hosts = Hosts::new(names.map(String::as_str));
        let (found, client) = watch::channel(None);
        let (drain, draining) = watch::channel(false);
        let (stop, stopping) = watch::channel(false);
        let pd = PdClient::new(&config.endpoints)
            .map_err(|error| StartError::Endpoints { reason: error.to_string() })?;
        let connecting = tokio::spawn(connect(config.endpoints, found));
        let states = States { client, draining };
        let app = Arc::new(App::new(pd, hosts, states));
        let serving = tokio::spawn(serve(listener, routes::router(app), stopping));
        Ok(Gateway { addr, drain_time: config.drain_time, drain, stop, connecting, serving })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Is not ready from now on, serves on for the time to drain, closes the listener, and waits
    /// for the requests under way, for some time.
    pub async fn stop(self) {
        self.drain.send_replace(true);
        tokio::time::sleep(self.drain_time).await;
        self.connecting.abort();
        self.stop.send_replace(true);
        if let Err(error) = self.serving.await {
            warn!(%error, "the gateway ended early");
        }
    }
}

/// Returns when `stopping` says so and the connections have ended, or their time is up.
async fn serve(listener: TcpListener, router: Router, mut stopping: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = told_to_stop(&mut stopping) => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let (stream, place) = accepted;
        let (router, stopping) = (router.clone(), stopping.clone());
        connections.spawn(async move {
            serve_connection(stream, router, stopping).await;
            drop(place);
        });
        // What has ended is let go of.
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_TIME_MAX, ended).await.is_err() {
        warn!("the gateway stops with requests under way");
    }
}

/// The next connection, once there is a place for it.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, Option<tokio::sync::OwnedSemaphorePermit>) {
    // Never closed, so there is always a place in the end.
    let place = places.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                debug!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, router: Router, mut stop: watch::Receiver<bool>) {
    // An answer leaves at once; without this it may wait for a confirmation of what went before.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = told_to_stop(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = served {
        debug!(%error, "a connection ended early");
    }
}

/// Returns once the gateway is to stop, or is gone.
async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
