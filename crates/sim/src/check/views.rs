//! Views for snapshots: a view is kept until the followers can have asked for it. As long as its
//! store leads the region, a view is kept for at least the least election timeout after its
//! checkpoint.
//!
//! A view that is withdrawn sooner costs only a snapshot that begins anew, so no other checker
//! notices; on a slow disk the snapshots would begin anew for ever.

use std::collections::BTreeMap;

use flotilla_group::Timing;
use flotilla_store::core::{Input, Output};
use flotilla_types::{Millis, RegionId, StoreId};

use super::{Verdict, broken};

/// The views of all stores.
#[derive(Debug, Default)]
pub struct Views {
    timing: Timing,
    /// The regions of which the store's present checkpoint will leave a view.
    coming: BTreeMap<StoreId, Vec<RegionId>>,
    offered: BTreeMap<(StoreId, RegionId), Millis>,
}

impl Views {
    /// No views yet, of groups that keep time by `timing`.
    pub fn new(timing: Timing) -> Views {
        Views { timing, ..Views::default() }
    }

    /// A store's process has started: the views of the last process are gone.
    pub fn reborn(&mut self, store: StoreId) {
        self.coming.remove(&store);
        self.offered.retain(|(other, _), _| *other != store);
    }

    /// Takes note of an input that a store is about to take.
    pub fn takes(&mut self, store: StoreId, now: Millis, input: &Input) {
        if matches!(input, Input::Checkpointed { .. }) {
            for region in self.coming.remove(&store).unwrap_or_default() {
                self.offered.insert((store, region), now);
            }
        }
    }

    /// Checks the outputs of a store; `leads` is true for the regions that the store leads.
    pub fn gives(
        &mut self,
        store: StoreId,
        now: Millis,
        outputs: &[Output],
        leads: impl Fn(RegionId) -> bool,
    ) -> Verdict {
        for output in outputs {
            match output {
                Output::Checkpoint { exports, .. } => {
                    self.coming.insert(store, exports.clone());
                }
                Output::DropExport { region } => {
                    let Some(offered) = self.offered.remove(&(store, *region)) else { continue };
                    let age_ms = now.since(offered);
                    if age_ms < self.timing.election_ms() && leads(*region) {
                        let what = format!("store {store}, region {region}: after {age_ms} ms");
                        return broken("a view is kept until followers can ask for it", what);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId(1);

    fn offered() -> Views {
        let mut views = Views::default();
        let exports = vec![RegionId(7)];
        let checkpoint = Output::Checkpoint { number: 1, exports, installs: vec![] };
        views.gives(STORE, Millis(1_000), &[checkpoint], |_| true).expect("no view yet");
        views.takes(STORE, Millis(3_000), &Input::Checkpointed { number: 1 });
        views
    }

    #[test]
    fn a_view_counts_from_the_end_of_its_checkpoint() {
        let dropped = [Output::DropExport { region: RegionId(7) }];
        assert!(offered().gives(STORE, Millis(3_100), &dropped, |_| true).is_err());
        assert!(offered().gives(STORE, Millis(3_100), &dropped, |_| false).is_ok());
        assert!(offered().gives(STORE, Millis(3_500), &dropped, |_| true).is_ok());
    }
}
