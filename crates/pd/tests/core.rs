//! The core from bootstrap to failover: a member over disks in memory, and stores that obey it.
//! Several members: [`group`]; stores that never run again: [`lost_store`].

mod group;
mod lost_store;
mod world;

use flotilla_pd::core::{Event, Output};
use flotilla_types::heartbeat::{LeaderlessPeer, TombstonedPeer};
use flotilla_types::placement::{
    OperatorRequest, PdError, PdOp, PdReply, RegisterStore, StoreState,
};
use flotilla_types::{Epoch, KeyRange, Member, MemberRole, PeerId, Region, RegionId, StoreId};
use world::{Cluster, DOWN_AFTER_MS, Led, NEW_STORE, PdMember, beat, register, set_store};

fn refusal(error: PdError) -> String {
    match error {
        PdError::Refused { reason } => reason,
        other => panic!("expected a refusal: {other:?}"),
    }
}

#[test]
fn a_new_cluster_begins_with_all_its_voters() {
    let mut cluster = Cluster::new(4);
    assert_eq!(cluster.voter_stores(0), [1, 2, 3]);
    cluster.settle();
    assert_eq!(cluster.voter_stores(0), [1, 2, 3], "nothing is left to repair");
    let status = cluster.member.status();
    assert_eq!((status.unhealthy_region_count, status.awaited.as_str()), (0, ""));
    assert_eq!((status.store_count, status.region_count, status.replica_count), (4, 1, 3));
    assert!(status.cluster_id != 0 && status.members[0].is_leader);
    let known = cluster.member.region(cluster.regions[0].region.id);
    assert_eq!(known, cluster.regions[0].region, "the range map follows");
}

#[test]
fn too_few_stores_wait_and_are_told_for_what() {
    let mut member = PdMember::new();
    for addr in ["a:1", "b:1"] {
        member.register(NEW_STORE, addr);
    }
    for _ in 0..60 {
        member.tick(100);
        for store in [StoreId(1), StoreId(2)] {
            let reply = member.heartbeat(beat(store, true, vec![]));
            assert_eq!(reply.first_region, None);
            assert!(reply.awaited.contains("missing"), "{}", reply.awaited);
        }
    }
    assert!(member.status().awaited.contains("1 of them is missing"));
    assert_eq!(member.status().region_count, 0);
    let regions = PdOp::Regions { start_key: Default::default(), limit: 0 };
    match member.error(regions) {
        PdError::Busy { reason } => assert!(reason.contains("3 stores"), "{reason}"),
        other => panic!("expected the reason: {other:?}"),
    }
    let said = |event: &&Event| matches!(event, Event::Awaits { .. });
    assert_eq!(member.events.iter().filter(said).count(), 1, "once, and not at once");
}

#[test]
fn the_first_region_is_told_to_its_stores_until_it_is_reported() {
    let mut member = PdMember::new();
    for addr in ["a:1", "b:1", "c:1", "d:1"] {
        member.register(NEW_STORE, addr);
    }
    let told = |member: &mut PdMember, store| {
        member.heartbeat(beat(StoreId(store), true, vec![])).first_region
    };
    (1..=3).for_each(|store| assert_eq!(told(&mut member, store), None, "not chosen yet"));
    member.tick(500);
    let region = told(&mut member, 1).expect("chosen");
    assert_eq!(told(&mut member, 4), None, "it is not for this store");
    assert_eq!(told(&mut member, 1).as_ref(), Some(&region), "the first answer may be lost");

    let mut member = member.crash();
    (1..=3).for_each(|store| assert_eq!(told(&mut member, store).as_ref(), Some(&region)));
    let reason = refusal(member.error(register(NEW_STORE, "a:1")));
    assert!(reason.contains("store remove 1"), "it may have voted: {reason}");
    member.tick(100_000);
    let reason = refusal(member.error(set_store(StoreId(2), StoreState::Removed)));
    assert!(reason.contains("first region"), "{reason}");

    let split = Region { id: RegionId(2), ..region.clone() };
    let reply = member.heartbeat(beat(StoreId(1), true, vec![Led::new(split).report()]));
    assert!(reply.needs_full && reply.first_region.is_some(), "the map begins with the first");
    member.heartbeat(beat(StoreId(1), true, vec![Led::new(region).report()]));
    assert_eq!(told(&mut member, 2), None);
}

#[test]
fn a_cluster_of_one_replica_is_repaired_as_any_other() {
    let mut cluster = Cluster::of(PdMember::with_replicas(1), 1);
    cluster.settle();
    assert_eq!(cluster.voter_stores(0), [1], "one replica, one voter");
    assert_eq!(cluster.member.status().unhealthy_region_count, 0);
}

