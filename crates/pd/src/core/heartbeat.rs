//! A store's heartbeat: reports in, commands out.
//!
//! 1. The view takes over what is not stale (by term, by epoch, by overlap).
//! 2. Regions whose shape is ahead of the range map are noted, and proposed at the turn's end.
//! 3. Every operator on a region that this store leads is compared with the region's last report,
//!    whether or not this heartbeat mentions it, and its command is sent again.
//! 4. Peers that hear of no leader are told to go if it is proven that they were removed.
//!
//! The reply does not wait for 2: the view serves until it is committed, and reports of a leader
//! that loses its place are asked for anew.

use std::collections::BTreeSet;

use flotilla_types::{Epoch, Millis, PeerId, Region, RegionId, StoreId, proto};
use proto::pd_reply::Result as Answer;
use proto::region_command::Step as Wire;

use crate::core::command::Command;
use crate::core::io::{Event, Output, RequestId};
use crate::core::operator::{Draft, Next, Operator};
use crate::core::pd::{ID_BLOCK, Pd};
use crate::core::records::StoreMode;
use crate::core::reply::no_store;
use crate::core::state::{Refusal, State};
use crate::core::view::{RegionView, Stale, StoreLoad};
use crate::core::waiting::Waiter;

/// A store with fewer ids left is given a new block: time for one more heartbeat is enough.
const IDS_LEFT_LOW: u64 = 300;

impl Pd {
    pub(crate) fn heartbeat(&mut self, now: Millis, id: RequestId, beat: proto::StoreHeartbeat) {
        let store = StoreId(beat.store_id);
        match self.state.store(store).map(|record| record.mode) {
            None => return self.answer(id, Err(no_store(store))),
            Some(StoreMode::Removed) => {
                return self.answer(id, Err(Refusal::RemovedStore(store).into()));
            }
            Some(StoreMode::Up | StoreMode::Draining) => {}
        }
        self.take_reports(now, &beat);
        let commands = self.commands_for(store, &beat.leaderless);
        let Some(leading) = &self.leading else { return };
        let timing = &self.config.timing;
        let is_planning = leading.next_plan <= now.plus(timing.plan_ms);
        let is_busy = is_planning
            || leading.has_unled
            || !leading.operators.is_empty()
            || self.state.awaits_first_region();
        let reply = proto::HeartbeatReply {
            commands,
            ids: None,
            need_full: leading.view.needs_full(store),
            next_heartbeat_ms: if is_busy { timing.busy_heartbeat_ms } else { timing.heartbeat_ms },
            stores: store_addrs(&self.state),
            term: leading.term,
        };
        if beat.ids_left < IDS_LEFT_LOW {
            let waiter = Waiter::HeartbeatIds { id, reply: Box::new(reply) };
            self.propose(&Command::TakeIds { count: ID_BLOCK }, waiter);
        } else {
            self.answer(id, Ok(Answer::Heartbeat(reply)));
        }
    }

    fn take_reports(&mut self, now: Millis, beat: &proto::StoreHeartbeat) {
        let store = StoreId(beat.store_id);
        let load = StoreLoad { used_bytes: beat.used_bytes, capacity_bytes: beat.capacity_bytes };
        let Some(leading) = &mut self.leading else { return };
        // One that was asked for by an earlier leader may be late, and the store believe that what
        // changed since is known: it was, to that leader.
        let is_full = beat.full && beat.asked_in_term == leading.term;
        leading.view.heartbeat(now, store, load, is_full);
        let mut named = BTreeSet::new();
        for report in &beat.reports {
            let region = RegionId(report.region.as_ref().map_or(0, |region| region.id));
            named.insert(region);
            if let Err(reason) = self.take_report(now, store, report) {
                self.emit(Output::Event(Event::ReportIgnored { store, region, reason }));
            }
        }
        if let Some(leading) = self.leading.as_mut().filter(|_| is_full) {
            leading.view.forget_other_leaders(store, &named);
        }
    }

    fn take_report(
        &mut self,
        now: Millis,
        store: StoreId,
        report: &proto::RegionReport,
    ) -> Result<(), String> {
        let report = region_view(now, report).map_err(|error| error.to_string())?;
        let region = report.region.id;
        if !self.state.admits(&report.region) {
            return Err(Stale::Epoch.to_string());
        }
        let is_changed = self.state.regions().region(region) != Some(&report.region);
        let Some(leading) = &mut self.leading else { return Ok(()) };
        leading.view.report(store, report).map_err(|stale| stale.to_string())?;
        if is_changed {
            leading.note_change(region);
            leading.next_plan = leading.next_plan.min(now.plus(self.config.timing.plan_ms));
        }
        Ok(())
    }

