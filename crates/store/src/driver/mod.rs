//! Threads, sockets and disk around the core.
//!
//! ```text
//!   server     opens the parts of a store and its port
//!   service    the Kv service: decodes requests, checks limits, puts them into the inbox
//!   inbox      the bounded way into the worker's thread
//!   runtime    the worker's thread: drains the inbox, steps the core, writes the log, replies
//!   disk       the disk thread: checkpoints, installs, views for snapshots, log purges
//!   transport  one task for each other store: batches messages, reconnects
//!   snapshot   rows out of a view, and into a staged file
//!   heartbeat  the only caller of the placement driver
//!   dir        the data directory: lock, identity, opening
//! ```
//!
//! Architecture invariant: nothing here knows what a message means. What a driver decides is when
//! to drop (queues are bounded) and when to stop (the disk failed).

pub mod config;
mod dir;
mod disk;
pub mod error;
mod heartbeat;
mod inbox;
mod raft;
mod register;
mod runtime;
pub mod server;
mod service;
mod snapshot;
mod transport;
