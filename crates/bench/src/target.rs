//! The system under test, behind one trait.

mod etcd;
mod flotilla;

pub use etcd::EtcdTarget;
pub use flotilla::FlotillaTarget;

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

use crate::workload::Request;

/// How long one operation may take on any system, so that both end alike.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The most tries of a read-modify-write while others write the same key. Under a zipfian load of
/// 256 clients the third try is rare.
pub(crate) const SWAP_TRIES_MAX: usize = 16;

/// A call under way.
pub type Call<'a, T> = Pin<Box<dyn Future<Output = Result<T, CallError>> + Send + 'a>>;

/// The good end of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Written, or rows found.
    Done,
    /// Read, and the key is absent.
    Absent,
}

/// The failure of an operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct CallError {
    /// True if the operation may have taken effect.
    pub undetermined: bool,
    /// The system's error.
    pub reason: String,
}

impl CallError {
    /// An operation that certainly had no effect.
    pub(crate) fn definite(reason: impl ToString) -> CallError {
        CallError { undetermined: false, reason: reason.to_string() }
    }
}

/// A system under test. One value serves all clients.
pub trait Target: Send + Sync {
    /// Carries out one request of client number `lane`.
    fn call(&self, lane: usize, request: Request) -> Call<'_, Answer>;

    /// Puts rows, as fast as the system can. Not measured.
    fn load(&self, lane: usize, rows: Vec<(Bytes, Bytes)>) -> Call<'_, ()>;
}