#[test]
fn a_lost_registration_reply_is_answered_with_the_same_id_and_a_lost_disk_is_not() {
    let mut member = PdMember::new();
    let first = member.register(NEW_STORE, "10.0.0.1:20160");
    assert_eq!(member.register(NEW_STORE, "10.0.0.1:20160").store_id, first.store_id);
    let mut cluster = Cluster::new(1);
    cluster.settle();
    let reason = refusal(cluster.member.error(register(NEW_STORE, "10.0.0.1:20160")));
    assert!(reason.contains("store remove 1"), "{reason}");

    let mut member = cluster.member.crash();
    let reason = refusal(member.error(register(NEW_STORE, "10.0.0.1:20160")));
    assert!(reason.contains("store remove 1"), "not heard yet, but it has held a peer: {reason}");
    let unknown = member.error(register(StoreId(77), "c:1"));
    assert_eq!(unknown, PdError::NotFound { what: "store 77".into() });
}

#[test]
fn a_store_that_moves_keeps_its_id() {
    let mut member = PdMember::new();
    let id = member.register(NEW_STORE, "a:1").store_id;
    assert_eq!(member.register(id, "b:2").store_id, id);
    let stores = member.stores();
    assert_eq!(stores[0].addr, "b:2");
    assert_eq!(stores[0].last_heartbeat_ms, None);
    assert!(refusal(member.error(register(NEW_STORE, "no port"))).contains("HOST:PORT"));
}

#[test]
fn a_copy_of_a_running_stores_directory_is_not_registered() {
    let mut member = PdMember::new();
    let id = member.register(NEW_STORE, "a:1").store_id;
    member.heartbeat(beat(id, true, vec![]));
    assert_eq!(member.register(id, "a:1").store_id, id, "it has restarted");
    let reason = refusal(member.error(register(id, "b:2")));
    assert!(reason.contains("store 1 is alive at a:1"), "{reason}");
    let reason = refusal(member.error(register(NEW_STORE, "a:1")));
    assert!(reason.contains("a:1 is the address of store 1"), "{reason}");
    for _ in 0..10 {
        member.tick(1_000);
    }
    assert_eq!(member.register(id, "b:2").store_id, id, "it was stopped and has moved");
}

#[test]
fn a_member_that_stops_answers_whoever_waits_and_saves_what_it_has_applied() {
    let mut member = PdMember::new();
    member.register(NEW_STORE, "a:1");
    let id = member.ask(0, PdOp::AllocateIds { count: 7 });
    assert!(!member.replies.contains_key(&id), "it waits for the end of the turn");
    let (applied, durable) = member.pd.applied_and_durable();
    assert!(durable < applied, "there is nothing to save");
    member.stop();
    match member.replies.remove(&id) {
        Some(Err(PdError::Busy { reason })) => assert!(reason.contains("stopping"), "{reason}"),
        other => panic!("expected a busy placement driver: {other:?}"),
    }
    let (_, durable) = member.pd.applied_and_durable();
    assert!(durable >= applied, "{durable} of {applied} entries");
    let mut member = member.crash();
    assert_eq!(member.stores().len(), 1, "it is started again from its directory");
}

#[test]
fn labels_are_bounded() {
    let mut member = PdMember::new();
    let mut with_labels = |bytes: usize| {
        let labels = [("zone".to_string(), "x".repeat(bytes))].into();
        let (store_id, addr) = (NEW_STORE, "a:1".into());
        let id = member.ask(0, PdOp::RegisterStore(RegisterStore { store_id, addr, labels }));
        member.flush();
        member.replies.remove(&id).expect("answered")
    };
    let reason = refusal(with_labels(1 << 20).expect_err("too long"));
    assert!(reason.contains("bytes of labels; the most is"), "{reason}");
    assert!(matches!(with_labels(10), Ok(PdReply::RegisterStore(_))));
}

#[test]
fn the_store_that_asks_for_another_cluster_is_named() {
    for (op, named) in [
        (PdOp::Heartbeat(Box::new(beat(StoreId(4), true, vec![]))), Some(StoreId(4))),
        (register(StoreId(5), "e:1"), Some(StoreId(5))),
        (register(NEW_STORE, "n:1"), None),
        (PdOp::Stores, None),
    ] {
        let mut member = PdMember::new();
        let cluster = member.status().cluster_id;
        let id = member.ask(cluster + 1, op);
        member.flush();
        let refused = Err(PdError::ClusterMismatch { cluster_id: cluster });
        assert_eq!(member.replies.remove(&id), Some(refused));
        let told = Event::OtherCluster { wanted: cluster + 1, cluster, store: named };
        assert!(member.events.contains(&told), "{:?}", member.events);
        assert_eq!(member.stores(), []);
    }
}

