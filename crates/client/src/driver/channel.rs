//! How a connection to a store or a placement driver is opened: plain HTTP/2 with the limits,
//! windows and keepalives that every connection shares.

use std::error::Error as _;
use std::time::Duration;

use tonic::transport::{Channel, Endpoint};

use crate::error::Error;

/// A connection that is not there by then counts as refused: a few round trips over any network,
/// and time for a busy two-core machine to accept it.
pub(crate) const CONNECT_MS_MAX: u64 = 2_000;

/// A connection is probed when nothing came for this long, idle or not: half-dead connections are
/// found before the next request needs them.
const KEEPALIVE_INTERVAL_MS: u64 = 10_000;

/// A probe unanswered for this long ends the connection.
const KEEPALIVE_TIMEOUT_MS: u64 = 20_000;

/// Bytes in flight on one stream: a scan's chunks and the largest reply without a pause, where the
/// default of 64 KiB costs a round trip for each.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Bytes in flight on one connection: a few scans beside the requests' stream.
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// Opens a connection. The reason in the error is one line. Nothing was sent if it fails.
pub(crate) async fn open(addr: &str) -> Result<Channel, String> {
    let connecting = endpoint(addr).map_err(|error| error.to_string())?;
    let limit = Duration::from_millis(CONNECT_MS_MAX);
    match tokio::time::timeout(limit, connecting.connect()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(format!("{addr}: {}", root_cause(&error))),
        Err(_) => Err(format!("{addr}: no connection within {CONNECT_MS_MAX} ms")),
    }
}

/// Checks an address and says how to connect to it. `HOST:PORT`, with or without `http://`.
pub(crate) fn endpoint(addr: &str) -> Result<Endpoint, Error> {
    let bare = bare(addr);
    let invalid = || Error::InvalidArgument { what: format!("address {addr:?} is not HOST:PORT") };
    let port_given = bare.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse::<u16>().is_ok()
    });
    if !port_given {
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

/// The address without scheme and trailing slash.
pub(crate) fn bare(addr: &str) -> &str {
    let addr = addr.trim();
    addr.strip_prefix("http://").unwrap_or(addr).trim_end_matches('/')
}

/// The innermost cause: "connection refused" rather than "transport error".
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// A status in one line, its transport cause if it has one.
pub(crate) fn status_reason(status: &tonic::Status) -> String {
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
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for bad in ["", "pd", ":2379", "pd:port", "https://pd:1", "pd:99999"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
    }
}
