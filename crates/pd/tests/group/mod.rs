//! Several members across elections, cuts, joins and losses: golden scripts, named as sentences.

use flotilla_pd::core::RequestId;
use flotilla_types::heartbeat::{HeartbeatReply, IdBlock, RegionReport, Step};
use flotilla_types::placement::{
    MembersChange, OperatorRequest, PdError, PdOp, PdReply, StoreState, StoreStatus,
};
use flotilla_types::{Region, StoreId};

use crate::world::group::{Group, addr};
use crate::world::{Ended, Led, NEW_STORE, beat, register, set_store};

/// Longer than the lease, shorter than an election timeout.
const LEASE_OVER_MS: u64 = 400;

/// Long enough for a leader without a majority to step down, and for the others to elect one.
const ELECTION_MS: u64 = 3_000;

fn add_store(group: &mut Group, addr: &str) -> StoreId {
    match group.call(register(NEW_STORE, addr)) {
        PdReply::RegisterStore(registration) => registration.store_id,
        other => panic!("expected a registration: {other:?}"),
    }
}

fn stores(group: &mut Group) -> Vec<StoreStatus> {
    match group.call(PdOp::Stores) {
        PdReply::Stores(stores) => stores,
        other => panic!("expected stores: {other:?}"),
    }
}

fn ids(group: &mut Group, count: u64) -> IdBlock {
    match group.call(PdOp::AllocateIds { count }) {
        PdReply::Ids(block) => block,
        other => panic!("expected ids: {other:?}"),
    }
}

/// Cuts the leader off and answers it, and the next one.
fn depose(group: &mut Group) -> (u64, u64) {
    let old = group.leader();
    group.cut_off(&[old]);
    group.pass(ELECTION_MS);
    let next = group.leader();
    assert_ne!(old, next);
    (old, next)
}

/// Four stores, and the first region on three of them as the leader tells it.
fn begin(group: &mut Group) -> Region {
    for n in 1..=4 {
        add_store(group, &format!("store{n}:1"));
    }
    group.until("the first region", |group| {
        let mut told = (1..=4).map(|store| heartbeat(group, store, vec![]).first_region);
        told.find_map(|region| region)
    })
}

fn heartbeat(group: &mut Group, store: u64, reports: Vec<RegionReport>) -> HeartbeatReply {
    match group.call(PdOp::Heartbeat(Box::new(beat(StoreId(store), false, reports)))) {
        PdReply::Heartbeat(reply) => reply,
        other => panic!("expected a heartbeat's reply: {other:?}"),
    }
}

/// Nothing but a refusal has come of the request.
fn assert_unanswered(group: &mut Group, member: u64, request: RequestId) {
    let answer = group.answer(member, request);
    assert!(!matches!(answer, Some(Ok(_))), "{answer:?}");
}

#[test]
fn a_new_group_begins_once_all_its_members_have_met() {
    let mut group = Group::planned(3);
    group.start(1);
    group.start(2);
    group.pass(2 * ELECTION_MS);
    assert!(group.members.values().all(|member| !member.pd.is_leading()), "two are a majority");
    group.start(3);
    group.leader();
    let cluster = |status| match status {
        PdReply::ClusterStatus(status) => status.cluster_id,
        other => panic!("expected a status: {other:?}"),
    };
    assert_ne!(cluster(group.call(PdOp::ClusterStatus)), 0);
}

#[test]
fn a_member_that_does_not_lead_names_the_one_that_does() {
    let mut group = Group::new(3);
    let leader = group.leader();
    group.pass(300);
    for other in group.others(leader) {
        let answer = group.outcome(other, PdOp::Stores);
        assert_eq!(answer, Err(PdError::NotLeader { leader_addr: addr(leader) }));
    }
}

#[test]
fn ids_are_leased_only_when_a_majority_has_the_entry() {
    let mut group = Group::new(3);
    let first = ids(&mut group, 10);
    let leader = group.leader();
    let others = group.others(leader);
    group.cut_off(&others);
    let request = group.ask(leader, PdOp::AllocateIds { count: 10 });
    group.pass(200);
    assert_eq!(group.answer(leader, request), None, "nobody else has it");
    group.heal();
    let answer = group.until("an answer", |group| group.answer(leader, request));
    let Ok(PdReply::Ids(block)) = answer else { panic!("expected ids: {answer:?}") };
    assert!(block.start >= first.start + first.count, "{first:?} {block:?}");
}

