//! Planted answers that no index of the log has, and answers that one has.

use flotilla_types::{Epoch, KeyRange, Millis, Region};

use super::super::model::{Model, of_entries};
use super::*;

const REGION: RegionId = RegionId(1);
const AT: (StoreId, RequestId) = (StoreId(3), RequestId(4));

fn put(key: &'static str, value: &'static str) -> flotilla_types::Mutation {
    flotilla_types::Mutation::Put { key: key.into(), value: value.into() }
}

fn swap(expected: Option<&'static str>, new: &'static str) -> WriteOp {
    let (key, expected) = ("a".into(), expected.map(Bytes::from));
    WriteOp::CompareAndSwap(flotilla_types::CompareAndSwap { key, expected, new: Some(new.into()) })
}

/// Index 6 puts a and b, index 7 puts both anew, index 8 has two swaps of a.
fn model() -> Model {
    let both = |a, b| WriteOp::Mutate(vec![put("a", a), put("b", b)]);
    let swaps = vec![swap(Some("3"), "5"), swap(Some("3"), "6")];
    of_entries(vec![vec![both("1", "2")], vec![both("3", "4")], swaps])
}

fn judged(op: Op, answer: Answer, newest: u64, applied: (u64, u64)) -> Verdict {
    let epoch = Epoch { conf_ver: 1, version: Region::default().epoch.version };
    let (region, deadline) = (REGION, Millis(0));
    let mut answers = Answers::default();
    answers.taken_up(AT.0, &Request { id: AT.1, region, epoch, deadline, op }, &model());
    if let Some(asked) = answers.asked.get_mut(&AT) {
        asked.newest = newest;
    }
    answers.answered(AT, Some(&answer), applied);
    answers.judge(&model())
}

fn values(values: [&'static str; 2]) -> Answer {
    Answer::Get(values.map(|value| Some(value.into())).to_vec())
}

fn both() -> Op {
    Op::Get(vec!["a".into(), "b".into()])
}

#[test]
fn a_read_of_one_index_within_its_bounds_passes_and_a_mix_of_two_is_found() {
    assert!(judged(both(), values(["3", "4"]), 7, (7, 7)).is_ok());
    assert!(judged(both(), values(["1", "2"]), 6, (6, 7)).is_ok(), "served in between");
    assert!(judged(both(), values(["1", "2"]), 7, (6, 7)).is_err(), "older than the question");
    assert!(judged(both(), values(["5", "4"]), 6, (6, 7)).is_err(), "newer than the peer");
    assert!(judged(both(), values(["1", "4"]), 6, (6, 8)).is_err(), "of two indexes");
}

#[test]
fn a_scan_has_all_rows_up_to_its_end() {
    let scan = |limit, bytes_max, is_reverse| {
        let range = KeyRange::new("a", "");
        Op::Scan(ScanOp { range, limit, bytes_max, is_reverse, keys_only: false })
    };
    let rows = |rows: &[(&'static str, &'static str)], is_done| {
        let pairs = rows.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        Answer::Scan { pairs, is_done, walked_to: None }
    };
    let judged = |op, answer| judged(op, answer, 7, (7, 7));
    let (a, b) = (("a", "3"), ("b", "4"));
    assert!(judged(scan(0, 200, false), rows(&[a, b], true)).is_ok());
    assert!(judged(scan(0, 200, true), rows(&[b, a], true)).is_ok());
    assert!(judged(scan(0, 200, true), rows(&[a, b], true)).is_err(), "the other way");
    assert!(judged(scan(0, 200, false), rows(&[b], true)).is_err(), "a row is skipped");
    assert!(judged(scan(0, 200, false), rows(&[a], true)).is_err(), "not done");
    assert!(judged(scan(0, 0, false), rows(&[a], false)).is_ok(), "no bytes are left");
    assert!(judged(scan(0, 100, false), rows(&[a, b], true)).is_err(), "beyond the bytes");
    assert!(judged(scan(1, 200, false), rows(&[a], true)).is_ok());
    assert!(judged(scan(1, 200, false), rows(&[a, b], true)).is_err(), "beyond the limit");
}

#[test]
fn a_swap_tells_what_was_there_before_it_in_its_entry() {
    let answer = |swapped, previous: &'static str| Answer::Swapped {
        swapped,
        previous: Some(previous.into()),
    };
    let (first, second) = (|| Op::Write(swap(Some("3"), "5")), || Op::Write(swap(Some("3"), "6")));
    assert!(judged(first(), answer(true, "3"), 7, (7, 8)).is_ok());
    assert!(judged(second(), answer(false, "5"), 7, (7, 8)).is_ok());
    assert!(judged(second(), answer(false, "3"), 7, (7, 8)).is_err(), "past the first swap");
    assert!(judged(first(), answer(true, "3"), 7, (6, 7)).is_err(), "its entry is not applied");
}

#[test]
fn a_batch_that_no_single_write_carries_is_found() {
    let op = |a, b| Op::Write(WriteOp::Mutate(vec![put("a", a), put("b", b)]));
    assert!(judged(op("3", "4"), Answer::Written, 6, (6, 7)).is_ok());
    assert!(judged(op("1", "4"), Answer::Written, 5, (5, 7)).is_err());
}

#[test]
fn a_write_of_an_entry_that_is_not_kept_is_not_judged() {
    let other = || Op::Write(WriteOp::Mutate(vec![put("a", "9")]));
    assert!(judged(other(), Answer::Written, 5, (5, 7)).is_err(), "no entry has it");
    assert!(judged(other(), Answer::Written, 4, (4, 7)).is_ok(), "entry 5 may have had it");
}
