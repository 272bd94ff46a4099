//! What the placement driver is told: one heartbeat at a time, with what changed since the last
//! one that was acknowledged.
//!
//! Leaders report their regions. A report counts as known when the heartbeat that carried it is
//! answered; it is repeated if the heartbeat is not. A placement driver that knows nothing asks for
//! a full heartbeat: then all regions are reported, over several heartbeats if there are many.
//!
//! How much clients have a region do is news only when it has changed by much, so a report tells it
//! roughly. A quiescent region is looked at for that only until its load is told as none.
//!
//! A store that stops in good order says so in its last heartbeat.
//!
//! Every heartbeat also names the peers here that have had no leader for long, and the removed ones
//! that members of their regions still write to.
//!
//! Not here: what the placement driver asks for in its reply ([`super::command`]).

use std::collections::{BTreeMap, BTreeSet};

use flotilla_types::heartbeat::{
    HeartbeatId, HeartbeatReply, LeaderlessPeer, RegionReport, StoreHeartbeat, StoreUsage,
};
use flotilla_types::load::{Load, StoreLoad};
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::region::region_bytes;
use flotilla_types::{Millis, PeerId, RegionId};

use super::Output;
use super::context::Context;
use super::limits::{ReportLimits, StoreLimits};
use super::load::LoadMeter;
use super::peer::Peer;
use super::regions::Regions;
use super::split::Ids;

/// The interval without news, unless the placement driver asks for another.
const INTERVAL_MS: u64 = 1_000;

/// News waits this long for more news.
const NEWS_MS: u64 = 50;

/// A heartbeat that was not answered for this long is given up.
const ANSWER_MS_MAX: u64 = 5_000;

/// A size is reported when it has changed by more than a sixteenth.
const SIZE_STEP: u64 = 16;

/// A store's load is told as a rate over this time at least: a little less than from one heartbeat
/// to the next, if there is no news.
const LOAD_PERIOD_MS: u64 = 900;

/// A region's load is reported when it has changed by more than half, and by more than this: less
/// is nothing that a region would be moved or cut for.
const LOAD_STEP: Load = Load { reads: 16, read_bytes: 65_536, writes: 16, written_bytes: 65_536 };

/// A peer without a message of its leader for this long asks whether it was removed.
const LEADERLESS_MS: u64 = 10_000;

/// A quiescent follower believes in its leader for as long as the leader's store lives. Whoever
/// removed it may have told it in vain, so some of them, in turn, ask in each heartbeat.
const QUIESCENT_ASKED: usize = 16;

/// The most peers that are looked at for those.
const QUIESCENT_LOOKED_AT: usize = 64;

/// A member that is further behind than this many entries can be neither promoted nor led by.
const LAGGING_ENTRIES: u64 = 256;

/// Bytes of a report on the wire besides its region and its lists: nine numbers and the leader.
const REPORT_BYTES: usize = 140;

/// The most bytes that an id takes on the wire.
const ID_BYTES: usize = 10;

/// What was told of load.
struct ToldLoad {
    /// The regions whose load was told, and not as none.
    regions: BTreeSet<RegionId>,
    /// The store's.
    meter: LoadMeter,
}

/// When to report, and what was reported.
pub struct Reporter {
    limits: ReportLimits,
    unreachable_ms: u64,
    next: Millis,
    sent: Option<Millis>,
    /// The number of the last heartbeat.
    number: u64,
    is_full_due: bool,
    /// The term of the placement driver's leader that last asked for a full heartbeat.
    asked_in_term: u64,
    has_news: bool,
    unconfirmed: Vec<RegionReport>,
    confirmed: BTreeMap<RegionId, RegionReport>,
    /// Quiescent regions of which the placement driver may not know how they are.
    unreported: BTreeSet<RegionId>,
    load: ToldLoad,
    /// Where the next heartbeat begins: the first region that the last one had no room for.
    /// Beginning with the same region each time would leave out the last regions for ever.
    begin_at: RegionId,
    /// The last leaderless region that was named, if there was no room for all of them.
    named_last: RegionId,
    /// The last region that was looked at for a quiescent follower.
    asked_last: RegionId,
}