#[test]
fn a_leader_that_is_cut_off_answers_nothing_once_its_lease_is_over() {
    let mut group = Group::new(3);
    add_store(&mut group, "a:1");
    let old = group.leader();
    group.cut_off(&[old]);
    group.pass(LEASE_OVER_MS);
    let read = group.ask(old, PdOp::Stores);
    // What would change nothing is answered by nobody but a leader, too.
    let known = group.ask(old, register(StoreId(1), "a:1"));
    assert_unanswered(&mut group, old, read);
    assert_unanswered(&mut group, old, known);
    group.pass(ELECTION_MS);
    assert!(!group.member(old).pd.is_leading());
    assert_unanswered(&mut group, old, read);
    assert_unanswered(&mut group, old, known);
    assert_eq!(stores(&mut group).len(), 1, "the others go on");
}

#[test]
fn what_a_deposed_leader_was_asked_to_write_is_given_up_and_never_takes_effect() {
    let mut group = Group::new(3);
    let store = add_store(&mut group, "a:1");
    let old = group.leader();
    group.cut_off(&[old]);
    let request = group.ask(old, set_store(store, StoreState::Draining));
    group.pass(ELECTION_MS);
    assert!(matches!(group.answer(old, request), Some(Err(_))), "its outcome is not known");
    assert!(!stores(&mut group)[0].is_draining);
    group.heal();
    group.until("all to be level", |group| group.is_level().then_some(()));
    assert!(!stores(&mut group)[0].is_draining, "the entry was replaced");
}

#[test]
fn ids_of_one_leader_are_never_those_of_the_next() {
    let mut group = Group::new(3);
    let mut end = 0;
    for _ in 0..4 {
        let block = ids(&mut group, 10);
        assert!(block.start >= end, "{block:?} from {end} on");
        end = block.start + block.count;
        depose(&mut group);
        group.heal();
        group.pass(300);
    }
}

#[test]
fn the_first_region_is_chosen_once_whoever_leads() {
    let mut group = Group::new(3);
    let region = begin(&mut group);
    assert_eq!(region.members.len(), 3);
    for _ in 0..2 {
        depose(&mut group);
        group.heal();
        for member in &region.members {
            let reply = heartbeat(&mut group, member.store_id.0, vec![]);
            assert_eq!(reply.first_region.as_ref(), Some(&region), "told until it is reported");
        }
    }
    let led = Led::new(region);
    heartbeat(&mut group, led.store().0, vec![led.report()]);
    group.until("the region to be known", |group| {
        (heartbeat(group, led.store().0, vec![led.report()]).first_region.is_none()).then_some(())
    });
}

#[test]
fn the_operators_of_a_deposed_leader_are_forgotten_and_nobody_is_told_of_them() {
    let mut group = Group::new(3);
    let region = begin(&mut group);
    let (led, id) = (Led::new(region.clone()), region.id);
    let store = led.store().0;
    let missing = StoreId((1..=4).find(|n| region.member_on(StoreId(*n)).is_none()).expect("one"));
    let adds = |reply: &HeartbeatReply| {
        reply.commands.iter().any(|command| matches!(command.step, Step::AddLearner(_)))
    };
    let started = group.until("an operator", |group| {
        (1..=4).for_each(|n| drop(heartbeat(group, n, vec![])));
        heartbeat(group, store, vec![led.report()]);
        let leader = group.leader();
        let kind = OperatorRequest::AddPeer(missing);
        group.outcome(leader, PdOp::AddOperator { region_id: id, kind }).ok()
    });
    assert!(matches!(started, PdReply::AddOperator { .. }), "{started:?}");
    let old = group.leader();
    assert!(adds(&heartbeat(&mut group, store, vec![led.report()])));

    group.cut_off(&[old]);
    group.pass(LEASE_OVER_MS);
    let late =
        group.ask(old, PdOp::Heartbeat(Box::new(beat(StoreId(store), false, vec![led.report()]))));
    group.pass(ELECTION_MS);
    assert_unanswered(&mut group, old, late);
    assert!(!adds(&heartbeat(&mut group, store, vec![led.report()])));
    assert_eq!(group.call(PdOp::Operators), PdReply::Operators(vec![]));
}

#[test]
fn a_store_that_moved_is_known_at_its_new_address_to_the_next_leader() {
    let mut group = Group::new(3);
    let store = add_store(&mut group, "a:1");
    group.call(register(store, "b:1"));
    depose(&mut group);
    assert_eq!(stores(&mut group)[0].addr, "b:1");
}

