//! Waiting for conditions, and ports to listen on.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at. Each look usually starts a process, so less often costs
/// tests their time and more often costs the servers their processor.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Ports that tests listen on: below the range that Linux takes for outgoing connections (32768
/// on), so that no connection sits on a server's port while the server is down.
const FIRST_PORT: u16 = 12_000;
const PORT_COUNT: u16 = 16_000;

/// Calls `condition` until it returns a value, and returns that. Panics after `deadline` with
/// `what` was awaited and the last reason why it did not hold.
pub fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Result<T, String>,
) -> T {
    let start = Instant::now();
    loop {
        match condition() {
            Ok(value) => return value,
            Err(why) if start.elapsed() > deadline => {
                panic!("waited {deadline:?} for {what}; last seen: {why}")
            }
            Err(_) => thread::sleep(POLL_INTERVAL),
        }
    }
}

/// A loopback port that nobody listens on now. No two calls in one process return the same one;
/// processes start at different places of the range.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let origin = (std::process::id() % 160) as u16 * 100;
    for _ in 0..PORT_COUNT {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST_PORT + origin.wrapping_add(offset) % PORT_COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port from {FIRST_PORT} on");
}
