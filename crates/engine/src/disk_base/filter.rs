//! Which keys a run may hold: a Bloom filter, so that a read skips the runs without the key.
//!
//! All bits of a key lie in one block, the width of a cache line: a look-up costs one miss of the
//! processor's caches. Filters are kept on disk, so the hash is one that is specified and never
//! changes: XXH3.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use twox_hash::xxhash3_128;

/// With seven bits set for each key, a filter wrongly answers yes for one key in two hundred.
const BITS_PER_KEY: usize = 12;

/// Bits that are set for a key.
const PROBES: u32 = 7;

const BLOCK_BYTES: usize = 64;

/// The number of bits that name a bit of a block.
const PROBE_BITS: u32 = (BLOCK_BYTES * 8).ilog2();

/// The hash of a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fingerprint(u128);

impl Fingerprint {
    pub(super) fn of(key: &[u8]) -> Fingerprint {
        Fingerprint(xxhash3_128::Hasher::oneshot(key))
    }

    /// The block among `blocks`, by the upper half: the lower one chooses the bits in it.
    fn block(self, blocks: usize) -> usize {
        let upper = self.0 >> 64;
        ((upper * blocks as u128) >> 64) as usize
    }

    /// The bits within the block, as a byte's place and a mask.
    fn bits(self) -> impl Iterator<Item = (usize, u8)> {
        (0..PROBES).map(move |probe| {
            let bit = (self.0 >> (probe * PROBE_BITS)) as usize % (BLOCK_BYTES * 8);
            (bit / 8, 1 << (bit % 8))
        })
    }
}

/// A set of keys that may answer yes for one that it does not hold, never no for one that it does.
#[derive(Debug)]
pub(super) struct Filter {
    blocks: Vec<u8>,
}

impl Filter {
    /// An empty filter for about `keys` keys.
    pub(super) fn for_keys(keys: usize) -> Filter {
        let blocks = (keys * BITS_PER_KEY).div_ceil(BLOCK_BYTES * 8).max(1);
        Filter { blocks: vec![0; blocks * BLOCK_BYTES] }
    }

    /// The filter with these bytes; None if their length is not that of a filter.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Filter> {
        let is_whole = !bytes.is_empty() && bytes.len().is_multiple_of(BLOCK_BYTES);
        is_whole.then(|| Filter { blocks: bytes.to_vec() })
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.blocks
    }

    pub(super) fn insert(&mut self, key: Fingerprint) {
        let first = self.block_of(key);
        for (byte, mask) in key.bits() {
            self.blocks[first + byte] |= mask;
        }
    }

    pub(super) fn may_hold(&self, key: Fingerprint) -> bool {
        let first = self.block_of(key);
        key.bits().all(|(byte, mask)| self.blocks[first + byte] & mask != 0)
    }

    fn block_of(&self, key: Fingerprint) -> usize {
        key.block(self.blocks.len() / BLOCK_BYTES) * BLOCK_BYTES
    }
}

/// The filters of the runs, by the runs' numbers. A number is never used for another run.
#[derive(Debug, Default)]
pub(super) struct Filters {
    loaded: Mutex<BTreeMap<u64, Arc<Filter>>>,
}

impl Filters {
    /// The run's filter, from `load` if it is not in memory yet.
    pub(super) fn get<E>(
        &self,
        run: u64,
        load: impl FnOnce() -> Result<Filter, E>,
    ) -> Result<Arc<Filter>, E> {
        if let Some(filter) = self.lock().get(&run) {
            return Ok(Arc::clone(filter));
        }
        let filter = Arc::new(load()?);
        self.lock().insert(run, Arc::clone(&filter));
        Ok(filter)
    }

    /// Drops the filters of the runs before this one.
    pub(super) fn forget_before(&self, run: u64) {
        let mut loaded = self.lock();
        *loaded = loaded.split_off(&run);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Filter>>> {
        // A map of handles is whole after each call.
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_few_others_are() {
        const KEYS: u32 = 20_000;
        let print = |number: u32| Fingerprint::of(format!("user{number:012}").as_bytes());
        let mut filter = Filter::for_keys(KEYS as usize);
        (0..KEYS).for_each(|number| filter.insert(print(number)));
        let filter = Filter::from_bytes(filter.as_bytes()).expect("a filter's bytes");
        assert!((0..KEYS).all(|number| filter.may_hold(print(number))));
        let wrong = (KEYS..2 * KEYS).filter(|number| filter.may_hold(print(*number))).count();
        assert!(
            wrong < KEYS as usize / 100,
            "the filter takes {wrong} of {KEYS} other keys for its own"
        );
    }

    #[test]
    fn the_bits_of_a_key_never_change() {
        let mut filter = Filter::for_keys(1);
        filter.insert(Fingerprint::of(b"flotilla"));
        let set = (0..BLOCK_BYTES * 8).filter(|bit| filter.blocks[bit / 8] >> (bit % 8) & 1 == 1);
        assert_eq!(set.collect::<Vec<_>>(), [50, 63, 68, 112, 263, 281, 363]);
    }

    #[test]
    fn bytes_that_are_no_filter_are_refused() {
        assert!(Filter::from_bytes(&[]).is_none());
        assert!(Filter::from_bytes(&[0; BLOCK_BYTES + 1]).is_none());
    }
}
