//! The rows of a region as the entries of its log say, at each of the last [`STEPS_KEPT`] indexes.
//!
//! The present rows are kept, and what each entry replaced: an earlier index is the present with
//! the later entries undone. A digest of the rows runs along: the exclusive or of a number for each
//! row, which a change of a row changes in constant time.
//!
//! Not here: what an entry means ([`super::model`]).

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;
use flotilla_types::dice::mix;
use flotilla_types::{Answer, KeyRange, Region, WriteOp};

use crate::trace::digest;

/// Entries of each region that can be undone. A read is served by a leader, which lags behind the
/// first peer that applied an entry by less than this.
pub const STEPS_KEPT: usize = 64;

/// What one entry did.
#[derive(Clone, Debug)]
struct Step {
    index: u64,
    /// The region before the entry, if the entry changed it.
    before: Option<Region>,
    /// What each changed key had before, in the order of the changes.
    undo: Vec<(Bytes, Option<Bytes>)>,
    /// The entry's writes, with what each came to; None for a write that was refused.
    writes: Vec<(WriteOp, Option<Answer>)>,
}

/// The rows, and how they came to be.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    now: BTreeMap<Bytes, Bytes>,
    digest: u64,
    steps: VecDeque<Step>,
}

/// The number of one row in a digest.
pub fn row_digest(key: &[u8], value: &[u8]) -> u64 {
    mix(digest(key).rotate_left(17) ^ digest(value))
}

impl Rows {
    /// Rows that no entry can be undone of.
    pub fn new(now: BTreeMap<Bytes, Bytes>) -> Rows {
        let digest = now.iter().fold(0, |all, (key, value)| all ^ row_digest(key, value));
        Rows { now, digest, steps: VecDeque::new() }
    }

    /// The present rows.
    pub fn now(&self) -> &BTreeMap<Bytes, Bytes> {
        &self.now
    }

    /// The digest of the present rows.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The entry at `index` begins; what follows can be undone as a whole.
    pub fn begin(&mut self, index: u64) {
        self.steps.push_back(Step { index, before: None, undo: vec![], writes: vec![] });
        if self.steps.len() > STEPS_KEPT {
            self.steps.pop_front();
        }
    }

    /// The present entry changes the region, which was `before`.
    pub fn note_region(&mut self, before: &Region) {
        if let Some(step) = self.steps.back_mut() {
            step.before.get_or_insert_with(|| before.clone());
        }
    }

    /// What a write of the present entry came to; None if it was refused.
    pub fn note_write(&mut self, op: WriteOp, result: Option<Answer>) {
        if let Some(step) = self.steps.back_mut() {
            step.writes.push((op, result));
        }
    }

    /// Sets or removes a row.
    pub fn set(&mut self, key: &Bytes, value: Option<Bytes>) {
        if let Some(value) = &value {
            self.digest ^= row_digest(key, value);
        }
        let old = match value {
            Some(value) => self.now.insert(key.clone(), value),
            None => self.now.remove(key),
        };
        self.replaced(key, old);
    }

    fn replaced(&mut self, key: &Bytes, old: Option<Bytes>) {
        if let Some(old) = &old {
            self.digest ^= row_digest(key, old);
        }
        if let Some(step) = self.steps.back_mut() {
            step.undo.push((key.clone(), old));
        }
    }

    /// Removes the rows of a range.
    pub fn remove_range(&mut self, range: &KeyRange) {
        let keys: Vec<Bytes> = within(&self.now, range).map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.set(&key, None);
        }
    }

    /// Takes the rows from `key` on away.
    pub fn split_off(&mut self, key: &Bytes) -> BTreeMap<Bytes, Bytes> {
        let right = self.now.split_off(key);
        for (key, value) in &right {
            self.replaced(key, Some(value.clone()));
        }
        right
    }

    /// The rows as of `index`, if `newest` is the index of the present rows. None if the entries
    /// since then cannot be undone any more, or `index` is still to come.
    pub fn at<'a>(&'a self, index: u64, newest: (u64, &'a Region)) -> Option<View<'a>> {
        let (last, region) = newest;
        let oldest = last - self.steps.len() as u64;
        if index < oldest || index > last {
            return None;
        }
        let mut view = View { now: &self.now, undone: BTreeMap::new(), region };
        for step in self.steps.iter().rev().take_while(|step| step.index > index) {
            for (key, before) in step.undo.iter().rev() {
                view.undone.insert(key, before.as_ref());
            }
            view.region = step.before.as_ref().unwrap_or(view.region);
        }
        Some(view)
    }

    /// The writes of the entries from `low` to `high`, both included, as far as they are kept.
    pub fn writes(&self, low: u64, high: u64) -> impl Iterator<Item = &(WriteOp, Option<Answer>)> {
        let is_meant = move |step: &&Step| (low..=high).contains(&step.index);
        self.steps.iter().filter(is_meant).flat_map(|step| &step.writes)
    }
}

