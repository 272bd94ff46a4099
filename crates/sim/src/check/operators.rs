//! What the placement driver orders, as seen at the placement driver.
//!
//! * No region has two operators at once, no command comes without one, and none ends for taking
//!   too long before its time.
//! * A heartbeat that its store sent before one that was taken is not taken, and no other is
//!   ignored.
//! * A region's report of an earlier term, of another leader of the same term, or of an earlier
//!   epoch than one that was taken is not taken.
//! * A command goes only to the store of the leader that reported last, with the epoch of that
//!   report.
//! * No voter goes for its silence, and none without its replacement. Of what the placement driver
//!   orders by itself: a voter is removed only if there are more than `replica_count`, if its own
//!   store has said that it is lost, or if its store was removed and the number of voters is even.
//!   A voter is replaced only if there are more than `replica_count`, if its own store has said
//!   that it is lost, if its store is draining or removed, or if its store's last heartbeat is
//!   older than the time after which a store is down. What evens the cluster out replaces the voter
//!   that it was begun for.
//! * At most `additions_per_store_max` peers are being added to one store by what the
//!   placement driver plans by itself.
//!
//! A store's registration and a placement driver that stood still make the placement driver wait
//! longer than the last heartbeat says, never shorter; so the rule of silence is sound. What it
//! orders on an administrator's behalf is the administrator's concern.
//!
//! A reply that waits for ids was decided on earlier, so its commands are not looked at. A
//! heartbeat that is answered by an error may have been taken before, so what it says is forgotten.
//!
//! Not here: whether the change that comes of a command leaves a quorum ([`super::changes`]).

use std::collections::{BTreeMap, BTreeSet};

use flotilla_pd::core::operator::{Operator, Origin};
use flotilla_pd::core::records::StoreMode;
use flotilla_pd::core::{Event, Output, Pd, RequestId};
use flotilla_types::heartbeat::{
    HeartbeatId, RegionCommand, RegionReport, Step, StoreHeartbeat, TombstonedPeer,
};
use flotilla_types::placement::PdReply;
use flotilla_types::{Member, MemberRole, Millis, PeerId, Region, RegionId, StoreId};

use super::{Verdict, broken, show};

const SILENCE: &str = "no voter goes for its silence, and none without its replacement";
const OLDER: &str = "the placement driver takes no older report";
const LEADER: &str = "commands go to the leader that reported last";
const ONE: &str = "a region has one operator at once";
const EARLY: &str = "no operator ends before its time";
const CROWD: &str = "few peers are added to one store at once";

/// Who ordered the steps that a region takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderedBy {
    /// The placement driver itself.
    Pd,
    /// An administrator.
    Admin,
    /// An administrator, who wants one more voter.
    AdminToGrow,
    /// The operator has ended meanwhile.
    Unknown,
}

/// The placement driver after a step.
pub struct PdSight<'a> {
    /// Its core.
    pub pd: &'a Pd,
    /// Its clock.
    pub now: Millis,
    /// The age of a store's last heartbeat from which the store is down.
    pub down_after_ms: u64,
    /// The number of voters that each region is to have.
    pub replica_count: u64,
}

/// What one process of a member of the placement driver was told and has ordered.
#[derive(Debug, Default)]
pub struct Operators {
    /// The term in which it leads.
    term: u64,
    running: BTreeMap<RegionId, Running>,
    taken: BTreeMap<RegionId, Taken>,
    heard: BTreeMap<StoreId, Heard>,
    /// Heartbeats that are decided on once the member is confirmed to lead.
    waiting: Vec<(RequestId, StoreHeartbeat)>,
}

#[derive(Debug)]
struct Running {
    id: u64,
    name: String,
    since: Millis,
    /// The voter that another takes the place of, to even the cluster out.
    moved: Option<PeerId>,
}

/// A report that was taken.
#[derive(Debug)]
struct Taken {
    region: Region,
    term: u64,
    /// None once a full heartbeat of its store has not named the region.
    leader: Option<Member>,
}

/// A store's last heartbeat.
#[derive(Debug)]
struct Heard {
    at: Millis,
    id: HeartbeatId,
    /// What a full heartbeat has named so far, while its rest follows.
    named: Option<BTreeSet<RegionId>>,
    tombstoned: BTreeSet<TombstonedPeer>,
}