#[test]
fn ids_are_never_handed_out_twice_whatever_is_lost() {
    let mut member = PdMember::new();
    let first = member.ids(10);
    let second = member.ids(5);
    assert_eq!(second.start, first.start + 10);

    // Proposed and not synced: the block was never answered, and may be given to another.
    let op = PdOp::AllocateIds { count: 7 };
    let unsynced = member.log.unsynced_batches();
    member.holds_log = true;
    let id = member.ask(0, op);
    member.flush();
    assert!(member.log.unsynced_batches() > unsynced, "the proposal was written");
    assert!(!member.replies.contains_key(&id), "{id:?} was answered before the sync");

    // Nothing was ever checkpointed: all comes back from the log.
    let mut member = member.crash();
    let third = member.ids(1);
    assert!(third.start >= second.start + 5, "{third:?} after {second:?}");

    for _ in 0..60 {
        member.tick(100);
    }
    let mut member = member.crash();
    assert!(member.ids(1).start > third.start, "and from a checkpoint");
    let too_many = PdOp::AllocateIds { count: u64::MAX };
    assert!(refusal(member.error(too_many)).contains("from 1 to"));
}

#[test]
fn a_restart_keeps_everything_and_a_checkpoint_truncates_the_log() {
    use flotilla_engine::LogStore;
    let mut cluster = Cluster::new(3);
    cluster.settle();
    let before = cluster.member.pd.state().clone();
    let mut cluster = cluster.crash_pd();
    let mut state = cluster.member.pd.state().clone();
    assert_eq!(state.regions(), before.regions());
    assert!(state.stores().eq(before.stores()));
    assert_eq!(state.cluster_id(), before.cluster_id());

    for _ in 0..60 {
        cluster.round(100);
    }
    let log = cluster.member.log.clone();
    let first = log.bounds(flotilla_pd::core::pd::PD_GROUP).map_or(u64::MAX, |bounds| bounds.first);
    assert!(first > 5, "the log still begins at {first}");
    state = cluster.member.pd.state().clone();
    let mut cluster = cluster.crash_pd();
    assert_eq!(cluster.member.pd.state().regions(), state.regions());
    cluster.settle();
    assert_eq!(cluster.voter_stores(0).len(), 3);
}

#[test]
fn stale_reports_change_nothing() {
    let mut cluster = Cluster::new(3);
    let mut older = cluster.regions[0].report();
    older.region.epoch.conf_ver -= 1;
    cluster.settle();
    let leader = cluster.regions[0].store();
    let known = cluster.member.region(cluster.regions[0].region.id);
    cluster.member.events.clear();

    cluster.member.heartbeat(beat(leader, false, vec![older]));
    let mut older_term = cluster.regions[0].clone();
    older_term.term -= 1;
    older_term.leader = known.members.iter().find(|p| p.store_id != leader).expect("a peer").id;
    cluster.member.heartbeat(beat(older_term.store(), false, vec![older_term.report()]));
    let mut foreign = cluster.regions[0].clone();
    foreign.region.id = RegionId(1 << 40);
    cluster.member.heartbeat(beat(leader, false, vec![foreign.report()]));
    let mut misplaced = cluster.regions[0].clone();
    misplaced.region.epoch.conf_ver += 1;
    misplaced.region.members[1].store_id = StoreId(999);
    cluster.member.heartbeat(beat(leader, false, vec![misplaced.report()]));

    let ignored = |event: &&Event| matches!(event, Event::ReportIgnored { .. });
    assert_eq!(cluster.member.events.iter().filter(ignored).count(), 4);
    assert_eq!(cluster.member.region(known.id), known);
    assert_eq!(cluster.member.status().unhealthy_region_count, 0, "the leader is still known");
}

#[test]
fn a_split_is_reported_in_either_order_and_the_map_stays_total() {
    for is_right_first in [false, true] {
        let mut cluster = Cluster::new(3);
        cluster.settle();
        let block = cluster.member.ids(4);
        let mut left = cluster.regions[0].clone();
        left.region.epoch.version += 1;
        let mut right = left.clone();
        left.region.range = KeyRange::new("", "m");
        right.region.range = KeyRange::new("m", "");
        right.region.id = RegionId(block.start);
        let right_id = |id: PeerId| {
            let peers = &left.region.members;
            let n = peers.iter().position(|peer| peer.id == id).expect("a member") as u64;
            PeerId(block.start + 1 + n)
        };
        right.leader = right_id(right.leader);
        for peer in &mut right.region.members {
            peer.id = right_id(peer.id);
        }
        let store = left.store();
        let halves = if is_right_first { [&right, &left] } else { [&left, &right] };
        for half in halves {
            cluster.member.heartbeat(beat(store, false, vec![half.report()]));
        }
        assert_eq!(cluster.member.pd.state().regions().first_hole(), None);
        cluster.regions = vec![left, right];
        cluster.settle();
        assert_eq!(cluster.member.status().region_count, 2);
        assert_eq!(cluster.member.status().unhealthy_region_count, 0);
        cluster = cluster.crash_pd();
        assert_eq!(cluster.member.pd.state().regions().len(), 2, "the records follow");
    }
}

