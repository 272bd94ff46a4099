//! How an operator walks through its steps.

use flotilla_types::heartbeat::Step;
use flotilla_types::{Epoch, KeyRange, MemberRole, Region, StoreId};

use super::*;
use crate::core::operator_step::NEW_PEER;

const NEW: PeerId = PeerId(40);

fn operator(kind: OperatorKind, steps: Vec<OperatorStep>) -> Operator {
    let plan = OperatorPlan { region: RegionId(7), kind, origin: Origin::Admin, steps };
    Operator::start(plan, OperatorIds { operator: 39, peer: NEW }, 1, Millis(1_000))
}

fn mover() -> Operator {
    let learner = Member::learner(NEW_PEER, StoreId(4));
    let swap = OperatorStep::Replace { added: NEW_PEER, removed: PeerId(11) };
    operator(
        OperatorKind::MovePeer,
        vec![OperatorStep::AddLearner(learner), swap, OperatorStep::Remove(PeerId(11))],
    )
}

/// Voters 11, 12 and 13 on stores 1 to 3; 11 leads.
fn report() -> ReportedRegion {
    let peers: Vec<Member> = (1..=3).map(|n| Member::voter(PeerId(10 + n), StoreId(n))).collect();
    ReportedRegion {
        leader: Some(peers[0]),
        region: Region {
            id: RegionId(7),
            range: KeyRange::new("a", "m"),
            epoch: Epoch { conf_ver: 3, version: 1 },
            members: peers,
        },
        term: 6,
        ..ReportedRegion::default()
    }
}

/// What is sent, for short.
fn sent(next: Next) -> String {
    let Next::Send(command) = next else { return format!("{next:?}") };
    assert_eq!(command.region_id, RegionId(7));
    match command.step {
        Step::AddLearner(member) => format!("add {}", member.id),
        Step::Promote(peer) => format!("promote {peer}"),
        Step::RemovePeer(peer) => format!("remove {peer}"),
        Step::ReplaceVoter { added, removed } => format!("replace {removed} by {added}"),
        Step::TransferLeader(peer) => format!("transfer {peer}"),
        Step::Split(key) => format!("split {}", key.len()),
        Step::DestroyPeer(peer) => format!("destroy {peer}"),
    }
}

#[test]
fn a_move_is_sent_again_until_each_step_is_seen_to_be_done() {
    let (mut operator, mut report) = (mover(), report());
    assert_eq!(sent(operator.next_step(&report)), "add 40");
    assert_eq!(sent(operator.next_step(&report)), "add 40", "level-triggered");
    report.region.members.push(Member::learner(NEW, StoreId(4)));
    report.lagging.insert(NEW);
    assert_eq!(operator.next_step(&report), Next::Wait);
    assert_eq!(operator.new_member(), None, "it is there");
    report.lagging.clear();
    report.lagging.insert(PeerId(12));
    assert_eq!(sent(operator.next_step(&report)), "transfer 13", "the leader is not replaced");
    report.leader = Some(report.region.members[2]);
    assert_eq!(sent(operator.next_step(&report)), "replace 11 by 40");
    report.region.members[3].role = MemberRole::IncomingVoter;
    report.region.members[0].role = MemberRole::DemotingVoter;
    assert_eq!(operator.next_step(&report), Next::Wait);
    report.region.members[3].role = MemberRole::Voter;
    report.region.members[0].role = MemberRole::Learner;
    assert_eq!(sent(operator.next_step(&report)), "remove 11");
    report.region.members.remove(0);
    assert_eq!(operator.next_step(&report), Next::Done);
    assert_eq!((operator.done, operator.steps.len()), (3, 3));
}

#[test]
fn a_peer_that_was_added_and_is_gone_is_never_added_again() {
    let (mut operator, mut report) = (mover(), report());
    report.region.members.push(Member::learner(NEW, StoreId(4)));
    assert_eq!(sent(operator.next_step(&report)), "transfer 12");
    report.region.members.pop();
    assert_eq!(operator.next_step(&report), Next::Obsolete("the learner is gone"));
}

#[test]
fn nothing_is_sent_during_a_joint_change() {
    let (mut operator, mut report) = (mover(), report());
    report.region.members[2].role = MemberRole::DemotingVoter;
    assert_eq!(operator.next_step(&report), Next::Wait);
}

#[test]
fn a_store_that_has_another_peer_makes_the_operator_obsolete() {
    let (mut operator, mut report) = (mover(), report());
    report.region.members.push(Member::learner(PeerId(77), StoreId(4)));
    assert!(matches!(operator.next_step(&report), Next::Obsolete(_)));
}

#[test]
fn the_last_voter_is_never_removed_and_a_leader_without_heir_waits() {
    let mut operator = operator(OperatorKind::RemovePeer, vec![OperatorStep::Remove(PeerId(11))]);
    let mut report = report();
    report.lagging.extend([PeerId(12), PeerId(13)]);
    assert_eq!(operator.next_step(&report), Next::Wait);
    report.region.members.truncate(1);
    assert!(matches!(operator.next_step(&report), Next::Obsolete(_)));
}

