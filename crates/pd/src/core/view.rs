//! What the leading member has heard from stores: soft, never replicated, rebuilt after failover.
//!
//! Owns liveness, sizes, leaders and each region's last report. In: heartbeats. Out: answers to
//! "is this store alive" and "who leads this region". A new leader starts with an empty view, asks
//! every store for a full heartbeat, and counts silence from the moment it began to lead.
//!
//! Invariant: an older report never replaces a newer one. Reports of one region are ordered by
//! term and then by epoch; equal ones refresh the figures.
//!
//! Not here: whether a region's shape enters the range map. That is decided by
//! [`crate::core::state::State::admits`], over what is committed.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_types::{Member, MemberRole, Millis, PeerId, Region, RegionId, StoreId};

/// How long a full heartbeat is good for while a region has no known leader.
const FULL_AGAIN_MS: u64 = 5_000;

/// How long a store may be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Beyond it, the store is disconnected: no new peers, no leaders.
    pub disconnected_after_ms: u64,
    /// Beyond it, the store is down: its peers are replaced.
    pub down_after_ms: u64,
}

/// Whether a store answers, judged by its silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Liveness {
    /// Heard from lately.
    Up,
    /// Silent for a while.
    Disconnected,
    /// Silent for so long that its peers are replaced.
    Down,
}

/// What a store said of itself, without its regions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreLoad {
    /// Bytes that its data takes on disk.
    pub used_bytes: u64,
    /// Bytes that its disk holds.
    pub capacity_bytes: u64,
}

#[derive(Clone, Debug, PartialEq)]
struct StoreView {
    known_since: Millis,
    heard: Option<Millis>,
    reported_all: Option<Millis>,
    load: StoreLoad,
}

/// A region as its leader last reported it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RegionView {
    /// Its shape; may be ahead of the range map, which follows.
    pub region: Region,
    /// Who leads it; None once that is known to have ended.
    pub leader: Option<Member>,
    /// The term it leads in.
    pub term: u64,
    /// Bytes of keys and values, roughly.
    pub approximate_bytes: u64,
    /// Number of keys, roughly.
    pub approximate_keys: u64,
    /// Members that cannot be promoted or led by yet.
    pub lagging: BTreeSet<PeerId>,
    /// Members that the leader does not hear, and since when.
    pub silent: BTreeMap<PeerId, Millis>,
}

impl RegionView {
    /// True if `peer` has the log and answers, so that it may be promoted or led by.
    pub fn is_ready(&self, peer: PeerId) -> bool {
        !self.lagging.contains(&peer) && !self.silent.contains_key(&peer)
    }

    /// True if `peer` leads.
    pub fn is_led_by(&self, peer: PeerId) -> bool {
        self.leader.is_some_and(|leader| leader.id == peer)
    }

    /// The members that vote, outside of a joint change.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.region.members.iter().filter(|peer| peer.role == MemberRole::Voter)
    }
}

/// Why a report was ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// A leader of a later term has reported.
    #[error("a leader of term {known} has reported, this one is of term {term}")]
    Term {
        /// The report's term.
        term: u64,
        /// The latest term known.
        known: u64,
    },
    /// A newer shape of the region, or of one that overlaps it, is known.
    #[error("a newer shape of the region or of its range is known")]
    Epoch,
    /// The report contradicts itself.
    #[error("the report's leader is not a member on the store that sent it")]
    Leader,
}

/// All that the leading member has heard.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    since: Millis,
    patience: Patience,
    stores: BTreeMap<StoreId, StoreView>,
    regions: BTreeMap<RegionId, RegionView>,
}

impl View {
    /// An empty view of a member that leads since `since`.
    pub fn new(since: Millis, patience: Patience) -> View {
        View { since, patience, stores: BTreeMap::new(), regions: BTreeMap::new() }
    }

    /// Counts a store's silence from `now` on, because it has just registered.
    pub fn expect_store(&mut self, now: Millis, store: StoreId) {
        self.store_entry(now, store).known_since = now;
    }

