//! One Raft group: consensus, log, apply order, membership, reads and snapshots.
//!
//! A [`Group`] is one peer's half of a Raft group. It is driven by calls and answers with values;
//! it has no clock, no thread and no socket. Both a store (one group for each region) and the
//! placement driver (one group) are built on it.
//!
//! ```text
//!   tick, step(message), propose, read_index, ...        the owner calls these in any order
//!        |
//!        v
//!   ready() -> GroupReady { messages, log, persisted_messages, committed, reads, ... }
//!        |          send now ---'      |            |            |
//!        |          write and sync ----'            |            |
//!        |          send after the sync ------------'            |
//!        |          apply, in order -----------------------------'
//!        v
//!   persisted(number), applied(index)                    the owner reports what it has done
//! ```
//!
//! # Rules that the owner keeps
//!
//! * Each [`GroupReady`] is carried out whole, and in order. A failed log write ends the process:
//!   `persisted` is never called for it.
//! * `persisted_messages` leave only after the sync; they are votes and acknowledgements.
//! * Committed entries are applied in order, then reported by [`Group::applied`]. Applying a
//!   membership entry calls [`Group::apply_membership`], unless the owner refuses the change.
//! * A [`GroupReady`] with a snapshot pauses the group: it neither ticks nor steps until
//!   [`Group::snapshot_installed`]. The state must be durable before.
//!
//! # Reads
//!
//! [`Group::read_index`] gives a [`ReadTicket`] that a quorum confirms; the read may be served
//! when the state has reached the confirmed index. A confirmation also renews the leader lease:
//! see [`lease`]. While [`Group::lease_holds`], reads need no ticket.
//!
//! # Caveats
//!
//! * The crate `raft` rolls election timeouts from a global generator; the group overrides each
//!   roll from its own seeded dice, so that a run replays from its seed.
//! * A peer that restarts does not vote for one election timeout: it may have acknowledged a
//!   heartbeat on which a leader's lease rests, and does not remember.
//! * Followers do not serve reads, there are no witnesses, entries are applied only after they are
//!   persisted locally.
//!
//! Architecture invariant: `raft` and its messages stop inside this crate, and bytes from the
//! network are never decoded by its protobuf library: owners speak [`flotilla_types::proto`].

mod codec;
mod config;
mod group;
mod group_log;
pub mod lease;
mod member;
mod opening;
mod ready;

pub use config::{GroupConfig, Timing};
pub use group::{Ballot, Group, ProposeError, StepError, snapshot_membership};
pub use member::{MemberChange, Membership};
pub use opening::{GroupError, Opening, forget_entries, peer_with_state, remembered_peer};
pub use ready::{
    Committed, CommittedBody, ConfirmedRead, FollowerProgress, GroupReady, Position, ReadTicket,
    Role,
};
