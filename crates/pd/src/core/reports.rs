//! What stores have reported to the leading member: soft, never replicated, rebuilt after failover.
//!
//! Owns the liveness of stores, their sizes, and each region's last report. In: heartbeats. Out:
//! answers to "is this store alive" and "who leads this region". A new leader starts with no
//! reports, asks every store for a full heartbeat, and counts the time without one from the moment
//! at which it began to lead.
//!
//! Invariant: an older report never replaces a newer one. Reports of one region are ordered by
//! term, then by epoch, then by the number of the heartbeat; the last one refreshes the figures.
//! Which of two processes of a store sent later is not known, so with a heartbeat of another one
//! than before the store counts as not yet reported: the next one says everything.
//!
//! Not here: whether a region's shape enters the range map. [`crate::core::state::State::admits`]
//! decides that from what is committed.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_types::heartbeat::{HeartbeatId, RegionReport, StoreUsage, TombstonedPeer};
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::{Load, Member, MemberRole, Millis, PeerId, Region, RegionId, StoreId};

/// How long a full heartbeat is good for while a region has no known leader.
const FULL_AGAIN_MS: u64 = 5_000;

/// How old a store's last heartbeat may be before the store is treated as disconnected or down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LivenessTimeouts {
    /// A store whose last heartbeat is older is disconnected: it receives no new peers and no
    /// leaders.
    pub disconnected_after_ms: u64,
    /// A store whose last heartbeat is older is down: its peers are replaced.
    pub down_after_ms: u64,
}

/// Whether a store answers, judged by the time since its last heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Liveness {
    /// Its last heartbeat is recent.
    Up,
    /// Its last heartbeat is older than `disconnected_after_ms`, or said that the store stops.
    Disconnected,
    /// Its last heartbeat is older than `down_after_ms`: its peers are replaced.
    Down,
}

/// A store as this leader knows it from heartbeats.
#[derive(Clone, Debug, PartialEq)]
struct ReportedStore {
    known_since: Millis,
    last_heartbeat_at: Option<Millis>,
    last_full_at: Option<Millis>,
    last_id: HeartbeatId,
    /// True if the last heartbeat said that the store stops.
    has_stopped: bool,
    /// The regions that a full heartbeat has named so far, while its rest follows.
    named: Option<BTreeSet<RegionId>>,
    /// True if a full heartbeat has named what could not be taken over for the moment.
    has_more: bool,
    usage: StoreUsage,
    /// As the last heartbeat has them.
    tombstoned: BTreeSet<TombstonedPeer>,
}

impl ReportedStore {
    /// A heartbeat has arrived. What it says of regions is full only if its process is the same.
    fn take(&mut self, now: Millis, id: HeartbeatId) {
        if std::mem::replace(&mut self.last_id, id).process != id.process {
            self.last_full_at = None;
            self.named = None;
        }
        self.last_heartbeat_at = Some(now);
        self.has_stopped = false;
    }
}

/// A region as its leader last reported it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReportedRegion {
    /// Its shape; may be ahead of the range map, which follows.
    pub region: Region,
    /// The leader; None once its leadership is known to have ended.
    pub leader: Option<Member>,
    /// The Raft term in which it leads.
    pub term: u64,
    /// Which process of the leader's store has reported it; see [`HeartbeatId::process`].
    pub process: u64,
    /// Bytes of keys and values, roughly.
    pub approximate_bytes: u64,
    /// Number of keys, roughly.
    pub approximate_keys: u64,
    /// What clients have it do, per second.
    pub load: Load,
    /// Members that lack too much of the log to be promoted or to be made the leader.
    pub lagging: BTreeSet<PeerId>,
    /// Members that do not answer the leader, and when that was first reported.
    pub unreachable: BTreeMap<PeerId, Millis>,
}

