//! A call for one key, as long as its first attempt succeeds: nearly every call there is.
//!
//! In: the item and the router. Out: where the first attempt goes, what it says, and what its
//! answer means. It says and means what a [`Plan`](super::plan::Plan) of that one item would: this
//! saves the plan's bookkeeping, and decides nothing.
//!
//! Deliberately not here: failures. The first of any kind, a hole in the cache included, goes to a
//! plan ([`Plan::begun`](super::plan::Plan::begun)), so that there is one way to retry.

use bytes::Bytes;
use flotilla_types::{StoreId, proto};

use super::failure::Failure;
use super::plan::{Item, region_failure, wrong_answer};
use super::router::{Destination, Router, Steer};

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

/// Where a plan would send its first attempt about `key`; None if something must be looked up.
pub fn destination(
    router: &Router,
    avoid: &dyn Fn(StoreId) -> bool,
    key: &[u8],
) -> Option<Destination> {
    let region = router.region_at(key)?;
    router.destination(region, &Steer { last: None, hint: None, avoid }).ok()
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

#[cfg(test)]
#[path = "single_tests.rs"]
mod tests;
