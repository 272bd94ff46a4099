//! Tests of the requests and of the check of their limits.

use super::*;
use crate::id::{PeerId, RegionId, StoreId};
use crate::keys::stored_key;
use crate::limits::VALUE_BYTES_MAX;
use crate::region::{Epoch, Member};

fn key(bytes: usize) -> Bytes {
    stored_key(0, &vec![b'k'; bytes])
}

fn zeros(bytes: usize) -> Bytes {
    vec![0; bytes].into()
}

fn mutate(mutations: Vec<Mutation>) -> Op {
    Op::Write(WriteOp::Mutate(mutations))
}

fn put(key_bytes: usize, value_bytes: usize) -> Mutation {
    Mutation::Put { key: key(key_bytes), value: zeros(value_bytes) }
}

fn swap(expected: Option<usize>, new: Option<usize>) -> Op {
    let (expected, new) = (expected.map(zeros), new.map(zeros));
    Op::Write(WriteOp::CompareAndSwap(CompareAndSwap { key: key(1), expected, new }))
}

fn scan(start: Bytes, end: Bytes) -> Op {
    let range = KeyRange::new(start, end);
    Op::Scan(ScanOp { range, limit: 0, bytes_max: 1, is_reverse: false, keys_only: false })
}

/// The limit that refuses the request.
fn limit(op: &Op) -> (String, u64, u64) {
    match validate(op) {
        Err(RegionError::LimitExceeded { limit, max, actual }) => (limit, max, actual),
        other => panic!("refused by a limit, not {other:?}"),
    }
}

const KEY: &str = "key bytes";
const VALUE: &str = "value bytes";
const KEYS: &str = "keys in a batch";
const BYTES: &str = "bytes of keys and values in a batch";

fn over(limit: &str, max: usize, actual: usize) -> (String, u64, u64) {
    (limit.to_string(), max as u64, actual as u64)
}

#[test]
fn a_key_has_one_byte_to_its_limit_in_every_kind_of_request() {
    let swap = |key| {
        let swap = CompareAndSwap { key, expected: None, new: None };
        Op::Write(WriteOp::CompareAndSwap(swap))
    };
    let kinds: [&dyn Fn(Bytes) -> Op; 4] = [
        &|key| Op::Get(vec![key]),
        &|key| mutate(vec![Mutation::Put { key, value: Bytes::new() }]),
        &|key| mutate(vec![Mutation::Delete { key }]),
        &swap,
    ];
    for op in kinds {
        assert_eq!(limit(&op(key(0))).0, "key bytes, and at least 1");
        assert_eq!(limit(&op(Bytes::new())).0, "key bytes, and at least 1");
        assert_eq!(validate(&op(key(1))), Ok(5));
        assert_eq!(validate(&op(key(KEY_BYTES_MAX))), Ok(KEY_BYTES_MAX + KEYSPACE_BYTES));
        let too_long = KEY_BYTES_MAX + 1;
        assert_eq!(limit(&op(key(too_long))), over(KEY, KEY_BYTES_MAX, too_long));
    }
}

#[test]
fn a_value_may_be_empty_and_has_a_limit_in_every_kind_of_write() {
    let too_long = VALUE_BYTES_MAX + 1;
    assert!(validate(&mutate(vec![put(1, 0)])).is_ok());
    assert_eq!(validate(&mutate(vec![put(1, VALUE_BYTES_MAX)])), Ok(5 + VALUE_BYTES_MAX));
    for op in
        [mutate(vec![put(1, too_long)]), swap(Some(too_long), None), swap(None, Some(too_long))]
    {
        assert_eq!(limit(&op), over(VALUE, VALUE_BYTES_MAX, too_long));
    }
    assert_eq!(validate(&swap(None, Some(VALUE_BYTES_MAX))), Ok(5 + VALUE_BYTES_MAX));
    assert_eq!(validate(&swap(Some(VALUE_BYTES_MAX), None)), Ok(5 + VALUE_BYTES_MAX));
}

