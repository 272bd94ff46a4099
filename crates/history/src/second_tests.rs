//! Tests of [`super`] with planted histories: both checkers must accept the good histories and
//! refuse the bad ones.

use super::*;
use crate::linear;

fn record(at: (u64, u64), kind: Kind, outcome: Outcome) -> Record {
    let (invoked, returned) = at;
    Record { key: 0, client: 0, kind, outcome, invoked, returned, attempts: 1 }
}

fn put(at: (u64, u64), value: u64) -> Record {
    record(at, Kind::Write(Some(value)), Outcome::Written)
}

fn delete(at: (u64, u64)) -> Record {
    record(at, Kind::Write(None), Outcome::Written)
}

fn read(at: (u64, u64), value: Option<u64>) -> Record {
    record(at, Kind::Read, Outcome::Read(value))
}

fn see(at: (u64, u64), value: u64) -> Record {
    read(at, Some(value))
}

/// A call of unknown outcome.
fn unsure(at: (u64, u64), kind: Kind) -> Record {
    record(at, kind, Outcome::Undetermined)
}

fn unsure_put(at: (u64, u64), value: u64) -> Record {
    unsure(at, Kind::Write(Some(value)))
}

fn asks(expected: u64, new: u64) -> Kind {
    Kind::Swap { expected: Some(expected), new: Some(new) }
}

fn swap(at: (u64, u64), kind: Kind, (swapped, previous): (bool, Option<u64>)) -> Record {
    record(at, kind, Outcome::Swapped { swapped, previous })
}

fn failed(at: (u64, u64), kind: Kind) -> Record {
    Record { attempts: 0, ..record(at, kind, Outcome::Failed) }
}

/// A write that was sent several times.
fn repeated(record: Record, attempts: u32) -> Record {
    Record { attempts, ..record }
}

const REMOVE: Kind = Kind::Write(None);

fn good() -> Vec<(&'static str, Vec<Record>)> {
    vec![
        ("nothing", vec![]),
        ("absent at first", vec![read((1, 2), None)]),
        ("write, then read", vec![put((1, 2), 7), see((3, 4), 7)]),
        ("write, delete, read", vec![put((1, 2), 7), delete((3, 4)), read((5, 6), None)]),
        (
            "reads beside a write see old, then new",
            vec![put((1, 2), 7), put((3, 10), 8), see((4, 5), 7), see((6, 7), 8)],
        ),
        (
            "two writes at once, in the order against their questions",
            vec![put((1, 9), 7), put((2, 8), 8), see((10, 11), 7)],
        ),
        (
            "an unknown put never happens",
            vec![put((1, 2), 7), unsure_put((3, 4), 8), see((5, 6), 7), see((7, 8), 7)],
        ),
        (
            "an unknown put happens long after its call ended",
            vec![put((1, 2), 7), unsure_put((3, 4), 8), see((5, 6), 7), see((7, 8), 8)],
        ),
        (
            "an unknown delete happens late",
            vec![put((1, 2), 7), unsure((3, 4), REMOVE), see((5, 6), 7), read((7, 8), None)],
        ),
        (
            "a chain of swaps",
            vec![
                put((1, 2), 7),
                swap((3, 4), asks(7, 8), (true, Some(7))),
                swap((5, 6), asks(7, 9), (false, Some(8))),
                see((7, 8), 8),
            ],
        ),
        (
            "an unknown swap is the one that made another fail",
            vec![
                put((1, 2), 7),
                unsure((3, 4), asks(7, 8)),
                swap((5, 6), asks(7, 9), (false, Some(8))),
            ],
        ),
        (
            "an unknown swap waits until it fits",
            vec![
                put((1, 2), 7),
                unsure((3, 4), asks(9, 8)),
                see((5, 6), 7),
                put((7, 8), 9),
                see((9, 10), 8),
            ],
        ),
        (
            "a put that was sent twice undoes what came between",
            vec![
                repeated(put((1, 10), 7), 2),
                put((11, 12), 8),
                see((13, 14), 8),
                see((15, 16), 7),
            ],
        ),
        (
            "a delete that was sent twice happens again",
            vec![
                put((1, 2), 7),
                repeated(delete((3, 4)), 2),
                put((5, 6), 8),
                see((7, 8), 8),
                read((9, 10), None),
            ],
        ),
        (
            "what failed did nothing",
            vec![put((1, 2), 7), failed((3, 4), Kind::Write(Some(8))), see((5, 6), 7)],
        ),
    ]
}

