//! A point or batch call over many regions, or over a range of them.
//!
//! In: the call's items; then each part's answer or failure. Out: what to send or look up next
//! ([`Plan::next`]), and at the end the values in the order asked.
//!
//! A *part* is what one region is asked in one request. A part is cut anew at every attempt, so
//! that a region split meanwhile yields two parts. Parts of different regions are independent and
//! under way at once, at most `parts_out_max` of them.
//!
//! Each part is atomic. The call is not: a batch or a delete_range over several regions takes
//! effect region by region. Hence the invariant of [`Plan::ending`]: once any part of a write took
//! effect or may have, the call's failure is Undetermined, never definite.
//!
//! Invariant: an item (or each piece of a range) is in exactly one part that waits or is under way,
//! or it is answered.
//!
//! Deliberately not here: sockets, waiting, and the user's limits, which the driver checks first.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Answer, KeyRange, Mutation, Op, RegionId, StoreId, WriteOp};

use super::attempt::{AttemptState, RetryContext};
use super::ending::Ending;
use super::failure::Failure;
use super::item::Item;
use super::part::{Next, PartId};
use super::retry::{Action, Attempts, Idempotency};
use super::router::{Miss, Router, Sent};

/// A piece of a call that lies in one region: an item by its position, or a piece of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Item(usize),
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
    waiting: VecDeque<Part>,
    out: BTreeMap<PartId, Part>,
    parts_out_max: usize,
    parts_made: u64,
    /// Items and pieces of ranges that were answered.
    answered: usize,
    writes: bool,
}

impl Plan {
    /// A call for `items`, which must all be reads or all be mutations. At most `parts_out_max`
    /// parts of it will be under way at once.
    pub fn new(items: Vec<Item>, attempts: Attempts, parts_out_max: usize) -> Plan {
        let piece = |(at, item): (usize, &Item)| match item {
            Item::Mutate(Mutation::DeleteRange(range)) => Piece::Range(range.clone()),
            Item::Get(_) | Item::Mutate(_) => Piece::Item(at),
            Item::Whole(op) => panic!("{op:?} is a call of its own"),
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
            waiting,
            out: BTreeMap::new(),
            parts_out_max,
            parts_made: 0,
            answered: 0,
            writes,
        }
    }

    /// What to do next, or None if there is nothing to do until a part comes back.
    pub fn next(&mut self, router: &Router, avoid: &dyn Fn(StoreId) -> bool) -> Option<Next> {
        if !self.is_ready() {
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

    /// True if [`Plan::next`] has something to do.
    pub fn is_ready(&self) -> bool {
        self.out.len() < self.parts_out_max && !self.waiting.is_empty()
    }

    /// True if every part was answered.
    pub fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.out.is_empty()
    }

    /// The part's attempt under way.
    pub fn sent(&self, id: PartId) -> Option<Sent> {
        self.out.get(&id).and_then(|part| part.attempt.sent())
    }

    /// Takes a part's answer.
    ///
    /// # Errors
    /// The answer is of the wrong kind: hand the failure to [`Plan::failed`].
    pub fn answered(&mut self, id: PartId, answer: Answer) -> Result<(), Failure> {
        if !self.writes || answer != Answer::Written {
            let values = answer.into_values().ok_or_else(Failure::wrong_answer)?;
            self.fill(id, values)?;
        }
        let Some(mut part) = self.out.remove(&id) else {
            panic!("{id:?} is answered and not under way")
        };
        part.attempt.succeeded();
        self.answered += part.pieces.len();
        Ok(())
    }

    /// Takes a part's failure and says what to do. On [`Action::Retry`], call [`Plan::ready`] when
    /// the time has come; on any other, the call ends as [`Plan::ending`] says.
    pub fn failed(
        &mut self,
        id: PartId,
        failure: &Failure,
        retry: &mut RetryContext<'_>,
    ) -> Action {
        let Some(part) = self.out.get_mut(&id) else {
            panic!("{id:?} failed and is not under way: {failure}")
        };
        part.attempt.failed(failure, retry)
    }

    /// Puts a part back in line after a wait or a lookup.
    pub fn ready(&mut self, id: PartId) {
        let Some(part) = self.out.remove(&id) else {
            panic!("{id:?} comes back and was not under way")
        };
        self.waiting.push_back(part);
    }

    /// How the whole call ends when `action` ended one of its parts, or (for a retry) when the
    /// call knows that trying again is in vain.
    pub fn ending(&self, action: Action) -> Ending {
        let mut parts = self.out.values().chain(&self.waiting);
        let is_done_in_part = self.writes && self.answered > 0;
        Ending::of(action, is_done_in_part || parts.any(|part| part.attempt.may_have_effect()))
    }

    /// The values read, in the order asked; None for an absent key.
    pub fn into_values(self) -> Vec<Option<Bytes>> {
        let (items, answered) = (self.items.len(), self.answered);
        assert!(self.writes || answered == items, "{answered} of {items} keys were read");
        self.values
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
        let pieces = part.pieces.len();
        for piece in part.pieces {
            match piece {
                Piece::Item(at) => {
                    let key = self.items.get(at).map(Item::key);
                    let region = key.and_then(|key| router.region_at(key)).map(|r| r.id);
                    add(region, Piece::Item(at));
                }
                Piece::Range(range) => cut_range(range, router, &mut add),
            }
        }
        let mut parts = order.into_iter().filter_map(|region| {
            let pieces = by_region.remove(&region)?;
            Some(Part { pieces, attempt: part.attempt.clone() })
        });
        let none = Part { pieces: Vec::new(), attempt: part.attempt.clone() };
        let first = parts.next().unwrap_or(none);
        let others: Vec<Part> = parts.collect();
        let cut: usize = first.pieces.len() + others.iter().map(|p| p.pieces.len()).sum::<usize>();
        assert!(cut >= pieces, "of {pieces} pieces {cut} were left by a cut");
        (first, others)
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
        match part.attempt.begin(found) {
            Ok(to) => Next::Send { part: id, to, op: self.op(part) },
            Err(blocked) => Next::of_blocked(id, blocked),
        }
    }

    fn key_of(&self, piece: &Piece) -> Option<Bytes> {
        match piece {
            Piece::Item(at) => self.items.get(*at).map(|item| item.key().clone()),
            Piece::Range(range) => Some(range.start.clone()),
        }
    }

    fn op(&self, part: &Part) -> Op {
        if !self.writes {
            let keys = part.pieces.iter().filter_map(|piece| self.key_of(piece));
            return Op::Get(keys.collect());
        }
        let mutation = |piece: &Piece| match piece {
            Piece::Range(range) => Some(Mutation::DeleteRange(range.clone())),
            Piece::Item(at) => match self.items.get(*at)? {
                Item::Mutate(mutation) => Some(mutation.clone()),
                Item::Get(_) | Item::Whole(_) => None,
            },
        };
        Op::Write(WriteOp::Mutate(part.pieces.iter().filter_map(mutation).collect()))
    }

    fn fill(&mut self, id: PartId, values: Vec<Option<Bytes>>) -> Result<(), Failure> {
        let pieces = self.out.get(&id).map(|part| part.pieces.as_slice()).unwrap_or_default();
        if self.writes || pieces.len() != values.len() {
            return Err(Failure::wrong_answer());
        }
        for (piece, value) in pieces.iter().zip(values) {
            if let Piece::Item(at) = piece
                && let Some(slot) = self.values.get_mut(*at)
            {
                *slot = value;
            }
        }
        Ok(())
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

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
