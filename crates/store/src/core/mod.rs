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
//! From the ground up; each module uses only those above it:
//!
//! * [`io`]: inputs, outputs, events: plain data.
//! * [`limits`]: the bounds of what a store holds, does and keeps.
//! * [`fatal`]: why a worker cannot go on.
//! * [`records`]: the layout of the state store.
//! * [`apply`]: commands to state changes, equal on every peer.
//! * [`read`]: linearizable reads, and what a read finds in the state.
//! * [`load`]: what clients have the store and its regions do.
//! * [`permit`]: lease reads that are answered away from the worker.
//! * [`scan`]: where a scan goes on after a chunk.
//! * [`size`]: how large a region is, and where to cut it.
//! * [`pressure`]: what a store does while its disk cannot keep up.
//! * [`shared`]: the configuration, the two stores and the present.
//! * [`lifecycle`]: what a peer has of its region, and what it is about to have.
//! * [`contacts`]: with whom a peer exchanges messages, and when the last one came.
//! * [`writes`]: writes under way; what becomes of a write whose leader is lost.
//! * [`peer`]: one region's peer: consensus, applied state, requests.
//! * [`held`]: an account of what a peer and a store hold.
//! * [`held_replica`]: what a replica has applied, to be looked at beside the others.
//! * [`held_routes`]: which regions the store holds around a key, for clients.
//! * [`census`]: what the peers have done, and how many are in which state.
//! * [`envelope`]: what stores put around each message.
//! * [`regions`]: the peers of a store, their ranges, and which have work.
//! * [`neighbours`]: the stores that share a region with this one, and when each last beat.
//! * [`tombstones`]: which peers were removed from this store.
//! * [`addresses`]: where the other stores listen.
//! * [`turn`]: what a turn gathers for the log, and what waits for it.
//! * [`context`]: regions, tombstones, turn and shared, together: what features work on.
//! * [`incarnation`]: how a peer begins and ends on this store.
//! * [`split`]: when and where a region is cut; the whole life of a split is told there.
//! * [`first_region`]: this store's peer of the cluster's first region.
//! * [`install`]: how a snapshot becomes a peer's state.
//! * [`checkpoint`]: what becomes durable when; snapshots out and in, told whole.
//! * [`quiesce`]: why regions in which nothing happens cost nothing.
//! * [`hand_over`]: a store that is about to stop lets others lead.
//! * [`route`]: messages of other stores: which peer, and whether to create one.
//! * [`command`]: what the placement driver asks for.
//! * [`report`]: what the placement driver is told.
//! * [`advance`]: one peer's part of the end of a turn.
//! * [`worker`]: hands inputs to the features, and ends the turn.
//! * [`carry_out`]: each output becomes a call of the process around the worker.

#![cfg_attr(not(test), deny(clippy::wildcard_enum_match_arm, clippy::indexing_slicing))]

pub mod addresses;
pub mod advance;
pub mod apply;
pub mod carry_out;
pub mod census;
pub mod checkpoint;
pub mod command;
pub mod contacts;
pub mod context;
pub mod envelope;
pub mod fatal;
pub mod first_region;
pub mod hand_over;
pub mod held;
pub mod held_replica;
pub mod held_routes;
pub mod incarnation;
pub mod install;
pub mod io;
pub mod lifecycle;
pub mod limits;
pub mod load;
pub mod neighbours;
pub mod peer;
pub mod permit;
pub mod pressure;
pub mod quiesce;
pub mod read;
pub mod records;
pub mod regions;
pub mod report;
pub mod route;
pub mod scan;
pub mod shared;
pub mod size;
pub mod split;
pub mod tombstones;
pub mod turn;
pub mod worker;
pub mod writes;

pub use fatal::Fatal;
pub use flotilla_types::{Answer, Op, ScanOp};
pub use io::{Event, Input, Install, Output, Request, RequestId, StagedId};
