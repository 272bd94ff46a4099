//! A point or batch call as a state machine over regions.
//!
//! In: the call's items; then, from the driver, each part's answer or failure. Out: what to send or
//! look up next ([`Plan::next`]), and at the end the results in the order asked.
//!
//! A *part* is what one region is asked in one request. A part is cut anew at every attempt, so
//! that a region split meanwhile yields two parts. Parts of different regions are independent and
//! under way at once, at most [`PARTS_OUT_MAX`] of them.
//!
//! Each part is atomic. The call is not: a batch or a delete_range over several regions takes
//! effect region by region. Hence the invariant of [`Plan::ending`]: once any part of a write took
//! effect or may have, the call's failure is Undetermined, never definite.
//!
//! Deliberately not here: sockets, waiting, and the user's limits, which the driver checks first.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{KeyRange, RegionId, StoreId, proto};

use super::attempt::{AttemptState, RetryContext};
use super::failure::Failure;
use super::item::{Item, Outcome, region_failure, wrong_answer};
use super::retry::{Action, Attempts, Idempotency};
use super::router::{Destination, Miss, Router, Sent};

/// Parts of one call under way at once: enough to keep every store of a large cluster busy, few
/// enough that one call does not fill a store's in-flight bound alone.
pub const PARTS_OUT_MAX: usize = 64;

/// Names a part within its plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartId(u64);

/// What the driver is to do for a part.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Send this, then call [`Plan::answered`] or [`Plan::failed`].
    Send {
        /// The part.
        part: PartId,
        /// Where to.
        to: Destination,
        /// What.
        op: proto::request::Op,
    },
    /// Look this up, then call [`Plan::ready`] or [`Plan::failed`].
    LookUp {
        /// The part.
        part: PartId,
        /// What the cache lacks.
        miss: Miss,
    },
    /// Looking up did not help: call [`Plan::failed`] with `failure`.
    Stuck {
        /// The part.
        part: PartId,
        /// Why.
        failure: Failure,
    },
}

/// How a call that cannot go on ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// No effect, and trying again cannot help.
    Failed,
    /// No effect; out of time.
    DeadlineExceeded,
    /// There may be an effect.
    Undetermined,
}

/// A piece of a call that lies in one region: an item by its position, or a part of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Whole(usize),
    Range(KeyRange),
}

#[derive(Clone, Debug)]
struct Part {
    pieces: Vec<Piece>,
    attempt: AttemptState,
}

/// See the module's header.
#[derive(Clone, Debug)]
pub struct Plan {
    items: Vec<Item>,
    values: Vec<Option<Bytes>>,
    swap: Option<proto::CompareAndSwapReply>,
    waiting: VecDeque<Part>,
    out: BTreeMap<PartId, Part>,
    parts_made: u64,
    writes_done: bool,
    writes: bool,
}

impl Plan {
    /// A call for `items`, which must all be reads, all writes, or one compare-and-swap.
    pub fn new(items: Vec<Item>, attempts: Attempts) -> Plan {
        let piece = |(at, item): (usize, &Item)| match item {
            Item::DeleteRange(range) => Piece::Range(range.clone()),
            Item::Get(_) | Item::Put(..) | Item::Delete(_) | Item::CompareAndSwap(_) => {
                Piece::Whole(at)
            }
        };
        let pieces: Vec<Piece> = items.iter().enumerate().map(piece).collect();
        let writes = attempts.idempotency() != Idempotency::ReadOnly;
        let mut waiting = VecDeque::new();
        if !pieces.is_empty() {
            waiting.push_back(Part { pieces, attempt: AttemptState::new(attempts) });
        }
        Plan {
            values: if writes { Vec::new() } else { vec![None; items.len()] },
            items,
            swap: None,
            waiting,
            out: BTreeMap::new(),
            parts_made: 0,
            writes_done: false,
            writes,
        }
    }

    /// A call for one item whose first attempt was made without a plan and asked `asked`: that
    /// attempt is under way as the part returned.
    pub fn begun(item: Item, attempts: Attempts, sent: Sent) -> (Plan, PartId) {
        let mut plan = Plan::new(vec![item], attempts);
        let id = PartId(plan.parts_made);
        plan.parts_made += 1;
        if let Some(mut part) = plan.waiting.pop_front() {
            part.attempt.begin(sent);
            plan.out.insert(id, part);
        }
        (plan, id)
    }

