//! Waiting for conditions, and ports to listen on.

use std::thread;
use std::time::{Duration, Instant};

/// How often a condition is looked at. Each look usually starts a process, so less often costs
/// tests their time and more often costs the servers their processor.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

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

/// A loopback port that nobody listens on now ([`flotilla_proxy::free_port`]).
pub fn free_port() -> u16 {
    flotilla_proxy::free_port().expect("a free port")
}
