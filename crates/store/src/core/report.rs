//! What the placement driver is told: one heartbeat at a time, with what changed since the last
//! one that was acknowledged.

use std::collections::BTreeMap;

use flotilla_types::proto::{self, HeartbeatReply, RegionReport, StoreHeartbeat};
use flotilla_types::{Millis, RegionId};

use super::Output;
use super::peer::Peer;
use super::worker::Worker;

/// The interval without news, unless the placement driver asks for another.
const INTERVAL_MS: u64 = 1_000;

/// News waits this long for more news.
const NEWS_MS: u64 = 50;

/// A heartbeat that was not answered for this long is given up.
const ANSWER_MS_MAX: u64 = 5_000;

/// A size is reported when it has changed by more than a sixteenth.
const SIZE_STEP: u64 = 16;

/// A peer that has heard of no leader for this long asks whether it was removed.
const LEADERLESS_MS: u64 = 10_000;

/// A member that is further behind than this many entries can be neither promoted nor led by.
const LAGGING_ENTRIES: u64 = 256;

/// A member that was not heard from for this long is silent: several heartbeats.
const SILENT_MS: u64 = 3_000;

/// Regions in one heartbeat; the rest follow at once. Keeps a message well below its limit.
const REPORTS_MAX: usize = 2_000;

/// When to report, and what was reported.
pub struct Reporter {
    next: Millis,
    sent: Option<Millis>,
    is_full_due: bool,
    /// The term of the placement driver's leader that last asked for a full heartbeat.
    asked_in_term: u64,
    has_news: bool,
    unconfirmed: Vec<RegionReport>,
    confirmed: BTreeMap<RegionId, RegionReport>,
}

impl Reporter {
    pub(super) fn new(now: Millis) -> Reporter {
        Reporter {
            next: now,
            sent: None,
            is_full_due: true,
            asked_in_term: 0,
            has_news: false,
            unconfirmed: vec![],
            confirmed: BTreeMap::new(),
        }
    }

    /// Something changed that the placement driver should know soon.
    pub(super) fn note_change(&mut self) {
        self.has_news = true;
    }

    /// The region's peer is gone.
    pub(super) fn forget(&mut self, region: RegionId) {
        self.confirmed.remove(&region);
    }

    pub(super) fn on_reply(&mut self, now: Millis, reply: Option<&HeartbeatReply>) {
        self.sent = None;
        let reports = std::mem::take(&mut self.unconfirmed);
        let Some(reply) = reply else {
            // It may have been taken or not; another placement driver may lead by now.
            self.is_full_due = true;
            self.next = now.plus(INTERVAL_MS);
            return;
        };
        if reply.need_full {
            self.is_full_due = true;
            self.asked_in_term = reply.term;
            self.next = now;
            return;
        }
        for report in reports {
            let id = RegionId(report.region.as_ref().map_or(0, |region| region.id));
            self.confirmed.insert(id, report);
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
}

impl Worker {
    pub(super) fn heartbeat_if_due(&mut self, out: &mut Vec<Output>) {
        let now = self.shared.now;
        if !self.reporter.is_due(now) {
            return;
        }
        let reporter = &mut self.reporter;
        let quiescence = &mut self.quiescence;
        let is_full = std::mem::take(&mut reporter.is_full_due);
        if is_full {
            reporter.confirmed.clear();
            let at_rest = self.peers.keys().filter(|region| !quiescence.awake.contains(region));
            quiescence.unreported = at_rest.copied().collect();
        }
        // Other regions at rest are as they were when they were last reported.
        let candidates: Vec<RegionId> =
            quiescence.awake.union(&quiescence.unreported).copied().collect();
        let mut reports: Vec<RegionReport> = vec![];
        let mut is_cut_off = false;
        for region in candidates {
            let leader = self.peers.get(&region).filter(|peer| peer.has_state && peer.is_leader());
            let Some(leader) = leader else {
                reporter.confirmed.remove(&region);
                quiescence.unreported.remove(&region);
                continue;
            };
            let report = report(leader, now);
            let known = reporter.confirmed.get(&region);
            if known.is_some_and(|known| !is_news(known, &report)) {
                quiescence.unreported.remove(&region);
                continue;
            }
            is_cut_off = reports.len() >= REPORTS_MAX;
            if is_cut_off {
                break;
            }
            reports.push(report);
        }
        reporter.has_news = is_cut_off;
        reporter.sent = Some(now);
        reporter.unconfirmed = reports.clone();
        let asked_in_term = if is_full { reporter.asked_in_term } else { 0 };
        out.push(Output::Heartbeat(StoreHeartbeat {
            store_id: self.shared.store.0,
            full: is_full,
            asked_in_term,
            reports,
            leaderless: self.leaderless(),
            used_bytes: self.shared.state.disk_bytes(),
            capacity_bytes: 0,
            peer_count: self.peers.len() as u64,
            ids_left: self.ids.left(),
        }));
    }

    fn leaderless(&self) -> Vec<proto::LeaderlessPeer> {
        let now = self.shared.now;
        self.quiescence
            .awake
            .iter()
            .filter_map(|region| self.peers.get(region))
            .filter(|peer| now.since(peer.leader_seen) >= LEADERLESS_MS)
            .take(REPORTS_MAX)
            .map(|peer| proto::LeaderlessPeer {
                region_id: peer.region.id.0,
                peer_id: peer.id.0,
                epoch: Some(peer.known_epoch().into()),
            })
            .collect()
    }
}

fn report(peer: &Peer, now: Millis) -> RegionReport {
    let silent = peer.silent_members(now, SILENT_MS);
    let progress = peer.group.progress();
    let commit = peer.group.commit_index();
    let truncated = peer.group.truncated().index;
    let ids = |is_meant: &dyn Fn(&flotilla_group::FollowerProgress) -> bool| {
        progress.iter().filter(|member| is_meant(member)).map(|member| member.peer).collect()
    };
    RegionReport {
        region: Some(peer.region.clone().into()),
        leader: peer.leader().map(proto::Member::from),
        term: peer.group.role().term,
        approximate_bytes: peer.size.bytes,
        approximate_keys: peer.size.keys,
        lagging_peer_ids: ids(&|member| {
            let lacks_state = member.needs_snapshot || member.matched < truncated;
            lacks_state || member.matched + LAGGING_ENTRIES < commit
        }),
        silent_peer_ids: silent.into_iter().map(|id| id.0).collect(),
    }
}

fn is_news(known: &RegionReport, report: &RegionReport) -> bool {
    let moved = known.approximate_bytes.abs_diff(report.approximate_bytes);
    let same_size = RegionReport {
        approximate_bytes: report.approximate_bytes,
        approximate_keys: report.approximate_keys,
        ..known.clone()
    };
    same_size != *report || moved > known.approximate_bytes / SIZE_STEP
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
    fn an_unanswered_heartbeat_makes_the_next_one_full() {
        let mut reporter = Reporter::new(Millis(0));
        reporter.is_full_due = false;
        reporter.sent = Some(Millis(0));
        assert!(!reporter.is_due(Millis(4_999)));
        assert!(!reporter.is_due(Millis(5_000)), "given up; the next one is due in an interval");
        assert!(reporter.is_full_due);
        assert!(reporter.is_due(Millis(6_000)));
    }
}
