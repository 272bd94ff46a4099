//! The connector: every connection to a store or a placement driver is opened here.
//!
//! In: an address, `HOST:PORT`. Out: an open HTTP/2 connection, or a reason of one line. The scheme
//! stands in `endpoint` alone. All connections have the same settings: each of them carries small
//! urgent messages beside large ones.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

/// A connection that is not there by then counts as refused. It leaves time for a lost packet to be
/// sent again (after one second) and for a busy machine of two cores to accept.
pub const CONNECT_MS_MAX: u64 = 2_000;

/// A connection is probed when nothing came for this long, even if no call is under way: a
/// half-dead connection is found before the next call needs it.
const KEEPALIVE_INTERVAL_MS: u64 = 10_000;

/// A probe that is unanswered for this long ends the connection.
const KEEPALIVE_TIMEOUT_MS: u64 = 20_000;

/// Bytes that a server may send on one stream before it waits: a scan's chunks and the largest
/// reply fit without a pause, where the default of 64 KiB costs a round trip for each.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Bytes that a server may send on one connection before it waits: a few scans beside the requests'
/// stream. What a connection does not receive (Raft messages are only sent) costs no memory.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// An address that nothing can be connected to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("address {addr:?} is not HOST:PORT")]
pub struct InvalidAddr {
    /// The address as it was given.
    pub addr: String,
}

/// Opens a connection. The reason in the error is one line that names the address. If it fails,
/// nothing was sent.
pub async fn connect(addr: &str) -> Result<Channel, String> {
    let endpoint = endpoint(addr).map_err(|error| error.to_string())?;
    let limit = Duration::from_millis(CONNECT_MS_MAX);
    match tokio::time::timeout(limit, endpoint.connect()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(format!("{addr}: {}", root_cause(&error))),
        Err(_) => Err(format!("{addr}: no connection within {CONNECT_MS_MAX} ms")),
    }
}

/// Connections that are kept to be used again, by address.
#[derive(Debug)]
pub struct Channels {
    max: usize,
    open: Mutex<BTreeMap<String, Channel>>,
}

impl Channels {
    /// None yet. At most `max` are kept: beyond it, all are made anew.
    pub fn new(max: usize) -> Channels {
        Channels { max, open: Mutex::default() }
    }

    /// The connection to an address, as [`connect`] opens it unless there is one.
    pub async fn get(&self, addr: &str) -> Result<Channel, String> {
        if let Some(channel) = self.lock().get(addr) {
            return Ok(channel.clone());
        }
        let channel = connect(addr).await?;
        let mut open = self.lock();
        if open.len() >= self.max {
            open.clear();
        }
        open.insert(addr.to_string(), channel.clone());
        Ok(channel)
    }

    /// Keeps the connection to an address no longer: a call over it has failed.
    pub fn forget(&self, addr: &str) {
        self.lock().remove(addr);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Channel>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks that an address is `HOST:PORT`, with or without `http://`.
pub fn check_addr(addr: &str) -> Result<(), InvalidAddr> {
    endpoint(addr).map(drop)
}

/// The address without scheme and trailing slash.
pub fn bare(addr: &str) -> &str {
    let addr = addr.trim();
    addr.strip_prefix("http://").unwrap_or(addr).trim_end_matches('/')
}

fn endpoint(addr: &str) -> Result<Endpoint, InvalidAddr> {
    let bare = bare(addr);
    let invalid = || InvalidAddr { addr: addr.to_string() };
    let has_port = bare.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
    });
    if !has_port {
        return Err(invalid());
    }
    let endpoint = Endpoint::from_shared(format!("http://{bare}")).map_err(|_| invalid())?;
    Ok(endpoint
        .connect_timeout(Duration::from_millis(CONNECT_MS_MAX))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_millis(KEEPALIVE_INTERVAL_MS))
        .keep_alive_timeout(Duration::from_millis(KEEPALIVE_TIMEOUT_MS))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES))
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
