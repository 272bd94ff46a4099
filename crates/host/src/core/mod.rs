//! The deterministic half: no clock, thread, socket, file or die.
//!
//! * [`carry_out`]: the loop around a core: which of its outputs is carried out when.
//! * [`message`]: messages between members, addresses of stores and placement drivers, names of
//!   received snapshots.
//! * [`turn`]: what a turn gathers for the log, and what waits until that is durable.
//! * [`waiting`]: who waits for an entry of the log.

#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

pub mod carry_out;
pub mod message;
pub mod turn;
pub mod waiting;
