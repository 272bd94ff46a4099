//! The ranges of a store's live regions do not overlap, and its range map says the same as its
//! peers.

use flotilla_types::Region;

use super::{Sight, Verdict, broken, show};

/// Checks one store.
pub fn check(sight: &Sight<'_>) -> Verdict {
    let has_state =
        |region: &&Region| sight.worker.peer(region.id).is_some_and(|peer| peer.has_state);
    let mut regions: Vec<&Region> = sight.worker.regions().filter(has_state).collect();
    regions.sort_by(|a, b| a.range.start.cmp(&b.range.start));
    for pair in regions.windows(2) {
        if pair[0].range.overlaps(&pair[1].range) {
            let (left, right) = (show(pair[0]), show(pair[1]));
            let what = format!("store {}: {left} and {right}", sight.store);
            return broken("regions of a store are disjoint", what);
        }
    }
    let mapped: Vec<&Region> = sight.worker.range_map().iter().collect();
    if mapped == regions {
        return Ok(());
    }
    let list = |regions: &[&Region]| {
        regions.iter().map(|region| show(region)).collect::<Vec<String>>().join("; ")
    };
    let what = format!("store {}: map {} | peers {}", sight.store, list(&mapped), list(&regions));
    broken("a store's range map is that of its peers", what)
}
