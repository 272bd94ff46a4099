//! Opening a group: the log and the owner's state must fit together.
//!
//! The state is the authority for what is applied. A log is **stale** in two cases, both left by a
//! process that installed a snapshot and died before the log began anew:
//!
//! * it ends before the applied entry;
//! * its entry at the applied index has an earlier term. A deposed leader appended that entry, and
//!   the snapshot overrules it.
//!
//! A stale log is replaced by an empty one that begins after the applied entry; term and vote are
//! kept. A log of an earlier incarnation of the peer is dropped with its vote, which was another
//! peer's. Every other contradiction is refused with the values, because the `raft` crate would
//! panic on it later.

use std::sync::Arc;

use flotilla_engine::{LogBounds, LogOp, LogStore};
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::proto;
use prost::Message;
use raft::eraftpb::HardState;

use crate::config::GroupConfig;
use crate::error::GroupError;
use crate::group_log::{GroupLog, LogParts};
use crate::member::Membership;
use crate::ready::Position;

/// The owner's durable state of the group, as of the opening.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opening {
    /// The last applied entry; index 0 for a peer that has no state yet and waits for a snapshot.
    pub applied: Position,
    /// The configuration as of `applied`; empty for a peer without state.
    pub membership: Membership,
    /// True if this peer may have voted or acknowledged a heartbeat in an earlier process. It then
    /// grants no vote for one election timeout, because a leader's lease may rest on its answer.
    pub is_restart: bool,
}

/// The group's log, and the writes that make it fit the state, if any are needed.
pub(crate) fn open_log(
    config: &GroupConfig,
    store: Arc<dyn LogStore>,
    opening: &Opening,
) -> Result<(GroupLog, Vec<LogOp>), GroupError> {
    let applied = opening.applied;
    let bounds = store.bounds(config.group);
    let found = saved_state(&*store, config.group)?;
    let has_saved_state = found.is_some();
    let saved = found.unwrap_or_else(|| fresh_state(config, applied));
    let is_older_incarnation = saved.peer_id < config.peer;
    if is_older_incarnation || is_stale(&*store, config.group, &saved, applied)? {
        let mut state = fresh_state(config, applied);
        if !is_older_incarnation {
            state.term = state.term.max(saved.term);
            state.vote = if state.term == saved.term { saved.vote } else { 0 };
        }
        return Ok(begin_anew(config, store, opening, state));
    }
    check(config, &saved, bounds, applied)?;
    let truncated = Position { index: saved.truncated_index, term: saved.truncated_term };
    let last = last_position(&*store, config.group, bounds, truncated)?;
    let mut hard_state = HardState::default();
    hard_state.term = saved.term.max(last.term);
    hard_state.vote = if hard_state.term == saved.term { saved.vote } else { 0 };
    hard_state.commit = saved.commit.clamp(applied.index, last.index);
    let parts =
        LogParts { has_saved_state, ..parts(config, opening, (truncated, last), hard_state) };
    Ok((GroupLog::new(store, parts), vec![]))
}

/// True in the two cases that the module's header calls stale.
fn is_stale(
    store: &dyn LogStore,
    group: u64,
    saved: &proto::HardState,
    applied: Position,
) -> Result<bool, GroupError> {
    let bounds = store.bounds(group);
    if bounds.map_or(saved.truncated_index, |bounds| bounds.last) < applied.index {
        return Ok(true);
    }
    if bounds.is_none_or(|bounds| !(bounds.first..=bounds.last).contains(&applied.index)) {
        return Ok(false);
    }
    Ok(position_of(store, group, applied.index)?.term < applied.term)
}

/// A log without entries that begins after the applied state.
fn begin_anew(
    config: &GroupConfig,
    store: Arc<dyn LogStore>,
    opening: &Opening,
    state: proto::HardState,
) -> (GroupLog, Vec<LogOp>) {
    let mut hard_state = HardState::default();
    (hard_state.term, hard_state.vote) = (state.term, state.vote);
    hard_state.commit = opening.applied.index;
    let at = opening.applied;
    let mut log = GroupLog::new(store, parts(config, opening, (at, at), hard_state.clone()));
    let state = log.set_hard_state(hard_state);
    (log, vec![LogOp::Clear { group: config.group }, state])
}

