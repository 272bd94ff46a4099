//! How a log fits a state: what is kept, what is begun anew, and what is refused.

use flotilla_engine::{LogBatch, LogEntry, MemLog};
use raft::Storage;

use super::*;
use crate::config::Timing;
use crate::limits::GroupLimits;

const GROUP: u64 = 7;
const PEER: u64 = 20;

fn config() -> GroupConfig {
    let (timing, limits) = (Timing::DEFAULT, GroupLimits::default());
    GroupConfig { group: GROUP, peer: PEER, seed: 1, timing, limits }
}

fn at(index: u64, term: u64) -> Position {
    Position { index, term }
}

/// A hard state of this peer: term 5, with a vote for peer 21.
fn saved(truncated: Position, commit: u64) -> proto::HardState {
    proto::HardState {
        term: 5,
        vote: 21,
        commit,
        peer_id: PEER,
        truncated_index: truncated.index,
        truncated_term: truncated.term,
    }
}

/// A log with this hard state and entries at these positions.
fn log(state: proto::HardState, entries: &[(u64, u64)]) -> Arc<MemLog> {
    let log = MemLog::default();
    let entry =
        |(index, term): &(u64, u64)| LogEntry { index: *index, term: *term, ..LogEntry::default() };
    let mut ops = vec![LogOp::SetState { group: GROUP, state: state.encode_to_vec().into() }];
    if !entries.is_empty() {
        let entries = entries.iter().map(entry).collect();
        ops.push(LogOp::Append { group: GROUP, entries });
    }
    log.write(LogBatch { ops }, true).expect("memory does not fail");
    Arc::new(log)
}

fn last(log: &GroupLog) -> Position {
    let index = log.last_index().expect("known");
    at(index, log.term(index).expect("known"))
}

fn open(log: Arc<MemLog>, applied: Position) -> Result<(GroupLog, Vec<LogOp>), GroupError> {
    let membership = Membership::of_voters(&[PEER, 21]);
    open_log(&config(), log, &Opening { applied, membership, is_restart: true })
}

fn refusal(log: Arc<MemLog>, applied: Position) -> String {
    match open(log, applied) {
        Ok((_, repairs)) => panic!("opened with {repairs:?}"),
        Err(error) => error.to_string(),
    }
}

/// The hard state that the repairs write, after they have cleared the log.
fn begun_anew(repairs: Vec<LogOp>) -> proto::HardState {
    match repairs.as_slice() {
        [LogOp::Clear { group: GROUP }, LogOp::SetState { group: GROUP, state }] => {
            proto::HardState::decode(state.clone()).expect("a hard state")
        }
        other => panic!("expected a log that begins anew: {other:?}"),
    }
}

#[test]
fn a_log_that_fits_its_state_is_opened_as_it_is() {
    let (log, repairs) = open(log(saved(at(3, 2), 4), &[(4, 2), (5, 5)]), at(4, 2)).expect("fits");
    assert_eq!((log.truncated(), last(&log)), (at(3, 2), at(5, 5)));
    assert_eq!(repairs, []);
}

#[test]
fn a_term_that_only_an_entry_tells_has_no_vote() {
    let log = log(saved(at(3, 2), 4), &[(4, 2), (5, 6)]);
    let (log, _) = open(log, at(4, 2)).expect("fits");
    let state = log.initial_state().expect("known").hard_state;
    assert_eq!((state.term, state.vote, state.commit), (6, 0, 4), "the vote was of term 5");
}

#[test]
fn a_log_that_ends_before_the_state_begins_anew_with_its_vote() {
    let (log, repairs) = open(log(saved(at(3, 2), 4), &[(4, 2)]), at(9, 5)).expect("stale");
    assert_eq!((log.truncated(), last(&log)), (at(9, 5), at(9, 5)));
    let state = begun_anew(repairs);
    assert_eq!((state.term, state.vote, state.commit, state.peer_id), (5, 21, 9, PEER));
    assert_eq!((state.truncated_index, state.truncated_term), (9, 5));
}

#[test]
fn an_entry_that_a_snapshot_has_overruled_begins_the_log_anew() {
    let stale = || log(saved(at(3, 2), 3), &[(4, 3), (5, 3)]);
    let (_, repairs) = open(stale(), at(4, 6)).expect("stale");
    let state = begun_anew(repairs);
    assert_eq!((state.term, state.vote), (6, 0), "the vote was of an earlier term");
    let (log, repairs) = open(stale(), at(4, 3)).expect("the entry is the applied one");
    assert_eq!((last(&log), repairs.len()), (at(5, 3), 0));
}

#[test]
fn the_log_of_an_earlier_incarnation_goes_with_its_vote() {
    let earlier = proto::HardState { peer_id: PEER - 1, ..saved(at(3, 2), 4) };
    let (_, repairs) = open(log(earlier, &[(4, 2), (5, 5)]), at(4, 2)).expect("another peer's");
    let state = begun_anew(repairs);
    assert_eq!((state.term, state.vote, state.peer_id), (2, 0, PEER));
}

#[test]
fn what_contradicts_itself_is_refused_with_the_values() {
    let later = proto::HardState { peer_id: PEER + 1, ..saved(at(3, 2), 4) };
    let told = refusal(log(later, &[(4, 2)]), at(4, 2));
    assert!(told.contains("the log is of peer 21, the state of the older peer 20"), "{told}");
    let told = refusal(log(saved(at(3, 2), 4), &[(6, 2)]), at(3, 2));
    assert!(told.contains("the log begins at 6, after a gap from 3"), "{told}");
    let told = refusal(log(saved(at(8, 2), 8), &[(9, 2)]), at(4, 2));
    assert!(told.contains("the log begins after 8, the state ends at 4"), "{told}");
}

#[test]
fn a_hard_state_that_cannot_be_read_is_refused() {
    let log = MemLog::default();
    let ops = vec![LogOp::SetState { group: GROUP, state: vec![0xff; 3].into() }];
    log.write(LogBatch { ops }, true).expect("memory does not fail");
    let told = refusal(Arc::new(log.clone()), at(4, 2));
    assert!(told.contains("group 7: hard state: "), "{told}");
    assert!(remembered_peer(&log, GROUP).is_err() && forget_entries(&log, GROUP).is_err());
}

#[test]
fn a_peer_whose_state_is_lost_keeps_its_vote_and_forgets_its_entries() {
    let log = log(saved(at(3, 2), 4), &[(4, 2)]);
    assert_eq!(peer_with_state(&*log, GROUP), Ok(Some(PEER)));
    let ops = forget_entries(&*log, GROUP).expect("readable");
    let state = begun_anew(ops.clone());
    assert_eq!((state.term, state.vote, state.commit), (5, 21, 0));
    log.write(LogBatch { ops }, true).expect("memory does not fail");
    assert_eq!(remembered_peer(&*log, GROUP), Ok(Some(PEER)));
    assert_eq!(peer_with_state(&*log, GROUP), Ok(None), "only the vote of one without state");
    let empty = MemLog::default();
    assert_eq!(forget_entries(&empty, GROUP), Ok(vec![]));
    assert_eq!(
        (remembered_peer(&empty, GROUP), peer_with_state(&empty, GROUP)),
        (Ok(None), Ok(None))
    );
}
