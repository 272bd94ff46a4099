//! The placement driver's deterministic half: no clock, thread, socket, file or die.
//!
//! The modules, from the ground up; each imports only modules above it in this list:
//!
//! * [`limits`]: the bounds of what a member holds, proposes and starts.
//! * [`config`]: what a member is told when it is opened.
//! * [`io`]: [`Input`], [`Output`] and [`Event`], what goes into the core and what comes out.
//! * [`introductions`]: what a new group's members tell each other before they take part.
//! * [`members`]: who PD's members are. [`records`]: how the replicated state is laid out on disk.
//!   [`command`]: how it is changed. [`state`]: the replicated state itself, what all members agree
//!   on.
//! * `errors`: shorthand for the errors that PD answers.
//! * [`reports`]: what stores have reported to the leader, and which of them are alive.
//! * [`operator_step`], [`operator`], [`operators`]: changes of regions that are under way.
//!   [`history`]: those that have ended. [`account`]: what planning decided, and why.
//! * [`place`]: what planning looks at, and where a new peer goes. [`check`]: what one region
//!   needs. `balance`: regions move from full stores to empty ones. [`schedule`]: which operators
//!   to start now. All four are pure functions.
//!   `verdicts`: where a new peer would go, and why not elsewhere. `forecast`: what draining a
//!   store takes.
//! * `ids`: ids for operators. `leader_state`: all that a member holds only while it leads.
//! * `waiting`: requests that are not answered yet. `context`: what a request is decided on, and
//!   what a decision may be.
//! * [`health`]: whether the cluster is healthy, and why not; a pure function, too.
//! * `first_region`: which stores hold the cluster's first region, and what it waits for.
//! * `heartbeat`, `registration`, `admin`, `reads`, `explain`: what each request does.
//! * `testkit`: shorthand for the unit tests of checker, schedulers and operators.
//! * `checkpoints`: how much is durable, and the snapshots that checkpoints leave and install.
//! * [`pd`]: [`Pd`], driven by [`Pd::step`]. `turn`: what becomes of what the group hands out.
//!   `snapshots`: the whole state, from member to member.
//!   `messages`: what other members say. `changes`: changes of PD's own members.
//! * [`carry_out`]: each output becomes a call of the process around the member.
//!
//! Architecture invariant: everything here is a function of its inputs and of the seed. The
//! messages of the wire are known only to [`records`] and [`command`], whose bytes are on disk.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::wildcard_enum_match_arm))]

pub mod account;
mod admin;
mod balance;
pub mod carry_out;
mod changes;
pub mod check;
mod checkpoints;
pub mod command;
pub mod config;
mod context;
mod errors;
mod explain;
mod first_region;
mod forecast;
pub mod health;
mod heartbeat;
pub mod history;
mod ids;
pub mod introductions;
pub mod io;
mod leader_state;
pub mod limits;
pub mod members;
mod messages;
pub mod operator;
pub mod operator_step;
pub mod operators;
pub mod pd;
pub mod place;
mod reads;
pub mod records;
mod registration;
pub mod reports;
pub mod schedule;
mod snapshots;
pub mod state;
#[cfg(test)]
mod testkit;
mod turn;
mod verdicts;
mod waiting;

pub use config::{CoreConfig, PdTiming};
pub use io::{Event, Input, Output, RequestId};
pub use pd::{OpenError, Pd};
