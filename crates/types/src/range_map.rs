//! The ordered map from keys to regions that PD, stores and clients share.
//!
//! Invariants: regions in the map never overlap, and [`RangeMap::upsert`] keeps the region with the
//! newest epoch, so that late news is harmless. Holes are allowed: a client's map fills as the
//! client learns, a store's map holds the regions of the store's peers, and only PD's map is total
//! (see [`RangeMap::first_hole`]).
//!
//! Not here: who leads a region, and where stores listen.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::id::RegionId;
use crate::region::{KeyRange, Region};

/// Regions by start key, and by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeMap {
    by_start: BTreeMap<Bytes, Region>,
    start_by_id: BTreeMap<RegionId, Bytes>,
}

impl RangeMap {
    /// The region that holds `key`; None if there is a hole. O(log n).
    pub fn lookup(&self, key: &[u8]) -> Option<&Region> {
        let bounds = (Bound::Unbounded, Bound::Included(key));
        let (_, region) = self.by_start.range::<[u8], _>(bounds).next_back()?;
        region.range.contains(key).then_some(region)
    }

    /// The region that holds the greatest keys below `end` (empty: +infinity); None if there is a
    /// hole. A reverse scan goes on there. O(log n).
    pub fn lookup_below(&self, end: &[u8]) -> Option<&Region> {
        let upper = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
        let (_, region) = self.by_start.range::<[u8], _>((Bound::Unbounded, upper)).next_back()?;
        let reaches = if end.is_empty() {
            region.range.end.is_empty()
        } else {
            region.range.end.is_empty() || region.range.end >= end
        };
        reaches.then_some(region)
    }

    /// The region with this id; None if the map has none.
    pub fn region(&self, id: RegionId) -> Option<&Region> {
        self.by_start.get(self.start_by_id.get(&id)?)
    }

