//! Golden scripts of the store's core: a behaviour across stores is a file in `testscripts/`,
//! named as a sentence.
//!
//! Several workers live in one thread over logs and states in memory. [`store`] is one of them
//! with a driver that keeps the contract of `Output`, [`world`] the network and the clock between
//! them, [`commands`] the language, [`check`] what must hold after each command. To rewrite the
//! scripts after a change, run the test with `UPDATE_GOLDEN=1` and review the diff.

mod check;
mod commands;
mod disturb;
mod requests;
mod show;
mod store;
mod world;

#[path = "../../../group/tests/golden/script.rs"]
mod script;
#[path = "../../../group/tests/golden/trace.rs"]
mod trace;

const DIR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/testscripts");

macro_rules! scripts {
    ($($name:ident,)*) => {
        $(#[test]
        fn $name() {
            script::check(DIR, stringify!($name), &mut world::World::default());
        })*

        #[test]
        fn every_script_is_run() {
            script::check_names(DIR, &[$(stringify!($name)),*]);
        }
    };
}

scripts! {
    acknowledgement_waits_for_the_log,
    cas_outcomes,
    delete_range_within_a_region,
    entries_held_back_wait_for_a_snapshot_that_was_offered,
    first_region_begins_with_all_its_voters,
    first_region_is_told_again_after_a_crash_and_not_made_again,
    first_region_keeps_the_vote_of_a_peer_without_state,
    idle_region_is_quiescent_and_elects_when_its_leader_is_gone,
    idle_region_wakes_for_a_request,
    later_incarnation_replaces_the_one_here,
    leader_that_wanted_a_snapshot_steps_down,
    leader_that_was_made_a_learner_hands_leadership_on,
    learner_gets_a_snapshot_and_becomes_a_voter,
    lease_read_is_served_at_once,
    pressure_refuses_writes_and_holds_back_what_followers_apply,
    read_across_a_split_is_refused,
    read_does_not_miss_a_write_that_was_answered,
    read_waits_for_the_quorum,
    region_over_its_limit_is_cut_in_the_middle,
    region_stays_awake_for_a_member_that_is_not_created_yet,
    removal_from_an_odd_number_needs_all_that_stay,
    removal_is_known_after_a_crash_of_the_last_member,
    removal_is_refused_while_too_few_voters_are_heard,
    removed_peer_leaves_a_tombstone_and_a_late_message_does_not_revive_it,
    removed_peer_that_is_written_to_is_told_of,
    removed_while_isolated_peer_learns_of_its_removal,
    restart_after_a_stop_redoes_nothing,
    restart_between_log_and_apply,
    restart_between_removal_and_checkpoint_repeats_the_removal,
    restart_between_split_and_checkpoint_repeats_the_split,
    slow_split_creates_a_removed_right_peer_which_learns_of_it,
    snapshot_install_survives_a_crash_before_and_after,
    snapshot_of_the_left_region_makes_room_for_the_right,
    split_creates_the_right_region_everywhere,
    split_does_not_revive_a_tombstoned_right_peer,
    split_ids_that_are_in_use_are_not_taken_again,
    split_keeps_the_vote_of_a_peer_without_state,
    split_lost_in_a_crash_and_never_repeated_begins_anew,
    split_reaches_a_slow_follower_after_the_new_regions_votes,
    split_while_the_leader_changes,
    stale_epoch_is_refused_at_apply,
    stale_epoch_is_refused_at_propose,
    store_that_is_about_to_stop_hands_its_leaderships_on,
    truncated_log_forces_a_snapshot,
    two_snapshots_that_overlap_come_in_one_turn,
    voter_is_replaced_in_a_joint_change,
    write_dropped_with_its_leader_is_refused,
    write_kept_by_the_next_leader_is_answered,
    write_past_its_deadline_is_undetermined,
    write_reaches_three_stores,
    write_undecided_by_the_next_leader_is_undetermined,
    writes_of_a_lost_leadership_are_decided_by_the_next_leaders_first_entry,
}