#[test]
fn an_operator_is_answered_on_every_heartbeat_even_if_the_region_is_not_mentioned() {
    let mut cluster = Cluster::new(4);
    cluster.settle();
    let leader = cluster.regions[0].store();
    let other = *cluster.alive.iter().find(|store| **store != leader).expect("four stores");
    cluster.member.set_store(other, StoreState::Draining);
    cluster.member.tick(100);
    cluster.member.tick(100);
    let first = cluster.member.heartbeat(beat(leader, false, vec![]));
    assert_eq!(first.commands.len(), 1);
    assert_eq!(first.next_heartbeat_ms, 100);
    let second = cluster.member.heartbeat(beat(leader, false, vec![]));
    assert_eq!(second.commands, first.commands, "sent again, with the same peer id");
    assert_eq!(cluster.member.heartbeat(beat(other, false, vec![])).commands, []);
    cluster.settle();
    let idle = cluster.member.heartbeat(beat(leader, false, vec![]));
    assert_eq!((idle.commands.len(), idle.next_heartbeat_ms), (0, 1_000));
}

#[test]
fn a_down_store_is_replaced_before_its_peer_is_removed() {
    let mut cluster = Cluster::new(4);
    cluster.settle();
    let lost = StoreId(cluster.voter_stores(0)[2]);
    cluster.alive.retain(|store| *store != lost);
    assert_ne!(cluster.regions[0].store(), lost);
    let silent = DOWN_AFTER_MS / 1_000 + 1;
    for second in 0..silent {
        cluster.round(1_000);
        if second == 15 {
            assert_eq!(cluster.member.status().unhealthy_region_count, 1);
            let statuses = cluster.member.stores();
            let state = statuses.into_iter().map(|status| (status.store_id, status.state));
            assert!(state.into_iter().any(|s| s == (lost, StoreState::Disconnected)));
        }
    }
    cluster.settle();
    let stores: Vec<u64> = cluster.alive.iter().map(|store| store.0).collect();
    assert_eq!(cluster.voter_stores(0), stores);
    let added = cluster.commands.iter().rposition(|command| command.contains("AddLearner"));
    let removed = cluster.commands.iter().position(|command| command.contains("RemovePeer"));
    assert!(added < removed, "{:?}", cluster.commands);
    assert_eq!(cluster.member.status().unhealthy_region_count, 0);
}

#[test]
fn a_down_store_is_replaced_in_one_change() {
    let mut cluster = Cluster::new(4);
    cluster.settle();
    cluster.commands.clear();
    let lost = StoreId(cluster.voter_stores(0)[2]);
    cluster.alive.retain(|store| *store != lost);
    (0..DOWN_AFTER_MS / 1_000 + 1).for_each(|_| cluster.round(1_000));
    cluster.settle();
    let kinds: Vec<&str> = cluster
        .commands
        .iter()
        .map(|command| command.split(['(', ' ']).next().expect("a word"))
        .collect();
    let mut once = kinds.clone();
    once.dedup();
    assert_eq!(once, ["AddLearner", "ReplaceVoter", "RemovePeer"], "{kinds:?}");
}

#[test]
fn a_store_that_comes_back_keeps_its_voter_and_the_learner_in_its_place_goes() {
    let mut cluster = Cluster::new(4);
    cluster.settle();
    let voters = cluster.voter_stores(0);
    let silent = StoreId(voters[2]);
    cluster.alive.retain(|store| *store != silent);
    while !cluster.regions[0].region.members.iter().any(|m| m.role == MemberRole::Learner) {
        cluster.round(1_000);
    }
    cluster.alive.push(silent);
    cluster.commands.clear();
    // The replacement's command may already be under way; the returning store's heartbeat comes
    // first here.
    let back = beat(silent, false, vec![]);
    cluster.member.heartbeat(back);
    cluster.settle();
    assert_eq!(cluster.voter_stores(0), voters);
    assert_eq!(cluster.regions[0].region.members.len(), 3);
    assert!(!cluster.commands.iter().any(|command| command.contains("ReplaceVoter")));
}