#[test]
fn a_batch_has_a_limit_of_keys() {
    let max = BATCH_KEYS_MAX;
    let requests: [&dyn Fn(usize) -> Op; 3] =
        [&|keys| Op::Get(vec![key(1); keys]), &|keys| mutate(vec![put(1, 0); keys]), &|keys| {
            mutate(vec![Mutation::DeleteRange(KeyRange::all()); keys])
        }];
    for op in requests {
        assert!(validate(&op(0)).is_ok());
        assert!(validate(&op(max)).is_ok());
        assert_eq!(limit(&op(max + 1)), over(KEYS, max, max + 1));
    }
}

#[test]
fn a_batch_has_a_limit_of_bytes() {
    let half = BATCH_BYTES_MAX / 2 - 5;
    assert_eq!(validate(&mutate(vec![put(1, half), put(1, half)])), Ok(BATCH_BYTES_MAX));
    let op = mutate(vec![put(1, half), put(1, half + 1)]);
    assert_eq!(limit(&op), over(BYTES, BATCH_BYTES_MAX, BATCH_BYTES_MAX + 1));
    let rest = BATCH_BYTES_MAX - 5 - VALUE_BYTES_MAX;
    assert_eq!(validate(&swap(Some(VALUE_BYTES_MAX), Some(rest))), Ok(BATCH_BYTES_MAX));
    let op = swap(Some(VALUE_BYTES_MAX), Some(rest + 1));
    assert_eq!(limit(&op), over(BYTES, BATCH_BYTES_MAX, BATCH_BYTES_MAX + 1));
    let ranges = |bytes| {
        let range = KeyRange::new(key(bytes), key(bytes));
        mutate(vec![Mutation::DeleteRange(range); BATCH_KEYS_MAX])
    };
    let fitting = BATCH_BYTES_MAX / BATCH_KEYS_MAX / 2 - KEYSPACE_BYTES;
    assert_eq!(validate(&ranges(fitting)), Ok(BATCH_BYTES_MAX));
    assert_eq!(limit(&ranges(fitting + 1)).0, BYTES);
}

#[test]
fn the_bounds_of_a_range_may_be_empty_and_have_the_limit_of_a_key() {
    let delete = |start, end| mutate(vec![Mutation::DeleteRange(KeyRange { start, end })]);
    let longest = key(KEY_BYTES_MAX);
    let too_long = key(KEY_BYTES_MAX + 1);
    assert_eq!(validate(&delete(Bytes::new(), Bytes::new())), Ok(0));
    assert!(validate(&delete(longest.clone(), longest.clone())).is_ok());
    let refused = over(KEY, KEY_BYTES_MAX, KEY_BYTES_MAX + 1);
    assert_eq!(limit(&delete(too_long.clone(), Bytes::new())), refused);
    assert_eq!(limit(&delete(Bytes::new(), too_long)), refused);
}

#[test]
fn a_scan_may_begin_and_end_after_the_longest_key() {
    let after = key_after(&key(KEY_BYTES_MAX));
    assert_eq!(validate(&scan(after.clone(), after.clone())), Ok(2 * after.len()));
    assert_eq!(validate(&scan(Bytes::new(), Bytes::new())), Ok(0));
    let too_long = key_after(&after);
    let refused = over(KEY, KEY_BYTES_MAX + 1, KEY_BYTES_MAX + 2);
    assert_eq!(limit(&scan(too_long.clone(), Bytes::new())), refused);
    assert_eq!(limit(&scan(Bytes::new(), too_long)), refused);
}

#[test]
fn a_request_that_grows_meets_the_same_limits() {
    let mut size = RequestSize::default();
    for _ in 0..BATCH_KEYS_MAX {
        assert_eq!(size.add(&key(1), b"v"), Ok(()));
    }
    assert!(size.add(&key(1), b"v").is_err());
    assert!(RequestSize::default().add(&key(0), b"").is_err());
    assert!(RequestSize::default().add(&key(1), &zeros(VALUE_BYTES_MAX + 1)).is_err());
}

