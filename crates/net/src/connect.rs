//! The connector: every connection to a store or a placement driver is opened here.
//!
//! In: an address, `HOST:PORT`, and what the connection is for. Out: an open HTTP/2 connection, or
//! a reason of one line. The scheme stands in `endpoint` alone. Where an address is reached by way
//! of another one (`dial.rs`), the connection goes there; reasons name the address itself.
//!
//! A connection for scans, or between members of Raft groups, begins with a greeting, so that
//! whoever accepts it serves it apart from others ([`crate::apart`]).
//!
//! Invariant: a call that is dropped ends no other call. An abandoned call resets its stream, and a
//! peer ends a connection whose streams are reset too often; so scans, which are abandoned at will,
//! have connections of their own ([`Traffic::Scans`]).

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_util::client::legacy::connect::HttpConnector;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};

use crate::dial::{self, Routes};
use crate::limits::STREAMS_PER_CONNECTION_MAX;
use crate::outgoing::{Connector, Secured};
use crate::principal::Principal;
use crate::tls::Tls;
use crate::tls::handle::host;

/// A connection that is not there by then counts as refused. It leaves time for a lost packet to be
/// sent again (after one second) and for a busy machine of two cores to accept.
pub const CONNECT_MS_MAX: u64 = 2_000;

/// A connection is probed when nothing came for this long, even if no call is under way: a peer
/// that stands still is noticed before the next call needs it. With [`KEEPALIVE_TIMEOUT_MS`] it is
/// noticed within 1.5 seconds: soon after the elections that replace it (one second at most), and
/// well within the time limit of a call.
const KEEPALIVE_INTERVAL_MS: u64 = 500;

/// A probe that is unanswered for this long ends the connection. It may queue behind what a server
/// lets a caller send unread, a megabyte: a link of ten megabits a second carries that in time.
const KEEPALIVE_TIMEOUT_MS: u64 = 1_000;

/// The same for scans, whose threads stand behind others at a busy server, and whose reader may be
/// slow: the connection is shared by many scans, and each notices by its own time limit that no row
/// comes.
const SCANS_KEEPALIVE_TIMEOUT_MS: u64 = 5_000;

/// What was sent and is not acknowledged, or finds no room at the peer, for this long ends the
/// connection in the system, too. Later than the probe, which notices the same: this one is for the
/// buffers of connections that are closed already, which would be kept for minutes.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MS_MAX: u64 = 5_000;

/// Bytes that a server may send on one stream before it waits: the largest reply fits almost
/// without a pause, where the default of 64 KiB costs a round trip for each.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Bytes that a server may send on one connection before it waits. What a connection does not
/// receive (Raft messages are only sent) costs no memory.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// The same for one scan: a chunk is on its way while the one before it is read.
const SCAN_WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// And for all scans of a connection, so that no scan waits for another's reader: as many whole
/// windows as a server opens streams on one connection.
const SCANS_WINDOW_BYTES: u32 = SCAN_WINDOW_BYTES * STREAMS_PER_CONNECTION_MAX;

/// Streams that this side has reset and whose frames it still expects: as many as it may have open.
const RESET_STREAMS_KEPT_MAX: usize = STREAMS_PER_CONNECTION_MAX as usize;

/// What a connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// Calls and streams that are read as they come, small urgent ones beside large ones.
    Calls,
    /// Streams of rows, each read at its caller's pace and dropped when its caller likes.
    Scans,
    /// What members of Raft groups tell each other.
    Members,
}

/// Bytes of a greeting.
pub(crate) const GREETING_BYTES: usize = 8;

impl Traffic {
    /// The first bytes of such a connection, in front of HTTP/2: whoever accepts it serves it apart
    /// from others. No other protocol begins with their first letters. Calls have none, so any
    /// client of HTTP/2 can make them.
    pub(crate) fn greeting(self) -> Option<&'static [u8; GREETING_BYTES]> {
        match self {
            Traffic::Calls => None,
            Traffic::Scans => Some(b"SCAN/1\r\n"),
            Traffic::Members => Some(b"RAFT/1\r\n"),
        }
    }
}

/// An address that nothing can be connected to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("address {addr:?} is not HOST:PORT")]
pub struct InvalidAddr {
    /// The address as it was given.
    pub addr: String,
}