/// Voters on stores 1 to 3. The leader on 1 does not hear 2, whose heartbeats come all the while.
/// If the voter on 2 were removed now and store 3 lost its disk, the two whole replicas would never
/// make up a majority of {1, 3}.
#[test]
fn a_voter_behind_a_cut_link_stays_a_voter_however_long_its_leader_does_not_hear_it() {
    let mut cluster = Cluster::new(3);
    cluster.settle();
    let voters = cluster.voter_stores(0);
    let leader = cluster.regions[0].leader;
    let silent = cluster.regions[0].region.members.iter().find(|member| member.id != leader);
    let silent = *silent.expect("three members");
    cluster.regions[0].unreachable = vec![silent.id];
    cluster.commands.clear();
    (0..3 * DOWN_AFTER_MS / 1_000).for_each(|_| cluster.round(1_000));
    assert_eq!(cluster.voter_stores(0), voters);
    assert_eq!(cluster.commands, [""; 0]);

    // Another store does not change that.
    cluster.add_store("10.0.0.9:20160");
    (0..3 * DOWN_AFTER_MS / 1_000).for_each(|_| cluster.round(1_000));
    assert_eq!((cluster.voter_stores(0), cluster.commands.len()), (voters, 0));
}

#[test]
fn a_voter_that_its_store_has_lost_gives_way_to_a_new_one_on_the_same_store() {
    let mut cluster = Cluster::new(3);
    cluster.settle();
    let voters = cluster.voter_stores(0);
    let leader = cluster.regions[0].leader;
    let region_id = cluster.regions[0].region.id;
    let lost = cluster.regions[0].region.members.iter().find(|member| member.id != leader);
    let lost = *lost.expect("three members");
    cluster.regions[0].unreachable = vec![lost.id];
    let told = vec![TombstonedPeer { region_id, peer_id: lost.id }];
    cluster.tombstoned.insert(lost.store_id, told);
    cluster.settle();
    cluster.regions[0].unreachable.clear();
    cluster.settle();
    assert_eq!(cluster.voter_stores(0), voters);
    let members = &cluster.regions[0].region.members;
    assert!(members.iter().all(|member| member.id != lost.id), "another incarnation");
    assert_eq!(cluster.member.status().unhealthy_region_count, 0);
}

#[test]
fn a_placement_driver_that_stood_still_takes_no_store_for_down() {
    let mut cluster = Cluster::new(4);
    cluster.settle();
    let voters = cluster.voter_stores(0);
    let led_by = cluster.regions[0].store();
    let commands = cluster.commands.len();
    cluster.member.tick(DOWN_AFTER_MS * 2);
    let reason = refusal(cluster.member.error(set_store(led_by, StoreState::Removed)));
    assert!(reason.contains("drain it first"), "{reason}");
    // The leader's store is the only one that reports at first.
    let alive = std::mem::replace(&mut cluster.alive, vec![led_by]);
    (0..5).for_each(|_| cluster.round(100));
    assert!(cluster.member.pd.operators().next().is_none());
    cluster.alive = alive;
    cluster.settle();
    assert_eq!((cluster.voter_stores(0), cluster.commands.len()), (voters, commands));
}

#[test]
fn a_store_is_removed_only_when_it_is_drained() {
    let mut cluster = Cluster::new(4);
    cluster.settle();
    let leaving = cluster.regions[0].store();
    let remove = || set_store(leaving, StoreState::Removed);
    assert!(refusal(cluster.member.error(remove())).contains("drain it first"));
    cluster.member.set_store(leaving, StoreState::Draining);
    cluster.settle();
    assert!(!cluster.voter_stores(0).contains(&leaving.0), "although it led");
    assert_eq!(cluster.voter_stores(0).len(), 3);
    assert!(matches!(cluster.member.call(remove()), PdReply::SetStoreState));

    let beat = PdOp::Heartbeat(Box::new(beat(leaving, true, vec![])));
    assert!(refusal(cluster.member.error(beat)).contains("removed"));
    let up = set_store(leaving, StoreState::Up);
    assert!(refusal(cluster.member.error(up)).contains("removed"), "for ever");
    assert!(refusal(cluster.member.error(register(leaving, "z:1"))).contains("removed"));
    let addr = "10.0.0.1:20160";
    let reborn = cluster.member.register(NEW_STORE, addr).store_id;
    assert_ne!(reborn, leaving, "a new store may live at its address");
}

