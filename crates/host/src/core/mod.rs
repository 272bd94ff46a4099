//! The deterministic half: no clock, thread, socket, file or die.
//!
//! * [`carry_out`]: the loop around a core: which of its outputs is carried out when.

#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

pub mod carry_out;
