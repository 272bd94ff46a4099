//! Recovery: how long regions take to serve again once everything is healed.
//!
//! From healing on, probes ask every region for one write and one read, again and again, at
//! whichever store leads the region, until both have succeeded (see [`crate::looks`]). A region
//! that a split creates meanwhile is awaited, too.
//!
//! * A region that had a quorum that works at healing (as [`super::availability`] says) serves
//!   within [`bound`]. A region without one may need a snapshot first, and has only to recover.
//! * The time until the last region serves is a figure of the seed.
//!
//! Why the bound is sound: at healing every process with a disk runs, so a quorum is there unless
//! disks have ended. A process that starts grants no vote for the least election timeout; then a
//! voter stands for election within the greatest one. The candidate may lack entries that others
//! have, or lose to another, so a second timeout may pass. A step of a disk and a sync that began
//! before healing end first, and a write may wait until a checkpoint has made room in the buffer.
//! Connections that were silent are resumed, or made anew, within `RECONNECTED`.
//!
//! Time counts from when the links carry again: where messages keep their order, one that is sent
//! after healing waits for all that were sent before it and were delayed.

use std::collections::BTreeMap;

use flotilla_types::{RegionId, StoreId};

use super::availability::{KINDS, Kind};
use crate::scenario::{Scenario, by_the_slowest_clock};
use crate::time::{MS, Micros};

/// The greatest time until a connection that was silent carries again.
const RECONNECTED: Micros = 2_000 * MS;

/// The greatest time that a sync which began before healing may still take beyond the usual.
const STALL_MAX: Micros = 700 * MS;

/// Elections that may pass, one after the other, until one succeeds.
const ELECTIONS: u64 = 2;

/// Syncs that an election, a read and a write take, one after the other, with room to spare.
const SYNCS: u64 = 10;

/// Messages that follow each other in an election, a read and a write, with room to spare.
const MESSAGES: u64 = 20;

/// Steps of checkpoints until one that was under way has ended and the next has made room: the
/// flush and the end of both. Each snapshot that is installed is one more.
const DISK_STEPS: u64 = 6;

/// How long a region with a quorum that works may take to serve a read and a write, if no store has
/// installed more than so many snapshots since healing.
pub fn bound(scenario: &Scenario, installs_max: u64) -> Micros {
    let least = by_the_slowest_clock(scenario.timing.election());
    let greatest = 2 * least;
    let syncs = SYNCS * scenario.disk.sync_max + STALL_MAX;
    let disk = (DISK_STEPS + installs_max) * scenario.disk.step_max;
    let links = &scenario.links;
    let delay = scenario.net.delay_max + links.far_max.max(links.slow_max);
    let connected = if links.connections.is_some() { RECONNECTED } else { 0 };
    least + ELECTIONS * greatest + syncs + disk + MESSAGES * delay + connected
}

/// The account of one recovery.
#[derive(Default)]
pub struct Recovery {
    /// When the links carry again after healing.
    carries: Option<Micros>,
    healed: Option<Micros>,
    /// When each region first served a read and a write after healing.
    served: BTreeMap<RegionId, [Option<Micros>; 2]>,
    /// When the last region served.
    done: Option<Micros>,
    /// The snapshots that each store has installed since healing.
    installs: BTreeMap<StoreId, u64>,
}

impl Recovery {
    /// The network is healed, and links carry again from `at` on.
    pub fn mended(&mut self, at: Micros) {
        self.carries = Some(at);
    }

    /// Everything is healed, and links carry again from `at` on.
    pub fn begin(&mut self, at: Micros) {
        self.healed = Some(at);
    }

    /// A store has installed a snapshot: what its disk has to do besides took longer.
    pub fn installs(&mut self, store: StoreId) {
        if self.healed.is_some() {
            *self.installs.entry(store).or_default() += 1;
        }
    }

    /// The most snapshots that a store has installed since healing.
    pub fn installs_max(&self) -> u64 {
        self.installs.values().copied().max().unwrap_or(0)
    }

    /// False between healing and when links carry again.
    pub fn links_carry(&self, now: Micros) -> bool {
        self.carries.is_none_or(|at| at <= now)
    }

    /// A region has served.
    pub fn serves(&mut self, region: RegionId, kind: Kind, now: Micros) {
        if self.healed.is_some() && self.done.is_none() {
            self.served.entry(region).or_default()[kind as usize].get_or_insert(now);
        }
    }

    /// Clients have no key in the region, so that nobody asks for a write.
    pub fn needs_no_write(&mut self, region: RegionId) {
        if let Some(healed) = self.healed {
            self.serves(region, Kind::Write, healed);
        }
    }

    /// Looks at the regions that there are now. Answers what is still to be asked.
    pub fn look(&mut self, regions: impl Iterator<Item = RegionId>) -> Vec<(RegionId, Kind)> {
        let (Some(healed), None) = (self.healed, self.done) else { return vec![] };
        let mut wanted = vec![];
        let mut last = healed;
        for region in regions {
            let served = self.served.get(&region).copied().unwrap_or_default();
            for (kind, served) in KINDS.into_iter().zip(served) {
                match served {
                    Some(at) => last = last.max(at),
                    None => wanted.push((region, kind)),
                }
            }
        }
        if wanted.is_empty() {
            self.done = Some(last);
        }
        wanted
    }

    /// How long a region took to serve both a read and a write; None if it has not yet.
    pub fn of_region(&self, region: RegionId) -> Option<Micros> {
        let [read, write] = *self.served.get(&region)?;
        Some(read?.max(write?).saturating_sub(self.healed?))
    }

    /// The region that took the longest, or does not serve yet.
    pub fn slowest(&self, regions: impl Iterator<Item = RegionId>) -> Option<RegionId> {
        regions.max_by_key(|region| self.of_region(*region).unwrap_or(Micros::MAX))
    }

    /// How long all regions took; None if one does not serve yet.
    pub fn took(&self) -> Option<Micros> {
        Some(self.done?.saturating_sub(self.healed?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: RegionId = RegionId(1);
    const B: RegionId = RegionId(2);

    #[test]
    fn what_a_healed_cluster_may_take_grows_with_its_disks_and_links() {
        let scenario = Scenario::default();
        let least = bound(&scenario, 0);
        assert!(least > 2_000 * MS && least < 10_000 * MS, "{least}");
        let mut slow = scenario.clone();
        slow.disk.step_max += 1_000 * MS;
        assert_eq!(bound(&slow, 0), least + DISK_STEPS * 1_000 * MS);
        assert_eq!(bound(&scenario, 3), least + 3 * scenario.disk.step_max);
    }

    #[test]
    fn recovery_lasts_until_every_region_has_served_both() {
        let mut recovery = Recovery::default();
        recovery.serves(A, Kind::Read, 50);
        recovery.begin(100);
        recovery.serves(A, Kind::Read, 110);
        recovery.serves(A, Kind::Write, 130);
        assert_eq!(recovery.look([A].into_iter().chain([B])).len(), 2, "B is awaited");
        assert_eq!((recovery.of_region(A), recovery.of_region(B)), (Some(30), None));
        recovery.serves(B, Kind::Write, 150);
        assert_eq!(recovery.look([A, B].into_iter()), [(B, Kind::Read)]);
        recovery.serves(B, Kind::Read, 190);
        assert_eq!(recovery.took(), None, "nobody has looked");
        assert!(recovery.look([A, B].into_iter()).is_empty());
        recovery.serves(B, Kind::Read, 500);
        assert_eq!(recovery.took(), Some(90));
    }
}
