//! Golden scripts of one Raft group: a behaviour across messages is a file in `testscripts/`,
//! named as a sentence.
//!
//! A little cluster of groups lives in one thread over logs in memory; see [`cluster`] for what it
//! models and [`commands`] for the language. To rewrite the scripts after a change, run the test
//! with `UPDATE_GOLDEN=1` and review the diff.

mod cluster;
mod commands;
mod member;
mod script;
mod trace;

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testscripts");

macro_rules! scripts {
    ($($name:ident,)*) => {
        $(#[test]
        fn $name() {
            script::check(DIR, stringify!($name), &mut cluster::Cluster::default());
        })*

        #[test]
        fn every_script_is_run() {
            script::check_names(DIR, &[$(stringify!($name)),*]);
        }
    };
}

scripts! {
    append_reaches_all,
    change_that_a_full_log_refuses_is_not_pending,
    divergent_logs_are_overwritten,
    election_of_three,
    entries_that_a_snapshot_overruled_are_dropped,
    heartbeat_beyond_the_log_is_a_lost_log,
    joint_configuration_needs_both_quorums,
    leader_of_old_term_steps_down,
    lease_ends_with_a_transfer,
    lease_renews_and_ends,
    membership_joint_replaces_a_voter,
    membership_learner_then_voter,
    promise_to_a_leader_outlives_a_later_term,
    proposal_dropped_by_a_new_leader,
    proposal_kept_by_a_new_leader,
    read_needs_an_entry_of_the_own_term,
    removed_follower_cannot_unseat_the_leader,
    removed_leader_hands_the_group_over,
    restart_between_log_and_apply,
    restarted_voter_does_not_vote_within_the_election_timeout,
    snapshot_to_a_lagging_peer,
    snapshot_whose_acknowledgement_is_lost_has_arrived_all_the_same,
    stale_log_is_reset_to_the_applied_state,
    transfer_waits_for_the_log,
    vote_after_restart_is_remembered,
}
