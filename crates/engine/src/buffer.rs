//! A write buffer: changes that have not reached the base, in key order.
//!
//! A buffer is a set of cleared ranges and, on top of them, points (a value or a deletion for one
//! key). Three invariants keep it small and its meaning unambiguous:
//!
//! * Cleared ranges come before points: clearing a range drops the points in it, and a point put
//!   afterwards lies on top.
//! * Cleared ranges are disjoint and do not touch; overlapping ones are joined.
//! * No deletion lies in a cleared range, because the range already says that the key is deleted.
//!
//! The next older layer answers for a key that is neither a point nor cleared.
//!
//! Not here: locks, and the order of layers (see [`crate::state`]).

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use flotilla_types::KeyRange;
use flotilla_types::keys::key_after;

use crate::buffer_key::BufferKey;
use crate::change::{Order, StateOp};

/// What an entry costs besides its key and value: the value's [`Bytes`] handle (32 bytes) and
/// shared allocation header, and the slack of a B-tree node. An estimate; it only sizes
/// checkpoints.
const ENTRY_OVERHEAD_BYTES: usize = 128;

/// The answer of a buffer for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup<'a> {
    /// The key has this value.
    Value(&'a Bytes),
    /// The key was deleted.
    Deleted,
    /// The buffer has no change of the key: ask the next older layer.
    Unknown,
}

/// Points in some order; None is a deletion.
pub type Points<'a> = Box<dyn Iterator<Item = (&'a [u8], Option<&'a Bytes>)> + 'a>;

/// Changes in key order. See the module's header.
#[derive(Clone, Debug, Default)]
pub struct Buffer {
    points: BTreeMap<BufferKey, Option<Bytes>>,
    /// Start to end (exclusive; empty is +infinity).
    cleared: BTreeMap<Bytes, Bytes>,
    bytes: usize,
}

impl Buffer {
    /// Applies one change on top of all before.
    pub fn apply(&mut self, op: StateOp) {
        match op {
            StateOp::Put { key, value } => self.put(key, value),
            StateOp::Delete { key } => self.delete(key),
            StateOp::DeleteRange { range } => self.delete_range(range),
        }
    }

