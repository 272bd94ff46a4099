//! Reads through the layers of a [`crate::StateStore`]: the active buffer, the frozen buffer if
//! there is one, and a view of the base.
//!
//! A scan never collects a range. The base drives it, row by row; in front of each row come the
//! buffers' points that precede it. Cleared ranges are cut out of the range before the base is
//! asked, so that a million deleted rows cost nothing.
//!
//! Invariant ([`Layers::check`]): a frozen buffer is never empty.
//!
//! Not here: locks, and who writes (see [`crate::state`]).

use std::cmp::Ordering;
use std::iter::Peekable;
use std::sync::Arc;

use bytes::Bytes;
use flotilla_types::KeyRange;
use flotilla_types::mutant::{Mutant, planted};

use crate::base::{ReadView, Walk};
use crate::buffer::{Buffer, Lookup, Points};
use crate::change::Order;
use crate::error::EngineError;

/// The layers, newest first.
pub(crate) struct Layers {
    /// Takes the writes.
    pub(crate) active: Buffer,
    /// On its way into the base; never changed.
    pub(crate) frozen: Option<Arc<Buffer>>,
    /// The base as of the last transaction.
    pub(crate) base: Arc<dyn ReadView>,
}

impl Layers {
    /// The buffers, newest first.
    pub(crate) fn buffers(&self) -> impl Iterator<Item = &Buffer> {
        std::iter::once(&self.active).chain(self.frozen())
    }

    fn frozen(&self) -> Option<&Buffer> {
        if planted(Mutant::FrozenUnread) {
            return None;
        }
        self.frozen.as_deref()
    }

    /// Panics, with the values, if the layers contradict each other. O(1).
    pub(crate) fn check(&self) {
        let frozen = self.frozen.as_deref();
        assert!(frozen.is_none_or(|frozen| !frozen.is_empty()), "an empty buffer is frozen");
        self.active.check();
    }

    /// The newest buffered change of `key`: its value, or None within for a deletion. None if no
    /// buffer has one, and the base decides.
    pub(crate) fn buffered(&self, key: &[u8]) -> Option<Option<Bytes>> {
        for buffer in self.buffers() {
            match buffer.lookup(key) {
                Lookup::Value(value) => return Some(Some(value.clone())),
                Lookup::Deleted => return Some(None),
                Lookup::Unknown => {}
            }
        }
        None
    }

    /// Calls `visit` for each row in `range`, in `order`, until it answers false; without a value
    /// for a row that is deleted, and was found as a point of a buffer or a row of the base.
    pub(crate) fn walk(
        &self,
        range: &KeyRange,
        order: Order,
        visit: &mut Walk<'_>,
    ) -> Result<(), EngineError> {
        let mut overlay = Overlay { points: self.points(range, order).peekable(), order };
        let mut wanted = true;
        for gap in self.gaps(range, order) {
            self.base.walk(&gap, order, &mut |key, value| {
                wanted = overlay.visit_base(key, value, visit);
                wanted
            })?;
            if !wanted {
                return Ok(());
            }
        }
        overlay.visit_before(None, visit);
        Ok(())
    }

    /// The points of both buffers; for a key with a point in each, the newer one.
    fn points<'a>(&'a self, range: &KeyRange, order: Order) -> Points<'a> {
        let newer = self.active.points(range, order);
        let Some(frozen) = &self.frozen else { return newer };
        let older = frozen.points(range, order).filter(|(key, _)| !self.active.is_cleared(key));
        let older: Points<'a> = Box::new(older);
        Box::new(MergedPoints { newer: newer.peekable(), older: older.peekable(), order })
    }

    /// The parts of `range` that no buffer has cleared, in `order`.
    fn gaps(&self, range: &KeyRange, order: Order) -> Vec<KeyRange> {
        let mut cleared: Vec<KeyRange> =
            self.buffers().flat_map(|buffer| buffer.cleared(range)).collect();
        cleared.sort_unstable();
        let mut gaps = Vec::with_capacity(cleared.len() + 1);
        let mut rest = range.clone();
        for hole in cleared {
            if rest.start < hole.start {
                gaps.push(KeyRange { start: rest.start.clone(), end: hole.start });
            }
            // Nothing is left after a hole without an end, nor after one that ends the range.
            if hole.end.is_empty() || !rest.ends_after(&hole.end) {
                return ordered(gaps, order);
            }
            rest.start = rest.start.max(hole.end);
        }
        gaps.push(rest);
        ordered(gaps, order)
    }
}

fn ordered(mut gaps: Vec<KeyRange>, order: Order) -> Vec<KeyRange> {
    if order == Order::Descending {
        gaps.reverse();
    }
    gaps
}

/// The buffers' points during a scan of the base.
struct Overlay<'a> {
    points: Peekable<Points<'a>>,
    order: Order,
}

impl Overlay<'_> {
    /// Visits the points that come before the base's row, then the row unless a point replaces
    /// it. False once the visitor wants no more.
    fn visit_base(&mut self, key: &[u8], value: Option<&[u8]>, visit: &mut Walk<'_>) -> bool {
        if !self.visit_before(Some(key), visit) {
            return false;
        }
        match self.points.next_if(|(point, _)| *point == key) {
            Some((_, newer)) => visit(key, newer.map(Bytes::as_ref)),
            None => visit(key, value),
        }
    }

    /// Visits the points that come before `end`, all if it is None. False once the visitor wants
    /// no more.
    fn visit_before(&mut self, end: Option<&[u8]>, visit: &mut Walk<'_>) -> bool {
        let order = self.order;
        let precedes = |key: &[u8]| end.is_none_or(|end| order.compare(key, end) == Ordering::Less);
        while let Some((key, value)) = self.points.next_if(|(key, _)| precedes(key)) {
            if !visit(key, value.map(Bytes::as_ref)) {
                return false;
            }
        }
        true
    }
}

/// The points of two buffers in one order; for a key with a point in each, the newer one.
struct MergedPoints<'a> {
    newer: Peekable<Points<'a>>,
    older: Peekable<Points<'a>>,
    order: Order,
}

impl<'a> Iterator for MergedPoints<'a> {
    type Item = (&'a [u8], Option<&'a Bytes>);

    fn next(&mut self) -> Option<Self::Item> {
        let (Some((newer, _)), Some((older, _))) = (self.newer.peek(), self.older.peek()) else {
            return self.newer.next().or_else(|| self.older.next());
        };
        match self.order.compare(newer, older) {
            Ordering::Less => self.newer.next(),
            Ordering::Greater => self.older.next(),
            Ordering::Equal => {
                self.older.next();
                self.newer.next()
            }
        }
    }
}