impl Reporter {
    /// A store that has just started: a full heartbeat is due at once.
    pub fn new(now: Millis, limits: &StoreLimits) -> Reporter {
        Reporter {
            limits: limits.reports,
            unreachable_ms: limits.unreachable_ms,
            next: now,
            sent: None,
            number: 0,
            is_full_due: true,
            asked_in_term: 0,
            has_news: false,
            unconfirmed: vec![],
            confirmed: BTreeMap::new(),
            unreported: BTreeSet::new(),
            load: ToldLoad { regions: BTreeSet::new(), meter: LoadMeter::new(now, LOAD_PERIOD_MS) },
            begin_at: RegionId(0),
            named_last: RegionId(0),
            asked_last: RegionId(0),
        }
    }

    /// Something changed that the placement driver should know soon.
    pub fn note_change(&mut self) {
        self.has_news = true;
    }

    /// The region's peer was removed, or leads no more: the region is not reported from here.
    pub fn forget(&mut self, region: RegionId) {
        self.confirmed.remove(&region);
        self.unreported.remove(&region);
        self.load.regions.remove(&region);
    }

    /// The placement driver answered the heartbeat; None if it did not.
    pub fn on_reply(&mut self, now: Millis, reply: Option<&HeartbeatReply>) {
        self.sent = None;
        let reports = std::mem::take(&mut self.unconfirmed);
        let Some(reply) = reply else {
            // The heartbeat may have been taken or not; another placement driver may lead by now.
            self.is_full_due = true;
            self.next = now.plus(INTERVAL_MS);
            return;
        };
        if reply.needs_full {
            self.is_full_due = true;
            self.asked_in_term = reply.term;
            self.next = now;
            return;
        }
        for report in reports {
            let region = report.region.id;
            if report.load.is_none() || planted(Mutant::LoadStands) {
                self.load.regions.remove(&region);
            } else {
                self.load.regions.insert(region);
            }
            self.confirmed.insert(report.region.id, report);
        }
        let interval_ms =
            if reply.next_heartbeat_ms == 0 { INTERVAL_MS } else { reply.next_heartbeat_ms };
        self.next = now.plus(interval_ms);
        if self.has_news {
            self.next = now.plus(NEWS_MS);
        }
    }

    fn is_due(&mut self, now: Millis) -> bool {
        if let Some(sent) = self.sent {
            if now.since(sent) < ANSWER_MS_MAX {
                return false;
            }
            self.on_reply(now, None);
        }
        if self.has_news {
            self.next = self.next.min(now.plus(NEWS_MS));
        }
        now >= self.next
    }

    /// A quiescent region is reported once more: the placement driver may not know how it is.
    pub fn note_quiescent(&mut self, region: RegionId) {
        self.unreported.insert(region);
    }

    /// Sends a heartbeat if one is due. `ids` is what the store has left of its block of ids.
    pub fn heartbeat_if_due(&mut self, cx: &mut Context, ids: &Ids) {
        let now = cx.shared.now;
        if !self.is_due(now) {
            return;
        }
        let is_full = std::mem::take(&mut self.is_full_due);
        if is_full {
            self.confirmed.clear();
            self.unreported = cx.regions.quiescent().collect();
        }
        let reports = self.collect(&mut cx.regions, now);
        let rest_follows = self.has_news;
        self.sent = Some(now);
        self.number += 1;
        self.unconfirmed = reports.clone();
        cx.turn.out.push(Output::Heartbeat(StoreHeartbeat {
            store_id: cx.shared.store(),
            id: HeartbeatId { process: cx.shared.config.seed, number: self.number },
            is_full,
            rest_follows,
            asked_in_term: if is_full { self.asked_in_term } else { 0 },
            reports,
            unreadable_reports: 0,
            leaderless: self.leaderless(&cx.regions, now),
            tombstoned: cx.tombstones.addressed(now),
            usage: StoreUsage { load: Some(self.store_load(cx)), ..usage(cx) },
            ids_left: ids.left(),
            highest_id: if is_full { cx.highest_id().max(ids.last()) } else { 0 },
            is_stopping: false,
        }));
    }

