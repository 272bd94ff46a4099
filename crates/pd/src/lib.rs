//! The placement driver: ids, stores, the range map, repair and operators.
//!
//! * [`core`]: the deterministic half: replicated state, soft view, checker, schedulers.
//! * [`driver`]: threads, sockets and files around it: [`PdServer`].
//!
//! Architecture invariant: PD calls nobody. Stores and clients call it; what it wants done rides on
//! the replies to heartbeats.

pub mod core;
pub mod driver;

pub use driver::{PdConfig, PdServer, StartError};