#[test]
fn leadership_is_handed_on_when_that_is_asked_for() {
    let mut group = Group::new(3);
    let old = group.leader();
    let next = group.others(old)[0];
    group.change(MembersChange::TransferLeader(next));
    assert_eq!(group.leader(), next);
    let answer = group.outcome(old, PdOp::Stores);
    assert_eq!(answer, Err(PdError::NotLeader { leader_addr: addr(next) }));
}

#[test]
fn a_member_that_joins_learns_all_by_a_snapshot_and_votes_once_it_has_caught_up() {
    let mut group = Group::new(3);
    add_store(&mut group, "a:1");
    let told = group.join(4);
    let newcomer = told.members.iter().find(|member| member.id == 4).expect("it was added");
    assert!(newcomer.is_learner, "it has nothing yet");
    let is_voter = |group: &mut Group| {
        let PdReply::Members(told) = group.call(PdOp::Members) else { panic!("members") };
        told.members.iter().any(|member| member.id == 4 && !member.is_learner).then_some(())
    };
    group.until("the fourth to vote", is_voter);
    group.until("all to be level", |group| group.is_level().then_some(()));
    assert_eq!(group.member(4).pd.state().stores().count(), 1);

    // It counts: with one of the others gone three of four are a majority, with two they are not.
    let leader = group.leader();
    let old: Vec<u64> = group.others(leader).into_iter().filter(|id| *id != 4).collect();
    group.cut_off(&old[..1]);
    group.pass(ELECTION_MS);
    assert_eq!(stores(&mut group).len(), 1);
    group.cut_off(&old[1..]);
    group.pass(ELECTION_MS);
    assert!(group.members.values().all(|member| !member.pd.is_leading()));
}

#[test]
fn the_id_of_a_member_that_was_removed_never_comes_back() {
    let mut group = Group::new(3);
    let leader = group.leader();
    let gone = group.others(leader)[0];
    group.cut_off(&[gone]);
    group.pass(ELECTION_MS);
    group.change(MembersChange::Remove(gone));
    let add = PdOp::ChangeMembers(MembersChange::Add { id: gone, addr: addr(9) });
    match group.outcome(leader, add) {
        Err(PdError::Refused { reason }) => assert!(reason.contains("for ever"), "{reason}"),
        other => panic!("expected a refusal: {other:?}"),
    }
    // It runs on, and disturbs nobody.
    group.heal();
    let term = group.member(leader).pd.leading_term();
    group.pass(2 * ELECTION_MS);
    assert_eq!(group.member(leader).pd.leading_term(), term);
}

#[test]
fn a_member_whose_directory_is_lost_is_sent_away_and_replaced_under_a_new_id() {
    let mut group = Group::new(3);
    add_store(&mut group, "a:1");
    let leader = group.leader();
    let lost = group.others(leader)[0];
    group.start(lost);
    assert_eq!(group.ended(lost), Ended::Stranger, "it may have voted");
    assert_eq!(group.member(lost).pd.state().stores().count(), 0, "it was told nothing");
    group.pass(ELECTION_MS);
    group.change(MembersChange::Remove(lost));
    group.members.remove(&lost);
    group.join(4);
    group.until("all to be level", |group| group.is_level().then_some(()));
    assert_eq!(stores(&mut group).len(), 1);
}

#[test]
fn a_member_that_was_away_catches_up_and_all_that_restart_know_the_same() {
    let mut group = Group::new(3);
    let leader = group.leader();
    let away = group.others(leader)[0];
    group.cut_off(&[away]);
    for n in 1..=5 {
        add_store(&mut group, &format!("store{n}:1"));
    }
    group.heal();
    group.until("all to be level", |group| group.is_level().then_some(()));
    let before = ids(&mut group, 1).start;
    (1..=3).for_each(|id| group.restart(id));
    assert_eq!(stores(&mut group).len(), 5);
    assert!(ids(&mut group, 1).start > before);
}

#[test]
fn one_of_three_decides_nothing_and_with_a_second_it_does() {
    let mut group = Group::new(3);
    let leader = group.leader();
    let others = group.others(leader);
    group.cut_off(&others);
    group.pass(ELECTION_MS);
    assert!(group.members.values().all(|member| !member.pd.is_leading()));
    let answer = group.outcome(leader, register(NEW_STORE, "a:1"));
    assert!(matches!(answer, Err(PdError::NotLeader { .. })), "{answer:?}");
    group.heal();
    group.cut_off(&others[..1]);
    add_store(&mut group, "a:1");
    assert_eq!(stores(&mut group).len(), 1);
}