    fn commands_for(
        &mut self,
        store: StoreId,
        leaderless: &[proto::LeaderlessPeer],
    ) -> Vec<proto::RegionCommand> {
        let Some(leading) = &mut self.leading else { return vec![] };
        let mut commands = vec![];
        let mut ended: Vec<(RegionId, &'static str)> = vec![];
        for operator in leading.operators.iter_mut() {
            let Some(report) = leading.view.region(operator.region) else { continue };
            if report.leader.is_none_or(|leader| leader.store_id != store) {
                continue;
            }
            match operator.next_step(report) {
                Next::Send(command) => commands.push(command),
                Next::Wait => {}
                Next::Done => ended.push((operator.region, "done")),
                Next::Obsolete(reason) => ended.push((operator.region, reason)),
            }
        }
        commands.extend(leaderless.iter().filter_map(|peer| self.destroy(peer)));
        for (region, outcome) in ended {
            self.end_operator(region, outcome);
        }
        commands
    }

    /// The command by which a peer that was removed goes; None unless the removal is proven: the
    /// peer was a member as of its own epoch, a later membership is committed, and it is not in
    /// it. Peer ids are never used again, so it will not be in a later one.
    ///
    /// A peer whose epoch is 0 (it waits for its first snapshot) may have been added after what
    /// is known here, so nothing is proven about it.
    fn destroy(&self, peer: &proto::LeaderlessPeer) -> Option<proto::RegionCommand> {
        let known = self.state.regions().region(RegionId(peer.region_id))?;
        let epoch = Epoch::from(peer.epoch?);
        let is_member = |region: &Region| region.member(PeerId(peer.peer_id)).is_some();
        let is_reported = self
            .leading
            .as_ref()
            .and_then(|leading| leading.view.region(known.id))
            .is_some_and(|report| is_member(&report.region));
        let is_later = epoch.conf_ver > 0 && known.epoch.conf_ver > epoch.conf_ver;
        if !is_later || is_member(known) || is_reported {
            return None;
        }
        Some(proto::RegionCommand {
            region_id: known.id.0,
            epoch: Some(known.epoch.into()),
            step: Some(Wire::DestroyPeer(proto::DestroyPeerStep { peer_id: peer.peer_id })),
        })
    }

    pub(crate) fn end_operator(&mut self, region: RegionId, outcome: &'static str) {
        let Some(leading) = &mut self.leading else { return };
        if let Some(operator) = leading.operators.finish(region) {
            // What comes next for the region should not wait for the next interval.
            leading.next_plan = Millis::default();
            self.note_end(&operator, outcome);
        }
    }

    pub(crate) fn note_end(&mut self, operator: &Operator, outcome: &'static str) {
        let (id, region) = (operator.id, operator.region);
        self.emit(Output::Event(Event::OperatorEnded { id, region, outcome }));
    }

    /// Starts what the plan says. Without ids it is planned again later.
    pub(crate) fn start_planned(&mut self, now: Millis, draft: Draft) {
        let Some(leading) = &mut self.leading else { return };
        let Some(version) =
            leading.view.region(draft.region).map(|report| report.region.epoch.version)
        else {
            return;
        };
        let Some(ids) = leading.ids.take(self.state.next_id()) else { return };
        let operator = Operator::start(draft, ids, version, now);
        let event = Event::OperatorStarted {
            id: operator.id,
            region: operator.region,
            name: operator.name(),
        };
        // The plan leaves regions with operators alone, so there is no conflict.
        if leading.operators.start(operator).is_ok() {
            self.emit(Output::Event(event));
        }
    }
}

/// Where the stores that were not removed listen.
pub(crate) fn store_addrs(state: &State) -> Vec<proto::StoreAddr> {
    state
        .stores()
        .filter(|store| store.mode != StoreMode::Removed)
        .map(|store| proto::StoreAddr { store_id: store.id.0, addr: store.addr.clone() })
        .collect()
}

fn region_view(
    now: Millis,
    report: &proto::RegionReport,
) -> Result<RegionView, flotilla_types::WireError> {
    let region =
        report.region.clone().ok_or(flotilla_types::WireError::Missing("report.region"))?;
    Ok(RegionView {
        region: Region::try_from(region)?,
        leader: report.leader.map(Into::into),
        term: report.term,
        approximate_bytes: report.approximate_bytes,
        approximate_keys: report.approximate_keys,
        lagging: report.lagging_peer_ids.iter().copied().map(PeerId).collect(),
        silent: report.silent_peer_ids.iter().map(|id| (PeerId(*id), now)).collect(),
    })
}