    /// The buffer's answer for `key`.
    pub fn lookup(&self, key: &[u8]) -> Lookup<'_> {
        match self.points.get(key) {
            Some(Some(value)) => Lookup::Value(value),
            Some(None) => Lookup::Deleted,
            None if self.is_cleared(key) => Lookup::Deleted,
            None => Lookup::Unknown,
        }
    }

    /// True if `key` lies in a cleared range, whatever point lies on top.
    pub fn is_cleared(&self, key: &[u8]) -> bool {
        let upto = (Bound::Unbounded, Bound::Included(key));
        let last = self.cleared.range::<[u8], _>(upto).next_back();
        last.is_some_and(|(_, end)| end.is_empty() || key < &end[..])
    }

    /// The points in `range`.
    pub fn points<'a>(&'a self, range: &KeyRange, order: Order) -> Points<'a> {
        let Some(bounds) = bounds(range) else { return Box::new(std::iter::empty()) };
        let points = self.points.range::<[u8], _>(bounds);
        let points = points.map(|(key, value)| (key.as_slice(), value.as_ref()));
        match order {
            Order::Ascending => Box::new(points),
            Order::Descending => Box::new(points.rev()),
        }
    }

    /// A copy of what the buffer holds of `range`, and the part of `range` that the copy speaks of:
    /// from its first key in `order` to the last of `points_max` points, or of fewer whose keys and
    /// values have more than `bytes_max` together. Both are shared, so the copy is cheap.
    pub fn part(
        &self,
        range: &KeyRange,
        order: Order,
        (points_max, bytes_max): (usize, usize),
    ) -> (Buffer, KeyRange) {
        let (mut part, mut covered) = (Buffer::default(), range.clone());
        let Some(bounds) = bounds(range) else { return (part, covered) };
        let mut points = self.points.range::<[u8], _>(bounds);
        let mut next = || match order {
            Order::Ascending => points.next(),
            Order::Descending => points.next_back(),
        };
        let (mut copied, mut bytes) = (vec![], 0);
        while let Some((key, value)) = next() {
            part.bytes += point_bytes(key.as_slice().len(), value);
            bytes += key.as_slice().len() + value.as_ref().map_or(0, Bytes::len);
            copied.push((key.clone(), value.clone()));
            if copied.len() >= points_max.max(1) || bytes > bytes_max {
                let last = Bytes::copy_from_slice(key.as_slice());
                match order {
                    Order::Ascending => covered.end = key_after(&last),
                    Order::Descending => covered.start = last,
                }
                break;
            }
        }
        for cleared in self.cleared(&covered) {
            part.clear(cleared);
        }
        part.points = copied.into_iter().collect();
        (part, covered)
    }

    /// The cleared ranges that share a key with `range`, ascending.
    pub fn cleared<'a>(&'a self, range: &'a KeyRange) -> impl Iterator<Item = KeyRange> + 'a {
        // A cleared range that starts at or before the range's start may reach into the range.
        let upto = (Bound::Unbounded, Bound::Included(&range.start[..]));
        let first = self.cleared.range::<[u8], _>(upto).next_back();
        let from = first.map_or(&range.start, |(start, _)| start);
        self.cleared
            .range::<[u8], _>((Bound::Included(&from[..]), Bound::Unbounded))
            .take_while(|(start, _)| range.ends_after(start))
            .map(|(start, end)| KeyRange { start: start.clone(), end: end.clone() })
            .filter(|cleared| cleared.overlaps(range))
    }

    /// True if the buffer changes a key in `range`.
    pub fn touches(&self, range: &KeyRange) -> bool {
        self.points(range, Order::Ascending).next().is_some()
            || self.cleared(range).next().is_some()
    }

    /// The number of points.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Bytes of memory, estimated. A key or value that is a slice of a greater allocation keeps the
    /// whole allocation alive; only the slice is counted.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True if the buffer changes no key.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty() && self.cleared.is_empty()
    }

    /// Panics, with the values, if the estimate does not fit the content: each point and each
    /// cleared range counts at least `ENTRY_OVERHEAD_BYTES`. O(1).
    pub fn check(&self) {
        let (points, cleared) = (self.points.len(), self.cleared.len());
        let least = (points + cleared) * ENTRY_OVERHEAD_BYTES;
        assert!(
            self.bytes >= least,
            "{} bytes for {points} points and {cleared} cleared ranges, at least {least}",
            self.bytes
        );
        assert!(self.bytes == 0 || !self.is_empty(), "{} bytes in an empty buffer", self.bytes);
    }

    fn put(&mut self, key: Bytes, value: Bytes) {
        self.insert(key, Some(value));
    }

    fn delete(&mut self, key: Bytes) {
        if self.is_cleared(&key) {
            self.remove(&key);
        } else {
            self.insert(key, None);
        }
    }

    fn delete_range(&mut self, range: KeyRange) {
        let Some(bounds) = bounds(&range) else { return };
        let covered: Vec<BufferKey> =
            self.points.range::<[u8], _>(bounds).map(|(key, _)| key.clone()).collect();
        for key in covered {
            self.remove(key.as_slice());
        }
        self.clear(range);
    }

    /// Records a cleared range, joined with those that it overlaps or touches.
    fn clear(&mut self, range: KeyRange) {
        let KeyRange { mut start, mut end } = range;
        let upto = (Bound::Unbounded, Bound::Included(&start[..]));
        if let Some((before, before_end)) = self.cleared.range::<[u8], _>(upto).next_back()
            && (before_end.is_empty() || *before_end >= start)
        {
            start = before.clone();
        }
        while let Some((next, next_end)) = self.next_cleared(&start) {
            if !end.is_empty() && next > end {
                break;
            }
            if !end.is_empty() && (next_end.is_empty() || next_end > end) {
                end = next_end.clone();
            }
            self.cleared.remove(&next);
            self.bytes -= ENTRY_OVERHEAD_BYTES + next.len() + next_end.len();
        }
        self.bytes += ENTRY_OVERHEAD_BYTES + start.len() + end.len();
        self.cleared.insert(start, end);
    }

    fn next_cleared(&self, from: &Bytes) -> Option<(Bytes, Bytes)> {
        let (start, end) = self.cleared.range(from.clone()..).next()?;
        Some((start.clone(), end.clone()))
    }

    fn insert(&mut self, key: Bytes, value: Option<Bytes>) {
        let key_bytes = key.len();
        self.bytes += point_bytes(key_bytes, &value);
        if let Some(old) = self.points.insert(key.into(), value) {
            self.bytes -= point_bytes(key_bytes, &old);
        }
    }

    fn remove(&mut self, key: &[u8]) {
        if let Some(old) = self.points.remove(key) {
            self.bytes -= point_bytes(key.len(), &old);
        }
    }
}

