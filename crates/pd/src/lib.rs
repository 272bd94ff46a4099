//! The placement driver: ids, stores, the range map, repair and operators.
//!
//! * [`core`]: the deterministic half: replicated state, reports of stores, checker, schedulers.
//! * [`driver`]: threads, sockets and files around it: [`PdServer`].
//!
//! Architecture invariant: PD opens no connection. Stores and clients call it; its commands to
//! stores are in the replies to heartbeats.

pub mod core;
pub mod driver;

pub use driver::{PdConfig, PdServer, StartError};
