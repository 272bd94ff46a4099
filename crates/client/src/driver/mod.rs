//! The client's shell: sockets, tasks and time around the decisions of [`crate::core`].
//!
//! * `client`: the public API; checks limits, adds and strips the keyspace prefix.
//! * `call`: the loop that carries a plan out: send, wait, look up, feed the results back.
//! * `scan`: the same for scans.
//! * `routes`: fills the router from the placement driver.
//! * `stores`, `connection`: connections to stores; requests coalesced on one stream each.
//! * `pd`: the placement driver's typed calls; `flotilla_net` opens connections and finds the leader.
//! * `options`: what callers choose.
//! * `clock`: time and seeds for the core.
//!
//! Architecture invariant: no protocol decision is made here. What follows a failure is decided by
//! `core::retry`, where to go by `core::router`.

mod call;
pub(crate) mod client;
mod clock;
mod codec;
mod connection;
pub(crate) mod options;
pub(crate) mod pd;
mod routes;
pub(crate) mod scan;
mod stores;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks through a poisoned state: none of our critical sections leaves its data half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
