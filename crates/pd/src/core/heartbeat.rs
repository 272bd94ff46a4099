//! A store's heartbeat: reports in, commands out.
//!
//! 0. A heartbeat that its store sent before one that was taken is ignored whole: its sender has
//!    given it up, or it is a second copy.
//!    The last heartbeat of a store that stops in good order says that, and nothing else.
//! 1. The leader takes over each report that is not older than what it knows (by term, by epoch, by
//!    overlap).
//! 2. Regions whose reported shape is ahead of the range map are noted, and proposed at the end of
//!    the turn.
//! 3. An operator whose change has no reason any more ends. Every other operator on a region that
//!    this store leads is compared with the region's last report, whether or not this heartbeat
//!    mentions the region, and the operator's command is sent again.
//! 4. A peer that has no leader is told to destroy itself if its removal is proven.
//!
//! While the range map is empty, the reply tells a store that is to hold the first region of that
//! region, each time: the last reply may have been lost, or the store's process with it.
//!
//! The reply does not wait for step 2: until the shapes are committed, the reports serve, and after
//! a failover the next leader asks for them anew.

use std::collections::BTreeSet;

use flotilla_types::heartbeat::{
    HeartbeatReply, LeaderlessPeer, RegionCommand, RegionReport, Step, StoreAddr, StoreHeartbeat,
};
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::placement::{PdError, PdReply};
use flotilla_types::{Millis, Region, RegionId, StoreId};

use crate::core::check::is_regretted;
use crate::core::command::PdCommand;
use crate::core::context::{Action, LeaderContext};
use crate::core::errors::no_store;
use crate::core::first_region;
use crate::core::ids::NamedIds;
use crate::core::io::{Event, RequestId};
use crate::core::operator_step::Next;
use crate::core::place::StoreView;
use crate::core::records::StoreMode;
use crate::core::reports::{ReportError, ReportedRegion};
use crate::core::state::{Refusal, State};
use crate::core::waiting::Waiter;

/// Takes a heartbeat over and decides what the store is to do.
pub(crate) fn heartbeat(
    context: &mut LeaderContext<'_>,
    id: RequestId,
    mut heartbeat: StoreHeartbeat,
) -> Result<Action, PdError> {
    let store = heartbeat.store_id;
    match context.state.store(store).map(|record| record.mode) {
        None => return Err(no_store(store)),
        Some(StoreMode::Removed) => return Err(Refusal::RemovedStore(store).into()),
        Some(StoreMode::Up | StoreMode::Draining) => {}
    }
    if context.leader.reports.is_overtaken(store, heartbeat.id) {
        context.emit(Event::HeartbeatOvertaken { store });
        let term = context.leader.term;
        let reply = HeartbeatReply { term, ..HeartbeatReply::default() };
        return Ok(Action::Answer(Ok(PdReply::Heartbeat(reply))));
    }
    if heartbeat.is_stopping {
        context.leader.reports.note_stopped(context.now, store, heartbeat.id);
        let term = context.leader.term;
        let reply = HeartbeatReply { term, ..HeartbeatReply::default() };
        return Ok(Action::Answer(Ok(PdReply::Heartbeat(reply))));
    }
    let leaderless = std::mem::take(&mut heartbeat.leaderless);
    let tombstoned = std::mem::take(&mut heartbeat.tombstoned);
    let (ids_left, is_full) = (heartbeat.ids_left, heartbeat.is_full);
    context.leader.reports.note_tombstoned(context.now, store, tombstoned);
    take_reports(context, heartbeat);
    let mut commands = next_commands(context, store);
    commands.extend(leaderless.into_iter().filter_map(|peer| destroy(context, peer)));
    let reply = HeartbeatReply {
        commands,
        ids: None,
        needs_full: context.leader.reports.needs_full(store),
        next_heartbeat_ms: next_heartbeat_ms(context),
        stores: store_addrs(context.state),
        term: context.leader.term,
        first_region: first_region_for(context, store, is_full),
        awaited: first_region::awaited(context.state, &context.leader.reports, context.now)
            .unwrap_or_default(),
    };
    let limits = context.limits();
    if ids_left < limits.ids_low() && context.may_lease_ids() {
        let waiter = Waiter::HeartbeatIds { id, reply: Box::new(reply) };
        return Ok(Action::Propose(PdCommand::TakeIds { count: limits.id_block }, waiter));
    }
    Ok(Action::Answer(Ok(PdReply::Heartbeat(reply))))
}

fn first_region_for(context: &LeaderContext<'_>, store: StoreId, is_full: bool) -> Option<Region> {
    if planted(Mutant::FirstToldOnce) && !is_full {
        return None;
    }
    context.state.first_region_for(store).cloned()
}

fn next_heartbeat_ms(context: &LeaderContext<'_>) -> u64 {
    let (leader, timing) = (&context.leader, context.timing);
    if planted(Mutant::BusyForever) {
        return timing.busy_heartbeat_ms;
    }
    let is_busy = leader.plans_by(context.now.plus(timing.plan_ms))
        || leader.has_leaderless
        || !leader.operators.is_empty()
        || context.state.regions().is_empty();
    if is_busy { timing.busy_heartbeat_ms } else { timing.heartbeat_ms }
}