/// From now on, connections to the first address of each pair are opened to the second one (see
/// `dial.rs`). The first call of a process counts; without one, each address is connected to
/// as it is.
///
/// # Errors
/// An address is not `HOST:PORT`.
pub fn dial_by(pairs: &[(String, String)]) -> Result<(), InvalidAddr> {
    for (addr, via) in pairs {
        check_addr(addr)?;
        check_addr(via)?;
    }
    let bare = pairs.iter().map(|(addr, via)| (bare(addr).to_string(), bare(via).to_string()));
    dial::set(Routes::new(bare));
    Ok(())
}

/// Opens a connection for calls. The reason in the error is one line that names the address. If it
/// fails, nothing was sent.
pub async fn connect(addr: &str) -> Result<Channel, String> {
    connect_by(addr, &Callee::default()).await
}

/// The same with TLS, and to nobody but this one.
pub async fn connect_by(addr: &str, callee: &Callee) -> Result<Channel, String> {
    connect_for(addr, Traffic::Calls, callee).await
}

/// Opens a connection to another member of Raft groups; as [`connect_by`] otherwise.
pub async fn connect_member(addr: &str, callee: &Callee) -> Result<Channel, String> {
    connect_for(addr, Traffic::Members, callee).await
}

/// Who is called, and how that is made sure of.
#[derive(Clone, Debug, Default)]
pub struct Callee {
    /// What this process shows and checks others by; None: no TLS, and anybody may answer.
    pub tls: Option<Tls>,
    /// Whom the certificate there is to name; None for any store or member of the placement
    /// driver.
    pub whom: Option<Principal>,
}

impl Callee {
    /// Any server, called with these certificates.
    pub fn any(tls: Option<Tls>) -> Callee {
        Callee { tls, whom: None }
    }
}

async fn connect_for(addr: &str, traffic: Traffic, callee: &Callee) -> Result<Channel, String> {
    let endpoint = endpoint(dial::via(bare(addr)), traffic).map_err(|error| error.to_string())?;
    let limit = Duration::from_millis(CONNECT_MS_MAX);
    let host = host(bare(addr)).to_string();
    let secured = callee.tls.clone().map(|tls| Secured { tls, host, whom: callee.whom });
    let greeting = traffic.greeting().map(<[u8; GREETING_BYTES]>::as_slice);
    let connector = Connector::new(sockets(), greeting, secured);
    let connecting = endpoint.connect_with_connector(connector);
    match tokio::time::timeout(limit, connecting).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(format!("{addr}: {}", root_cause(&error))),
        Err(_) => Err(format!("{addr}: no connection within {CONNECT_MS_MAX} ms")),
    }
}

/// Connections that are kept to be used again, by address. One that is lost is opened again by the
/// next call over it.
#[derive(Debug)]
pub struct Channels {
    max: usize,
    traffic: Traffic,
    callee: Callee,
    open: Mutex<BTreeMap<String, Opening>>,
}

/// A connection that is being opened (None), is open, or could not be opened.
type Opening = watch::Receiver<Option<Result<Channel, String>>>;

impl Channels {
    /// For calls. None yet. At most `max` are kept: beyond it, all are made anew.
    pub fn new(max: usize) -> Channels {
        Channels::of(Traffic::Calls, max)
    }

    /// As [`Channels::new`], for this traffic.
    pub fn of(traffic: Traffic, max: usize) -> Channels {
        Channels { max, traffic, callee: Callee::default(), open: Mutex::default() }
    }

    /// The same, with these certificates if there are any.
    pub fn secured(mut self, tls: Option<Tls>) -> Channels {
        self.callee = Callee::any(tls);
        self
    }

    /// The connection to an address, opened unless there is one. Whoever asks while it is being
    /// opened waits for the same attempt, and learns of its end.
    pub async fn get(&self, addr: &str) -> Result<Channel, String> {
        let mut opening = self.opening(addr);
        let opened = opening.wait_for(Option::is_some).await;
        let opened = opened.ok().and_then(|opened| opened.clone());
        opened.unwrap_or_else(|| Err(format!("{addr}: the attempt to connect was given up")))
    }

    /// Keeps the connection to an address no longer: a call over it has failed.
    pub fn forget(&self, addr: &str) {
        self.lock().remove(addr);
    }

