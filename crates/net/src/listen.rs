//! The listener: stores, placement drivers and gateways accept connections here.
//!
//! In: an address to listen on (port 0 for any that is free) and the services. Out: where it
//! listens; then it serves until it is told to stop.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{Stream, TryStreamExt};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tonic::service::Routes;
use tonic::transport::Server;
use tracing::warn;

use crate::accept::{Acceptor, Connection, Places};
use crate::apart::{Apart, Told, Ways};
use crate::connect::{Traffic, root_cause};
use crate::incoming::{Incoming, Protocol};
use crate::limits::STREAMS_PER_CONNECTION_MAX;
use crate::tls::{Security, Tls};

/// Calls that their caller has dropped before this side looked at them. Beyond it HTTP/2 ends the
/// connection, and all calls on it: the defence against a peer that opens and resets streams as
/// fast as it can. A caller may drop all calls that it may have open, and as many again that it
/// opens in their place, a few times over before a busy server looks; each is a call without its
/// body, of [`HEADER_BYTES_MAX`] at most.
const DROPPED_CALLS_MAX: usize = 4 * STREAMS_PER_CONNECTION_MAX as usize;

/// The headers of one call; ours have some hundred bytes.
const HEADER_BYTES_MAX: u32 = 8 * 1024;

/// A connection is probed when nothing came for this long.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// A probe that is unanswered for this long ends the connection: a caller that lost power is gone
/// after half a minute.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Connections that the system makes before they are accepted here. Where it has no room for one,
/// its caller tries again a second later: a thousand that come at once had better not.
const BACKLOG: u32 = 1_024;

/// Why a server without TLS does not listen on another address.
const NOT_LOOPBACK: &str = "without TLS a server listens on loopback addresses only; name \
                            certificates with --tls-dir DIR, or give --insecure to let everybody \
                            who reaches it read and change everything";

/// Nothing can listen there, most often because another process does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot listen on {addr}: {reason}")]
pub struct BindError {
    /// The address as it was given.
    pub addr: String,
    /// What the operating system said.
    pub reason: String,
}

/// A server that listens on all addresses of its machine was not told which of them others are to
/// use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{addr} stands for all addresses of this machine, so nobody can be told to call it; name one \
     with --advertise-addr HOST:PORT"
)]
pub struct AdvertiseError {
    /// The address as it was given.
    pub addr: String,
}

/// A bound socket. Connections wait in it until [`Listener::serve`].
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    given: String,
    addr: SocketAddr,
    tls: Option<Tls>,
}

/// Connections that are accepted, for a server of another protocol than ours.
#[derive(Debug)]
pub struct Connections {
    acceptor: Acceptor,
    tls: Option<Tls>,
}

impl Connections {
    /// The next connection that there is a place for. May be dropped before it ends: no connection
    /// is lost.
    pub async fn next(&mut self) -> Incoming {
        Incoming::new(self.acceptor.next().await, self.tls.as_ref(), Protocol::Http)
    }
}

impl Listener {
    /// Listens on `addr`, `HOST:PORT`, a loopback address: without TLS.
    pub async fn bind(addr: &str) -> Result<Listener, BindError> {
        Listener::bind_by(addr, &Security::LoopbackOnly).await
    }

    /// Listens on `addr`, `HOST:PORT`, as `security` asks. The first listener of a process raises
    /// its limit of descriptors to what the system allows.
    pub async fn bind_by(addr: &str, security: &Security) -> Result<Listener, BindError> {
        let refused = |reason: String| BindError { addr: addr.to_string(), reason };
        let socket = listen(addr).await.map_err(|error| refused(error.to_string()))?;
        Places::of_process();
        let local = socket.local_addr().map_err(|error| refused(error.to_string()))?;
        if !security.allows(local.ip()) {
            return Err(refused(NOT_LOOPBACK.to_string()));
        }
        let tls = security.tls().cloned();
        match (security, local.ip().is_loopback()) {
            (Security::Insecure, false) => warn!(
                addr = %local,
                "no TLS: whoever reaches this address may read and change everything"
            ),
            (Security::Insecure | Security::LoopbackOnly | Security::Tls(_), _) => {}
        }
        Ok(Listener { socket, given: addr.to_string(), addr: local, tls })
    }

    /// What others are told to call: `advertise` if it is given, else where it listens, by the name
    /// that it was given.
    ///
    /// # Errors
    /// [`AdvertiseError`] without `advertise`, if it listens on all addresses.
    pub fn advertised(&self, advertise: Option<&str>) -> Result<String, AdvertiseError> {
        match advertise {
            Some(advertise) => Ok(advertise.to_string()),
            None if self.addr.ip().is_unspecified() => {
                Err(AdvertiseError { addr: self.given.clone() })
            }
            None if self.given.ends_with(":0") => Ok(self.addr.to_string()),
            None => Ok(self.given.clone()),
        }
    }

