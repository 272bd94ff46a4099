//! Level replicas: once everything is healed, no peer stays behind its leader.
//!
//! A peer is level if it has state, installs nothing, and has applied its leader's whole log. Two
//! peers that have applied the same entries have equal states: that is for [`super::model`].
//!
//! * No peer on a store that works stays behind for longer than a bound without coming closer.
//! * At the last look of a seed, every peer is level with its leader, and every region has one.
//!
//! Why the bound is sound: a peer that is behind is brought up to date by entries, which takes a
//! few round trips, or by a snapshot. For that one checkpoint under way ends at the leader's store
//! and another is made, and the same at the peer's own; a transfer fails now and then and is
//! repeated at once. Reports of transfers that broke before healing may be half a minute late: the
//! clock of every peer starts when they are in. It stands still while a connection to the peer's
//! store has yet to carry what was sent long before: what the peer waits for is behind that. A
//! connection that is never done with it keeps the cluster from coming to rest ([`crate::healed`]).

use std::collections::{BTreeMap, BTreeSet};

use flotilla_store::core::peer::Peer;
use flotilla_types::{Region, RegionId, StoreId};

use super::{Verdict, broken, show};
use crate::event::End;
use crate::time::{MS, Micros};
use crate::world::World;

/// How long a peer may be behind without coming closer, beside what disks cost.
const BEHIND_MAX: Micros = 10_000 * MS;

/// Steps of checkpoints that a peer may have to wait for, one after the other, beside one for each
/// region: as many snapshots as a store has regions may be taken before its own.
const DISK_STEPS: u64 = 40;

/// The time from one look to the next.
const LOOK: Micros = 500 * MS;

/// How far a peer is: its id, its applied index, its log, and whether it has state and installs.
type Progress = (u64, u64, u64, bool, bool);

fn progress(peer: &Peer) -> Progress {
    let group = &peer.group;
    (peer.id.0, peer.applied.index, group.last_index(), peer.has_state(), group.is_paused())
}

/// Peers that are behind: how far each is, and the same in words.
type Behind = BTreeMap<(StoreId, RegionId), (Progress, String)>;

/// The peers that are behind, how far they are, and since when they are no closer.
#[derive(Default)]
pub struct Level {
    behind: BTreeMap<(StoreId, RegionId), (Progress, Micros)>,
}

impl Level {
    /// Looks at the peers on all stores that run and are not `left_out`.
    pub fn look(&mut self, world: &World, left_out: &[StoreId]) -> Verdict {
        let (now, begin) = (world.hub.now(), world.hub.checks.quiet.expected());
        let is_busy = |store| world.hub.net.is_busy(End::Store(store), now + LOOK);
        self.note(behind(world, left_out), is_busy, (now, begin), bound(world))
    }

    /// Takes note of the peers that are behind now; none counts as behind before `begin`, nor on a
    /// store while a connection to it is busy.
    fn note(
        &mut self,
        behind: Behind,
        is_busy: impl Fn(StoreId) -> bool,
        (now, begin): (Micros, Micros),
        bound: Micros,
    ) -> Verdict {
        self.behind.retain(|key, _| behind.contains_key(key));
        for (key, (progress, what)) in behind {
            let (last, since) = self.behind.entry(key).or_insert((progress, now));
            if *last != progress || is_busy(key.0) {
                (*last, *since) = (progress, now);
            }
            let time = now.saturating_sub((*since).max(begin));
            if time > bound {
                let what = format!("store {}, for {} ms: {what}", key.0, time / MS);
                return broken("no peer stays behind its leader", what);
            }
        }
        Ok(())
    }
}

fn bound(world: &World) -> Micros {
    let regions = world.hub.checks.tiling.regions().count() as u64;
    BEHIND_MAX + (DISK_STEPS + regions) * world.hub.scenario.disk.step_max
}