    /// What to do next, or None if there is nothing to do until a part comes back.
    pub fn next(&mut self, router: &Router, avoid: &dyn Fn(StoreId) -> bool) -> Option<Next> {
        if self.out.len() >= PARTS_OUT_MAX {
            return None;
        }
        let part = self.waiting.pop_front()?;
        let (mut part, others) = self.cut(part, router);
        for other in others.into_iter().rev() {
            self.waiting.push_front(other);
        }
        let id = PartId(self.parts_made);
        self.parts_made += 1;
        let next = self.route(id, &mut part, router, avoid);
        self.out.insert(id, part);
        Some(next)
    }

    /// True if every part has been answered.
    pub fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.out.is_empty()
    }

    /// Whom the part's attempt under way asks.
    pub fn sent(&self, id: PartId) -> Option<Sent> {
        self.out.get(&id).and_then(|part| part.attempt.sent())
    }

    /// Takes a part's answer. An error is the failure that the answer stands for, to be handed to
    /// [`Plan::failed`].
    pub fn answered(&mut self, id: PartId, result: proto::reply::Result) -> Result<(), Failure> {
        use proto::reply::Result as Answer;
        match result {
            Answer::Error(error) => return Err(region_failure(error)),
            Answer::Get(reply) => self.fill(id, reply.slots)?,
            Answer::Write(proto::WriteReply {}) if self.is_mutation(id) => {}
            Answer::CompareAndSwap(reply) if self.is_swap(id) => self.swap = Some(reply),
            Answer::Write(_) | Answer::CompareAndSwap(_) => return Err(wrong_answer()),
        }
        self.writes_done |= self.writes;
        self.out.remove(&id);
        Ok(())
    }

    /// Takes a part's failure and says what to do. On [`Action::Retry`], call [`Plan::ready`] when
    /// the time has come; on any other, the call ends as [`Plan::ending`] says.
    pub fn failed(
        &mut self,
        id: PartId,
        failure: &Failure,
        shared: &mut RetryContext<'_>,
    ) -> Action {
        match self.out.get_mut(&id) {
            Some(part) => part.attempt.failed(failure, shared),
            None => Action::Fail,
        }
    }

    /// Puts a part back in line after a wait or a lookup.
    pub fn ready(&mut self, id: PartId) {
        self.waiting.extend(self.out.remove(&id));
    }

    /// How the whole call ends when `action` ended one of its parts, or (for a retry) when the
    /// driver knows that trying again is in vain.
    pub fn ending(&self, action: Action) -> Ending {
        let mut parts = self.out.values().chain(&self.waiting);
        let unsure = self.writes_done
            || parts.any(|part| {
                part.attempt.sent().is_some() || part.attempt.attempts().may_have_effect()
            });
        match action {
            Action::Undetermined => Ending::Undetermined,
            Action::Fail | Action::DeadlineExceeded | Action::Retry { .. }
                if self.writes && unsure =>
            {
                Ending::Undetermined
            }
            Action::DeadlineExceeded => Ending::DeadlineExceeded,
            Action::Fail | Action::Retry { .. } => Ending::Failed,
        }
    }

    /// The values read, in the order asked; None for an absent key.
    pub fn into_values(self) -> Vec<Option<Bytes>> {
        self.values
    }

    /// The answer to a compare-and-swap.
    pub fn into_swap(self) -> Option<proto::CompareAndSwapReply> {
        self.swap
    }

    /// The outcome of a call for one item.
    pub fn into_outcome(mut self) -> Outcome {
        Outcome { value: self.values.pop().flatten(), swap: self.swap }
    }

    /// Cuts a part at region bounds: the first region's pieces, and the rest as parts of their own.
    fn cut(&self, part: Part, router: &Router) -> (Part, Vec<Part>) {
        let mut by_region: BTreeMap<Option<RegionId>, Vec<Piece>> = BTreeMap::new();
        let mut order = Vec::new();
        let mut add = |region: Option<RegionId>, piece: Piece| {
            let pieces = by_region.entry(region).or_default();
            if pieces.is_empty() {
                order.push(region);
            }
            pieces.push(piece);
        };
        for piece in part.pieces {
            match piece {
                Piece::Whole(at) => {
                    let key = self.items.get(at).map(Item::key);
                    let region = key.and_then(|key| router.region_at(key)).map(|r| r.id);
                    add(region, Piece::Whole(at));
                }
                Piece::Range(range) => cut_range(range, router, &mut add),
            }
        }
        let mut parts = order.into_iter().filter_map(|region| {
            Some(Part { pieces: by_region.remove(&region)?, attempt: part.attempt.clone() })
        });
        let first =
            parts.next().unwrap_or(Part { pieces: Vec::new(), attempt: part.attempt.clone() });
        (first, parts.collect())
    }

    fn route(
        &self,
        id: PartId,
        part: &mut Part,
        router: &Router,
        avoid: &dyn Fn(StoreId) -> bool,
    ) -> Next {
        let key = part.pieces.first().and_then(|piece| self.key_of(piece)).unwrap_or_default();
        let found = match router.region_at(&key) {
            Some(region) => router.destination(region, &part.attempt.hints(avoid)),
            None => Err(Miss::Region(key)),
        };
        match found {
            Ok(to) => {
                part.attempt.begin(to.sent);
                Next::Send { part: id, to, op: self.op(part) }
            }
            Err(miss) if part.attempt.may_look_up() => Next::LookUp { part: id, miss },
            Err(miss) => Next::Stuck { part: id, failure: no_route(&miss) },
        }
    }

    fn key_of(&self, piece: &Piece) -> Option<Bytes> {
        match piece {
            Piece::Whole(at) => self.items.get(*at).map(|item| item.key().clone()),
            Piece::Range(range) => Some(range.start.clone()),
        }
    }

    fn op(&self, part: &Part) -> proto::request::Op {
        let mut keys = Vec::new();
        let mut mutations = Vec::new();
        for piece in &part.pieces {
            let kind = match piece {
                Piece::Range(range) => proto::mutation::Kind::DeleteRange(range.clone().into()),
                Piece::Whole(at) => match self.items.get(*at) {
                    Some(Item::CompareAndSwap(cas)) => {
                        return proto::request::Op::CompareAndSwap(cas.clone());
                    }
                    Some(Item::Put(key, value)) => proto::mutation::Kind::Put(proto::Pair {
                        key: key.clone(),
                        value: value.clone(),
                    }),
                    Some(Item::Delete(key)) => proto::mutation::Kind::Delete(key.clone()),
                    Some(Item::Get(key)) => {
                        keys.push(key.clone());
                        continue;
                    }
                    Some(Item::DeleteRange(_)) | None => continue,
                },
            };
            mutations.push(proto::Mutation { kind: Some(kind) });
        }
        if self.writes {
            proto::request::Op::Write(proto::Write { mutations })
        } else {
            proto::request::Op::Get(proto::Get { keys })
        }
    }

    fn fill(&mut self, id: PartId, slots: Vec<proto::Slot>) -> Result<(), Failure> {
        let pieces = self.out.get(&id).map(|part| part.pieces.as_slice()).unwrap_or_default();
        if self.writes || pieces.len() != slots.len() {
            return Err(wrong_answer());
        }
        for (piece, slot) in pieces.iter().zip(slots) {
            if let Piece::Whole(at) = piece
                && let Some(value) = self.values.get_mut(*at)
            {
                *value = slot.found.then_some(slot.value);
            }
        }
        Ok(())
    }

    fn is_swap(&self, id: PartId) -> bool {
        let part = self.out.get(&id);
        let first = part.and_then(|part| part.pieces.first());
        matches!(first, Some(Piece::Whole(at))
            if matches!(self.items.get(*at), Some(Item::CompareAndSwap(_))))
    }

    fn is_mutation(&self, id: PartId) -> bool {
        self.writes && !self.is_swap(id)
    }
}

/// Cuts a range at region bounds. What lies behind a hole in the cache stays in one piece.
fn cut_range(range: KeyRange, router: &Router, add: &mut dyn FnMut(Option<RegionId>, Piece)) {
    let mut left = range;
    while !left.is_empty() {
        let Some(region) = router.region_at(&left.start) else {
            add(None, Piece::Range(left));
            return;
        };
        add(Some(region.id), Piece::Range(left.intersect(&region.range)));
        if region.range.end.is_empty() || planted(Mutant::DeleteRangeShort) {
            return;
        }
        left.start = region.range.end.clone();
    }
}

/// The failure of having looked up in vain.
pub fn no_route(miss: &Miss) -> Failure {
    match miss {
        Miss::Region(_) | Miss::RegionBelow(_) => {
            Failure::NoRoute { reason: "the placement driver knows no region for the key".into() }
        }
        Miss::Address(store, _) => Failure::no_address(*store),
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
