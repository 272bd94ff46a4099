//! Time and seeds for the core, which has neither.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use flotilla_types::Millis;
use tokio::time::Instant;

/// The monotonic clock of one client; its zero is the client's birth.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientClock {
    zero: Instant,
}

impl ClientClock {
    pub(crate) fn new() -> ClientClock {
        ClientClock { zero: Instant::now() }
    }

    pub(crate) fn now(&self) -> Millis {
        Millis(self.zero.elapsed().as_millis() as u64)
    }

    /// The moment as tokio's timers want it.
    pub(crate) fn instant(&self, at: Millis) -> Instant {
        self.zero + Duration::from_millis(at.0)
    }
}

/// A seed that differs from process to process and call to call. The standard library keys its
/// hashers from the system's randomness; jitter needs no better.
pub(crate) fn seed() -> u64 {
    RandomState::new().build_hasher().finish()
}