    /// Sends the last heartbeat of this process, whether or not the one before was answered: the
    /// store stops.
    pub fn stop(&mut self, cx: &mut Context) {
        self.number += 1;
        cx.turn.out.push(Output::Heartbeat(StoreHeartbeat {
            store_id: cx.shared.store(),
            id: HeartbeatId { process: cx.shared.config.seed, number: self.number },
            usage: usage(cx),
            is_stopping: true,
            ..StoreHeartbeat::default()
        }));
    }

    /// The reports of regions led from here that say something new, at most as many as a heartbeat
    /// takes. There is news left if there are more. Quiescent regions that were reported since they
    /// became quiescent are as they were then, so they are not looked at.
    pub fn collect(&mut self, regions: &mut Regions, now: Millis) -> Vec<RegionReport> {
        let mut reports: Vec<RegionReport> = vec![];
        let mut bytes = 0;
        self.has_news = false;
        let news = self.unreported.union(&self.load.regions).copied().collect();
        let mut candidates: Vec<RegionId> = regions.active().union(&news).copied().collect();
        let first = candidates.partition_point(|region| *region < self.begin_at);
        candidates.rotate_left(first);
        self.begin_at = RegionId(0);
        for region in candidates {
            let leader = regions.get_mut(region).filter(|p| p.has_state() && p.is_leader());
            let Some(leader) = leader else {
                self.forget(region);
                continue;
            };
            let report = report(leader, now, self.unreachable_ms);
            if self.confirmed.get(&region).is_some_and(|known| !is_news(known, &report)) {
                self.unreported.remove(&region);
                continue;
            }
            bytes += report_bytes(&report);
            let is_heavy = bytes > self.limits.reports_bytes_max && !reports.is_empty();
            if reports.len() >= self.limits.reports_max
                || (is_heavy && !planted(Mutant::ReportsUnweighed))
            {
                if planted(Mutant::CutOffReported) {
                    self.confirmed.insert(region, report);
                    continue;
                }
                self.has_news = true;
                self.begin_at = region;
                break;
            }
            reports.push(report);
        }
        reports
    }

    /// What clients have the store do. How long that takes is added by the driver.
    fn store_load(&mut self, cx: &Context) -> StoreLoad {
        let total = cx.shared.load.total();
        let per_second = self.load.meter.look(cx.shared.now, total);
        StoreLoad { total, per_second, ..StoreLoad::default() }
    }

    /// The peers that ask whether they were removed, at most as many as a heartbeat takes.
    fn leaderless(&mut self, regions: &Regions, now: Millis) -> Vec<LeaderlessPeer> {
        let is_leaderless =
            |peer: &&Peer| now.since(peer.contacts.leader_seen_at()) >= LEADERLESS_MS;
        let mut peers: Vec<LeaderlessPeer> =
            regions.active_peers().filter(is_leaderless).map(leaderless).collect();
        if peers.len() > self.limits.reports_max {
            let first = peers.partition_point(|peer| peer.region_id <= self.named_last);
            peers.rotate_left(first);
            peers.truncate(self.limits.reports_max);
            self.named_last = peers.last().map_or(RegionId(0), |peer| peer.region_id);
        }
        let room = self.limits.reports_max.saturating_sub(peers.len()).min(QUIESCENT_ASKED);
        if !planted(Mutant::QuiescentUnasked) {
            peers.extend(self.quiescent(regions, room));
        }
        peers
    }

    /// The next `count` quiescent followers, or fewer. They begin anew after the last one.
    fn quiescent(&mut self, regions: &Regions, count: usize) -> Vec<LeaderlessPeer> {
        let (mut peers, mut looked_at) = (vec![], 0);
        for peer in regions.after(self.asked_last).take(QUIESCENT_LOOKED_AT) {
            if peers.len() == count {
                return peers;
            }
            (self.asked_last, looked_at) = (peer.region.id, looked_at + 1);
            if peer.is_quiescent() && !peer.is_leader() {
                peers.push(leaderless(peer));
            }
        }
        if looked_at < QUIESCENT_LOOKED_AT {
            self.asked_last = RegionId(0);
        }
        peers
    }
}

