//! The bounds of what a client holds, asks for and has under way at once.
//!
//! Each bound has a constant that says where its number comes from; [`ClientLimits::default`] is
//! made of these. A client makes progress at any value: [`ClientLimits::workable`] raises what
//! would stop the client to 1.

/// Regions cached at most, at roughly half a kilobyte each; beyond it the cache starts afresh. A
/// cluster this large is far above what one client works on.
pub const REGIONS_CACHED_MAX: usize = 200_000;

/// Regions asked for in one question: neighbours are likely to be wanted next, and 64 fit a few
/// kilobytes.
pub const LOOKUP_REGIONS_MAX: u64 = 64;

/// Refreshes under way at once.
pub const REFRESHES_MAX: usize = 16;

/// Parts of one call under way at once: enough to keep every store of a large cluster busy, few
/// enough that one call does not fill a store's in-flight bound alone.
pub const PARTS_OUT_MAX: usize = 64;

/// Tokens in a full bucket of retries: a few hundred concurrent calls retrying through one
/// election.
pub const BUDGET_TOKENS_MAX: u64 = 1_000;

/// The bounds of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// See [`REGIONS_CACHED_MAX`]. At least 1.
    pub regions_cached_max: usize,
    /// See [`LOOKUP_REGIONS_MAX`]. At least 1.
    pub lookup_regions_max: u64,
    /// See [`REFRESHES_MAX`]. At least 1.
    pub refreshes_max: usize,
    /// See [`PARTS_OUT_MAX`]. At least 1.
    pub parts_out_max: usize,
    /// See [`BUDGET_TOKENS_MAX`].
    pub budget_tokens_max: u64,
}

impl Default for ClientLimits {
    fn default() -> ClientLimits {
        ClientLimits {
            regions_cached_max: REGIONS_CACHED_MAX,
            lookup_regions_max: LOOKUP_REGIONS_MAX,
            refreshes_max: REFRESHES_MAX,
            parts_out_max: PARTS_OUT_MAX,
            budget_tokens_max: BUDGET_TOKENS_MAX,
        }
    }
}

impl ClientLimits {
    /// These bounds, each raised to its least value.
    pub fn workable(self) -> ClientLimits {
        ClientLimits {
            regions_cached_max: self.regions_cached_max.max(1),
            lookup_regions_max: self.lookup_regions_max.max(1),
            refreshes_max: self.refreshes_max.max(1),
            parts_out_max: self.parts_out_max.max(1),
            ..self
        }
    }
}
