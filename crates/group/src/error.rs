//! Why a group refuses a call. Each error leaves the group as it was.

use flotilla_engine::EngineError;

/// Why a group cannot be opened. None is retryable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// The disk failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The log and the state contradict each other.
    #[error("group {group}: {reason}")]
    Inconsistent {
        /// The group.
        group: u64,
        /// The contradiction, with the values.
        reason: String,
    },
}

/// Why a proposal was refused. A refused proposal never takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This peer is not the leader. The proposal belongs to `leader`.
    #[error("not the leader (leader: peer {leader})")]
    NotLeader {
        /// The leader's peer id; 0 if unknown.
        leader: u64,
    },
    /// Too many bytes are uncommitted, or a leadership transfer or another membership change is
    /// under way. The caller may propose again later.
    #[error("the group takes no such proposal now")]
    Busy,
}

/// Why a message was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The message is stale, of a local kind, or from an unknown peer. It counts as lost.
    #[error("message ignored")]
    Ignored,
    /// The leader knows that this peer acknowledged entry `acknowledged`, and this peer's log ends
    /// at `last`: the disk lost acknowledged entries. The peer must stop for good.
    #[error("the log ends at {last} and entry {acknowledged} had been acknowledged")]
    LostLog {
        /// The last entry in the log.
        last: u64,
        /// An entry that this peer acknowledged.
        acknowledged: u64,
    },
}