fn bad() -> Vec<(&'static str, Vec<Record>)> {
    vec![
        ("a value out of nowhere", vec![see((1, 2), 9)]),
        ("a lost write", vec![put((1, 2), 7), read((3, 4), None)]),
        ("a stale read", vec![put((1, 2), 7), put((3, 4), 8), see((5, 6), 7)]),
        ("a read from the future", vec![see((1, 2), 7), put((3, 4), 7)]),
        (
            "new, then old, beside the write",
            vec![put((1, 2), 7), put((3, 10), 8), see((4, 5), 8), see((6, 7), 7)],
        ),
        (
            "two readers see two writes in opposite orders",
            vec![put((1, 20), 7), put((2, 19), 8), see((3, 4), 7), see((5, 6), 8), see((7, 8), 7)],
        ),
        ("a lost delete", vec![put((1, 2), 7), delete((3, 4)), see((5, 6), 7)]),
        (
            "a value that comes back after its delete",
            vec![put((1, 2), 7), delete((3, 4)), read((5, 6), None), see((7, 8), 7)],
        ),
        (
            "a value that comes back after another",
            vec![put((1, 2), 7), put((3, 4), 8), see((5, 6), 8), see((7, 8), 7)],
        ),
        (
            "a lost update: two swaps of the same value",
            vec![
                put((1, 2), 7),
                swap((3, 6), asks(7, 8), (true, Some(7))),
                swap((4, 5), asks(7, 9), (true, Some(7))),
            ],
        ),
        (
            "a swap that says it was done and was not",
            vec![put((1, 2), 7), swap((3, 4), asks(7, 8), (true, Some(7))), see((5, 6), 7)],
        ),
        (
            "a swap that says it was refused and was done",
            vec![
                put((1, 2), 7),
                put((3, 4), 9),
                swap((5, 6), asks(7, 8), (false, Some(9))),
                see((7, 8), 8),
            ],
        ),
        (
            "a swap refused by a value that was gone",
            vec![put((1, 2), 7), put((3, 4), 8), swap((5, 6), asks(8, 9), (false, Some(7)))],
        ),
        (
            "a swap refused for what it expected",
            vec![put((1, 2), 7), swap((3, 4), asks(7, 8), (false, Some(7)))],
        ),
        (
            "a swap over a deleted value",
            vec![put((1, 2), 7), delete((3, 4)), swap((5, 6), asks(7, 8), (true, Some(7)))],
        ),
        (
            "an unknown put that happens and is undone",
            vec![put((1, 2), 7), unsure_put((3, 4), 8), see((5, 6), 8), see((7, 8), 7)],
        ),
        (
            "an unknown put that happens before it was asked for",
            vec![see((1, 2), 8), unsure_put((3, 4), 8)],
        ),
        (
            "an unknown delete that happens twice",
            vec![
                put((1, 2), 7),
                unsure((3, 4), REMOVE),
                read((5, 6), None),
                put((7, 8), 8),
                read((9, 10), None),
            ],
        ),
        (
            "an unknown delete that happens before it was asked for",
            vec![put((1, 2), 7), read((3, 4), None), unsure((5, 6), REMOVE)],
        ),
        (
            "an unknown swap over a value that was gone",
            vec![put((1, 2), 7), put((3, 4), 9), unsure((5, 6), asks(7, 8)), see((7, 8), 8)],
        ),
        (
            "an unknown swap that happens twice",
            vec![
                put((1, 2), 7),
                unsure((3, 4), asks(7, 8)),
                see((5, 6), 8),
                put((7, 8), 9),
                see((9, 10), 8),
            ],
        ),
        (
            "a put that was sent once and happens twice",
            vec![put((1, 2), 7), put((3, 4), 8), see((5, 6), 8), see((7, 8), 7)],
        ),
        (
            "a put that was sent twice and happens three times",
            vec![
                repeated(put((1, 2), 7), 2),
                put((3, 4), 8),
                see((5, 6), 7),
                put((7, 8), 9),
                see((9, 10), 7),
            ],
        ),
        (
            "an unknown put that never left happens",
            vec![repeated(unsure_put((1, 2), 7), 0), see((3, 4), 7)],
        ),
        (
            "what failed happens",
            vec![put((1, 2), 7), failed((3, 4), Kind::Write(Some(8))), see((5, 6), 8)],
        ),
    ]
}

#[test]
fn both_checkers_accept_the_good() {
    let histories = good();
    assert!(histories.len() >= 10);
    for (name, records) in histories {
        assert!(linear::check(0, &records).is_ok(), "ours refuses '{name}'");
        assert_eq!(is_linearizable(&records), Some(true), "the other refuses '{name}'");
    }
}

#[test]
fn both_checkers_refuse_the_bad() {
    let histories = bad();
    assert!(histories.len() >= 20);
    for (name, records) in histories {
        assert!(linear::check(0, &records).is_err(), "ours accepts '{name}'");
        assert_eq!(is_linearizable(&records), Some(false), "the other accepts '{name}'");
    }
}

#[test]
fn a_disagreement_is_told() {
    let (_, records) = bad().swap_remove(1);
    assert!(agrees(0, &records, &linear::check(0, &records)).is_ok());
    assert!(agrees(0, &records, &Ok(())).is_err());
}
