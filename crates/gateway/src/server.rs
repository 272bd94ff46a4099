//! The server: HTTP/1.1 over connections up to a bound, stopped gracefully.
//!
//! [`flotilla_net`] accepts them: the places of connections are one budget of a process, and one
//! that makes no call within seconds is closed. Later, a connection that sends no head of a request
//! for some time is closed; so are the longest idle ones when there is no place for a new one. A
//! stop has two steps: while it drains, the gateway serves on and says that it is not ready; then
//! the listener and idle connections are closed, and requests under way have some time to end.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use flotilla_client::PdClient;
use flotilla_metrics::Registry;
use flotilla_net::accept::Caller;
use flotilla_net::incoming::Incoming;
use flotilla_net::listen::{BindError, Connections, Listener};
use flotilla_net::tls::Security;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, warn};

use crate::app::{App, States, connect};
use crate::connections::{Connection, IdleConnections, Impatient};
use crate::hosts::Hosts;
use crate::limits::{
    CONNECTIONS_MAX, HEAD_BYTES_MAX, HEAD_TIME_MAX, SEND_SILENCE_MAX, STOP_TIME_MAX,
};
use crate::routes;

/// How long an idle connection that is to give way may take, before another one has to.
const PLACE_PAUSE: Duration = Duration::from_millis(50);

/// What a gateway needs to start.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Where to listen, `HOST:PORT`; port 0 for any that is free.
    pub addr: String,
    /// Who may connect, and what the gateway shows its cluster.
    pub security: Security,
    /// Addresses of placement drivers or stores of its cluster, `HOST:PORT`.
    pub endpoints: Vec<String>,
    /// Names that requests may call the gateway by, beside addresses, `localhost` and the name in
    /// `addr`.
    pub hosts: Vec<String>,
    /// How long a gateway that was told to stop goes on serving, not ready, so that load balancers
    /// send requests elsewhere before it is gone.
    pub drain_time: Duration,
    /// What `/metrics` tells; the gateway registers its own series there.
    pub metrics: Registry,
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
        let bound = Listener::bind_by(&config.addr, &config.security).await;
        let listener =
            bound.map_err(|BindError { addr, reason }| StartError::Bind { addr, reason })?;
        let addr = listener.addr();
        let names = config.hosts.iter().chain([&config.addr]);
        let hosts = Hosts::new(names.map(String::as_str));
        let (found, client) = watch::channel(None);
        let (drain, draining) = watch::channel(false);
        let (stop, stopping) = watch::channel(false);
        let tls = config.security.tls().cloned();
        let pd = PdClient::secured(&config.endpoints, tls.clone())
            .map_err(|error| StartError::Endpoints { reason: error.to_string() })?;
        let connecting = tokio::spawn(connect(config.endpoints, tls, found));
        let states = States { client, draining };
        let app = Arc::new(App::new(pd, hosts, states, config.metrics));
        let serving = tokio::spawn(serve(listener.connections(), routes::router(app), stopping));
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
async fn serve(mut acceptor: Connections, router: Router, mut stopping: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let idle = IdleConnections::default();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = told_to_stop(&mut stopping) => break,
            accepted = accept(&mut acceptor, &places, &idle) => accepted,
        };
        let (stream, place) = accepted;
        let (router, stopping, connection) = (router.clone(), stopping.clone(), idle.open());
        connections.spawn(async move {
            serve_connection(stream, router, connection, stopping).await;
            drop(place);
        });
        // What has ended is let go of.
        while connections.try_join_next().is_some() {}
    }
    drop(acceptor);
    let ended = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_TIME_MAX, ended).await.is_err() {
        warn!("the gateway stops with requests under way");
    }
}

/// The next connection, and its place. If there is none, idle connections give way, and if none is
/// idle, the next one waits.
async fn accept(
    acceptor: &mut Connections,
    places: &Arc<Semaphore>,
    idle: &IdleConnections,
) -> (Incoming, Option<OwnedSemaphorePermit>) {
    let stream = loop {
        let stream = acceptor.next().await;
        if !stream.place().is_on_trial() {
            break stream;
        }
        // The process has as many connections as it serves, over other listeners most likely.
        idle.close_longest();
    };
    loop {
        if let Ok(place) = places.clone().try_acquire_owned() {
            return (stream, Some(place));
        }
        idle.close_longest();
        // Never closed, so there is a place as soon as a connection has ended.
        let place = places.clone().acquire_owned();
        if let Ok(place) = tokio::time::timeout(PLACE_PAUSE, place).await {
            return (stream, place.ok());
        }
    }
}

async fn serve_connection(
    stream: Incoming,
    router: Router,
    connection: Connection,
    mut stop: watch::Receiver<bool>,
) {
    let place = stream.place();
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request| {
        connection.busy();
        // Connections on trial are not served, so the first call is all that is waited for.
        let _ = place.admit(Caller::Any);
        let answered = router.call(request);
        async {
            let answer = answered.await;
            connection.idle();
            answer
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(Impatient::new(stream, SEND_SILENCE_MAX)), service);
    let mut served = pin!(served);
    let ended = tokio::select! {
        ended = served.as_mut() => ended,
        () = told_to_stop(&mut stop) => {
            served.as_mut().graceful_shutdown();
            served.as_mut().await
        }
        () = connection.told_to_close() => {
            if !connection.has_called() {
                // A graceful end would wait for the first request, which may never come.
                return;
            }
            served.as_mut().graceful_shutdown();
            served.as_mut().await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection ended early");
    }
}

/// Returns once the gateway is to stop, or is gone.
async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