impl ReportedRegion {
    /// A report that arrived at `now`; its unreachable members have been so since `now`.
    pub fn new(now: Millis, report: RegionReport) -> ReportedRegion {
        ReportedRegion {
            region: report.region,
            leader: report.leader,
            term: report.term,
            process: 0,
            approximate_bytes: report.approximate_bytes,
            approximate_keys: report.approximate_keys,
            load: report.load,
            lagging: report.lagging.into_iter().collect(),
            unreachable: report.unreachable.into_iter().map(|peer| (peer, now)).collect(),
        }
    }

    /// True if `peer` has the log and answers, so that it may be promoted or made the leader.
    pub fn is_ready(&self, peer: PeerId) -> bool {
        !self.lagging.contains(&peer) && !self.unreachable.contains_key(&peer)
    }

    /// True if `peer` leads.
    pub fn is_led_by(&self, peer: PeerId) -> bool {
        self.leader.is_some_and(|leader| leader.id == peer)
    }

    /// The members that vote; complete only while no joint change is under way.
    pub fn voters(&self) -> impl Iterator<Item = &Member> {
        self.region.members.iter().filter(|member| member.role == MemberRole::Voter)
    }

    /// True if `peer` votes; see [`ReportedRegion::voters`].
    pub fn is_voter(&self, peer: PeerId) -> bool {
        self.voters().any(|voter| voter.id == peer)
    }
}

/// Why a report was ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// A leader of a later term has reported.
    #[error("a leader of term {known} has reported, this one is of term {term}")]
    OlderTerm {
        /// The report's term.
        term: u64,
        /// The latest term known.
        known: u64,
    },
    /// A newer shape of the region, or of one that overlaps it, is known.
    #[error("a newer shape of the region or of its range is known")]
    OlderShape,
    /// The report contradicts itself.
    #[error("the report's leader is not a member on the store that sent it")]
    WrongLeader,
}

/// All that stores have reported to the leading member.
#[derive(Clone, Debug, PartialEq)]
pub struct Reports {
    since: Millis,
    timeouts: LivenessTimeouts,
    stores: BTreeMap<StoreId, ReportedStore>,
    regions: BTreeMap<RegionId, ReportedRegion>,
}

impl Reports {
    /// No reports yet: the member leads since `since`.
    pub fn new(since: Millis, timeouts: LivenessTimeouts) -> Reports {
        Reports { since, timeouts, stores: BTreeMap::new(), regions: BTreeMap::new() }
    }

    /// Of how many regions a report is known.
    pub fn count(&self) -> usize {
        self.regions.len()
    }

    /// What clients have each region do, by region.
    pub fn loads(&self) -> impl Iterator<Item = (RegionId, Load)> {
        self.regions.iter().map(|(id, region)| (*id, region.load))
    }

    /// Counts every store's time without a heartbeat, and every member's without a message, from
    /// `now` on, because this leader received nothing for a while: its machine was suspended, or
    /// its thread stood still. Until a store's next heartbeat the store counts as one that this
    /// leader has not met.
    pub fn measure_anew(&mut self, now: Millis) {
        self.since = now;
        for store in self.stores.values_mut() {
            store.known_since = now;
            store.last_heartbeat_at = None;
        }
        let reported = self.regions.values_mut();
        reported.flat_map(|region| region.unreachable.values_mut()).for_each(|since| *since = now);
    }

    /// Counts the time without a heartbeat of `store` from `now` on, because the store has just
    /// registered.
    pub fn expect_store(&mut self, now: Millis, store: StoreId) {
        self.store_entry(now, store).known_since = now;
    }

    /// True if `store` sent the heartbeat `id` before the last one that was taken.
    pub fn is_overtaken(&self, store: StoreId, id: HeartbeatId) -> bool {
        let is_before = self.stores.get(&store).is_some_and(|entry| id.is_before(&entry.last_id));
        is_before && !planted(Mutant::OlderHeartbeat)
    }