fn point_bytes(key_bytes: usize, value: &Option<Bytes>) -> usize {
    ENTRY_OVERHEAD_BYTES + key_bytes + value.as_ref().map_or(0, Bytes::len)
}

/// A range as ordered maps take it.
type Bounds<'a> = (Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The bounds of `range`; None if it is empty, on which ordered maps panic.
pub(crate) fn bounds(range: &KeyRange) -> Option<Bounds<'_>> {
    if range.is_empty() {
        return None;
    }
    let end = match range.end.is_empty() {
        true => Bound::Unbounded,
        false => Bound::Excluded(&range.end[..]),
    };
    Some((Bound::Included(&range.start[..]), end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &'static str, end: &'static str) -> KeyRange {
        KeyRange::new(start, end)
    }

    fn cleared(ranges: &[(&'static str, &'static str)]) -> Buffer {
        let mut buffer = Buffer::default();
        for (start, end) in ranges {
            buffer.apply(StateOp::DeleteRange { range: range(start, end) });
        }
        buffer
    }

    fn all_cleared(buffer: &Buffer) -> Vec<KeyRange> {
        buffer.cleared(&KeyRange::all()).collect()
    }

    fn put(buffer: &mut Buffer, key: &'static str) {
        buffer.apply(StateOp::Put { key: key.into(), value: "v".into() });
    }

    #[test]
    fn cleared_ranges_that_overlap_or_touch_are_joined() {
        assert_eq!(all_cleared(&cleared(&[("a", "c"), ("b", "d")])), [range("a", "d")]);
        assert_eq!(all_cleared(&cleared(&[("a", "b"), ("b", "c")])), [range("a", "c")]);
        assert_eq!(all_cleared(&cleared(&[("b", "c"), ("a", "b")])), [range("a", "c")]);
        assert_eq!(all_cleared(&cleared(&[("a", "z"), ("b", "c")])), [range("a", "z")]);
        let apart = [range("a", "b"), range("c", "d")];
        assert_eq!(all_cleared(&cleared(&[("c", "d"), ("a", "b")])), apart);
        let several = cleared(&[("a", "b"), ("c", "d"), ("e", "f"), ("x", "y"), ("aa", "e")]);
        assert_eq!(all_cleared(&several), [range("a", "f"), range("x", "y")]);
    }

    #[test]
    fn an_empty_end_is_infinity() {
        assert_eq!(all_cleared(&cleared(&[("m", ""), ("x", "z")])), [range("m", "")]);
        assert_eq!(all_cleared(&cleared(&[("x", "z"), ("m", "")])), [range("m", "")]);
        assert_eq!(all_cleared(&cleared(&[("m", ""), ("a", "m")])), [range("a", "")]);
        assert_eq!(all_cleared(&cleared(&[("m", ""), ("a", "")])), [range("a", "")]);
        let buffer = cleared(&[("m", "")]);
        assert_eq!(buffer.lookup(b"zzz"), Lookup::Deleted);
        assert_eq!(buffer.lookup(b"m"), Lookup::Deleted);
        assert_eq!(buffer.lookup(b"l"), Lookup::Unknown);
        assert_eq!(cleared(&[("", "")]).lookup(b""), Lookup::Deleted);
    }

    #[test]
    fn an_empty_range_clears_nothing() {
        assert!(cleared(&[("b", "b"), ("c", "a")]).is_empty());
        assert_eq!(cleared(&[("b", "b")]).bytes(), 0);
    }

    #[test]
    fn a_cleared_range_lies_under_the_points_put_later() {
        let mut buffer = Buffer::default();
        put(&mut buffer, "b");
        buffer.apply(StateOp::DeleteRange { range: range("a", "c") });
        assert_eq!(buffer.lookup(b"b"), Lookup::Deleted);
        put(&mut buffer, "b");
        assert_eq!(buffer.lookup(b"b"), Lookup::Value(&"v".into()));
        buffer.apply(StateOp::Delete { key: "b".into() });
        assert_eq!(buffer.lookup(b"b"), Lookup::Deleted);
        assert_eq!(buffer.points(&KeyRange::all(), Order::Ascending).count(), 0);
    }

    #[test]
    fn a_buffer_touches_its_points_and_its_cleared_ranges() {
        let mut buffer = cleared(&[("b", "d"), ("x", "")]);
        put(&mut buffer, "m");
        for (touched, expected) in [
            (range("a", "b"), false),
            (range("a", "ba"), true),
            (range("c", "cc"), true),
            (range("d", "m"), false),
            (range("m", "n"), true),
            (range("n", ""), true),
            (range("z", "zz"), true),
        ] {
            assert_eq!(buffer.touches(&touched), expected, "{:?}", touched.start);
        }
    }

    #[test]
    fn a_part_speaks_of_the_range_up_to_its_last_point() {
        let mut buffer = cleared(&[("b", "d"), ("x", "")]);
        ["a", "c", "m", "y"].into_iter().for_each(|key| put(&mut buffer, key));
        let part = |order, points_max, bytes_max| {
            let (part, covered) = buffer.part(&range("b", "z"), order, (points_max, bytes_max));
            part.check();
            let keys = part.points(&KeyRange::all(), Order::Ascending);
            let keys: Vec<u8> = keys.flat_map(|(key, _)| key.to_vec()).collect();
            assert!(part.lookup(b"bb") == Lookup::Deleted || !covered.contains(b"bb"));
            assert!(all_cleared(&part).iter().all(|cleared| cleared.overlaps(&covered)));
            (String::from_utf8(keys).expect("ascii"), covered)
        };
        let all = usize::MAX;
        assert_eq!(part(Order::Ascending, all, all), ("cmy".into(), range("b", "z")));
        assert_eq!(part(Order::Ascending, 2, all), ("cm".into(), range("b", "m\0")));
        assert_eq!(part(Order::Ascending, all, 1), ("c".into(), range("b", "c\0")));
        assert_eq!(part(Order::Descending, 2, all), ("my".into(), range("m", "z")));
        assert_eq!(part(Order::Descending, 3, all), ("cmy".into(), range("c", "z")));
        let (none, covered) = buffer.part(&range("n", "o"), Order::Ascending, (1, 1));
        assert!(none.is_empty());
        assert_eq!(covered, range("n", "o"));
    }

    #[test]
    fn the_size_returns_to_zero_with_the_content() {
        let mut buffer = Buffer::default();
        put(&mut buffer, "a");
        put(&mut buffer, "a");
        assert_eq!(buffer.bytes(), ENTRY_OVERHEAD_BYTES + 2);
        buffer.apply(StateOp::Delete { key: "a".into() });
        assert_eq!(buffer.bytes(), ENTRY_OVERHEAD_BYTES + 1);
        buffer.apply(StateOp::DeleteRange { range: KeyRange::all() });
        assert_eq!(buffer.bytes(), ENTRY_OVERHEAD_BYTES);
        buffer.apply(StateOp::DeleteRange { range: range("a", "b") });
        assert_eq!(buffer.bytes(), ENTRY_OVERHEAD_BYTES);
    }
}
