//! What a store decides: plain inputs in, plain outputs out.
//!
//! [`worker::Worker`] owns the peers. Its driver collects inputs for a while, passes each to
//! [`worker::Worker::step`], ends the turn with [`Input::Flush`], and carries the outputs out in
//! order. One write crosses these modules:
//!
//! ```text
//!   worker    Input::Request -> the region's peer
//!   peer      leader? epoch? keys in range? -> queued
//!   worker    Flush: all peers' queues -> entries; all groups' entries -> ONE Output::Append
//!   driver    sends messages, writes and syncs the log, sends the messages that wait for it
//!   peer      Input::Persisted, then the followers' answers -> committed
//!   apply     the command -> the state store; a checkpoint adds how far that goes
//!   peer      the reply waiting at (index, term) -> Output::Reply
//! ```
//!
//! * [`io`]: inputs, outputs, events: plain data.
//! * [`fatal`]: why a worker cannot go on.
//! * [`worker`]: the turn, the inbox, ticks.
//! * [`carry_out`]: each output becomes a call of the process around the worker.
//! * [`peer`]: one region's peer: proposals, replies, reads.
//! * [`read`]: linearizable reads, and what a read finds in the state.
//! * [`permit`]: lease reads that are answered away from the worker.
//! * [`apply`]: commands to state changes, equal on every peer.
//! * [`scan`]: where a scan goes on after a chunk.
//! * [`route`]: messages of other stores: which peer, whether to create one, tombstones.
//! * [`split`]: when and where a region is cut; the whole life of a split is told there.
//! * [`checkpoint`]: what becomes durable when; snapshots out and in; log truncation.
//! * [`command`]: what the placement driver asks for.
//! * [`report`]: what the placement driver is told.
//! * [`quiesce`]: why idle regions cost nothing.
//! * [`records`]: the layout of the state store.

#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing))]

pub mod apply;
pub mod carry_out;
pub mod checkpoint;
pub mod command;
pub mod fatal;
pub mod io;
pub mod peer;
pub mod permit;
pub mod quiesce;
pub mod read;
pub mod records;
pub mod report;
pub mod route;
pub mod scan;
pub mod split;
pub mod worker;

pub use fatal::Fatal;
pub use flotilla_types::{Answer, Op, ScanOp};
pub use io::{Event, Input, Install, Output, Request, RequestId, StagedId};