#[test]
fn failover_mid_move_leaves_nothing_behind_and_does_not_loop() {
    // The PD dies after each step of the move.
    for rounds in 1..8 {
        let mut cluster = Cluster::new(4);
        cluster.settle();
        let from = cluster.regions[0].store();
        let held = cluster.voter_stores(0);
        let to = cluster.alive.iter().map(|s| s.0).find(|id| !held.contains(id)).expect("free");
        let kind = OperatorRequest::MovePeer { from, to: StoreId(to) };
        let op = PdOp::AddOperator { region_id: cluster.regions[0].region.id, kind };
        assert!(matches!(cluster.member.call(op.clone()), PdReply::AddOperator { .. }));
        assert!(refusal(cluster.member.error(op)).contains("cancel it first"));
        for _ in 0..rounds {
            cluster.round(100);
        }
        let mut cluster = cluster.crash_pd();
        cluster.commands.clear();
        cluster.settle();
        assert_eq!(cluster.voter_stores(0).len(), 3, "after {rounds} rounds");
        assert_eq!(cluster.regions[0].region.members.len(), 3, "no learner is left over");
        assert!(cluster.commands.len() <= 4, "after {rounds} rounds: {:?}", cluster.commands);
    }
}

#[test]
fn leaders_are_evened_out_and_then_left_alone() {
    let mut cluster = Cluster::new(3);
    cluster.settle();
    let stores = cluster.alive.clone();
    let mut regions = vec![];
    for n in 0..6u64 {
        let block = cluster.member.ids(4);
        let bound = |n: u64| if n == 0 || n == 6 { String::new() } else { format!("k{n}") };
        let peers = stores.iter().enumerate();
        let peers: Vec<Member> =
            peers.map(|(i, s)| Member::voter(PeerId(block.start + 1 + i as u64), *s)).collect();
        regions.push(Led::new(Region {
            id: if n == 0 { cluster.regions[0].region.id } else { RegionId(block.start) },
            range: KeyRange::new(bound(n), bound(n + 1)),
            epoch: Epoch { conf_ver: 9, version: 7 },
            members: peers,
        }));
    }
    regions[0].term += 1;
    cluster.regions = regions;
    cluster.settle();
    let mut led = vec![0; stores.len()];
    for region in &cluster.regions {
        led[stores.iter().position(|store| *store == region.store()).expect("alive")] += 1;
    }
    assert_eq!(led, [2, 2, 2]);
    let before = cluster.commands.len();
    for _ in 0..20 {
        cluster.round(500);
    }
    assert_eq!(cluster.commands.len(), before);
}

#[test]
fn a_leaderless_peer_is_destroyed_only_on_proof() {
    let mut cluster = Cluster::new(4);
    cluster.settle();
    let moved = cluster.voter_stores(0)[1];
    cluster.member.set_store(StoreId(moved), StoreState::Draining);
    cluster.settle();
    let known = cluster.member.region(cluster.regions[0].region.id);
    let mut ask = |peer_id: u64, region_id: RegionId, epoch: Epoch| {
        let mut beat = beat(cluster.alive[0], false, vec![]);
        beat.leaderless = vec![LeaderlessPeer { region_id, peer_id: PeerId(peer_id), epoch }];
        !cluster.member.heartbeat(beat).commands.is_empty()
    };
    let older = Epoch { conf_ver: known.epoch.conf_ver - 1, version: 1 };
    let gone = 900;
    assert!(ask(gone, known.id, older));
    assert!(!ask(gone, known.id, known.epoch), "no later membership is known");
    assert!(!ask(gone, known.id, Epoch::default()), "it may just have been added");
    assert!(!ask(gone, RegionId(999), older), "an unknown region proves nothing");
    assert!(!ask(known.members[0].id.0, known.id, older), "a member");
}

#[test]
fn requests_of_another_cluster_are_refused() {
    let mut member = PdMember::new();
    let cluster_id = member.status().cluster_id;
    for (asked, is_refused) in [(cluster_id, false), (cluster_id + 1, true), (0, false)] {
        let id = member.ask(asked, PdOp::ClusterStatus);
        member.flush();
        let reply = member.replies.remove(&id).expect("answered");
        assert_eq!(reply == Err(PdError::ClusterMismatch { cluster_id }), is_refused);
    }
    member.ask(cluster_id + 1, PdOp::Heartbeat(Box::new(beat(StoreId(1), true, vec![]))));
    member.flush();
    let other = Event::OtherCluster { wanted: cluster_id + 1, cluster: cluster_id, store: None };
    let told = member.events.iter().filter(|event| matches!(event, Event::OtherCluster { .. }));
    assert_eq!(told.collect::<Vec<_>>(), [&other], "told of once a minute");
    assert_eq!(member.stores(), [], "nothing of the other cluster is taken over");
}