/// The rows and the region as of one index.
pub struct View<'a> {
    now: &'a BTreeMap<Bytes, Bytes>,
    /// What keys had then that were changed since.
    undone: BTreeMap<&'a Bytes, Option<&'a Bytes>>,
    region: &'a Region,
}

impl<'a> View<'a> {
    /// The region.
    pub fn region(&self) -> &'a Region {
        self.region
    }

    /// A key's value.
    pub fn get(&self, key: &Bytes) -> Option<&'a Bytes> {
        self.undone.get(key).copied().unwrap_or_else(|| self.now.get(key))
    }

    /// The rows of a range, ascending.
    pub fn rows(&self, range: &KeyRange) -> Vec<(&'a Bytes, &'a Bytes)> {
        if self.undone.is_empty() {
            return within(self.now, range).collect();
        }
        let mut rows: BTreeMap<&Bytes, &Bytes> = within(self.now, range).collect();
        for (key, before) in self.undone.iter().filter(|(key, _)| range.contains(key)) {
            match before {
                Some(value) => rows.insert(key, value),
                None => rows.remove(key),
            };
        }
        rows.into_iter().collect()
    }
}

fn within<'a>(
    rows: &'a BTreeMap<Bytes, Bytes>,
    range: &KeyRange,
) -> impl DoubleEndedIterator<Item = (&'a Bytes, &'a Bytes)> + use<'a> {
    let is_endless = range.end.is_empty();
    // An empty range may end before it begins.
    let end = if is_endless || range.end > range.start { &range.end } else { &range.start };
    let high = if is_endless { Bound::Unbounded } else { Bound::Excluded(end) };
    rows.range::<Bytes, _>((Bound::Included(&range.start), high))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(rows: &mut Rows, key: &'static str, value: Option<&'static str>) {
        rows.set(&key.into(), value.map(Bytes::from));
    }

    fn seen(rows: &Rows, index: u64) -> Option<String> {
        let region = Region::default();
        let view = rows.at(index, (3, &region))?;
        let rows = view.rows(&KeyRange::all());
        let row = |(key, value): &(&Bytes, &Bytes)| {
            assert_eq!(view.get(key), Some(*value));
            String::from_utf8([key.as_ref(), value.as_ref()].concat()).expect("ascii")
        };
        Some(rows.iter().map(row).collect::<Vec<String>>().join(" "))
    }

    fn three_entries() -> Rows {
        let mut rows = Rows::new(BTreeMap::from([("a".into(), "0".into())]));
        rows.begin(1);
        set(&mut rows, "b", Some("1"));
        rows.begin(2);
        set(&mut rows, "b", Some("2"));
        set(&mut rows, "b", Some("3"));
        set(&mut rows, "a", None);
        rows.begin(3);
        rows.remove_range(&KeyRange::new("a", "z"));
        rows
    }

    #[test]
    fn each_index_has_the_rows_that_the_entries_up_to_it_left() {
        let rows = three_entries();
        let all: Vec<Option<String>> = (0..5).map(|index| seen(&rows, index)).collect();
        let expected = ["a0", "a0 b1", "b3", ""].map(|rows| Some(rows.to_string()));
        assert_eq!(all[..4], expected);
        assert_eq!(all[4], None, "still to come");
    }

    #[test]
    fn the_running_digest_is_that_of_the_present_rows() {
        let mut rows = three_entries();
        assert_eq!(rows.digest(), 0);
        set(&mut rows, "c", Some("4"));
        set(&mut rows, "d", Some("5"));
        assert_eq!(rows.digest(), Rows::new(rows.now().clone()).digest());
        let right = rows.split_off(&"d".into());
        assert_eq!(right.len(), 1);
        assert_eq!(rows.digest(), row_digest(b"c", b"4"));
    }

    #[test]
    fn what_is_too_long_ago_is_not_known() {
        let mut rows = Rows::default();
        let last = STEPS_KEPT as u64 + 7;
        (1..=last).for_each(|index| rows.begin(index));
        let region = Region::default();
        assert!(rows.at(6, (last, &region)).is_none());
        assert!(rows.at(7, (last, &region)).is_some());
    }
}
