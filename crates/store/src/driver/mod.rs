//! Threads, sockets and disk around the core.
//!
//! ```text
//!   server     a running store: starts all of the others, and stops them
//!   dir        the data directory: which store of which cluster it belongs to
//!   register   how a starting store registers with the placement driver
//!   service/   the Kv service: clients' requests in, answers out
//!   account    what the store holds in memory, by kind
//!   answers    how many bytes of answers are under way at once
//!   members    what other members of Raft groups send, and what became of what was sent to them
//!   inbox      what reaches the worker's thread, and who waits for its answers
//!   waiting    the callers that wait for answers, and where their time goes
//!   metrics    what the store counts
//!   latency    how long requests took lately, for heartbeats
//!   runtime    the worker's thread: steps the core, carries its outputs out
//!   disk       the work of the disk thread: checkpoints, installs, views for snapshots
//!   views      the views that snapshots are sent from
//!   heartbeat  tells the placement driver how the store is, and brings back its answers
//! ```
//!
//! What does not depend on what is replicated is in [`flotilla_host::driver`]: the loops of the two
//! threads, messages and snapshot streams between members, the clock. Connections are
//! [`flotilla_net`]'s.
//!
//! Architecture invariant: nothing here knows what a message means. What a driver decides is when
//! to drop (queues are bounded) and when to stop (the disk failed).

mod account;
mod answers;
pub mod config;
mod dir;
mod disk;
pub mod error;
mod heartbeat;
mod inbox;
mod latency;
mod members;
mod metrics;
mod register;
mod runtime;
pub mod server;
mod service;
mod trace;
mod views;
mod waiting;
