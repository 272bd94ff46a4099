//! The client's shell: sockets, tasks and time around the decisions of [`crate::core`].
//!
//! * `client`: the public API; checks limits, adds and strips the keyspace prefix.
//! * `call`: carries out the steps of `core::call`: sends, waits, looks up.
//! * `scan`: the same for scans.
//! * `routes`: fills the router from the placement driver, or from stores where it does not answer.
//! * `held`: questions to stores for the regions that they hold.
//! * `doubt`: whether others lead the regions of a store that does not answer.
//! * `replica`: what a store's replica of a region has applied.
//! * `memory`: what a store holds in memory.
//! * `stores`, `connection`: connections to stores; requests coalesced on one stream each.
//! * `pd`: the placement driver's typed calls; `flotilla_net` opens connections and finds the
//!   leader.
//! * `codec`: the wire's edge: domain requests into messages, and replies back.
//! * `stats`: what a client counts; `trace`: what a call leaves in the log.
//! * `options`: what callers choose.
//! * `clock`: time and seeds for the core.
//!
//! Architecture invariant: no protocol decision is made here. `core::call` decides what a call does
//! next, `core::retry` what follows a failure, `core::router` which store is asked; the simulator
//! runs the same code.

mod call;
pub(crate) mod client;
mod clock;
mod codec;
mod connection;
mod doubt;
mod held;
pub(crate) mod memory;
pub(crate) mod options;
pub(crate) mod pd;
pub(crate) mod replica;
mod routes;
pub(crate) mod scan;
pub(crate) mod stats;
mod stores;
pub(crate) mod trace;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a mutex although a thread panicked with it: no critical section here leaves its data
/// half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