/// The driver adds the disk's capacity.
fn usage(cx: &Context) -> StoreUsage {
    StoreUsage {
        used_bytes: cx.shared.state.disk_bytes(),
        peer_count: cx.regions.len() as u64,
        ..StoreUsage::default()
    }
}

fn leaderless(peer: &Peer) -> LeaderlessPeer {
    LeaderlessPeer { region_id: peer.region.id, peer_id: peer.id, epoch: peer.known_epoch() }
}

fn report(peer: &mut Peer, now: Millis, unreachable_ms: u64) -> RegionReport {
    let progress = peer.group.progress();
    let commit = peer.group.commit_index();
    let truncated = peer.group.truncated().index;
    let ids = |is_meant: &dyn Fn(&flotilla_group::FollowerProgress) -> bool| {
        progress
            .iter()
            .filter(|member| is_meant(member))
            .map(|member| PeerId(member.peer))
            .collect()
    };
    RegionReport {
        region: peer.region.clone(),
        leader: peer.leader(),
        term: peer.group.role().term,
        approximate_bytes: peer.size.bytes,
        approximate_keys: peer.size.keys,
        load: peer.load(now),
        lagging: ids(&|member| {
            let lacks_state = member.needs_snapshot || member.matched < truncated;
            lacks_state || member.matched + LAGGING_ENTRIES < commit
        }),
        unreachable: peer.unreachable_members(now, unreachable_ms),
    }
}

/// About how many bytes a report takes on the wire.
fn report_bytes(report: &RegionReport) -> usize {
    let ids = report.lagging.len() + report.unreachable.len();
    region_bytes(&report.region) + REPORT_BYTES + ID_BYTES * ids
}

fn is_news(known: &RegionReport, report: &RegionReport) -> bool {
    let moved = known.approximate_bytes.abs_diff(report.approximate_bytes);
    let same_size = RegionReport {
        approximate_bytes: report.approximate_bytes,
        approximate_keys: report.approximate_keys,
        load: report.load,
        ..known.clone()
    };
    same_size != *report
        || moved > known.approximate_bytes / SIZE_STEP
        || is_load_news(known.load, report.load)
}

fn is_load_news(known: Load, load: Load) -> bool {
    let differs = |known: u64, load: u64, step: u64| known.abs_diff(load) > step.max(known / 2);
    let has_ended = load.is_none() && !known.is_none();
    has_ended
        || differs(known.reads, load.reads, LOAD_STEP.reads)
        || differs(known.read_bytes, load.read_bytes, LOAD_STEP.read_bytes)
        || differs(known.writes, load.writes, LOAD_STEP.writes)
        || differs(known.written_bytes, load.written_bytes, LOAD_STEP.written_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_change_of_size_is_no_news() {
        let known = RegionReport { approximate_bytes: 1600, term: 3, ..Default::default() };
        let of_bytes = |bytes| RegionReport { approximate_bytes: bytes, ..known.clone() };
        assert!(!is_news(&known, &of_bytes(1700)));
        assert!(is_news(&known, &of_bytes(1701)));
        assert!(is_news(&known, &RegionReport { term: 4, ..known.clone() }));
    }

    #[test]
    fn a_load_is_news_when_it_has_changed_by_much_or_ended() {
        let of_writes = |writes| Load { writes, ..Load::default() };
        let is_news = |known, load| is_load_news(of_writes(known), of_writes(load));
        assert!(!is_news(0, 16) && is_news(0, 17));
        assert!(!is_news(1_000, 1_500) && is_news(1_000, 1_501));
        assert!(!is_news(1_000, 500) && is_news(1_000, 499));
        assert!(is_news(3, 0), "or it would be told for ever");
        assert!(!is_news(0, 0));
    }

    #[test]
    fn an_unanswered_heartbeat_makes_the_next_one_full() {
        let mut reporter = Reporter::new(Millis(0), &StoreLimits::default());
        reporter.is_full_due = false;
        reporter.sent = Some(Millis(0));
        assert!(!reporter.is_due(Millis(4_999)));
        assert!(!reporter.is_due(Millis(5_000)), "given up; the next one is due in an interval");
        assert!(reporter.is_full_due);
        assert!(reporter.is_due(Millis(6_000)));
    }
}
