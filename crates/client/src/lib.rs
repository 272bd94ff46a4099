//! The Flotilla client: connects to the placement driver, routes by a cached range map, retries.
//!
//! ```no_run
//! use flotilla_client::{Client, Error};
//!
//! # async fn example() -> Result<(), Error> {
//! let client = Client::connect(["127.0.0.1:2379"]).await?;
//! client.put("fruit/apple", "red").await?;
//! assert_eq!(client.get("fruit/apple").await?.as_deref(), Some(&b"red"[..]));
//!
//! for (key, value) in client.scan("fruit/".."fruit0", 100).await? {
//!     println!("{key:?} = {value:?}");
//! }
//!
//! let outcome = client.compare_and_swap("fruit/apple", Some("red"), Some("green")).await?;
//! assert!(outcome.swapped);
//! # Ok(())
//! # }
//! ```
//!
//! # What a call can end as
//!
//! Every call ends by its timeout (10 s unless set) in one of three ways:
//! * **Ok**: done; every later read sees it.
//! * **A definite failure**: no effect, and there will be none. [`Error::is_retryable`] says
//!   whether asking again may help; the client itself has retried until the deadline.
//! * **[`Error::Undetermined`]**: a write was sent and its answer lost. It may have taken effect,
//!   or may yet. Read the keys back; or set [`ClientBuilder::retry_undetermined_writes`] where no
//!   one else writes them.
//!
//! Calls over several regions (`batch_*`, `delete_range`) are atomic for the keys of one region and
//! not across regions.
//!
//! # How it is built
//!
//! [`core`] decides and is deterministic; the driver owns sockets, tasks and time. A call is a plan
//! ([`core::plan`]): its keys are grouped by region ([`core::router`]), each group goes to its
//! region's leader over one coalescing stream per store, and each failure goes through one table
//! ([`core::retry`]).
//!
//! Architecture invariant: the placement driver is off the data path. It is asked when the cache
//! has a hole or no store knows a region's leader, never to confirm what the cache says.

pub mod core;
mod driver;
mod error;

pub use core::router::{Route, RoutesPage};
pub use driver::client::{CasOutcome, Client, ClientBuilder};
pub use driver::memory::{Memory, MemoryHeld, read_memory};
pub use driver::options::{ScanOptions, TIMEOUT_DEFAULT};
pub use driver::pd::{PD_TIMEOUT_DEFAULT, PdClient};
pub use driver::replica::{Replica, ReplicaAddr, read_replica};
pub use driver::scan::ScanStream;
pub use driver::stats::ClientStats;
pub use driver::trace::draw_trace_id;
pub use error::{Error, Result};
pub use flotilla_net::tls::{Tls, TlsError, TlsFiles};
pub use flotilla_types::TraceId;
pub use flotilla_types::placement::OperatorRequest;
