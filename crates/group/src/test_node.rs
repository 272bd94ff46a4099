//! A node of the `raft` crate over a log in memory, for unit tests of the modules around it.

use std::sync::Arc;

use flotilla_engine::MemLog;
use raft::RawNode;

use crate::config::{GroupConfig, Timing, raft_config};
use crate::group_log::GroupLog;
use crate::limits::GroupLimits;
use crate::member::Membership;
use crate::opening::{Opening, open_log};

/// Peer 1 of a new group with these voters.
pub(crate) fn open_node(voters: &[u64]) -> RawNode<GroupLog> {
    let limits = GroupLimits::default();
    let config = GroupConfig { group: 1, peer: 1, seed: 1, timing: Timing::DEFAULT, limits };
    let opening = Opening { membership: Membership::of_voters(voters), ..Opening::default() };
    let (log, _) = open_log(&config, Arc::new(MemLog::default()), &opening).expect("empty");
    let logger = slog::Logger::root(slog::Discard, slog::o!());
    RawNode::new(&raft_config(&config, 0), log, &logger).expect("a sound configuration")
}
