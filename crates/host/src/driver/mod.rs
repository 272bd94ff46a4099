//! Threads, sockets, directories and the clock.
//!
//! * [`clock`]: a process's clock, which counts suspended time.
//! * [`dir`]: a process's data directory: lock, owner, log and state.
//! * [`label`]: what a data directory says about itself.
//! * [`inbox`]: the bounded way into a core's thread.
//! * [`thread`]: that thread: drains the inbox, ticks, ends turns.
//! * [`metrics`]: what a process counts of its log, its checkpoints and its traffic.
//! * [`panics`]: a panic ends the process.
//! * [`disk`]: the disk thread: checkpoints and other bulk work, log purges.
//! * [`wire`]: envelopes and addresses, to the wire and from it.
//! * [`own_runtime`]: threads for what members tell each other, and for scans.
//! * [`transport`]: messages to other members: one task for each address.
//! * [`raft_service`]: messages and snapshots from other members.
//! * [`snapshot`]: rows out of a view onto the wire.
//! * [`staging`]: rows from the wire into a staged file.

pub mod clock;
pub mod dir;
pub mod disk;
pub mod inbox;
pub mod label;
pub mod metrics;
pub mod own_runtime;
pub mod panics;
pub mod raft_service;
pub mod snapshot;
pub mod staging;
pub mod thread;
pub mod transport;
pub mod wire;
