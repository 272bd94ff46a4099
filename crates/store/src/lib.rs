//! The storage node: many regions' peers in one process.
//!
//! * [`core`]: what a store decides; deterministic, driven by values. Start at [`core::worker`].
//! * [`driver`]: threads, sockets and disk around it. Start at [`driver::server`].
//!
//! Architecture invariant: `core` knows no clock, thread, socket or die, and its only disk is the
//! two stores of `flotilla-engine` that it is given. A driver holds no decision of the protocol.

pub mod core;
pub mod driver;

pub use driver::config::StoreConfig;
pub use driver::error::StartError;
pub use driver::server::StoreServer;
pub use flotilla_host::driver::panics::end_process_on_panic;