fn region(start: &'static str, end: &'static str) -> Region {
    Region {
        id: RegionId(1),
        range: KeyRange::new(start, end),
        epoch: Epoch::FIRST,
        members: vec![Member::voter(PeerId(2), StoreId(1))],
    }
}

#[test]
fn a_request_is_refused_by_its_first_key_outside_the_region() {
    let get = |keys: &[&'static str]| Op::Get(keys.iter().map(|key| Bytes::from(*key)).collect());
    let delete = |key: &'static str| Mutation::Delete { key: key.into() };
    let delete_range =
        |start: &'static str, end: &'static str| Mutation::DeleteRange(KeyRange::new(start, end));
    let swap = |key: &'static str| {
        let swap = CompareAndSwap { key: key.into(), expected: None, new: None };
        Op::Write(WriteOp::CompareAndSwap(swap))
    };
    let region = region("b", "d");
    for inside in [
        get(&["b", "cz"]),
        scan("b".into(), "d".into()),
        mutate(vec![delete("b"), delete_range("b", "d")]),
        mutate(vec![]),
        swap("c"),
    ] {
        assert_eq!(inside.check_keys(&region), Ok(()));
    }
    for (outside, first) in [
        (get(&["b", "d", "a"]), "d"),
        (scan("b".into(), "".into()), "b"),
        (scan("a".into(), "c".into()), "a"),
        (mutate(vec![delete("b"), delete("a"), delete("e")]), "a"),
        (mutate(vec![delete_range("c", "e")]), "c"),
        (swap("d"), "d"),
    ] {
        let error = key_not_in_region(&first.into(), &region);
        assert_eq!(outside.check_keys(&region), Err(error));
    }
}

#[test]
fn a_write_names_what_it_may_change() {
    let op = WriteOp::Mutate(vec![
        Mutation::Put { key: "a".into(), value: "v".into() },
        Mutation::DeleteRange(KeyRange::new("b", "c")),
    ]);
    assert_eq!(op.first_key(), Some(&"a".into()));
    assert_eq!(op.ranges(), [KeyRange::new("a", "a\0"), KeyRange::new("b", "c")]);
    assert_eq!(WriteOp::Mutate(vec![]).first_key(), None);
}

#[test]
fn an_answer_fits_its_own_question_only() {
    let swap = swap(None, None);
    let ops = [Op::Get(vec![key(1)]), scan(key(1), key(1)), mutate(vec![put(1, 1)]), swap];
    let answers = [
        Answer::Get(vec![None]),
        Answer::Scan { pairs: vec![], is_done: true, walked_to: None },
        Answer::Written,
        Answer::Swapped { swapped: true, previous: None },
    ];
    for (at, op) in ops.iter().enumerate() {
        for (of, answer) in answers.iter().enumerate() {
            assert_eq!(answer.fits(op), at == of, "{answer:?} to {op:?}");
        }
    }
    assert!(!Answer::Get(vec![]).fits(&Op::Get(vec![key(1)])));
}

#[test]
fn keys_and_values_are_not_printed() {
    let secret = Bytes::from("secret");
    let put = Mutation::Put { key: secret.clone(), value: secret.clone() };
    let new = Some(secret.clone());
    let swap = CompareAndSwap { key: secret.clone(), expected: new.clone(), new: new.clone() };
    let answers = [
        Answer::Get(vec![new.clone()]),
        Answer::Scan {
            pairs: vec![(secret.clone(), secret.clone())],
            is_done: true,
            walked_to: None,
        },
        Answer::Swapped { swapped: true, previous: new },
    ];
    let ops = [
        Op::Get(vec![secret.clone()]),
        scan(secret.clone(), secret.clone()),
        mutate(vec![put, Mutation::DeleteRange(KeyRange::new(secret.clone(), secret))]),
        Op::Write(WriteOp::CompareAndSwap(swap)),
    ];
    let printed = format!("{ops:?} {answers:?}");
    assert!(!printed.contains("secret"), "{printed}");
}