#[test]
fn no_voter_is_removed_while_those_that_stay_are_no_majority_that_is_up() {
    let mut operator = operator(OperatorKind::RemovePeer, vec![OperatorStep::Remove(PeerId(11))]);
    let mut report = report();
    report.leader = Some(report.region.members[1]);
    report.lagging.insert(PeerId(13));
    assert_eq!(operator.next_step(&report), Next::Wait);
    report.unreachable.insert(PeerId(13), Millis(0));
    assert!(matches!(operator.next_step(&report), Next::Obsolete(_)), "repair comes first");
    report.region.members[0].role = MemberRole::Learner;
    assert_eq!(sent(operator.next_step(&report)), "remove 11", "its vote does not count");
    report.region.members[0].role = MemberRole::Voter;
    report.unreachable.clear();
    report.lagging.clear();
    assert_eq!(sent(operator.next_step(&report)), "remove 11");
}

#[test]
fn the_only_voter_is_replaced_after_the_newcomer_has_taken_over() {
    let swap = OperatorStep::Replace { added: NEW, removed: PeerId(11) };
    let mut operator =
        operator(OperatorKind::MovePeer, vec![swap, OperatorStep::Remove(PeerId(11))]);
    let mut report = report();
    report.region.members.truncate(1);
    report.region.members.push(Member::learner(NEW, StoreId(4)));
    assert_eq!(sent(operator.next_step(&report)), "promote 40");
    report.region.members[1].role = MemberRole::Voter;
    assert_eq!(sent(operator.next_step(&report)), "transfer 40");
    report.leader = Some(report.region.members[1]);
    assert_eq!(sent(operator.next_step(&report)), "replace 11 by 40");
    report.region.members[0].role = MemberRole::Learner;
    assert_eq!(sent(operator.next_step(&report)), "remove 11");
}

#[test]
fn before_a_removal_any_other_leader_will_do() {
    let steps = vec![OperatorStep::TransferLeader(PeerId(12)), OperatorStep::Remove(PeerId(11))];
    let mut operator = operator(OperatorKind::RemovePeer, steps);
    let mut report = report();
    report.region.members.push(Member::voter(PeerId(14), StoreId(4)));
    assert_eq!(sent(operator.next_step(&report)), "transfer 12");
    report.lagging.insert(PeerId(12));
    assert_eq!(sent(operator.next_step(&report)), "transfer 13");
    report.lagging.clear();
    report.leader = Some(report.region.members[2]);
    assert_eq!(sent(operator.next_step(&report)), "remove 11");
    report.leader = Some(report.region.members[0]);
    assert_eq!(sent(operator.next_step(&report)), "transfer 12", "leadership came back");
}

#[test]
fn a_transfer_waits_for_its_target_and_gives_up_soon() {
    let mut operator =
        operator(OperatorKind::TransferLeader, vec![OperatorStep::TransferLeader(PeerId(12))]);
    let mut report = report();
    report.lagging.insert(PeerId(12));
    assert_eq!(operator.next_step(&report), Next::Wait);
    let limits = crate::core::limits::PdLimits::default();
    assert!(!operator.is_expired(Millis(11_000), &limits));
    assert!(operator.is_expired(Millis(11_001), &limits));
    assert!(!mover().is_expired(Millis(11_001), &limits));
    report.region.members[1].role = MemberRole::Learner;
    assert!(matches!(operator.next_step(&report), Next::Obsolete(_)));
}

#[test]
fn a_split_is_done_when_the_version_has_grown() {
    let mut operator = operator(OperatorKind::Split, vec![OperatorStep::Split("f".into())]);
    let mut report = report();
    assert_eq!(sent(operator.next_step(&report)), "split 1");
    report.region.range.end = "c".into();
    assert!(matches!(operator.next_step(&report), Next::Obsolete(_)));
    report.region.epoch.version = 2;
    assert_eq!(operator.next_step(&report), Next::Done);
}

#[test]
fn of_an_odd_number_no_voter_that_answers_is_removed_unless_all_others_are_there() {
    let begin = || operator(OperatorKind::RemovePeer, vec![OperatorStep::Remove(PeerId(15))]);
    let mut report = report();
    let more = [(14, 4), (15, 5)].map(|(id, store)| Member::voter(PeerId(id), StoreId(store)));
    report.region.members.extend(more);
    report.lagging.insert(PeerId(12));
    assert_eq!(begin().next_step(&report), Next::Wait, "a majority has the log, one may fail");
    report.unreachable.insert(PeerId(12), Millis(1));
    assert!(matches!(begin().next_step(&report), Next::Obsolete(_)));
    report.unreachable.insert(PeerId(15), Millis(1));
    assert_eq!(sent(begin().next_step(&report)), "remove 15", "its vote counts for nothing");
    report.unreachable.remove(&PeerId(15));
    report.region.members.remove(3);
    assert_eq!(sent(begin().next_step(&report)), "remove 15", "four to three lowers the majority");
}

#[test]
fn the_member_that_goes_is_known_until_it_is_gone() {
    let (mut operator, mut report) = (mover(), report());
    assert_eq!(operator.outgoing(), Some(PeerId(11)));
    report.leader = Some(report.region.members[1]);
    report.region.members.push(Member::voter(NEW, StoreId(4)));
    report.region.members[0].role = MemberRole::Learner;
    assert_eq!(sent(operator.next_step(&report)), "remove 11");
    assert_eq!(operator.outgoing(), Some(PeerId(11)));
    report.region.members.remove(0);
    assert_eq!(operator.next_step(&report), Next::Done);
    assert_eq!(operator.outgoing(), None);
}
