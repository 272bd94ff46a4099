//! How large a region is: an estimate that follows writes, and a count that corrects it.
//!
//! A count walks the region's rows, a bounded number of bytes in each step, and keeps a sample of
//! keys by which the region can be cut in the middle. Why and when: [`super::split`].

use bytes::Bytes;
use flotilla_engine::{Order, StateStore};
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{KeyRange, Region};

use super::Fatal;
use super::records::{data_range, deleted_row_bytes, stored_key};

/// Samples kept of a region's keys: the split key is at most 1/32 of the limit off the middle.
const SAMPLES_PER_LIMIT: u64 = 32;

/// The bounds of a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountBounds {
    /// A region of more bytes than this is to be cut.
    pub region_bytes_max: u64,
    /// Bytes of rows that one step walks; at least one row.
    pub step_bytes_max: u64,
    /// Samples kept; beyond it every other one is dropped.
    pub samples_max: usize,
}

/// What a peer knows of its region's size; by default nothing, so that it is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes of keys and values, approximately.
    pub bytes: u64,
    /// Rows, approximately.
    pub keys: u64,
    is_known: bool,
    /// The bytes at the last count, if the region was over its limit and had no key to be cut at.
    uncut: u64,
    count: Option<Count>,
}

/// A walk through the region's rows.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Count {
    range: KeyRange,
    next: Bytes,
    bytes: u64,
    keys: u64,
    samples: Vec<(u64, Bytes)>,
    /// Bytes of rows from one sample to the next. It grows whenever samples are dropped, so that
    /// the samples lie evenly over all that was walked.
    sample_bytes: u64,
    is_forced: bool,
}

impl Size {
    /// A size that was estimated elsewhere.
    pub fn of(bytes: u64, keys: u64) -> Size {
        Size { bytes, keys, is_known: true, ..Size::default() }
    }

    /// A size that was saved; None if it has yet to be counted.
    pub fn from_known(known: Option<(u64, u64)>) -> Size {
        known.map_or_else(Size::default, |(bytes, keys)| Size::of(bytes, keys))
    }

    /// Bytes and rows, unless they have yet to be counted.
    pub fn known(&self) -> Option<(u64, u64)> {
        self.is_known.then_some((self.bytes, self.keys))
    }

    /// Rows that the count under way has seen and keys that it has sampled; zeros without one.
    pub fn counting(&self) -> (u64, usize) {
        self.count.as_ref().map_or((0, 0), |count| (count.keys, count.samples.len()))
    }

    /// Rows were written.
    pub fn add(&mut self, bytes: u64, keys: u64) {
        self.bytes += bytes;
        self.keys += keys;
    }

    /// The region was cut in the middle: half for each part. Both halves are taken for known, even
    /// if the whole was not: thousands of cuts in a row would leave as many regions to count, and
    /// none of them would be quiescent meanwhile.
    pub fn halve(&mut self) -> Size {
        *self = Size::of(self.bytes / 2, self.keys / 2);
        self.clone()
    }

    /// True if a count is under way, or is to begin. A region that had no key to be cut at is
    /// counted again when it has grown by half its limit.
    pub fn is_due(&self, bytes_max: u64) -> bool {
        let most = bytes_max.max(self.uncut.saturating_add(bytes_max / 2));
        self.count.is_some() || !self.is_known || self.bytes > most
    }

    /// Begins a count that ends in a split key even if the region is small.
    pub fn force_split(&mut self, region: &Region) {
        self.begin(region, 0, true);
    }

    fn begin(&mut self, region: &Region, sample_bytes: u64, is_forced: bool) {
        self.count = Some(Count {
            range: region.range.clone(),
            next: region.range.start.clone(),
            bytes: 0,
            keys: 0,
            samples: vec![],
            sample_bytes,
            is_forced,
        });
    }

    /// Begins or continues a count if the region may be too large. Answers the split key when the
    /// count is done and the region is to be cut.
    pub fn step(
        &mut self,
        state: &StateStore,
        region: &Region,
        bounds: &CountBounds,
    ) -> Result<Option<Bytes>, Fatal> {
        let bytes_max = bounds.region_bytes_max;
        if !self.is_due(bytes_max) {
            return Ok(None);
        }
        if self.count.is_none() {
            self.begin(region, bytes_max / SAMPLES_PER_LIMIT, false);
        }
        let Some(mut count) = self.count.take() else { return Ok(None) };
        if count.range != region.range {
            return Ok(None);
        }
        if !count.walk(state, bounds)? {
            self.count = Some(count);
            return Ok(None);
        }
        (self.bytes, self.keys, self.is_known) = (count.bytes, count.keys, true);
        let is_large = count.bytes > bytes_max;
        let middle = count.middle().filter(|_| count.is_forced || is_large);
        self.uncut = if is_large && middle.is_none() { count.bytes } else { 0 };
        Ok(middle)
    }
}

impl Count {
    /// Walks on; true if the end is reached.
    fn walk(&mut self, state: &StateStore, bounds: &CountBounds) -> Result<bool, Fatal> {
        let left = KeyRange { start: self.next.clone(), end: self.range.end.clone() };
        let mut walked = 0;
        let mut stopped_at = None;
        state.walk(&data_range(&left), Order::Ascending, &mut |key, value| {
            if walked > bounds.step_bytes_max {
                stopped_at = Some(Bytes::copy_from_slice(stored_key(key)));
                return false;
            }
            let Some(value) = value else {
                walked += deleted_row_bytes(key) as u64;
                return true;
            };
            let row_bytes = (key.len() + value.len()) as u64;
            self.sample(key, bounds.samples_max);
            walked += row_bytes;
            self.bytes += row_bytes;
            self.keys += 1;
            true
        })?;
        match stopped_at {
            Some(next) => {
                if planted(Mutant::CountRestarts) {
                    return Ok(false);
                }
                self.next = next;
                Ok(false)
            }
            None => Ok(true),
        }
    }

