//! The deterministic half: no clock, thread, socket, file or die.
//!
//! * [`awaited`]: what a process waits for, and when it says so.
//! * [`budget`]: bytes that may be held at once.
//! * [`carry_out`]: the loop around a core: which of its outputs is carried out when.
//! * [`mailbox`]: what waits for a core's thread, members before callers.
//! * [`message`]: messages between members, addresses of stores and placement drivers, names of
//!   received snapshots.
//! * [`pace`]: which mails a turn takes, when a tick comes, when the turn ends.
//! * [`turn`]: what a turn gathers for the log, and what waits until that is durable.
//! * [`waiting`]: who waits for an entry of the log.

#![deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing)]

pub mod awaited;
pub mod budget;
pub mod carry_out;
pub mod mailbox;
pub mod message;
pub mod pace;
pub mod turn;
pub mod waiting;
