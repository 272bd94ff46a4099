//! Tiling: at their newest applied epochs the regions cover the key space without a gap and without
//! an overlap. The ranges within one store are for [`super::disjoint`].

use std::collections::BTreeMap;

use flotilla_types::{Region, RegionId};

use super::{Verdict, broken, show};

/// The newest shape of each region that any peer has applied.
#[derive(Debug, Default)]
pub struct Tiling {
    newest: BTreeMap<RegionId, Region>,
    is_changed: bool,
}

impl Tiling {
    /// Takes note of a peer's region.
    pub fn note(&mut self, region: &Region) {
        let known = self.newest.get(&region.id);
        if known.is_none_or(|known| known.epoch.is_behind(&region.epoch)) {
            self.is_changed |= known.is_none_or(|known| known.range != region.range);
            self.newest.insert(region.id, region.clone());
        }
    }

    /// The newest shape of every region.
    pub fn regions(&self) -> impl Iterator<Item = &Region> {
        self.newest.values()
    }

    /// The newest shape of a region.
    pub fn region(&self, id: RegionId) -> Option<&Region> {
        self.newest.get(&id)
    }

    /// Checks the whole key space, if a range has changed.
    pub fn check(&mut self) -> Verdict {
        if !std::mem::take(&mut self.is_changed) {
            return Ok(());
        }
        let mut regions: Vec<&Region> = self.newest.values().collect();
        regions.sort_by(|a, b| a.range.start.cmp(&b.range.start));
        let starts = regions.iter().skip(1).map(|region| &region.range.start);
        let is_tiled = regions.first().is_some_and(|first| first.range.start.is_empty())
            && regions.last().is_some_and(|last| last.range.end.is_empty())
            && regions
                .iter()
                .map(|region| &region.range.end)
                .zip(starts)
                .all(|(end, start)| end == start && !start.is_empty());
        if is_tiled {
            return Ok(());
        }
        let shown: Vec<String> = regions.iter().map(|region| show(region)).collect();
        broken("the regions tile the key space", shown.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::{Epoch, KeyRange};

    fn tiled(shapes: &[(u64, &'static str, &'static str, u64)]) -> Verdict {
        let mut tiling = Tiling::default();
        for (id, start, end, version) in shapes.iter().copied() {
            let range = KeyRange::new(start, end);
            let epoch = Epoch { conf_ver: 1, version };
            tiling.note(&Region { id: RegionId(id), range, epoch, members: vec![] });
        }
        tiling.check()
    }

    #[test]
    fn a_split_tiles_and_a_late_shape_changes_nothing() {
        assert!(tiled(&[(1, "", "", 1)]).is_ok());
        assert!(tiled(&[(1, "", "", 1), (1, "", "m", 2), (2, "m", "", 2)]).is_ok());
        assert!(tiled(&[(1, "", "m", 2), (2, "m", "", 2), (1, "", "", 1)]).is_ok());
    }

    #[test]
    fn a_gap_an_overlap_and_an_end_that_is_missing_are_found() {
        assert!(tiled(&[(1, "", "l", 2), (2, "m", "", 2)]).is_err(), "a gap");
        assert!(tiled(&[(1, "", "n", 2), (2, "m", "", 2)]).is_err(), "an overlap");
        assert!(tiled(&[(1, "", "m", 2), (2, "m", "z", 2)]).is_err(), "no end");
        assert!(tiled(&[(1, "a", "m", 2), (2, "m", "", 2)]).is_err(), "no beginning");
    }
}