/// Step 1. A full heartbeat counts as one only if this leader asked for it: one that an earlier
/// leader asked for may arrive late, and the store leaves out what that leader acknowledged since.
fn take_reports(context: &mut LeaderContext<'_>, heartbeat: StoreHeartbeat) {
    let StoreHeartbeat { store_id: store, usage, .. } = heartbeat;
    let (now, id) = (context.now, heartbeat.id);
    let is_full = heartbeat.is_full && heartbeat.asked_in_term == context.leader.term;
    let rest_follows = heartbeat.rest_follows;
    context.leader.reports.heartbeat(now, store, id, usage, is_full);
    note_ids(&mut context.leader.named_ids, &heartbeat);
    if is_full {
        context.leader.named_ids.note_full(store);
    }
    if heartbeat.unreadable_reports > 0 {
        let reason = format!("{} reports cannot be read", heartbeat.unreadable_reports);
        context.emit(Event::ReportIgnored { store, region: RegionId(0), reason });
    }
    let mut named = BTreeSet::new();
    for report in heartbeat.reports {
        let region = report.region.id;
        named.insert(region);
        if let Err(error) = take_report(context, store, report) {
            let reason = error.to_string();
            context.emit(Event::ReportIgnored { store, region, reason });
        }
    }
    context.leader.reports.named(store, named, is_full, rest_follows);
}

/// Whatever ids a heartbeat names are in use, also if this member knows nothing of them.
fn note_ids(named: &mut NamedIds, heartbeat: &StoreHeartbeat) {
    named.note(heartbeat.highest_id);
    for report in &heartbeat.reports {
        named.note(report.region.id.0);
        report.region.members.iter().for_each(|member| named.note(member.id.0));
    }
}

/// Steps 1 and 2 for one region.
fn take_report(
    context: &mut LeaderContext<'_>,
    store: StoreId,
    report: RegionReport,
) -> Result<(), ReportError> {
    let region = report.region.id;
    if !context.state.admits(&report.region) {
        if context.state.regions().is_empty() || !context.state.has_handed_out(&report.region) {
            // A part split off the first region, which is not reported yet; or of a member that
            // was put back from an older copy, before the watermark is raised: it is to come again.
            context.leader.reports.ask_full(store);
        } else if !context.state.has_registered(&report.region) {
            context.leader.reports.ask_full_later(store);
        }
        return Err(ReportError::OlderShape);
    }
    let is_ahead = context.state.regions().region(region) != Some(&report.region);
    let report = ReportedRegion::new(context.now, report);
    context.leader.reports.report(store, report)?;
    if is_ahead {
        context.leader.note_ahead(region);
        let soon: Millis = context.now.plus(context.timing.plan_ms);
        context.leader.plan_no_later_than(soon);
    }
    Ok(())
}

/// Step 3.
fn next_commands(context: &mut LeaderContext<'_>, store: StoreId) -> Vec<RegionCommand> {
    let mut commands = vec![];
    let mut ended: Vec<(RegionId, &'static str)> = vec![];
    let reports = &context.leader.reports;
    let stores = StoreView::new(context.state, reports, context.now);
    for operator in context.leader.operators.iter_mut() {
        let Some(report) = reports.region(operator.region) else { continue };
        if report.leader.is_none_or(|leader| leader.store_id != store) {
            continue;
        }
        if is_regretted(stores, report, operator) {
            ended.push((operator.region, "the voter to replace is good after all"));
            continue;
        }
        match operator.next_step(report) {
            Next::Send(command) => commands.push(command),
            Next::Wait => {}
            Next::Done => ended.push((operator.region, "done")),
            Next::Obsolete(reason) => ended.push((operator.region, reason)),
        }
    }
    for (region, outcome) in ended {
        context.end_operator(region, outcome);
    }
    commands
}

/// Step 4: the command by which a removed peer destroys itself. None unless the removal is proven:
/// the peer was a member as of its own epoch, a later membership is committed, and the peer is not
/// in that one. Peer ids are never used again, so the peer is in no later membership either.
///
/// Nothing is proven about a peer whose epoch is 0 (it waits for its first snapshot): it may have
/// been added after what is known here.
fn destroy(context: &LeaderContext<'_>, peer: LeaderlessPeer) -> Option<RegionCommand> {
    let known = context.state.regions().region(peer.region_id)?;
    let is_member = |region: &Region| region.member(peer.peer_id).is_some();
    let reported = context.leader.reports.region(known.id);
    let is_reported = reported.is_some_and(|report| is_member(&report.region));
    let is_later = peer.epoch.conf_ver > 0 && known.epoch.conf_ver > peer.epoch.conf_ver;
    if !is_later || is_member(known) || is_reported {
        return None;
    }
    let step = Step::DestroyPeer(peer.peer_id);
    Some(RegionCommand { region_id: known.id, epoch: known.epoch, step })
}

/// Where the stores that were not removed listen, by store id.
pub(crate) fn store_addrs(state: &State) -> Vec<StoreAddr> {
    state
        .stores()
        .filter(|store| store.mode != StoreMode::Removed)
        .map(|store| StoreAddr { store_id: store.id, addr: store.addr.clone() })
        .collect()
}
