//! The deterministic half of this crate: decisions as values, without sockets and clocks.
//!
//! * [`known`]: which members of the placement driver a caller knows.
//! * [`round`]: which members of the placement driver a request goes to, and when.

#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

pub mod known;
pub mod round;