    /// All regions in key order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Region> {
        self.by_start.values()
    }

    /// The regions that share a key with `range`, in key order.
    pub fn overlapping<'a>(&'a self, range: &'a KeyRange) -> impl Iterator<Item = &'a Region> {
        let first = match self.lookup(&range.start) {
            Some(region) => region.range.start.clone(),
            None => range.start.clone(),
        };
        self.by_start
            .range::<[u8], _>((Bound::Included(&first[..]), Bound::Unbounded))
            .map(|(_, region)| region)
            .take_while(|region| range.ends_after(&region.range.start))
            .filter(|region| region.range.overlaps(range))
    }

    /// The number of regions.
    pub fn len(&self) -> usize {
        self.by_start.len()
    }

    /// True if the map holds no region.
    pub fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }

    /// True if [`RangeMap::upsert`] would put `region` into the map.
    pub fn takes(&self, region: &Region) -> bool {
        let is_newer =
            |held: &Region| held.id != region.id && held.epoch.version > region.epoch.version;
        let known = self.region(region.id);
        known.is_none_or(|known| !region.epoch.is_behind(&known.epoch))
            && !self.overlapping(&region.range).any(is_newer)
    }

    /// Puts `region` into the map in place of its older shape and of all regions that it overlaps.
    /// The map stays as it is, and the answer is false, if it holds something newer: the same
    /// region with an epoch ahead in either counter, or an overlapping region with a greater
    /// version.
    pub fn upsert(&mut self, region: Region) -> bool {
        if !self.takes(&region) {
            return false;
        }
        let replaced: Vec<RegionId> = self.overlapping(&region.range).map(|r| r.id).collect();
        for id in replaced {
            self.remove(id);
        }
        self.remove(region.id);
        self.start_by_id.insert(region.id, region.range.start.clone());
        self.by_start.insert(region.range.start.clone(), region);
        true
    }

    /// Takes the region with this id out of the map; None if the map has none.
    pub fn remove(&mut self, id: RegionId) -> Option<Region> {
        let start = self.start_by_id.remove(&id)?;
        self.by_start.remove(&start)
    }

    /// The first key that no region holds; None if the map is total.
    pub fn first_hole(&self) -> Option<Bytes> {
        let mut expected = Bytes::new();
        for region in self.by_start.values() {
            if region.range.start != expected {
                return Some(expected);
            }
            expected = region.range.end.clone();
            if expected.is_empty() {
                return None;
            }
        }
        Some(expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::Epoch;

    fn region(id: u64, start: &'static str, end: &'static str, version: u64) -> Region {
        Region {
            id: RegionId(id),
            range: KeyRange::new(start, end),
            epoch: Epoch { conf_ver: 1, version },
            members: vec![],
        }
    }

    fn ids(map: &RangeMap) -> Vec<u64> {
        map.iter().map(|region| region.id.0).collect()
    }

    #[test]
    fn lookup_finds_the_region_at_its_bounds_and_no_other() {
        let mut map = RangeMap::default();
        map.upsert(region(1, "b", "d", 1));
        map.upsert(region(2, "d", "", 1));
        let id = |key: &[u8]| map.lookup(key).map(|region| region.id.0);
        assert_eq!(id(b"a"), None);
        assert_eq!(id(b"b"), Some(1));
        assert_eq!(id(b"c\xff"), Some(1));
        assert_eq!(id(b"d"), Some(2));
        assert_eq!(id(b"\xff\xff"), Some(2));
    }

    #[test]
    fn lookup_below_takes_the_region_that_ends_at_the_bound() {
        let mut map = RangeMap::default();
        map.upsert(region(1, "b", "d", 1));
        map.upsert(region(2, "d", "", 1));
        let id = |end: &[u8]| map.lookup_below(end).map(|region| region.id.0);
        assert_eq!(id(b"d"), Some(1));
        assert_eq!(id(b"d\0"), Some(2));
        assert_eq!(id(b""), Some(2));
        assert_eq!(id(b"b"), None);
        map.remove(RegionId(1));
        assert_eq!(map.lookup_below(b"d"), None);
        map.remove(RegionId(2));
        assert_eq!(map.lookup_below(b""), None);
    }

    #[test]
    fn a_split_replaces_the_old_region_in_either_order() {
        for halves in [["left", "right"], ["right", "left"]] {
            let mut map = RangeMap::default();
            map.upsert(region(1, "", "", 1));
            for half in halves {
                let half =
                    if half == "left" { region(1, "", "m", 2) } else { region(2, "m", "", 2) };
                assert!(map.upsert(half));
            }
            assert_eq!(ids(&map), [1, 2]);
            assert_eq!(map.first_hole(), None);
        }
    }

    #[test]
    fn late_news_is_ignored() {
        let mut map = RangeMap::default();
        map.upsert(region(1, "", "m", 2));
        map.upsert(region(2, "m", "", 2));
        assert!(!map.upsert(region(1, "", "", 1)), "the same region, older");
        assert!(!map.upsert(region(7, "a", "z", 1)), "an older region across both");
        assert_eq!(ids(&map), [1, 2]);
    }

    #[test]
    fn a_region_behind_in_one_counter_is_late_news() {
        let mut map = RangeMap::default();
        let mut known = region(1, "", "", 2);
        known.epoch.conf_ver = 5;
        map.upsert(known);
        let mut mixed = region(1, "", "", 3);
        mixed.epoch.conf_ver = 4;
        assert!(!map.upsert(mixed));
    }

    #[test]
    fn overlapping_starts_with_the_region_around_the_start() {
        let mut map = RangeMap::default();
        for (id, start, end) in [(1, "", "f"), (2, "f", "m"), (3, "p", "")] {
            map.upsert(region(id, start, end, 1));
        }
        let hits = |start: &'static str, end: &'static str| -> Vec<u64> {
            map.overlapping(&KeyRange::new(start, end)).map(|r| r.id.0).collect()
        };
        assert_eq!(hits("c", "g"), [1, 2]);
        assert_eq!(hits("f", "f\0"), [2]);
        assert_eq!(hits("m", "p"), Vec::<u64>::new());
        assert_eq!(hits("", ""), [1, 2, 3]);
    }

    #[test]
    fn first_hole_names_the_missing_key() {
        let mut map = RangeMap::default();
        assert_eq!(map.first_hole(), Some(Bytes::new()));
        map.upsert(region(1, "", "f", 1));
        assert_eq!(map.first_hole(), Some("f".into()));
        map.upsert(region(3, "p", "", 1));
        assert_eq!(map.first_hole(), Some("f".into()));
        map.upsert(region(2, "f", "p", 1));
        assert_eq!(map.first_hole(), None);
    }
}
