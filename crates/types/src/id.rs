//! Newtypes for ids, so that no number is taken for another.

use std::fmt;

use serde::Serialize;

/// A moment on the monotonic clock of one process, in milliseconds. A driver reads the clock and
/// gives the moment to its core. Moments of two processes are never compared.
///
/// `Millis(0)`, the default, stands for "never" in a store and in PD. Their clock begins at
/// 1,000,000 ms, so no event happens at 0, and what happened "never" lies further back than any
/// timeout of a core. A client's clock begins at 0, and no moment means "never" to a client's core.
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
    /// Names a region and the Raft group that replicates it. Never 0, and never given to another
    /// region.
    RegionId
}
id! {
    /// Names a store: one process and its data directory. Never 0, and never given to another
    /// store.
    StoreId
}
id! {
    /// Names a region's member on a store. Never 0, and never given to another member. If a store
    /// is a member of a region a second time, its second member has the greater id.
    PeerId
}
