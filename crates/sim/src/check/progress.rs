//! Progress within a peer: truncated <= durable <= applied <= committed, all of them log indexes.

use flotilla_group::Group;
use flotilla_store::core::records::FIRST_INDEX;

use super::group::{GroupId, Node};
use super::{Verdict, broken};

/// Checks one peer: `raft` is its half of the group, and its state goes up to the first index of
/// `state`, durably up to the second.
pub fn check(node: Node, group: GroupId, raft: &Group, state: (u64, u64)) -> Verdict {
    let (applied, durable) = state;
    let (committed, truncated) = (raft.commit_index(), raft.truncated().index);
    judge([truncated, durable, applied, committed])
        .map_err(|what| format!("{node}, {group}: {what}"))
        .or_else(|what| broken("truncated <= durable <= applied <= committed", what))
}

fn judge([truncated, durable, applied, committed]: [u64; 4]) -> Result<(), String> {
    // A new region's log begins at its first index before its state is durable.
    let keeps_log = truncated <= durable.max(FIRST_INDEX);
    if keeps_log && durable <= applied && applied <= committed {
        return Ok(());
    }
    Err(format!(
        "truncated {truncated}, durable {durable}, applied {applied}, committed {committed}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_out_of_order_is_found() {
        assert!(judge([7, 8, 9, 10]).is_ok());
        assert!(judge([9, 9, 9, 9]).is_ok());
        assert!(judge([9, 8, 9, 10]).is_err(), "truncated beyond what is durable");
        assert!(judge([7, 10, 9, 10]).is_err(), "durable beyond what is applied");
        assert!(judge([7, 8, 11, 10]).is_err(), "applied beyond what is committed");
    }

    #[test]
    fn a_new_log_may_begin_before_its_state_is_durable() {
        assert!(judge([FIRST_INDEX, 0, FIRST_INDEX, FIRST_INDEX]).is_ok());
        assert!(judge([FIRST_INDEX + 1, 0, FIRST_INDEX + 1, FIRST_INDEX + 1]).is_err());
    }
}
