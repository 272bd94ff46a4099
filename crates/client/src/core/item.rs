//! What a call asks of one key or of one range, and what a store's answer to it means.

use std::fmt;

use bytes::Bytes;
use flotilla_types::{KeyRange, RegionError, proto};

use super::failure::Failure;

/// What is asked of one key, or of a range. All keys are stored keys.
#[derive(Clone, PartialEq, Eq)]
pub enum Item {
    /// Read a key.
    Get(Bytes),
    /// Set a key.
    Put(Bytes, Bytes),
    /// Remove a key.
    Delete(Bytes),
    /// Remove the keys of a range.
    DeleteRange(KeyRange),
    /// Set a key if it has the expected value.
    CompareAndSwap(proto::CompareAndSwap),
}

impl Item {
    /// The key, or the first key of the range.
    pub fn key(&self) -> &Bytes {
        match self {
            Item::Get(key) | Item::Put(key, _) | Item::Delete(key) => key,
            Item::DeleteRange(range) => &range.start,
            Item::CompareAndSwap(cas) => &cas.key,
        }
    }
}

/// Prints no keys and no values: they are the user's.
impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Item::Get(_) => "Get",
            Item::Put(..) => "Put",
            Item::Delete(_) => "Delete",
            Item::DeleteRange(_) => "DeleteRange",
            Item::CompareAndSwap(_) => "CompareAndSwap",
        })
    }
}

/// How a call for one item ended.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// The value read; None for an absent key, and for a write.
    pub value: Option<Bytes>,
    /// The answer to a compare-and-swap.
    pub swap: Option<proto::CompareAndSwapReply>,
}

/// Prints no values: they are the user's.
impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outcome")
            .field("found", &self.value.is_some())
            .field("swapped", &self.swap.as_ref().map(|swap| swap.swapped))
            .finish()
    }
}

/// What a plan would ask about the item alone; None for a range, which may lie in many regions.
pub fn op(item: &Item) -> Option<proto::request::Op> {
    use proto::mutation::Kind;
    use proto::request::Op;
    let write = |kind| {
        Some(Op::Write(proto::Write { mutations: vec![proto::Mutation { kind: Some(kind) }] }))
    };
    match item {
        Item::Get(key) => Some(Op::Get(proto::Get { keys: vec![key.clone()] })),
        Item::Put(key, value) => {
            write(Kind::Put(proto::Pair { key: key.clone(), value: value.clone() }))
        }
        Item::Delete(key) => write(Kind::Delete(key.clone())),
        Item::CompareAndSwap(cas) => Some(Op::CompareAndSwap(cas.clone())),
        Item::DeleteRange(_) => None,
    }
}

/// What the answer says about the item, or the failure that it stands for.
pub fn outcome(item: &Item, result: proto::reply::Result) -> Result<Outcome, Failure> {
    use proto::reply::Result as Answer;
    match (result, item) {
        (Answer::Error(error), _) => Err(region_failure(error)),
        (Answer::Get(mut reply), Item::Get(_)) if reply.slots.len() == 1 => {
            let slot = reply.slots.pop().filter(|slot| slot.found);
            Ok(Outcome { value: slot.map(|slot| slot.value), swap: None })
        }
        (Answer::Write(proto::WriteReply {}), Item::Put(..) | Item::Delete(_)) => {
            Ok(Outcome::default())
        }
        (Answer::CompareAndSwap(reply), Item::CompareAndSwap(_)) => {
            Ok(Outcome { value: None, swap: Some(reply) })
        }
        (Answer::Get(_) | Answer::Write(_) | Answer::CompareAndSwap(_), _) => Err(wrong_answer()),
    }
}

/// The failure that a store's refusal stands for.
pub fn region_failure(error: proto::RegionError) -> Failure {
    match RegionError::try_from(error) {
        Ok(error) => error.into(),
        Err(error) => Failure::InvalidResponse { what: error.to_string() },
    }
}

pub(super) fn wrong_answer() -> Failure {
    Failure::InvalidResponse { what: "the reply does not match the request".into() }
}