    /// Takes over the figures of the heartbeat `id`. `is_full`: its reports name every region that
    /// the store leads.
    pub fn heartbeat(
        &mut self,
        now: Millis,
        store: StoreId,
        id: HeartbeatId,
        usage: StoreUsage,
        is_full: bool,
    ) {
        let entry = self.store_entry(now, store);
        entry.take(now, id);
        entry.usage = usage;
        if is_full {
            entry.last_full_at = Some(now);
            entry.has_more = false;
        }
    }

    fn store_entry(&mut self, now: Millis, store: StoreId) -> &mut ReportedStore {
        self.stores.entry(store).or_insert(ReportedStore {
            known_since: now,
            last_heartbeat_at: None,
            last_full_at: None,
            last_id: HeartbeatId::default(),
            has_stopped: false,
            named: None,
            has_more: false,
            usage: StoreUsage::default(),
            tombstoned: BTreeSet::new(),
        })
    }

    /// The heartbeat `id` says that `store` stops in good order. It is disconnected at once, and
    /// down no sooner than if it had been killed.
    pub fn note_stopped(&mut self, now: Millis, store: StoreId, id: HeartbeatId) {
        let entry = self.store_entry(now, store);
        entry.take(now, id);
        entry.has_stopped = !planted(Mutant::StopUnheard);
        entry.usage.load = None;
    }

    /// True if the last heartbeat of `store` said that the store stops.
    pub fn has_stopped(&self, store: StoreId) -> bool {
        self.stores.get(&store).is_some_and(|entry| entry.has_stopped)
    }

    /// Takes over which peers `store` says never live there again, in place of what it said before.
    pub fn note_tombstoned(&mut self, now: Millis, store: StoreId, peers: Vec<TombstonedPeer>) {
        self.store_entry(now, store).tombstoned = peers.into_iter().collect();
    }

    /// Takes over a region's report, which its leader on `store` has sent.
    pub fn report(&mut self, store: StoreId, report: ReportedRegion) -> Result<(), ReportError> {
        let leader = report.leader.ok_or(ReportError::WrongLeader)?;
        let member = report.region.member_on(store).map(|member| member.id);
        if leader.store_id != store || member != Some(leader.id) {
            return Err(ReportError::WrongLeader);
        }
        let mut report = report;
        report.process = self.process(store);
        if planted(Mutant::ReportOlderTerm) {
            self.regions.insert(report.region.id, report);
            return Ok(());
        }
        if let Some(known) = self.regions.get(&report.region.id) {
            let is_same_term = report.term == known.term;
            let is_other_leader = known.leader.is_some_and(|known| known.id != leader.id);
            if report.term < known.term || (is_same_term && is_other_leader) {
                return Err(ReportError::OlderTerm { term: report.term, known: known.term });
            }
            if report.region.epoch.is_behind(&known.region.epoch) {
                return Err(ReportError::OlderShape);
            }
            for (peer, since) in &mut report.unreachable {
                *since = known.unreachable.get(peer).copied().unwrap_or(*since);
            }
        }
        self.regions.insert(report.region.id, report);
        Ok(())
    }

    /// A heartbeat of `store` has named these regions, as a full one or as the rest of one. Once
    /// the rest has come, the leaderships of the store that were not named end.
    pub fn named(
        &mut self,
        store: StoreId,
        named: BTreeSet<RegionId>,
        is_full: bool,
        rest_follows: bool,
    ) {
        let Some(entry) = self.stores.get_mut(&store) else { return };
        let earlier = if is_full { Some(BTreeSet::new()) } else { entry.named.take() };
        let Some(mut all) = earlier else { return };
        all.extend(named);
        if rest_follows && !planted(Mutant::RestForgotten) {
            entry.named = Some(all);
        } else {
            self.forget_other_leaders(store, &all);
        }
    }

    fn forget_other_leaders(&mut self, store: StoreId, led: &BTreeSet<RegionId>) {
        for (id, region) in &mut self.regions {
            if region.leader.is_some_and(|leader| leader.store_id == store) && !led.contains(id) {
                region.leader = None;
            }
        }
    }

