//! The placement driver's deterministic half: no clock, thread, socket, file or die.
//!
//! * [`pd`]: [`Pd`], driven by [`Pd::step`]; what the group hands out is carried out in `turn`,
//!   what each request does is in `heartbeat`, `admin` and `reads`.
//! * [`state`], [`command`], [`records`]: what all members agree on, how it changes, how it is
//!   kept.
//! * [`view`]: what the leader has heard. [`operator`], [`operators`]: what it has under way.
//! * [`check`], [`schedule`], [`place`]: what it should do next; pure functions.
//!
//! Architecture invariant: everything here is a function of its inputs and of the seed.

mod admin;
pub mod check;
pub mod command;
mod heartbeat;
pub mod io;
mod leading;
pub mod operator;
pub mod operators;
pub mod pd;
pub mod place;
mod reads;
pub mod records;
mod reply;
pub mod schedule;
pub mod state;
#[cfg(test)]
mod testkit;
mod turn;
pub mod view;
mod waiting;

pub use io::{Event, Input, Output, RequestId};
pub use pd::{CoreConfig, OpenError, Pd, PdTiming};