    /// The connection to an address, or the attempt that is under way; else a new attempt.
    fn opening(&self, addr: &str) -> Opening {
        let mut open = self.lock();
        if let Some(known) = open.get(addr).filter(|known| is_usable(known)) {
            return known.clone();
        }
        if open.len() >= self.max {
            open.clear();
        }
        let (opened, opening) = watch::channel(None);
        let (to, traffic, callee) = (addr.to_string(), self.traffic, self.callee.clone());
        // A task of its own: the attempt does not end with the first of those that wait for it.
        tokio::spawn(async move { opened.send(Some(connect_for(&to, traffic, &callee).await)) });
        open.insert(addr.to_string(), opening.clone());
        opening
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Opening>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// False for an attempt that failed, or that nobody makes any more.
fn is_usable(opening: &Opening) -> bool {
    match &*opening.borrow() {
        Some(opened) => opened.is_ok(),
        None => opening.has_changed().is_ok(),
    }
}

/// Checks that an address is `HOST:PORT`, with or without `http://`.
pub fn check_addr(addr: &str) -> Result<(), InvalidAddr> {
    endpoint(addr, Traffic::Calls).map(drop)
}

/// The address without scheme and trailing slash.
pub fn bare(addr: &str) -> &str {
    let addr = addr.trim();
    addr.strip_prefix("http://").unwrap_or(addr).trim_end_matches('/')
}

fn endpoint(addr: &str, traffic: Traffic) -> Result<Endpoint, InvalidAddr> {
    let bare = bare(addr);
    let invalid = || InvalidAddr { addr: addr.to_string() };
    let has_port = bare.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
    });
    if !has_port {
        return Err(invalid());
    }
    let endpoint = Endpoint::from_shared(format!("http://{bare}")).map_err(|_| invalid())?;
    let (stream_window, connection_window, probe_ms) = match traffic {
        Traffic::Calls | Traffic::Members => {
            (STREAM_WINDOW_BYTES, CONNECTION_WINDOW_BYTES, KEEPALIVE_TIMEOUT_MS)
        }
        Traffic::Scans => (SCAN_WINDOW_BYTES, SCANS_WINDOW_BYTES, SCANS_KEEPALIVE_TIMEOUT_MS),
    };
    Ok(endpoint
        .connect_timeout(Duration::from_millis(CONNECT_MS_MAX))
        .http2_keep_alive_interval(Duration::from_millis(KEEPALIVE_INTERVAL_MS))
        .keep_alive_timeout(Duration::from_millis(probe_ms))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(stream_window)
        .initial_connection_window_size(connection_window)
        // What a server still sends on a stream that was dropped here counts as the server's error
        // once the stream is forgotten. It is none, however many there are.
        .http2_max_concurrent_reset_streams(RESET_STREAMS_KEPT_MAX)
        .http2_max_local_error_reset_streams(usize::MAX))
}

/// Opens sockets.
fn sockets() -> HttpConnector {
    let mut sockets = HttpConnector::new();
    sockets.set_nodelay(true);
    sockets.set_connect_timeout(Some(Duration::from_millis(CONNECT_MS_MAX)));
    #[cfg(target_os = "linux")]
    sockets.set_tcp_user_timeout(Some(Duration::from_millis(UNACKNOWLEDGED_MS_MAX)));
    sockets
}

/// The innermost cause of an error: "connection refused" rather than "transport error".
pub fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// A status in one line: its transport's error if it has one, else its message.
pub fn status_reason(status: &tonic::Status) -> String {
    match status.source() {
        Some(source) => root_cause(source),
        None if status.message().is_empty() => status.code().to_string(),
        None => status.message().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_host_and_port_with_or_without_scheme() {
        for good in ["127.0.0.1:2379", "http://pd-1:2379/", " pd:1 ", "[::1]:2379"] {
            assert!(check_addr(good).is_ok(), "{good}");
        }
        for bad in ["", "pd", ":2379", "pd:port", "https://pd:1", "pd:99999"] {
            let error = check_addr(bad).expect_err("refused");
            assert_eq!(error.addr, bad, "the error names what was given");
        }
    }

    #[tokio::test]
    async fn a_connection_that_is_refused_says_by_whom_and_why() {
        let error = connect("127.0.0.1:1").await.expect_err("nothing listens there");
        assert!(error.starts_with("127.0.0.1:1: "), "{error}");
        assert!(error.contains("refused"), "{error}");
    }
}