impl Operators {
    /// Checks a step, in which the placement driver was given `heartbeat`, if it was given one.
    pub fn put_out(
        &mut self,
        sight: &PdSight<'_>,
        heartbeat: Option<&(RequestId, StoreHeartbeat)>,
        outputs: &[Output],
    ) -> Verdict {
        let is_at_once = heartbeat.is_some_and(|(id, _)| {
            // A lone voter confirms itself, behind what has waited for longer.
            let has_waited = outputs.iter().filter_map(decision).any(|decided| decided == *id);
            !has_waited && !sight.pd.awaits_confirmation(*id)
        });
        let mut given = heartbeat.cloned();
        self.waiting.extend(given.take_if(|_| !is_at_once));
        let (mut rest, mut first) = (outputs, 0);
        let next = |rest: &[Output]| rest.iter().position(|output| decision(output).is_some());
        while let Some(at) = rest.get(first..).and_then(next) {
            let (done, later) = rest.split_at(first + at);
            self.decided(sight, given.as_ref(), done)?;
            given = self.take_waiting(later.first());
            (rest, first) = (later, 1);
        }
        self.decided(sight, given.as_ref(), rest)?;
        self.waiting.retain(|(id, _)| sight.pd.awaits_confirmation(*id));
        Ok(())
    }

    /// The heartbeat that waits to be decided on, if this request is one.
    pub fn waits(&self, id: RequestId) -> Option<&StoreHeartbeat> {
        self.waiting.iter().find(|(waiting, _)| *waiting == id).map(|(_, beat)| beat)
    }

    /// The heartbeat that is decided on now, if a heartbeat is.
    fn take_waiting(&mut self, output: Option<&Output>) -> Option<(RequestId, StoreHeartbeat)> {
        let id = output.and_then(decision)?;
        let at = self.waiting.iter().position(|(waiting, _)| *waiting == id)?;
        Some(self.waiting.remove(at))
    }

    /// Checks a part of a step, in which `heartbeat` was decided on, if one was.
    fn decided(
        &mut self,
        sight: &PdSight<'_>,
        heartbeat: Option<&(RequestId, StoreHeartbeat)>,
        outputs: &[Output],
    ) -> Verdict {
        let events = outputs.iter().filter_map(|output| match output {
            Output::Event(event) => Some(event),
            _ => None,
        });
        let mut ignored = BTreeSet::new();
        let (mut has_started, mut is_overtaken) = (false, false);
        for event in events {
            match event {
                Event::LeadershipBegan { term } => {
                    let waiting = std::mem::take(&mut self.waiting);
                    *self = Operators { term: *term, waiting, ..Default::default() }
                }
                Event::HeartbeatOvertaken { .. } => is_overtaken = true,
                Event::ReportIgnored { region, .. } => drop(ignored.insert(*region)),
                Event::OperatorStarted { id, region, name } => {
                    has_started = true;
                    let begun = sight.pd.operators().find(|operator| operator.id == *id);
                    let balances = |operator: &&Operator| operator.origin == Origin::Balance;
                    let moved = begun.filter(balances).and_then(Operator::outgoing);
                    let (id, name, since) = (*id, name.clone(), sight.now);
                    self.started(*region, Running { id, name, since, moved })?;
                }
                Event::OperatorEnded { id, region, outcome } => {
                    self.ended(sight, (*id, *region), outcome)?;
                }
                _ => {}
            }
        }
        if has_started {
            check_additions(sight.pd)?;
        }
        let Some((id, heartbeat)) = heartbeat else { return Ok(()) };
        if is_overtaken {
            return self.ignored(heartbeat);
        }
        let answer = outputs.iter().find_map(|output| match output {
            Output::Reply { id: answered, reply: Ok(PdReply::Heartbeat(reply)) }
                if answered == id =>
            {
                Some(reply)
            }
            _ => None,
        });
        let Some(reply) = answer else {
            let is_refused = outputs.iter().any(
                |output| matches!(output, Output::Reply { id: answered, .. } if answered == id),
            );
            // A member that was removed answers nothing.
            if is_refused || !sight.pd.is_leading() {
                self.forget(heartbeat);
                return Ok(());
            }
            // The reply waits for ids; the heartbeat was taken all the same.
            return self.take(sight.now, heartbeat, &ignored);
        };
        self.take(sight.now, heartbeat, &ignored)?;
        reply.commands.iter().try_for_each(|c| self.commanded(sight, heartbeat.store_id, c))
    }

