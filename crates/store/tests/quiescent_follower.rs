//! A quiescent follower counts no ticks. When it becomes active it is given those that it missed,
//! whatever made it active, so that a quiescent region elects as soon as an active one. Not if its
//! leader writes to it: the leader's lease rests on followers that turn candidates away for an
//! election timeout.

mod follower;

use flotilla_group::{MessageKind, RaftMessage};
use flotilla_host::core::message::{Beat, Body, Envelope};
use flotilla_store::core::{Input, Op, Output, Request, RequestId};
use flotilla_types::{Millis, RegionId};
use follower::{Follower, TERM, envelope, message, region};

fn heartbeat() -> Input {
    message(1, MessageKind::MsgHeartbeat, RaftMessage { term: TERM, ..RaftMessage::default() })
}

impl Follower {
    fn grants(&self) -> bool {
        let is_grant = |envelope: &Envelope| match &envelope.body {
            Body::Message(m) => m.kind() == MessageKind::MsgRequestPreVoteResponse && !m.reject,
            _ => false,
        };
        self.out.iter().any(|output| match output {
            Output::Send { envelope, .. } => is_grant(envelope),
            Output::Append(append) => append.then.iter().any(|(_, envelope)| is_grant(envelope)),
            _ => false,
        })
    }
}

/// The leader says that the region is quiescent at the follower's last entry.
fn quiesce(follower: &Follower) -> Input {
    let at = follower.worker.peer(RegionId(1)).expect("has it").applied.index;
    envelope(1, Body::Quiesce { term: TERM, index: at })
}

/// The follower is quiescent at 2,000 ms, and its leader's store sends no beat until 2,500.
fn quiescent() -> Follower {
    let mut follower = Follower::begin();
    for now in (1_000..2_000).step_by(100) {
        follower.turn(now, vec![heartbeat()]);
    }
    let beat = envelope(1, Body::Beat(Beat { incarnation: 7, is_answer: false }));
    follower.turn(2_000, vec![heartbeat(), beat, quiesce(&follower)]);
    assert_eq!(follower.worker.quiescent(), 1);
    for now in (2_100..2_500).step_by(100) {
        follower.turn(now, vec![]);
    }
    follower
}

fn candidate_asks(follower: &mut Follower, now: u64) {
    let position = follower.worker.peer(RegionId(1)).expect("has it").applied;
    let (index, log_term) = (position.index, position.term);
    let asks = RaftMessage { term: TERM + 1, index, log_term, ..RaftMessage::default() };
    follower.turn(now, vec![message(3, MessageKind::MsgRequestPreVote, asks)]);
}

#[test]
fn a_message_of_the_leader_as_its_store_becomes_unreachable_keeps_candidates_away() {
    let mut follower = quiescent();
    follower.turn(2_500, vec![heartbeat()]);
    candidate_asks(&mut follower, 2_600);
    assert!(!follower.grants(), "{:?}", follower.out);
}

#[test]
fn a_candidate_that_makes_a_follower_active_brings_the_ticks_since_the_leaders_last_beat() {
    let mut follower = quiescent();
    candidate_asks(&mut follower, 2_350);
    assert!(!follower.grants(), "the leader's store may still live: {:?}", follower.out);
    candidate_asks(&mut follower, 2_410);
    assert!(follower.grants(), "{:?}", follower.out);
}

#[test]
fn a_request_that_makes_a_follower_active_brings_the_ticks_since_the_leaders_last_beat() {
    let mut follower = quiescent();
    let op = Op::Get(vec!["k".into()]);
    let id = RequestId(1);
    let deadline = Millis(9_000);
    let request = Request { id, region: RegionId(1), epoch: region().epoch, deadline, op };
    follower.turn(2_350, vec![Input::Request(request)]);
    follower.turn(2_450, vec![]);
    candidate_asks(&mut follower, 2_460);
    assert!(follower.grants(), "{:?}", follower.out);
}

#[test]
fn a_follower_of_an_unreachable_leader_does_not_become_quiescent() {
    let mut follower = quiescent();
    follower.turn(2_500, vec![]);
    follower.turn(2_510, vec![heartbeat(), quiesce(&follower)]);
    assert_eq!(follower.worker.quiescent(), 0, "no beat has come since");
    let beat = envelope(1, Body::Beat(Beat { incarnation: 7, is_answer: false }));
    follower.turn(2_520, vec![heartbeat(), beat, quiesce(&follower)]);
    assert_eq!(follower.worker.quiescent(), 1);
}

#[test]
fn a_follower_that_lacks_an_entry_of_its_leader_does_not_become_quiescent() {
    let mut follower = Follower::begin();
    let at = follower.worker.peer(RegionId(1)).expect("has it").applied.index;
    let beat = || envelope(1, Body::Beat(Beat { incarnation: 7, is_answer: false }));
    let ahead = envelope(1, Body::Quiesce { term: TERM, index: at + 1 });
    follower.turn(1_000, vec![heartbeat(), beat(), ahead]);
    assert_eq!(follower.worker.quiescent(), 0);
    follower.turn(1_100, vec![heartbeat(), beat(), quiesce(&follower)]);
    assert_eq!(follower.worker.quiescent(), 1);
}

#[test]
fn a_quiescent_follower_of_an_unreachable_leader_elects_at_once() {
    let mut follower = quiescent();
    follower.turn(2_500, vec![]);
    candidate_asks(&mut follower, 2_600);
    assert!(follower.grants(), "{:?}", follower.out);
}
