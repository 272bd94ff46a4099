//! At their newest applied epochs the regions tile the key space: no gap, no overlap.

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
    /// A peer has this shape.
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

    /// Checks the whole key space, if a shape has changed.
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