/// The member is as old as a copy of its directory, and stores know ids of which it knows nothing.
#[test]
fn a_member_put_back_from_an_older_copy_leases_no_id_that_stores_have_named() {
    let mut member = PdMember::new();
    let stores = ["a:1", "b:1"].map(|addr| member.register(NEW_STORE, addr).store_id);
    let mut member = member.crash();
    let highest = member.pd.state().next_id() + 5_000;

    let again = member.register(stores[0], "a:1");
    assert_eq!(again.ids.count, 0, "no ids, and the store registers all the same");
    assert!(matches!(member.error(PdOp::AllocateIds { count: 1 }), PdError::Busy { .. }));
    let term = member.heartbeat(beat(stores[0], false, vec![])).term;
    let full = |store, highest_id| {
        let mut full = beat(store, true, vec![]);
        (full.asked_in_term, full.highest_id, full.ids_left) = (term, highest_id, 0);
        full
    };
    assert_eq!(member.heartbeat(full(stores[0], 7)).ids, None, "the other store was not heard");
    assert_eq!(member.heartbeat(full(stores[1], highest)).ids, None, "ids are in use");
    member.tick(100);
    let leased = member.heartbeat(full(stores[0], 7)).ids.expect("all were heard");
    assert!(leased.start > highest, "{leased:?} after {highest}");

    let mut late = beat(stores[1], false, vec![]);
    late.highest_id = leased.start + 70_000;
    member.heartbeat(late);
    member.tick(100);
    assert!(member.ids(1).start > leased.start + 70_000, "what is named later counts as well");
}

#[test]
fn a_member_put_back_from_an_older_copy_takes_over_the_regions_that_it_does_not_know() {
    let mut member = PdMember::with_replicas(1);
    let store = member.register(NEW_STORE, "a:1").store_id;
    let mut member = member.crash();
    let term = member.heartbeat(beat(store, false, vec![])).term;
    let id = member.pd.state().next_id() + 50;
    let parts = [(0, "", "k"), (2, "k", "")].map(|(more, start, end)| Region {
        id: RegionId(id + more),
        range: KeyRange::new(start, end),
        epoch: Epoch { conf_ver: 1, version: 2 },
        members: vec![Member::voter(PeerId(id + more + 1), store)],
    });
    let full = || {
        let reports = parts.iter().map(|region| Led::new(region.clone()).report()).collect();
        let mut full = beat(store, true, reports);
        (full.asked_in_term, full.usage.peer_count, full.ids_left) = (term, 2, 0);
        full
    };
    let reply = member.heartbeat(full());
    assert!(reply.needs_full, "ids that it has not handed out");
    assert_eq!((reply.first_region, reply.ids), (None, None));
    member.tick(1_000);
    let reply = member.heartbeat(full());
    assert!(!reply.needs_full);
    assert!(reply.ids.expect("all were heard").start > id + 3);
    member.tick(1_000);
    assert_eq!(parts.clone().map(|region| member.region(region.id)), parts);
    assert_eq!(member.heartbeat(full()).first_region, None, "the cluster has begun long since");
}

#[test]
fn a_store_that_is_down_holds_up_no_ids() {
    let mut member = PdMember::new();
    member.register(NEW_STORE, "a:1");
    let mut member = member.crash();
    assert!(matches!(member.error(PdOp::AllocateIds { count: 1 }), PdError::Busy { .. }));
    for _ in 0..=DOWN_AFTER_MS / 1_000 {
        member.tick(1_000);
    }
    assert_eq!(member.ids(1).count, 1);
}

#[test]
fn a_store_short_of_ids_and_unknown_to_this_leader_is_told_so() {
    let mut member = PdMember::new();
    let store = member.register(NEW_STORE, "a:1").store_id;
    let mut short = beat(store, false, vec![]);
    short.ids_left = 3;
    let reply = member.heartbeat(short);
    assert!(reply.needs_full);
    assert_eq!(reply.ids.map(|block| block.count), Some(1_000));
    assert_eq!(reply.stores.len(), 1);
    let mut full = beat(store, true, vec![]);
    assert!(member.heartbeat(full.clone()).needs_full, "nobody asked for it");
    full.asked_in_term = reply.term;
    let reply = member.heartbeat(full.clone());
    assert!(!reply.needs_full && reply.ids.is_none());
    let mut member = member.crash();
    assert!(member.heartbeat(beat(store, false, vec![])).needs_full, "a new leader knows nothing");
    assert!(member.heartbeat(full).needs_full, "an earlier leader asked for it");
}

