//! The ranges of a store's live regions do not overlap, and the store's range map agrees with its
//! peers. Other stores do not matter here: gaps and overlaps between stores are for
//! [`super::tiling`].

use flotilla_types::{Region, StoreId};

use super::{Sight, Verdict, broken, show};

/// Checks one store.
pub fn check(sight: &Sight<'_>) -> Verdict {
    let has_state =
        |region: &&Region| sight.worker.peer(region.id).is_some_and(|peer| peer.has_state());
    let regions: Vec<&Region> = sight.worker.regions().filter(has_state).collect();
    judge(sight.store, regions, &sight.worker.range_map().iter().collect::<Vec<_>>())
}

fn judge(store: StoreId, mut regions: Vec<&Region>, mapped: &[&Region]) -> Verdict {
    regions.sort_by(|a, b| a.range.start.cmp(&b.range.start));
    for pair in regions.windows(2) {
        if pair[0].range.overlaps(&pair[1].range) {
            let (left, right) = (show(pair[0]), show(pair[1]));
            let what = format!("store {store}: {left} and {right}");
            return broken("regions of a store are disjoint", what);
        }
    }
    if mapped == regions {
        return Ok(());
    }
    let list = |regions: &[&Region]| {
        regions.iter().map(|region| show(region)).collect::<Vec<String>>().join("; ")
    };
    let what = format!("store {store}: map {} | peers {}", list(mapped), list(&regions));
    broken("a store's range map is that of its peers", what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flotilla_types::{KeyRange, RegionId};

    const STORE: StoreId = StoreId(1);

    fn region(id: u64, start: &'static str, end: &'static str) -> Region {
        let range = KeyRange::new(start, end);
        Region { id: RegionId(id), range, ..Region::default() }
    }

    #[test]
    fn neighbours_pass_and_regions_that_overlap_are_found() {
        let (left, right) = (region(1, "a", "m"), region(2, "m", "z"));
        assert!(judge(STORE, vec![&right, &left], &[&left, &right]).is_ok());
        let wide = region(2, "l", "z");
        assert!(judge(STORE, vec![&left, &wide], &[&left, &wide]).is_err());
    }

    #[test]
    fn a_range_map_that_says_something_else_is_found() {
        let (left, right) = (region(1, "a", "m"), region(2, "m", "z"));
        assert!(judge(STORE, vec![&left, &right], &[&left]).is_err(), "one is missing");
        let shorter = region(2, "m", "y");
        assert!(judge(STORE, vec![&left, &right], &[&left, &shorter]).is_err());
    }
}
