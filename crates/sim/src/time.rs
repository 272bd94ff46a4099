//! True time, by which the world's events are ordered. No core sees it.

/// Microseconds of true time since the world began.
pub type Micros = u64;

/// Microseconds in a millisecond.
pub const MS: Micros = 1_000;

/// The time from one look at all regions to the next; see [`crate::check::availability`].
pub const LOOK: Micros = 100 * MS;
