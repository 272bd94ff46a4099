//! What a call asks of one key or of one range.
//!
//! A new kind of write needs nothing here: as an [`Item::Whole`] it is routed by its first key,
//! sent as it is, and its answer is checked by [`Answer::fits`].

use std::fmt;

use bytes::Bytes;
use flotilla_types::{Answer, Mutation, Op, WriteOp};

use super::retry::Idempotency;

/// One thing that a call asks. All keys are stored keys.
#[derive(Clone, PartialEq, Eq)]
pub enum Item {
    /// Read a key. May share a request with other reads of its region.
    Get(Bytes),
    /// Change a key or the keys of a range. May share a request with other mutations of its region.
    Mutate(Mutation),
    /// A request for one region that is sent as it is, alone.
    Whole(Op),
}

/// The key of a request that names none.
static NO_KEY: Bytes = Bytes::new();

impl Item {
    /// The key by which the item is routed: its only key, or the first of its range.
    pub fn key(&self) -> &Bytes {
        match self {
            Item::Get(key) => key,
            Item::Mutate(mutation) => mutation.first_key(),
            Item::Whole(op) => op.first_key().unwrap_or(&NO_KEY),
        }
    }

    /// The request that asks for this item alone.
    pub fn op(&self) -> Op {
        match self {
            Item::Get(key) => Op::Get(vec![key.clone()]),
            Item::Mutate(mutation) => Op::Write(WriteOp::Mutate(vec![mutation.clone()])),
            Item::Whole(op) => op.clone(),
        }
    }

    /// True if `answer` is of the kind that [`Item::op`] asks for.
    pub fn fits(&self, answer: &Answer) -> bool {
        match self {
            Item::Get(_) => matches!(answer, Answer::Get(values) if values.len() == 1),
            Item::Mutate(_) => *answer == Answer::Written,
            Item::Whole(op) => answer.fits(op),
        }
    }

    /// True if the item is a range, which may lie in several regions.
    pub fn is_range(&self) -> bool {
        matches!(self, Item::Mutate(Mutation::DeleteRange(_)))
    }

    /// Whether an attempt of unknown outcome may be sent again. `no_one_else_writes` is the
    /// caller's promise about the keys; it does not make a write idempotent that is none.
    pub fn idempotency(&self, no_one_else_writes: bool) -> Idempotency {
        let is_idempotent = match self {
            Item::Get(_) | Item::Whole(Op::Get(_) | Op::Scan(_)) => return Idempotency::ReadOnly,
            Item::Mutate(_) => WriteOp::Mutate(Vec::new()).is_idempotent(),
            Item::Whole(Op::Write(op)) => op.is_idempotent(),
        };
        match is_idempotent && no_one_else_writes {
            true => Idempotency::Idempotent,
            false => Idempotency::NotIdempotent,
        }
    }
}

/// Prints no keys and no values: they are the user's.
impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Item::Get(_) => f.write_str("Get"),
            Item::Mutate(Mutation::Put { .. }) => f.write_str("Put"),
            Item::Mutate(Mutation::Delete { .. }) => f.write_str("Delete"),
            Item::Mutate(Mutation::DeleteRange(_)) => f.write_str("DeleteRange"),
            Item::Whole(op) => op.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::{CompareAndSwap, KeyRange};

    #[test]
    fn only_a_promise_and_an_idempotent_write_together_make_a_write_repeatable() {
        let put = Item::Mutate(Mutation::Put { key: "k".into(), value: "v".into() });
        let swap = CompareAndSwap { key: "k".into(), expected: None, new: Some("v".into()) };
        let swap = Item::Whole(Op::Write(WriteOp::CompareAndSwap(swap)));
        for promise in [false, true] {
            assert_eq!(Item::Get("k".into()).idempotency(promise), Idempotency::ReadOnly);
            assert_eq!(swap.idempotency(promise), Idempotency::NotIdempotent);
        }
        assert_eq!(put.idempotency(true), Idempotency::Idempotent);
        assert_eq!(put.idempotency(false), Idempotency::NotIdempotent);
    }

    fn whole(op: WriteOp) -> Item {
        Item::Whole(Op::Write(op))
    }

    #[test]
    fn what_is_printed_names_the_kind_and_neither_keys_nor_values() {
        let key = || Bytes::from_static(b"secret-key");
        let value = || Bytes::from_static(b"secret-value");
        let swap = CompareAndSwap { key: key(), expected: Some(value()), new: Some(value()) };
        let range = KeyRange { start: key(), end: Bytes::new() };
        let items = [
            (Item::Get(key()), "Get"),
            (Item::Mutate(Mutation::Put { key: key(), value: value() }), "Put"),
            (Item::Mutate(Mutation::Delete { key: key() }), "Delete"),
            (Item::Mutate(Mutation::DeleteRange(range)), "DeleteRange"),
            (whole(WriteOp::CompareAndSwap(swap)), "CompareAndSwap"),
        ];
        for (item, kind) in items {
            let printed = format!("{item:?}");
            assert!(printed.contains(kind), "'{printed}' does not say {kind}");
            assert!(!printed.contains("secret"), "'{printed}' tells what is the user's");
        }
    }

    #[test]
    fn an_item_is_routed_by_its_first_key_and_asks_for_itself_alone() {
        let range = KeyRange::new("c", "f");
        let delete = Mutation::DeleteRange(range.clone());
        assert_eq!(Item::Mutate(delete.clone()).key(), "c");
        assert_eq!(
            Item::Mutate(delete.clone()).op(),
            Op::Write(WriteOp::Mutate(vec![delete.clone()]))
        );
        let two = [delete, Mutation::Delete { key: "a".into() }];
        assert_eq!(whole(WriteOp::Mutate(two.to_vec())).key(), "c");
        assert_eq!(whole(WriteOp::Mutate(vec![])).key(), "", "it names no key");
        let get = Op::Get(vec!["k".into()]);
        assert_eq!(Item::Get("k".into()).op(), get);
        assert_eq!(Item::Whole(get.clone()).op(), get);
    }
}