/// Runs the world until the peers on all stores that are not `left_out` are level, for as long as
/// one of them may stay behind.
pub fn await_level(world: &mut World, left_out: &[StoreId]) -> Verdict {
    let mut level = Level::default();
    let until = world.hub.now() + bound(world) + LOOK;
    while !behind(world, left_out).is_empty() && world.hub.now() <= until {
        level.look(world, left_out)?;
        let soon = world.hub.now() + LOOK;
        world.run(soon)?;
    }
    Ok(())
}

/// A violation if a peer of any store that runs is behind its leader, or has none. Peers of the
/// regions that are `changing` may be.
pub fn check(world: &World, changing: &BTreeSet<RegionId>) -> Verdict {
    let mut behind = behind(world, &[]).into_iter();
    match behind.find(|((_, region), _)| !changing.contains(region)) {
        Some(((store, _), (_, what))) => {
            broken("replicas are level at the end", format!("store {store}: {what}"))
        }
        None => Ok(()),
    }
}

/// The peers that are not level.
fn behind(world: &World, left_out: &[StoreId]) -> Behind {
    let running = world.stores.values().filter(|store| !left_out.contains(&store.id));
    let running = running.filter_map(|store| store.process.as_ref());
    let mut peers: BTreeMap<RegionId, Vec<(StoreId, &Peer)>> = BTreeMap::new();
    for process in running {
        for region in process.worker.regions() {
            if let Some(peer) = process.worker.peer(region.id) {
                peers.entry(region.id).or_default().push((process.id, peer));
            }
        }
    }
    let mut behind = BTreeMap::new();
    for (region, peers) in peers {
        let leaders = peers.iter().filter(|(_, peer)| peer.is_leader());
        let leader = leaders.max_by_key(|(_, peer)| peer.group.role().term);
        let last = leader.map(|(_, leader)| leader.group.last_index());
        for (store, peer) in &peers {
            if !is_level(peer, last) {
                let what = tell(peer, last);
                behind.insert((*store, region), (progress(peer), what));
            }
        }
    }
    behind
}

fn is_level(peer: &Peer, leaders_last: Option<u64>) -> bool {
    peer.has_state() && !peer.group.is_paused() && Some(peer.applied.index) == leaders_last
}

fn tell(peer: &Peer, leaders_last: Option<u64>) -> String {
    let region: &Region = &peer.region;
    let leader = match leaders_last {
        Some(last) => format!("its leader's last index is {last}"),
        None => "it has no leader".into(),
    };
    format!(
        "peer {} of {} has applied {}, {}{}; {leader}",
        peer.id,
        show(region),
        peer.applied.index,
        if peer.has_state() { "with state" } else { "without state" },
        if peer.group.is_paused() { ", paused" } else { "" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer of region 1 on store 1 that has applied so much.
    fn at(applied: u64) -> Behind {
        let progress = (7, applied, 20, true, false);
        BTreeMap::from([((StoreId(1), RegionId(1)), (progress, "behind".to_string()))])
    }

    #[test]
    fn a_peer_that_stays_behind_is_found_and_one_that_comes_closer_is_not() {
        let mut level = Level::default();
        let mut look =
            |behind, now| level.note(behind, |_| (4_000..5_000).contains(&now), (now, 100), 1_000);
        assert!(look(at(5), 0).is_ok());
        assert!(look(at(5), 1_100).is_ok(), "only the time from 100 on counts");
        assert!(look(at(6), 1_101).is_ok(), "it comes closer");
        assert!(look(BTreeMap::new(), 2_000).is_ok(), "it is level");
        assert!(look(at(6), 2_500).is_ok());
        assert!(look(at(6), 3_500).is_ok());
        assert!(look(at(6), 3_501).is_err());
        assert!(look(at(6), 4_100).is_ok(), "what it waits for is under way");
        assert!(look(at(6), 5_100).is_ok());
        assert!(look(at(6), 5_101).is_err());
    }
}
