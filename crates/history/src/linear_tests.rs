//! Tests of [`super`] with planted histories: the checker must accept the good histories and refuse
//! the bad ones.

use super::*;

fn record(invoked: u64, returned: u64, kind: Kind, outcome: Outcome) -> Record {
    Record { key: 0, client: 0, kind, outcome, invoked, returned, attempts: 1 }
}

fn write(invoked: u64, returned: u64, value: u64) -> Record {
    record(invoked, returned, Kind::Write(Some(value)), Outcome::Written)
}

fn unsure(invoked: u64, value: Option<u64>) -> Record {
    record(invoked, 0, Kind::Write(value), Outcome::Undetermined)
}

fn read(invoked: u64, returned: u64, value: Option<u64>) -> Record {
    record(invoked, returned, Kind::Read, Outcome::Read(value))
}

fn swap(invoked: u64, returned: u64, pair: (u64, u64), outcome: (bool, u64)) -> Record {
    let kind = Kind::Swap { expected: Some(pair.0), new: Some(pair.1) };
    let (swapped, previous) = (outcome.0, Some(outcome.1));
    record(invoked, returned, kind, Outcome::Swapped { swapped, previous })
}

fn is_good(records: &[Record]) -> bool {
    check(0, records).is_ok()
}

#[test]
fn reads_see_the_last_write() {
    assert!(is_good(&[write(1, 2, 7), read(3, 4, Some(7))]));
    assert!(!is_good(&[write(1, 2, 7), read(3, 4, None)]), "a lost write");
    assert!(!is_good(&[write(1, 2, 7), write(3, 4, 8), read(5, 6, Some(7))]), "a stale read");
    assert!(!is_good(&[read(1, 2, Some(9))]), "a value out of nowhere");
}

#[test]
fn calls_that_overlap_may_come_in_either_order() {
    let writes = [write(1, 10, 7), write(2, 9, 8)];
    assert!(is_good(&[writes[0], writes[1], read(11, 12, Some(7))]));
    assert!(is_good(&[writes[0], writes[1], read(11, 12, Some(8))]));
    let both = [read(11, 12, Some(7)), read(13, 14, Some(8))];
    assert!(!is_good(&[writes[0], writes[1], both[0], both[1]]), "not both orders");
}

#[test]
fn what_is_not_known_may_happen_late_or_never_but_not_undo_itself() {
    assert!(is_good(&[write(1, 2, 7), unsure(3, Some(8)), read(5, 6, Some(7))]));
    let late = [read(5, 6, Some(7)), read(7, 8, Some(8))];
    assert!(is_good(&[write(1, 2, 7), unsure(3, Some(8)), late[0], late[1]]));
    let undone = [read(5, 6, Some(8)), read(7, 8, Some(7))];
    assert!(!is_good(&[write(1, 2, 7), unsure(3, Some(8)), undone[0], undone[1]]));
    assert!(is_good(&[write(1, 2, 7), unsure(3, None), read(5, 6, None)]));
    assert!(!is_good(&[write(1, 2, 7), read(3, 4, None), unsure(5, None)]), "before it was asked");
}

#[test]
fn a_swap_of_unknown_outcome_may_rest_on_a_write_of_unknown_outcome() {
    let kind = Kind::Swap { expected: Some(8), new: Some(9) };
    let swap = record(3, 0, kind, Outcome::Undetermined);
    let history = [unsure(1, Some(8)), swap, read(5, 6, Some(9))];
    assert!(is_good(&history));
    assert_eq!(crate::second::is_linearizable(&history), Some(true));
    assert!(!is_good(&history[1..]), "nobody wrote what the swap expects");
}

#[test]
fn what_failed_never_happened() {
    let failed = record(1, 2, Kind::Write(Some(7)), Outcome::Failed);
    assert!(is_good(&[failed, read(3, 4, None)]));
    assert!(!is_good(&[failed, read(3, 4, Some(7))]));
}

#[test]
fn swaps_compare_with_what_is_there() {
    assert!(is_good(&[write(1, 2, 7), swap(3, 4, (7, 8), (true, 7)), read(5, 6, Some(8))]));
    assert!(is_good(&[write(1, 2, 7), swap(3, 4, (6, 8), (false, 7)), read(5, 6, Some(7))]));
    let twice = [swap(3, 6, (7, 8), (true, 7)), swap(4, 5, (7, 9), (true, 7))];
    assert!(!is_good(&[write(1, 2, 7), twice[0], twice[1]]), "a lost update");
    assert!(!is_good(&[write(1, 2, 7), swap(3, 4, (7, 8), (false, 7))]), "an answer that is none");
}

#[test]
fn many_calls_of_unknown_outcome_that_do_the_same_are_told_apart_by_number_only() {
    let history = |deletes: u64| {
        let mut records: Vec<Record> = (0..deletes).map(|at| unsure(at, None)).collect();
        for round in 1..=25 {
            let at = 100 * round;
            records.push(write(at, at + 1, round));
            records.push(read(at + 2, at + 3, None));
        }
        calls(&records)
    };
    assert_eq!(search(&history(25)), Some(true));
    assert_eq!(search(&history(24)), Some(false), "one too few");
}

#[test]
fn a_read_without_the_value_finds_any_value_and_no_absent_key() {
    let found = |invoked, returned| record(invoked, returned, Kind::Read, Outcome::Found);
    assert!(!is_good(&[found(1, 2)]), "nothing was written");
    assert!(is_good(&[write(1, 2, 7), found(3, 4)]));
    assert!(is_good(&[unsure(1, Some(7)), found(3, 4)]), "a write of unknown outcome");
    assert!(is_good(&[unsure(1, Some(7)), unsure(2, Some(8)), found(3, 4), read(5, 6, Some(8))]));
    let deleted = record(3, 4, Kind::Write(None), Outcome::Written);
    assert!(!is_good(&[write(1, 2, 7), deleted, found(5, 6)]), "a deleted key");
}

#[test]
fn a_value_that_is_yet_to_be_read_is_not_overwritten() {
    let writes = (1..=40).map(|value| write(1, 10_000, value));
    let reads = (1..=40).map(|value| read(100 * value, 100 * value + 50, Some(value)));
    let mut records: Vec<Record> = writes.chain(reads).collect();
    assert!(is_good(&records), "each write just before its read");
    records.push(read(5_000, 5_050, Some(7)));
    assert!(!is_good(&records), "its value was overwritten, and nobody writes it again");
}