fn parts(
    config: &GroupConfig,
    opening: &Opening,
    (truncated, last): (Position, Position),
    hard_state: HardState,
) -> LogParts {
    LogParts {
        group: config.group,
        peer: config.peer,
        truncated,
        last,
        cache_bytes_max: config.limits.cache_bytes_max,
        hard_state,
        has_saved_state: false,
        conf_state: opening.membership.to_conf_state(),
    }
}

fn check(
    config: &GroupConfig,
    saved: &proto::HardState,
    bounds: Option<LogBounds>,
    applied: Position,
) -> Result<(), GroupError> {
    let refuse = |reason: String| Err(GroupError::Inconsistent { group: config.group, reason });
    if saved.peer_id > config.peer {
        let (log, state) = (saved.peer_id, config.peer);
        return refuse(format!("the log is of peer {log}, the state of the older peer {state}"));
    }
    if let Some(bounds) = bounds.filter(|bounds| bounds.first > saved.truncated_index + 1) {
        let (first, truncated) = (bounds.first, saved.truncated_index);
        return refuse(format!("the log begins at {first}, after a gap from {truncated}"));
    }
    if saved.truncated_index > applied.index {
        let (truncated, applied) = (saved.truncated_index, applied.index);
        return refuse(format!("the log begins after {truncated}, the state ends at {applied}"));
    }
    Ok(())
}

fn last_position(
    store: &dyn LogStore,
    group: u64,
    bounds: Option<LogBounds>,
    truncated: Position,
) -> Result<Position, GroupError> {
    let Some(index) = bounds.map(|bounds| bounds.last).filter(|last| *last > truncated.index)
    else {
        return Ok(truncated);
    };
    position_of(store, group, index)
}

fn position_of(store: &dyn LogStore, group: u64, index: u64) -> Result<Position, GroupError> {
    let entries = store.entries(group, index, index + 1, usize::MAX)?;
    let Some(entry) = entries.first() else {
        let reason = format!("entry {index} is in the index and cannot be read");
        return Err(GroupError::Inconsistent { group, reason });
    };
    Ok(Position { index, term: entry.term })
}

/// The hard state of a peer whose log is empty and begins after the applied state.
fn fresh_state(config: &GroupConfig, applied: Position) -> proto::HardState {
    proto::HardState {
        term: applied.term,
        vote: 0,
        commit: applied.index,
        peer_id: config.peer,
        truncated_index: applied.index,
        truncated_term: applied.term,
    }
}

fn saved_state(store: &dyn LogStore, group: u64) -> Result<Option<proto::HardState>, GroupError> {
    let Some(state) = store.state(group)? else { return Ok(None) };
    match proto::HardState::decode(state) {
        Ok(state) => Ok(Some(state)),
        Err(error) => {
            Err(GroupError::Inconsistent { group, reason: format!("hard state: {error}") })
        }
    }
}

/// The peer whose vote the log store holds for a group; None if it holds nothing. A peer with a
/// greater id is a later incarnation.
pub fn remembered_peer(store: &dyn LogStore, group: u64) -> Result<Option<u64>, GroupError> {
    Ok(saved_state(store, group)?.map(|state| state.peer_id))
}

/// The writes that turn a peer whose state is lost into a peer that never had any: its entries are
/// cleared and its vote is kept.
pub fn forget_entries(store: &dyn LogStore, group: u64) -> Result<Vec<LogOp>, GroupError> {
    let Some(state) = saved_state(store, group)? else { return Ok(vec![]) };
    let mut state = proto::HardState { commit: 0, truncated_index: 0, truncated_term: 0, ..state };
    if planted(Mutant::VoteGoesWithEntries) {
        state.vote = 0;
    }
    Ok(vec![LogOp::Clear { group }, LogOp::SetState { group, state: state.encode_to_vec().into() }])
}

/// The peer whose log belongs to a state. None if the log store holds nothing, or only the vote of
/// a peer that never had a state.
pub fn peer_with_state(store: &dyn LogStore, group: u64) -> Result<Option<u64>, GroupError> {
    let had_state =
        |state: &proto::HardState| state.truncated_index > 0 || store.bounds(group).is_some();
    Ok(saved_state(store, group)?.filter(had_state).map(|state| state.peer_id))
}

#[cfg(test)]
#[path = "opening_tests.rs"]
mod tests;