    /// Takes a heartbeat's own figures over. `is_full`: its reports name every region it leads.
    pub fn heartbeat(&mut self, now: Millis, store: StoreId, load: StoreLoad, is_full: bool) {
        let entry = self.store_entry(now, store);
        entry.heard = Some(now);
        entry.load = load;
        if is_full {
            entry.reported_all = Some(now);
        }
    }

    fn store_entry(&mut self, now: Millis, store: StoreId) -> &mut StoreView {
        self.stores.entry(store).or_insert(StoreView {
            known_since: now,
            heard: None,
            reported_all: None,
            load: StoreLoad::default(),
        })
    }

    /// Takes a region's report over, sent by its leader on `store`.
    pub fn report(&mut self, store: StoreId, report: RegionView) -> Result<(), Stale> {
        let leader = report.leader.ok_or(Stale::Leader)?;
        if leader.store_id != store
            || report.region.member_on(store).map(|p| p.id) != Some(leader.id)
        {
            return Err(Stale::Leader);
        }
        let mut report = report;
        if let Some(known) = self.regions.get(&report.region.id) {
            let is_same_term = report.term == known.term;
            let is_other_leader = known.leader.is_some_and(|known| known.id != leader.id);
            if report.term < known.term || (is_same_term && is_other_leader) {
                return Err(Stale::Term { term: report.term, known: known.term });
            }
            if report.region.epoch.is_behind(&known.region.epoch) {
                return Err(Stale::Epoch);
            }
            for (peer, since) in &mut report.silent {
                *since = known.silent.get(peer).copied().unwrap_or(*since);
            }
        }
        self.regions.insert(report.region.id, report);
        Ok(())
    }

    /// After a full heartbeat of `store`: it leads only the regions `led`.
    pub fn forget_other_leaders(&mut self, store: StoreId, led: &BTreeSet<RegionId>) {
        for (id, region) in &mut self.regions {
            if region.leader.is_some_and(|leader| leader.store_id == store) && !led.contains(id) {
                region.leader = None;
            }
        }
    }

    /// Asks stores that hold peers of regions without a known leader for a full heartbeat, now and
    /// then, in case the news of a leader was lost.
    pub fn ask_again(&mut self, stores: &BTreeSet<StoreId>, now: Millis) {
        for store in stores {
            if let Some(entry) = self.stores.get_mut(store) {
                let is_old = entry.reported_all.is_some_and(|at| now.since(at) > FULL_AGAIN_MS);
                if is_old {
                    entry.reported_all = None;
                }
            }
        }
    }

    /// True if `store` has yet to send a full heartbeat to this leader.
    pub fn needs_full(&self, store: StoreId) -> bool {
        self.stores.get(&store).is_none_or(|entry| entry.reported_all.is_none())
    }

    /// When `store` was last heard from; None if never by this leader.
    pub fn heard(&self, store: StoreId) -> Option<Millis> {
        self.stores.get(&store)?.heard
    }

    /// What `store` last said of itself.
    pub fn load(&self, store: StoreId) -> StoreLoad {
        self.stores.get(&store).map(|entry| entry.load).unwrap_or_default()
    }

    /// Whether `store` answers. A store that this leader has never heard is judged by how long it
    /// could have been heard.
    pub fn liveness(&self, store: StoreId, now: Millis) -> Liveness {
        let entry = self.stores.get(&store);
        let last = entry.map_or(self.since, |entry| entry.heard.unwrap_or(entry.known_since));
        let silent_ms = now.since(last);
        if silent_ms > self.patience.down_after_ms {
            Liveness::Down
        } else if silent_ms > self.patience.disconnected_after_ms {
            Liveness::Disconnected
        } else {
            Liveness::Up
        }
    }

    /// True if a member that its leader has not heard since `silent_since` is given up, although
    /// its store may live: as a store that is silent for so long.
    pub fn is_given_up(&self, silent_since: Millis, now: Millis) -> bool {
        now.since(silent_since) > self.patience.down_after_ms
    }

    /// True if `store` was heard from lately by this leader: peers may be sent there.
    pub fn is_heard(&self, store: StoreId, now: Millis) -> bool {
        self.heard(store).is_some() && self.liveness(store, now) == Liveness::Up
    }

