//! Newtypes for ids, so that no number is taken for another.

use std::fmt;

use serde::Serialize;

/// Milliseconds on a monotonic clock whose zero means nothing; given to a core by its driver.
/// Two processes' values are never compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// The moment `ms` milliseconds later.
    pub fn plus(self, ms: u64) -> Millis {
        Millis(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment; 0 if `earlier` is not earlier.
    pub fn since(self, earlier: Millis) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A region, and the Raft group that replicates it. Never 0, never used again.
    RegionId
}
id! {
    /// A store: one process and its data directory. Never 0, never used again.
    StoreId
}
id! {
    /// A region's member on a store. Never 0, never used again; for one region and store, a later
    /// incarnation has the greater id.
    PeerId
}
