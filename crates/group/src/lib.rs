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
//! * Committed entries are applied in order, then reported by [`Group::applied`]. To apply a
//!   membership entry, the owner calls [`Group::apply_membership`], unless it refuses the change.
//! * A [`GroupReady`] with a snapshot pauses the group: it neither ticks nor steps until
//!   [`Group::snapshot_installed`]. The state must be durable before.
//!
//! # How to host a group
//!
//! The only voter of a group, from its opening to its first applied command:
//!
//! ```
//! use std::sync::Arc;
//!
//! use flotilla_engine::{LogBatch, LogStore, MemLog};
//! use flotilla_group::{
//!     CommittedBody, Group, GroupConfig, GroupLimits, Membership, Opening, Timing,
//! };
//! use flotilla_types::Millis;
//!
//! let log = Arc::new(MemLog::default());
//! let limits = GroupLimits::default();
//! let config = GroupConfig { group: 1, peer: 1, seed: 7, timing: Timing::DEFAULT, limits };
//! let opening = Opening { membership: Membership::of_voters(&[1]), ..Opening::default() };
//! let (mut group, repairs) = Group::open(config, log.clone(), opening, Millis(0))?;
//! log.write(LogBatch { ops: repairs }, true)?;
//!
//! let mut proposed = None;
//! let mut state = vec![];
//! while state.is_empty() {
//!     if proposed.is_none() && group.role().is_leader {
//!         proposed = Some(group.propose("put a 1".into())?);
//!     }
//!     let Some(ready) = group.ready() else {
//!         group.tick(); // one tick_ms has passed; messages of other members go to `step`
//!         continue;
//!     };
//!     // With more members: send `ready.messages`, and install `ready.snapshot`.
//!     log.write(LogBatch { ops: ready.log }, ready.must_sync)?;
//!     group.persisted(ready.number);
//!     // With more members: send `ready.persisted_messages`.
//!     for entry in ready.committed {
//!         if let CommittedBody::Command(command) = entry.body {
//!             assert_eq!(Some(entry.position), proposed);
//!             state.push(command);
//!         }
//!         group.applied(entry.position.index);
//!     }
//! }
//! assert_eq!(state, ["put a 1"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Reads
//!
//! [`Group::read_index`] gives a [`ReadTicket`] that a quorum confirms; the read may be served
//! when the state has reached the confirmed index. A confirmation also renews the leader lease:
//! see [`lease`]. While [`Group::lease_holds`], reads need no ticket.
//!
//! # Modules
//!
//! * `group`: [`Group`], the node of the `raft` crate and what is built around it.
//! * `heartbeats`: which heartbeats need not be sent.
//! * `ballots`: what waits until term and vote are durable; `hard_state`: when they are written.
//! * `reads`: rounds of confirmation; [`lease`]: how long a confirmed round lasts; `promise`: why
//!   no other leader is elected meanwhile.
//! * `election`: the election timeout, from the group's own dice.
//! * `group_log`: the log as the `raft` crate reads it; `opening`: whether log and state fit.
//! * `member`: the configuration and its changes; `config`: time; [`limits`]: bounds.
//! * `ready`, `error`: the values that a group answers with; `codec`: the wire's messages;
//!   `validate`: which of them the `raft` crate may see.
//!
//! # Caveats
//!
//! * The crate `raft` rolls election timeouts from a global generator; the group overrides each
//!   roll, so that a run replays from its seed (`election`).
//! * The group edits the messages that the crate `raft` has not sent yet (`heartbeats`).
//! * A peer that restarts grants no vote for one election timeout: it may have acknowledged a
//!   heartbeat on which a leader's lease rests, and does not remember it.
//! * Followers do not serve reads, there are no witnesses, and entries are applied only after they
//!   are persisted locally.
//!
//! Architecture invariant: `raft` and its messages stop inside this crate, and bytes from the
//! network are never decoded by its protobuf library: owners speak [`RaftMessage`].
//!
//! Architecture invariant: the crate is deterministic. It has no clock, thread, socket or global
//! dice, and imports between its files run one way.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::wildcard_enum_match_arm))]

mod ballots;
mod codec;
mod config;
mod election;
mod error;
mod group;
mod group_log;
mod hard_state;
mod heartbeats;
pub mod lease;
pub mod limits;
mod member;
mod opening;
mod promise;
mod reads;
mod ready;
#[cfg(test)]
mod test_node;
mod validate;

pub use ballots::Ballot;
pub use codec::snapshot_membership;
pub use config::{GroupConfig, Timing};
pub use error::{GroupError, ProposeError, StepError};
pub use flotilla_types::proto::{MessageKind, RaftMessage, SnapshotMeta};
pub use group::Group;
pub use limits::GroupLimits;
pub use member::{MemberChange, Membership};
pub use opening::{Opening, forget_entries, peer_with_state, remembered_peer};
pub use ready::{
    Committed, CommittedBody, ConfirmedRead, FollowerProgress, GroupHeld, GroupReady, Position,
    ReadTicket, Role,
};