    /// Asks stores that hold peers of regions without a known leader for another full heartbeat,
    /// every `FULL_AGAIN_MS`, because the report of a new leader may have been lost; and those that
    /// have reported what could not be taken over.
    pub fn ask_again(&mut self, leaderless: &BTreeSet<StoreId>, now: Millis) {
        for (store, entry) in &mut self.stores {
            let is_old = entry.last_full_at.is_some_and(|at| now.since(at) > FULL_AGAIN_MS);
            if is_old && (entry.has_more || leaderless.contains(store)) {
                entry.last_full_at = None;
            }
        }
    }

    /// Asks the store for another full heartbeat after a while.
    pub fn ask_full_later(&mut self, store: StoreId) {
        if let Some(entry) = self.stores.get_mut(&store) {
            entry.has_more = true;
        }
    }

    /// Asks the store for another full heartbeat.
    pub fn ask_full(&mut self, store: StoreId) {
        if let Some(entry) = self.stores.get_mut(&store) {
            entry.last_full_at = None;
        }
    }

    /// True if `store` has yet to send a full heartbeat to this leader.
    pub fn needs_full(&self, store: StoreId) -> bool {
        self.stores.get(&store).is_none_or(|entry| entry.last_full_at.is_none())
    }

    /// When the last heartbeat of `store` arrived; None if none has reached this leader.
    pub fn last_heartbeat_at(&self, store: StoreId) -> Option<Millis> {
        self.stores.get(&store)?.last_heartbeat_at
    }

    /// The process of `store` that sent the last heartbeat; 0 if none has reached this leader.
    pub fn process(&self, store: StoreId) -> u64 {
        self.stores.get(&store).map(|entry| entry.last_id.process).unwrap_or_default()
    }

    /// What `store` last said of itself; zeros if it has said nothing to this leader.
    pub fn usage(&self, store: StoreId) -> StoreUsage {
        self.stores.get(&store).map(|entry| entry.usage).unwrap_or_default()
    }

    /// How long `store` has sent no heartbeat. Without a heartbeat to this leader, the time counts
    /// from the moment at which one could have arrived first.
    pub fn silent_ms(&self, store: StoreId, now: Millis) -> u64 {
        self.silent_since(self.stores.get(&store), now)
    }

    fn silent_since(&self, entry: Option<&ReportedStore>, now: Millis) -> u64 {
        let last = entry.map_or(self.since, |e| e.last_heartbeat_at.unwrap_or(e.known_since));
        now.since(last)
    }

    /// Whether `store` answers, by [`Reports::silent_ms`].
    pub fn liveness(&self, store: StoreId, now: Millis) -> Liveness {
        let entry = self.stores.get(&store);
        let since_heartbeat_ms = self.silent_since(entry, now);
        let has_stopped = entry.is_some_and(|entry| entry.has_stopped);
        if since_heartbeat_ms > self.timeouts.down_after_ms {
            Liveness::Down
        } else if has_stopped || since_heartbeat_ms > self.timeouts.disconnected_after_ms {
            Liveness::Disconnected
        } else {
            Liveness::Up
        }
    }

    /// True if the last heartbeat of the member's store says that the member never lives there
    /// again.
    pub fn is_tombstoned(&self, region: RegionId, member: &Member) -> bool {
        let peer = TombstonedPeer { region_id: region, peer_id: member.id };
        self.stores.get(&member.store_id).is_some_and(|store| store.tombstoned.contains(&peer))
    }

    /// True if `store` has sent this leader a heartbeat lately: peers and leaders may go there.
    pub fn is_connected(&self, store: StoreId, now: Millis) -> bool {
        self.last_heartbeat_at(store).is_some() && self.liveness(store, now) == Liveness::Up
    }

    /// The region's last report.
    pub fn region(&self, id: RegionId) -> Option<&ReportedRegion> {
        self.regions.get(&id)
    }

