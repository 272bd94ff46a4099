//! Starts real Flotilla processes for the black-box tests.
//!
//! * [`binary`]: builds the binary once and says where it is.
//! * [`certs`]: certificates for TLS.
//! * [`cluster`]: [`Cluster`], one PD process and any number of store processes on loopback.
//! * [`command`]: runs `flotilla kv` and `flotilla ctl` to their end, within a deadline.
//! * [`data`]: the real rows that the tests load.
//! * [`http`]: one HTTP request, and its response.
//! * [`links`]: links between processes that can be cut.
//! * [`metrics`]: what a server tells of itself.
//! * [`process`]: [`Process`], a child that does not outlive its owner.
//! * [`wait`]: waiting for conditions, and ports to listen on.
//!
//! A test waits for conditions, each with a deadline that names what was awaited; it never sleeps
//! for a time in the hope that something has happened. Failures panic, with the tail of what the
//! processes concerned wrote to stderr.

pub mod binary;
pub mod certs;
pub mod cluster;
pub mod command;
pub mod data;
pub mod http;
pub mod links;
pub mod metrics;
pub mod process;
pub mod wait;

pub use certs::Certs;
pub use cluster::Cluster;
pub use command::Finished;
pub use process::Process;
pub use wait::{free_port, wait_for};