    /// Who ordered what is under way on the region.
    pub fn ordered_by(&self, region: RegionId) -> OrderedBy {
        match self.running.get(&region) {
            Some(running) if running.name.starts_with("admin") => {
                let grows = running.name.ends_with("add-peer");
                if grows { OrderedBy::AdminToGrow } else { OrderedBy::Admin }
            }
            Some(_) => OrderedBy::Pd,
            None => OrderedBy::Unknown,
        }
    }

    fn started(&mut self, region: RegionId, operator: Running) -> Verdict {
        if let Some(other) = self.running.get(&region) {
            let what = format!("region {region}: {operator:?} besides {other:?}");
            return broken(ONE, what);
        }
        self.running.insert(region, operator);
        Ok(())
    }

    fn ended(
        &mut self,
        sight: &PdSight<'_>,
        (id, region): (u64, RegionId),
        outcome: &str,
    ) -> Verdict {
        let (now, limits) = (sight.now, sight.pd.limits());
        let Some(operator) = self.running.remove(&region).filter(|running| running.id == id) else {
            return broken(ONE, format!("region {region}: operator {id} ends and never began"));
        };
        let is_quick = operator.name.contains("transfer-leader") || operator.name.contains("split");
        let least_ms = if is_quick { limits.quick_operator_ms_max } else { limits.operator_ms_max };
        if outcome == "took too long" && now.since(operator.since) <= least_ms {
            let what = format!("region {region}: {operator:?} {outcome} at {now:?}");
            return broken(EARLY, what);
        }
        Ok(())
    }

    /// A heartbeat was ignored, because a later one of its store was taken.
    fn ignored(&self, heartbeat: &StoreHeartbeat) -> Verdict {
        let last = self.heard.get(&heartbeat.store_id).map(|heard| heard.id);
        if last.is_none_or(|last| heartbeat.id.is_before(&last)) {
            return Ok(());
        }
        let what = format!("store {}: {:?} after {last:?}", heartbeat.store_id, heartbeat.id);
        broken("the placement driver ignores older heartbeats only", what)
    }

    /// A heartbeat was refused, before or after it was taken.
    fn forget(&mut self, heartbeat: &StoreHeartbeat) {
        let store = heartbeat.store_id;
        self.heard.remove(&store);
        self.taken.retain(|_, taken| taken.leader.is_none_or(|leader| leader.store_id != store));
        for report in &heartbeat.reports {
            self.taken.remove(&report.region.id);
        }
    }

    fn take(
        &mut self,
        now: Millis,
        heartbeat: &StoreHeartbeat,
        ignored: &BTreeSet<RegionId>,
    ) -> Verdict {
        let store = heartbeat.store_id;
        let id = heartbeat.id;
        let last = self.heard.remove(&store);
        if let Some(last) = last.as_ref().filter(|last| id.is_before(&last.id)) {
            return broken(OLDER, format!("store {store}: heartbeat {id:?} after {:?}", last.id));
        }
        if heartbeat.is_stopping {
            // It says nothing else, and ends no full heartbeat.
            let (named, tombstoned) = last
                .map(|last| (last.named.filter(|_| last.id.process == id.process), last.tombstoned))
                .unwrap_or_default();
            self.heard.insert(store, Heard { at: now, id, named, tombstoned });
            return Ok(());
        }
        let earlier = match heartbeat.is_full && heartbeat.asked_in_term == self.term {
            true => Some(BTreeSet::new()),
            false => last.filter(|last| last.id.process == id.process).and_then(|last| last.named),
        };
        let named = heartbeat.reports.iter().map(|report| report.region.id);
        let named: Option<BTreeSet<RegionId>> =
            earlier.map(|earlier| earlier.into_iter().chain(named).collect());
        let (named, rest_of) = if heartbeat.rest_follows { (None, named) } else { (named, None) };
        let tombstoned = heartbeat.tombstoned.iter().copied().collect();
        self.heard.insert(store, Heard { at: now, id, tombstoned, named: rest_of });
        for report in &heartbeat.reports {
            if !ignored.contains(&report.region.id) {
                self.take_report(report)?;
            }
        }
        if let Some(named) = named {
            for (id, taken) in &mut self.taken {
                if !named.contains(id) {
                    taken.leader = taken.leader.filter(|leader| leader.store_id != store);
                }
            }
        }
        Ok(())
    }

    fn take_report(&mut self, report: &RegionReport) -> Verdict {
        let RegionReport { region, term, leader, .. } = report;
        let taken = Taken { region: region.clone(), term: *term, leader: *leader };
        let Some(known) = self.taken.insert(region.id, taken) else { return Ok(()) };
        let is_other = known.leader.is_some_and(|known| Some(known.id) != leader.map(|l| l.id));
        let is_older = *term < known.term
            || (*term == known.term && is_other)
            || region.epoch.is_behind(&known.region.epoch);
        if is_older {
            let what = format!("{} of {leader:?} in term {term}, after {known:?}", show(region));
            return broken(OLDER, what);
        }
        Ok(())
    }