    /// The region's last report, if its leader is known and the leader's store is connected.
    pub fn connected_region(&self, id: RegionId, now: Millis) -> Option<&ReportedRegion> {
        let region = self.regions.get(&id)?;
        self.is_connected(region.leader?.store_id, now).then_some(region)
    }

    /// Checks the invariants of the region's report.
    ///
    /// # Panics
    /// If the leader that the report names is no member of the reported region.
    pub fn check(&self, id: RegionId) {
        let Some(reported) = self.regions.get(&id) else { return };
        assert_eq!(reported.region.id, id, "the report of region {id} is another region's");
        if let Some(leader) = reported.leader {
            let member = reported.region.member_on(leader.store_id).map(|member| member.id);
            assert_eq!(member, Some(leader.id), "the leader of region {id} is no member");
        }
    }
}

#[cfg(test)]
mod tests {
    use flotilla_types::{Epoch, KeyRange};

    use super::*;

    const TIMEOUTS: LivenessTimeouts =
        LivenessTimeouts { disconnected_after_ms: 10_000, down_after_ms: 60_000 };

    fn report(term: u64, conf_ver: u64, leader: u64) -> ReportedRegion {
        let peers: Vec<Member> =
            (1..=3).map(|n| Member::voter(PeerId(10 + n), StoreId(n))).collect();
        ReportedRegion {
            leader: peers.iter().find(|peer| peer.store_id == StoreId(leader)).copied(),
            region: Region {
                id: RegionId(7),
                range: KeyRange::all(),
                epoch: Epoch { conf_ver, version: 1 },
                members: peers,
            },
            term,
            ..ReportedRegion::default()
        }
    }

    #[test]
    fn an_older_term_never_replaces_a_newer_one() {
        let mut reports = Reports::new(Millis(0), TIMEOUTS);
        assert_eq!(reports.report(StoreId(2), report(5, 3, 2)), Ok(()));
        let stale = reports.report(StoreId(1), report(4, 3, 1));
        assert_eq!(stale, Err(ReportError::OlderTerm { term: 4, known: 5 }));
        let twin = reports.report(StoreId(1), report(5, 3, 1));
        assert_eq!(
            twin,
            Err(ReportError::OlderTerm { term: 5, known: 5 }),
            "one leader for each term"
        );
        let behind = reports.report(StoreId(1), report(6, 2, 1));
        assert_eq!(behind, Err(ReportError::OlderShape));
        assert_eq!(
            reports.report(StoreId(1), report(6, 3, 2)),
            Err(ReportError::WrongLeader),
            "another store"
        );
        assert!(reports.region(RegionId(7)).is_some_and(|region| region.is_led_by(PeerId(12))));
    }

    #[test]
    fn a_store_that_stops_is_disconnected_at_once_and_down_no_sooner() {
        let mut reports = Reports::new(Millis(0), TIMEOUTS);
        reports.note_stopped(Millis(1_000), StoreId(1), HeartbeatId { process: 4, number: 9 });
        assert_eq!(reports.liveness(StoreId(1), Millis(1_000)), Liveness::Disconnected);
        assert_eq!(reports.liveness(StoreId(1), Millis(61_000)), Liveness::Disconnected);
        assert_eq!(reports.liveness(StoreId(1), Millis(61_001)), Liveness::Down);
        let late = HeartbeatId { process: 4, number: 8 };
        assert!(reports.is_overtaken(StoreId(1), late), "what it sent before comes too late");
        let id = HeartbeatId { process: 5, number: 1 };
        reports.heartbeat(Millis(70_000), StoreId(1), id, StoreUsage::default(), false);
        assert_eq!(reports.liveness(StoreId(1), Millis(70_000)), Liveness::Up);
    }