    /// Where it listens; with the port that was chosen if port 0 was asked for.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The connections, for a server of another protocol than ours.
    pub fn connections(self) -> Connections {
        let acceptor = Acceptor::new(self.socket, Places::of_process());
        Connections { acceptor, tls: self.tls }
    }

    /// Serves until `stop` ends, then waits for callers' calls under way. The error is why it ended
    /// before `stop`, in one line.
    pub async fn serve(
        self,
        services: Services,
        stop: impl Future<Output = ()>,
    ) -> Result<(), String> {
        let Services { callers, apart } = services;
        let (mut ways, of_callers) = Ways::new();
        let mut served_apart = JoinSet::new();
        for Apart { traffic, routes, on } in apart {
            served_apart.spawn_on(serve_apart(ways.add(traffic), routes, self.tls.clone()), &on);
        }
        let Connections { acceptor, tls } = self.connections();
        let incoming = secured(of_callers.incoming(), tls);
        tokio::select! {
            served = server().add_routes(callers).serve_with_incoming_shutdown(incoming, stop) => {
                served.map_err(|error| root_cause(&error))
            }
            () = ways.accept(acceptor) => Ok(()),
        }
    }
}

async fn serve_apart(connections: Told, routes: Routes, tls: Option<Tls>) {
    let never = std::future::pending();
    let served = server().add_routes(routes);
    // It ends with the listener.
    let incoming = secured(connections.incoming(), tls);
    drop(served.serve_with_incoming_shutdown(incoming, never).await);
}

/// The connections as they are read and written.
fn secured(
    connections: impl Stream<Item = io::Result<Connection>>,
    tls: Option<Tls>,
) -> impl Stream<Item = io::Result<Incoming>> {
    connections.map_ok(move |connection| Incoming::new(connection, tls.as_ref(), Protocol::Calls))
}

/// What is served.
pub struct Services {
    /// To everybody. What is not greeted is served here, whatever it carries.
    pub callers: Routes,
    /// To connections that are told apart.
    pub apart: Vec<Apart>,
}

impl Services {
    /// The same for all traffic, on the runtime of whoever calls this.
    pub fn alike(routes: Routes) -> Services {
        let apart = |traffic| Apart { traffic, routes: routes.clone(), on: Handle::current() };
        let apart = [Traffic::Scans, Traffic::Members].map(apart).into();
        Services { callers: routes, apart }
    }
}

/// Calls have no time limit of the server's: it would cut off streams that stay open, too.
fn server() -> Server {
    Server::builder()
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_max_pending_accept_reset_streams(Some(DROPPED_CALLS_MAX))
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
}

/// Listens on the first address of this name that can be listened on.
async fn listen(addr: &str) -> io::Result<TcpListener> {
    let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    for addr in tokio::net::lookup_host(addr).await? {
        match listen_on(addr) {
            Ok(socket) => return Ok(socket),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn listen_on(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A server that starts again finds its address still held by connections of the last one.
    socket.set_reuseaddr(true)?;
    socket.bind(addr)?;
    socket.listen(BACKLOG)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn any_free_port_is_told_and_an_address_in_use_is_refused_by_name() {
        let listener = Listener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.addr().to_string();
        assert!(!addr.ends_with(":0"), "{addr}");
        let error = Listener::bind(&addr).await.expect_err("it is in use");
        assert_eq!(error.addr, addr);
        assert!(error.to_string().starts_with(&format!("cannot listen on {addr}: ")), "{error}");
    }

    #[tokio::test]
    async fn without_tls_only_loopback_addresses_are_listened_on() {
        assert!(Listener::bind("localhost:0").await.is_ok());
        let error = Listener::bind("0.0.0.0:0").await.expect_err("everybody could call");
        assert!(error.to_string().contains("--insecure"), "{error}");
        assert!(Listener::bind_by("0.0.0.0:0", &Security::Insecure).await.is_ok());
    }

    #[tokio::test]
    async fn others_are_told_of_one_address() {
        let told = async |addr: &str, advertise: Option<&str>| {
            let listener = Listener::bind_by(addr, &Security::Insecure).await.expect("a free port");
            (listener.advertised(advertise), listener.addr().port())
        };
        let (advertised, port) = told("localhost:0", None).await;
        assert!(advertised.is_ok_and(|addr| addr.ends_with(&format!(":{port}"))));
        let refused = AdvertiseError { addr: "0.0.0.0:0".into() };
        assert_eq!(told("0.0.0.0:0", None).await.0, Err(refused));
        assert_eq!(told("0.0.0.0:0", Some("db-1:2379")).await.0, Ok("db-1:2379".into()));
    }
}