    fn commanded(&self, sight: &PdSight<'_>, to: StoreId, command: &RegionCommand) -> Verdict {
        if matches!(command.step, Step::DestroyPeer(_)) {
            return Ok(());
        }
        let region = command.region_id;
        let Some(taken) = self.taken.get(&region) else { return Ok(()) };
        let is_leader = taken.leader.is_some_and(|leader| leader.store_id == to);
        if !is_leader || command.epoch != taken.region.epoch {
            let what = format!("store {to} is told {command:?} after {taken:?}");
            return broken(LEADER, what);
        }
        let Some(running) = self.running.get(&region) else {
            return broken(ONE, format!("{command:?} without an operator"));
        };
        if running.name.starts_with("admin") {
            return Ok(());
        }
        let moved = running.moved;
        match &command.step {
            Step::RemovePeer(peer) => self.removed(sight, &taken.region, *peer),
            Step::ReplaceVoter { removed, .. } if moved == Some(*removed) => Ok(()),
            Step::ReplaceVoter { removed, .. } => self.replaced(sight, &taken.region, *removed),
            Step::AddLearner(_)
            | Step::Promote(_)
            | Step::TransferLeader(_)
            | Step::Split(_)
            | Step::DestroyPeer(_) => Ok(()),
        }
    }

    fn removed(&self, sight: &PdSight<'_>, region: &Region, peer: PeerId) -> Verdict {
        let Some(voter) = voter(region, peer) else { return Ok(()) };
        let count = voters(region);
        let is_removed = mode(sight.pd, voter.store_id) == StoreMode::Removed;
        let is_even = count.is_multiple_of(2);
        if has_spare(sight, region) || self.is_lost(region, voter) || (is_removed && is_even) {
            return Ok(());
        }
        broken(SILENCE, format!("peer {peer} is to be removed from {}", show(region)))
    }

    fn replaced(&self, sight: &PdSight<'_>, region: &Region, peer: PeerId) -> Verdict {
        let Some(voter) = voter(region, peer) else { return Ok(()) };
        let store = voter.store_id;
        let heard = self.heard.get(&store);
        let is_heard = heard.is_some_and(|h| sight.now.since(h.at) <= sight.down_after_ms);
        let is_in_service = mode(sight.pd, store) == StoreMode::Up;
        if has_spare(sight, region) || self.is_lost(region, voter) || !is_in_service || !is_heard {
            return Ok(());
        }
        let what = format!("peer {peer} of {} is to be replaced; {heard:?}", show(region));
        broken(SILENCE, what)
    }

    fn is_lost(&self, region: &Region, member: &Member) -> bool {
        let peer = TombstonedPeer { region_id: region.id, peer_id: member.id };
        self.heard.get(&member.store_id).is_some_and(|heard| heard.tombstoned.contains(&peer))
    }
}

fn voter(region: &Region, peer: PeerId) -> Option<&Member> {
    region.member(peer).filter(|member| member.role == MemberRole::Voter)
}

fn voters(region: &Region) -> usize {
    region.members.iter().filter(|member| member.role == MemberRole::Voter).count()
}

fn has_spare(sight: &PdSight<'_>, region: &Region) -> bool {
    voters(region) as u64 > sight.replica_count
}

fn mode(pd: &Pd, store: StoreId) -> StoreMode {
    pd.state().store(store).map_or(StoreMode::Removed, |store| store.mode)
}

/// The request that is decided on from here, if one is.
fn decision(output: &Output) -> Option<RequestId> {
    match output {
        Output::Event(Event::Decides { id }) => Some(*id),
        _ => None,
    }
}

fn check_additions(pd: &Pd) -> Verdict {
    let most = pd.limits().additions_per_store_max;
    let mut added: BTreeMap<StoreId, u64> = BTreeMap::new();
    let planned = pd.operators().filter(|operator| operator.origin != Origin::Admin);
    for member in planned.filter_map(|operator| operator.new_member()) {
        let count = added.entry(member.store_id).or_default();
        *count += 1;
        if *count > most {
            let what = format!("more than {most} to store {}", member.store_id);
            return broken(CROWD, what);
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "operators_tests.rs"]
mod tests;