    #[test]
    fn a_heartbeat_that_its_process_sent_earlier_is_overtaken() {
        let mut reports = Reports::new(Millis(0), TIMEOUTS);
        let id = |process, number| HeartbeatId { process, number };
        let mut take = |id| {
            let is_overtaken = reports.is_overtaken(StoreId(1), id);
            if !is_overtaken {
                reports.heartbeat(Millis(9), StoreId(1), id, StoreUsage::default(), true);
            }
            (is_overtaken, reports.needs_full(StoreId(1)))
        };
        assert_eq!(take(id(5, 1)), (false, false));
        assert_eq!(take(id(5, 3)), (false, false));
        assert_eq!(take(id(5, 2)), (true, false));
        assert_eq!(take(id(5, 3)), (false, false), "a copy of the last one says nothing older");
        assert_eq!(take(id(4, 9)), (false, false), "full itself");
    }

    #[test]
    fn a_heartbeat_of_another_process_is_followed_by_a_full_one() {
        let mut reports = Reports::new(Millis(0), TIMEOUTS);
        let mut take = |process, is_full| {
            let id = HeartbeatId { process, number: 1 };
            reports.heartbeat(Millis(9), StoreId(1), id, StoreUsage::default(), is_full);
            reports.needs_full(StoreId(1))
        };
        assert!(!take(5, true));
        assert!(take(6, false), "which of them was sent later is not known");
    }

    #[test]
    fn a_member_is_unreachable_since_the_first_report_of_it() {
        let mut reports = Reports::new(Millis(0), TIMEOUTS);
        for at in [100, 200] {
            let mut unreachable = report(5, 3, 2);
            unreachable.unreachable.insert(PeerId(13), Millis(at));
            reports.report(StoreId(2), unreachable).expect("not stale");
        }
        let region = reports.region(RegionId(7)).expect("reported");
        assert_eq!(region.unreachable.get(&PeerId(13)), Some(&Millis(100)));
    }

    #[test]
    fn a_full_heartbeat_ends_the_leaderships_that_it_does_not_name() {
        let leads =
            |reports: &Reports| reports.region(RegionId(7)).expect("reported").leader.is_some();
        let mut reports = Reports::new(Millis(0), TIMEOUTS);
        reports.report(StoreId(2), report(5, 3, 2)).expect("not stale");
        let usage = StoreUsage::default();
        for store in [StoreId(1), StoreId(2)] {
            reports.heartbeat(Millis(9), store, HeartbeatId::default(), usage, true);
        }
        reports.named(StoreId(1), BTreeSet::new(), true, false);
        assert!(leads(&reports));
        reports.named(StoreId(2), BTreeSet::from([RegionId(8)]), true, true);
        reports.named(StoreId(2), BTreeSet::from([RegionId(7)]), false, false);
        assert!(leads(&reports), "named");
        reports.named(StoreId(2), BTreeSet::new(), false, false);
        assert!(leads(&reports), "news");
        reports.named(StoreId(2), BTreeSet::new(), true, false);
        assert!(!leads(&reports));
    }

    #[test]
    fn time_without_heartbeats_makes_a_store_disconnected_and_then_down() {
        let mut reports = Reports::new(Millis(1_000), TIMEOUTS);
        assert_eq!(reports.liveness(StoreId(1), Millis(11_000)), Liveness::Up);
        assert!(
            !reports.is_connected(StoreId(1), Millis(11_000)),
            "no heartbeat has reached this leader yet"
        );
        assert_eq!(reports.liveness(StoreId(1), Millis(11_001)), Liveness::Disconnected);
        let (id, usage) = (HeartbeatId::default(), StoreUsage::default());
        reports.heartbeat(Millis(20_000), StoreId(1), id, usage, false);
        assert!(reports.is_connected(StoreId(1), Millis(20_000)));
        assert!(reports.needs_full(StoreId(1)));
        assert_eq!(reports.liveness(StoreId(1), Millis(80_001)), Liveness::Down);
        reports.expect_store(Millis(500_000), StoreId(2));
        assert_eq!(reports.liveness(StoreId(2), Millis(510_000)), Liveness::Up);
    }
}
