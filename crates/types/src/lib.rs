//! The vocabulary of Flotilla: everything that more than one crate must mean the same by.
//!
//! * [`id`]: newtypes for ids, and [`Millis`], the only notion of time that a core has.
//! * [`region`]: [`Region`], [`Member`], [`Epoch`] and [`KeyRange`].
//! * [`range_map`]: [`RangeMap`], the ordered map from keys to regions that PD, stores and clients
//!   share.
//! * [`codec`]: messages are read within a bound on what they take in memory.
//! * [`command`]: [`Command`], the payload of a region's log entry.
//! * [`dice`]: [`dice::Dice`], seeded dice, the only source of chance.
//! * [`error`]: [`RegionError`], why a store did not carry out a request.
//! * [`explain`]: why the placement driver does what it does.
//! * [`heartbeat`]: what stores and the placement driver tell each other in heartbeats.
//! * [`placement`]: the placement driver's other requests, their replies and errors.
//! * [`keys`]: user keys and stored keys.
//! * [`limits`]: every limit that a user can run into.
//! * [`load`]: what clients have stores and regions do.
//! * [`mutant`]: planted bugs, which only the simulator's build has.
//! * [`request`]: what clients ask of a region, what stores answer, and the limits on a request.
//! * [`trace`]: [`TraceId`], the name of a request in logs.
//! * [`tsv`]: rows as lines of a file, and batches of rows.
//! * [`wire`], [`wire_heartbeat`], [`wire_pd`], [`wire_explain`]: conversions to and from the
//!   generated messages of [`proto`].
//!
//! Architecture invariant: this crate is pure. It knows no clock, thread, socket, disk or source of
//! chance of its own.

pub mod codec;
pub mod command;
pub mod dice;
pub mod error;
pub mod explain;
pub mod heartbeat;
pub mod id;
pub mod keys;
pub mod limits;
pub mod load;
pub mod mutant;
pub mod placement;
pub mod range_map;
pub mod region;
pub mod request;
pub mod trace;
pub mod tsv;
pub mod wire;
pub mod wire_explain;
pub mod wire_heartbeat;
pub mod wire_pd;

/// The wire contract as generated from `proto/`; the `.proto` files are its documentation.
#[allow(missing_docs, clippy::all)]
pub mod proto {
    tonic::include_proto!("flotilla.v1");
}

pub use command::{Command, PeerChange};
pub use error::RegionError;
pub use id::{Millis, PeerId, RegionId, StoreId};
pub use load::Load;
pub use range_map::RangeMap;
pub use region::{Epoch, KeyRange, Member, MemberRole, Region};
pub use request::{Answer, CompareAndSwap, Mutation, Op, PAIR_BYTES, ScanOp, WriteOp};
pub use trace::TraceId;
pub use wire::WireError;