    /// Keeps the row's key if the last sample lies far enough behind.
    fn sample(&mut self, key: &[u8], samples_max: usize) {
        if self.samples.last().is_some_and(|(at, _)| self.bytes < at + self.sample_bytes) {
            return;
        }
        self.samples.push((self.bytes, Bytes::copy_from_slice(stored_key(key))));
        if planted(Mutant::SamplesUnbounded) {
            return;
        }
        if self.samples.len() > samples_max {
            thin_out(&mut self.samples);
            self.sample_bytes = self.bytes / self.samples.len() as u64;
        }
    }

    /// The sample nearest the middle by bytes that leaves rows on both sides.
    fn middle(&self) -> Option<Bytes> {
        let half = self.bytes / 2;
        let (_, key) = self
            .samples
            .iter()
            .skip(1)
            .filter(|(_, key)| *key != self.range.start)
            .min_by_key(|(at, _)| at.abs_diff(half))?;
        Some(key.clone())
    }
}

fn thin_out(samples: &mut Vec<(u64, Bytes)>) {
    let mut keep = false;
    samples.retain(|_| {
        keep = !keep;
        keep
    });
}

#[cfg(test)]
mod tests {
    use super::super::records::{data_key, encode_value};
    use super::*;
    use flotilla_engine::StateBatch;
    use flotilla_types::{Epoch, RegionId};

    fn region() -> Region {
        let range = KeyRange::new("k", "");
        Region { id: RegionId(1), range, epoch: Epoch::FIRST, members: vec![] }
    }

    fn state(rows: usize, value_bytes: usize) -> StateStore {
        let state = StateStore::in_memory();
        let mut batch = StateBatch::default();
        for row in 0..rows {
            let key = format!("k{row:05}");
            batch.put(data_key(key.as_bytes()), encode_value(&vec![0; value_bytes]));
        }
        state.write(batch).expect("in memory");
        state
    }

    fn bounds(region_bytes_max: u64) -> CountBounds {
        CountBounds { region_bytes_max, step_bytes_max: 1024 * 1024, samples_max: 4096 }
    }

    fn run(size: &mut Size, state: &StateStore, bytes_max: u64) -> Option<Bytes> {
        run_within(size, state, &bounds(bytes_max))
    }

    fn run_within(size: &mut Size, state: &StateStore, bounds: &CountBounds) -> Option<Bytes> {
        for _ in 0..10_000 {
            let key = size.step(state, &region(), bounds).expect("in memory");
            if key.is_some() || size.count.is_none() {
                return key;
            }
        }
        panic!("a count ends");
    }

    #[test]
    fn a_region_over_the_limit_is_cut_near_the_middle() {
        let state = state(1000, 100);
        let mut size = Size::of(1_000_000, 1);
        assert_eq!(run(&mut size, &state, 50_000), Some("k00495".into()));
        assert_eq!(size.keys, 1000);
    }

    #[test]
    fn an_estimate_that_was_too_high_is_corrected_and_nothing_is_cut() {
        let state = state(10, 100);
        let mut size = Size::of(1_000_000, 1);
        assert_eq!(run(&mut size, &state, 50_000), None);
        assert_eq!(size, Size::of(10 * (7 + 101), 10));
    }

    #[test]
    fn a_size_that_is_not_known_is_counted() {
        let mut size = Size::default();
        assert_eq!(run(&mut size, &state(10, 100), 50_000), None);
        assert_eq!(size, Size::of(10 * (7 + 101), 10));
        assert!(!size.is_due(50_000));
    }

    #[test]
    fn a_large_region_of_one_row_is_counted_again_only_when_it_has_grown() {
        let (state, limit) = (state(1, 100), 50);
        let mut size = Size::of(60, 1);
        assert_eq!(run(&mut size, &state, limit), None);
        assert!(!size.is_due(limit), "there is no key to cut at");
        size.add(limit / 2, 1);
        assert!(!size.is_due(limit));
        size.add(1, 0);
        assert!(size.is_due(limit));
    }

    #[test]
    fn a_count_spreads_over_turns() {
        let state = state(40, 100_000);
        let mut size = Size::of(u64::MAX, 1);
        assert_eq!(size.step(&state, &region(), &bounds(1_000_000)), Ok(None));
        assert!(size.count.is_some());
        assert_eq!(run(&mut size, &state, 1_000_000), Some("k00020".into()));
    }

    #[test]
    fn however_many_steps_and_however_few_samples_the_split_key_is_near_the_middle() {
        let state = state(1000, 100);
        for (step_bytes_max, samples_max) in [(0, 4), (0, 64), (5_000, 8), (u64::MAX, 64)] {
            let bounds = CountBounds { step_bytes_max, samples_max, ..bounds(u64::MAX) };
            let mut size = Size::default();
            size.force_split(&region());
            let key = run_within(&mut size, &state, &bounds).expect("many rows");
            let row: u64 = std::str::from_utf8(&key[1..]).expect("ascii").parse().expect("a row");
            let off = row.abs_diff(500);
            assert!(off <= 1000 / samples_max as u64 + 1, "row {row} of {bounds:?}");
            assert_eq!(size.keys, 1000, "each row is counted once, {bounds:?}");
        }
    }

    #[test]
    fn a_forced_split_needs_two_rows() {
        let mut size = Size::default();
        size.force_split(&region());
        assert_eq!(run(&mut size, &state(1, 10), u64::MAX), None);
        size.force_split(&region());
        assert_eq!(run(&mut size, &state(2, 10), u64::MAX), Some("k00001".into()));
    }
}