#[test]
fn an_administrators_operators_are_checked_listed_and_cancelled() {
    let mut cluster = Cluster::new(4);
    cluster.settle();
    let region_id = cluster.regions[0].region.id;
    let ask = |kind: OperatorRequest| PdOp::AddOperator { region_id, kind };
    let held: Vec<StoreId> = cluster.voter_stores(0).into_iter().map(StoreId).collect();
    let has_peer = cluster.member.error(ask(OperatorRequest::AddPeer(held[0])));
    assert!(refusal(has_peer).contains("has a peer"));
    let free = (1..=4).map(StoreId).find(|id| !held.contains(id));
    let free = free.expect("four stores, three voters");
    let has_none = cluster.member.error(ask(OperatorRequest::RemovePeer(free)));
    assert!(refusal(has_none).contains("no peer"));
    let unknown = cluster.member.error(ask(OperatorRequest::AddPeer(StoreId(99))));
    assert!(matches!(unknown, PdError::NotFound { .. }), "{unknown:?}");
    let split = cluster.member.call(ask(OperatorRequest::Split("k".into())));
    let PdReply::AddOperator { operator_id } = split else { panic!("expected an operator") };
    let PdReply::Operators(listed) = cluster.member.call(PdOp::Operators) else {
        panic!("expected operators");
    };
    assert_eq!(listed[0].kind, "admin split");
    assert_eq!(listed[0].steps, ["split at a key of 1 bytes"]);
    let cancel = PdOp::CancelOperator { operator_id };
    assert_eq!(cluster.member.call(cancel.clone()), PdReply::CancelOperator);
    assert!(matches!(cluster.member.error(cancel), PdError::NotFound { .. }));

    let target = held.iter().copied().find(|id| *id != cluster.regions[0].store());
    let target = target.expect("three voters");
    cluster.member.call(ask(OperatorRequest::TransferLeader(target)));
    cluster.settle();
    assert_eq!(cluster.regions[0].store(), target);
    cluster.member.call(ask(OperatorRequest::RemovePeer(target)));
    cluster.settle();
    assert_eq!(cluster.voter_stores(0).len(), 3, "the checker adds another");
    let roles = cluster.regions[0].region.members.iter().map(|peer| peer.role);
    assert!(roles.into_iter().all(|role| role == MemberRole::Voter));
}

#[test]
fn routes_are_answered_from_the_region_that_holds_the_key() {
    let mut cluster = Cluster::new(3);
    cluster.settle();
    let op = PdOp::Regions { start_key: "x".into(), limit: 1 };
    let PdReply::Regions(reply) = cluster.member.call(op) else { panic!("expected routes") };
    assert_eq!(reply.routes.len(), 1);
    let leader = reply.routes[0].leader;
    assert_eq!(leader.map(|leader| leader.id), Some(cluster.regions[0].leader));
    assert_eq!(reply.stores.len(), 3);
}

#[test]
fn the_same_seed_and_inputs_give_the_same_run() {
    let run = || {
        let mut cluster = Cluster::new(5);
        cluster.settle();
        cluster.member.set_store(cluster.regions[0].store(), StoreState::Draining);
        cluster.settle();
        (cluster.commands, cluster.member.events, cluster.member.pd.state().clone())
    };
    assert_eq!(run(), run());
}

#[test]
fn a_log_that_cannot_be_understood_stops_the_member() {
    use flotilla_engine::{LogBatch, LogEntry, LogOp, LogStore, MemLog, StateStore};
    use flotilla_pd::core::{Input, Pd};
    use std::sync::Arc;

    let log = MemLog::default();
    let newer = LogEntry { index: 1, term: 1, data: "\u{8}\u{63}".into(), ..LogEntry::default() };
    let ops = vec![LogOp::Append { group: flotilla_pd::core::pd::PD_GROUP, entries: vec![newer] }];
    log.write(LogBatch { ops }, true).expect("memory does not fail");
    let store = Arc::new(StateStore::in_memory());
    let now = flotilla_types::Millis(0);
    let mut pd = Pd::open(world::config(), Arc::new(log.clone()), store, now).expect("opens");
    let mut failures = vec![];
    for _ in 0..5 {
        let mut out = vec![];
        pd.step(now, Input::Flush, &mut out);
        for output in out {
            match output {
                Output::Append(append) => {
                    log.write(append.batch, append.sync).expect("memory does not fail");
                    pd.step(now, Input::Persisted { turn: append.turn }, &mut vec![]);
                }
                Output::Failed { reason } => failures.push(reason),
                _ => {}
            }
        }
    }
    assert_eq!(failures.len(), 1, "told once");
    assert!(failures[0].contains("log entry 1: unknown format 99"), "{failures:?}");
}