    /// The region's last report.
    pub fn region(&self, id: RegionId) -> Option<&RegionView> {
        self.regions.get(&id)
    }

    /// The region's last report, if its leader is known and its leader's store is heard.
    pub fn led_region(&self, id: RegionId, now: Millis) -> Option<&RegionView> {
        let region = self.regions.get(&id)?;
        self.is_heard(region.leader?.store_id, now).then_some(region)
    }
}

#[cfg(test)]
mod tests {
    use flotilla_types::{Epoch, KeyRange};

    use super::*;

    const PATIENCE: Patience = Patience { disconnected_after_ms: 10_000, down_after_ms: 60_000 };

    fn report(term: u64, conf_ver: u64, leader: u64) -> RegionView {
        let peers: Vec<Member> =
            (1..=3).map(|n| Member::voter(PeerId(10 + n), StoreId(n))).collect();
        RegionView {
            leader: peers.iter().find(|peer| peer.store_id == StoreId(leader)).copied(),
            region: Region {
                id: RegionId(7),
                range: KeyRange::all(),
                epoch: Epoch { conf_ver, version: 1 },
                members: peers,
            },
            term,
            ..RegionView::default()
        }
    }

    #[test]
    fn an_older_term_never_replaces_a_newer_one() {
        let mut view = View::new(Millis(0), PATIENCE);
        assert_eq!(view.report(StoreId(2), report(5, 3, 2)), Ok(()));
        let stale = view.report(StoreId(1), report(4, 3, 1));
        assert_eq!(stale, Err(Stale::Term { term: 4, known: 5 }));
        let twin = view.report(StoreId(1), report(5, 3, 1));
        assert_eq!(twin, Err(Stale::Term { term: 5, known: 5 }), "one leader for each term");
        let behind = view.report(StoreId(1), report(6, 2, 1));
        assert_eq!(behind, Err(Stale::Epoch));
        assert_eq!(view.report(StoreId(1), report(6, 3, 2)), Err(Stale::Leader), "another store");
        assert!(view.region(RegionId(7)).is_some_and(|region| region.is_led_by(PeerId(12))));
    }

    #[test]
    fn silence_is_counted_from_the_first_report_of_it() {
        let mut view = View::new(Millis(0), PATIENCE);
        for at in [100, 200] {
            let mut silent = report(5, 3, 2);
            silent.silent.insert(PeerId(13), Millis(at));
            view.report(StoreId(2), silent).expect("not stale");
        }
        let region = view.region(RegionId(7)).expect("reported");
        assert_eq!(region.silent.get(&PeerId(13)), Some(&Millis(100)));
    }

    #[test]
    fn a_full_heartbeat_ends_the_leaderships_that_it_does_not_name() {
        let mut view = View::new(Millis(0), PATIENCE);
        view.report(StoreId(2), report(5, 3, 2)).expect("not stale");
        view.forget_other_leaders(StoreId(1), &BTreeSet::new());
        assert!(view.region(RegionId(7)).is_some_and(|region| region.leader.is_some()));
        view.forget_other_leaders(StoreId(2), &BTreeSet::new());
        assert!(view.region(RegionId(7)).is_some_and(|region| region.leader.is_none()));
    }

    #[test]
    fn silence_makes_a_store_disconnected_and_then_down() {
        let mut view = View::new(Millis(1_000), PATIENCE);
        assert_eq!(view.liveness(StoreId(1), Millis(11_000)), Liveness::Up);
        assert!(!view.is_heard(StoreId(1), Millis(11_000)), "not heard by this leader yet");
        assert_eq!(view.liveness(StoreId(1), Millis(11_001)), Liveness::Disconnected);
        view.heartbeat(Millis(20_000), StoreId(1), StoreLoad::default(), false);
        assert!(view.is_heard(StoreId(1), Millis(20_000)));
        assert!(view.needs_full(StoreId(1)));
        assert_eq!(view.liveness(StoreId(1), Millis(80_001)), Liveness::Down);
        view.expect_store(Millis(500_000), StoreId(2));
        assert_eq!(view.liveness(StoreId(2), Millis(510_000)), Liveness::Up);
    }
}
