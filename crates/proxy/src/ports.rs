//! Ports for servers that are killed and started again.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the range that Linux takes for outgoing connections (32768 on), so that no connection sits
/// on a server's port while the server is down.
const FIRST_PORT: u16 = 12_000;
const PORT_COUNT: u16 = 16_000;

/// A loopback port that nobody listens on now; None if there is none. No two calls in one process
/// return the same one; processes start at different places of the range.
pub fn free_port() -> Option<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let origin = (std::process::id() % 160) as u16 * 100;
    let ports = (0..PORT_COUNT).map(|_| {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed);
        FIRST_PORT + origin.wrapping_add(offset) % PORT_COUNT
    });
    let mut free = ports.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.next()
}
