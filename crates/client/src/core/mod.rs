//! The client's decisions, as values: where a request goes, what follows a failure, and how a call
//! over many regions comes together.
//!
//! * [`limits`]: the bounds of what a client holds, asks for and has under way.
//! * [`router`]: the cached range map, leaders and addresses.
//! * [`retry`]: the one table from failures to actions.
//! * [`budget`]: the token bucket that keeps retries from becoming a storm.
//! * [`attempt`]: what one part of a call remembers from attempt to attempt; its time limits.
//! * [`lookup`]: when and what PD is asked about regions.
//! * [`item`]: what a call asks of one key or range.
//! * [`part`]: what one region is asked, and what it needs next.
//! * [`plan`]: a point or batch call over many regions.
//! * [`single`]: a call for one item in one region, which nearly every call is.
//! * [`call`]: the loop around either of them, from the first attempt to the answer.
//! * [`scan`]: a scan's position.
//! * [`failure`]: how an attempt can fail. [`ending`]: how a call can.
//! * [`context`]: what the calls of one client share, as they see it.
//!
//! Architecture invariant: nothing here knows a clock, thread, socket, runtime or global dice. Time
//! is [`flotilla_types::Millis`] given by the caller, so the simulator runs this code unchanged.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::wildcard_enum_match_arm))]

pub mod attempt;
pub mod budget;
pub mod call;
pub mod context;
pub mod ending;
pub mod failure;
pub mod item;
pub mod limits;
pub mod lookup;
pub mod part;
pub mod plan;
pub mod retry;
pub mod router;
pub mod scan;
pub mod single;
