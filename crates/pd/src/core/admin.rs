//! What administrators ask for: the states of stores, and operators.

use bytes::Bytes;
use flotilla_types::limits::{self, STORED_KEY_BYTES_MAX};
use flotilla_types::mutant::{Mutant, planted};
use flotilla_types::placement::{OperatorRequest, PdError, PdReply, StoreState};
use flotilla_types::{Member, Millis, Region, RegionId, StoreId};

use crate::core::check::transfer_target;
use crate::core::command::PdCommand;
use crate::core::context::{Action, LeaderContext, Outcome};
use crate::core::errors::{no_store, not_found, refused};
use crate::core::health::HEARD_MS_MAX;
use crate::core::history::status;
use crate::core::io::RequestId;
use crate::core::operator::{OperatorKind, OperatorPlan, Origin};
use crate::core::operator_step::{NEW_PEER, OperatorStep, move_steps};
use crate::core::operators::Operators;
use crate::core::place::ClusterView;
use crate::core::records::{StoreMode, StoreRecord};
use crate::core::registration::check_not_changing;
use crate::core::reports::Liveness;
use crate::core::state::Refusal;
use crate::core::waiting::Waiter;

/// What a store is to be set to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub store: StoreId,
    pub state: StoreState,
    /// Whoever asks says that the store's process has ended, and its directory is never used again.
    pub is_lost: bool,
}

/// Takes a store into service, drains it or removes it.
///
/// A store that may hold peers is removed only once it is down, or is called lost. What the wait
/// is for: a store that runs may lead regions, and may use ids that a placement driver which was
/// put back from an older copy does not know of. A lost store does neither, and one that was heard
/// lately is not lost.
pub(crate) fn set_store_state(
    context: &LeaderContext<'_>,
    id: RequestId,
    wanted: Wanted,
) -> Result<Action, PdError> {
    let record = admit_mode(context, wanted)?;
    let store = wanted.store;
    if context.state.store(store) == Some(&record) {
        return Ok(Action::Answer(Ok(PdReply::SetStoreState)));
    }
    Ok(Action::Propose(PdCommand::PutStore(record), Waiter::SetStoreState { id, store }))
}

fn admit_mode(
    context: &LeaderContext<'_>,
    Wanted { store, state, is_lost }: Wanted,
) -> Result<StoreRecord, PdError> {
    let record = context.state.store(store).ok_or_else(|| no_store(store))?;
    check_not_changing(context.waiting, store)?;
    let mode = match state {
        StoreState::Up => StoreMode::Up,
        StoreState::Draining => StoreMode::Draining,
        StoreState::Removed => StoreMode::Removed,
        StoreState::Disconnected | StoreState::Down | StoreState::Unknown | StoreState::Stopped => {
            return Err(refused("a store is set to up, draining or removed"));
        }
    };
    if record.mode == StoreMode::Removed && mode != StoreMode::Removed {
        return Err(Refusal::RemovedStore(store).into());
    }
    let mut is_down = context.leader.reports.liveness(store, context.now) == Liveness::Down;
    if planted(Mutant::RemovedInUse) {
        is_down = true;
    }
    if mode == StoreMode::Removed && may_hold_peers(context, store) && !is_down {
        let is_heard = context.leader.reports.silent_ms(store, context.now) <= HEARD_MS_MAX;
        let is_heard = is_heard && !planted(Mutant::LostWhileHeard);
        if is_lost && is_heard {
            let reason = format!(
                "store {store} was heard in the last {} s, or this placement driver leads no \
                 longer than that: stop the store first",
                HEARD_MS_MAX / 1_000
            );
            return Err(refused(reason));
        }
        if !is_lost {
            let reason = format!(
                "store {store} holds peers of regions, or may hold some that are not known yet, \
                 and is not down; drain it first, or wait until it is down, or, if it never runs \
                 again, call it lost (ctl store remove {store} --lost)"
            );
            return Err(refused(reason));
        }
    }
    Ok(StoreRecord { mode, ..record.clone() })
}

/// True unless the store is known to hold no peer and to get none: the range map may be behind a
/// split or a change of members, and an operator may be about to add a peer, so the store's own
/// last heartbeat has to say that no peer lives there. A hole in the range map is a region that
/// nobody has reported: a split may have made the store its member without the store's knowledge.
fn may_hold_peers(context: &LeaderContext<'_>, store: StoreId) -> bool {
    let reports = &context.leader.reports;
    let mut additions = context.leader.operators.additions();
    let regions = context.state.regions();
    let has_hole = !regions.is_empty() && regions.first_hole().is_some();
    has_hole
        || context.state.has_peers_on(store)
        || reports.last_heartbeat_at(store).is_none()
        || reports.usage(store).peer_count > 0
        || additions.any(|member| member.store_id == store)
}

/// Starts the operator that an administrator asks for.
pub(crate) fn add_operator(
    context: &mut LeaderContext<'_>,
    region: RegionId,
    wanted: OperatorRequest,
) -> Outcome {
    let known = context.state.regions().region(region);
    let known = known.ok_or_else(|| not_found(format!("region {region}")))?;
    let plan = plan_for(context, known, wanted)?;
    let operator_id = context.start_operator(plan, known.epoch.version)?;
    Ok(PdReply::AddOperator { operator_id })
}

fn plan_for(
    context: &LeaderContext<'_>,
    region: &Region,
    wanted: OperatorRequest,
) -> Result<OperatorPlan, PdError> {
    let (kind, steps) = match wanted {
        OperatorRequest::AddPeer(to) => {
            let member = new_member(context, region, to)?;
            let steps = vec![OperatorStep::AddLearner(member), OperatorStep::Promote(NEW_PEER)];
            (OperatorKind::AddPeer, steps)
        }
        OperatorRequest::RemovePeer(from) => {
            let removed = member_on(region, from)?;
            (OperatorKind::RemovePeer, removal(context, region, removed)?)
        }
        OperatorRequest::TransferLeader(to) => {
            let steps = vec![OperatorStep::TransferLeader(member_on(region, to)?.id)];
            (OperatorKind::TransferLeader, steps)
        }
        OperatorRequest::Split(key) => (OperatorKind::Split, vec![split_step(region, key)?]),
        OperatorRequest::MovePeer { from, to } => {
            let removed = member_on(region, from)?.id;
            let to = new_member(context, region, to)?;
            (OperatorKind::MovePeer, move_steps(to, removed))
        }
    };
    Ok(OperatorPlan { region: region.id, kind, origin: Origin::Admin, steps })
}

/// A new member on `store`, which must be able to take one.
fn new_member(
    context: &LeaderContext<'_>,
    region: &Region,
    store: StoreId,
) -> Result<Member, PdError> {
    if context.state.store(store).is_none() {
        return Err(no_store(store));
    }
    if !view(context).is_target(store) {
        return Err(refused(format!("store {store} is not up")));
    }
    if region.member_on(store).is_some() {
        return Err(refused(format!("store {store} has a peer of region {}", region.id)));
    }
    Ok(Member::learner(NEW_PEER, store))
}

fn removal(
    context: &LeaderContext<'_>,
    region: &Region,
    removed: Member,
) -> Result<Vec<OperatorStep>, PdError> {
    if region.members.len() == 1 {
        return Err(refused(format!("region {} has no other peer", region.id)));
    }
    let mut steps = vec![];
    let report = context.leader.reports.region(region.id);
    if let Some(report) = report.filter(|report| report.is_led_by(removed.id)) {
        let target = transfer_target(&view(context), report, removed.id);
        steps.extend(target.map(OperatorStep::TransferLeader));
    }
    steps.push(OperatorStep::Remove(removed.id));
    Ok(steps)
}

fn view<'a>(context: &'a LeaderContext<'_>) -> ClusterView<'a> {
    let leader = &context.leader;
    ClusterView::new(context.state, &leader.reports, &leader.operators, context.now)
}

/// The operators under way, for people.
pub(crate) fn list_operators(operators: &Operators, now: Millis) -> PdReply {
    let status = |operator| status(operator, now);
    PdReply::Operators(operators.iter().map(status).collect())
}

/// Ends an operator that is under way.
pub(crate) fn cancel_operator(context: &mut LeaderContext<'_>, operator: u64) -> Outcome {
    let cancelled = context.leader.operators.cancel(operator);
    let cancelled = cancelled.ok_or_else(|| not_found(format!("operator {operator}")))?;
    context.note_end(&cancelled, "cancelled");
    Ok(PdReply::CancelOperator)
}

fn member_on(region: &Region, store: StoreId) -> Result<Member, PdError> {
    let member = region.member_on(store).copied();
    member.ok_or_else(|| refused(format!("store {store} has no peer of region {}", region.id)))
}

fn split_step(region: &Region, key: Bytes) -> Result<OperatorStep, PdError> {
    limits::check("bytes of a split key", STORED_KEY_BYTES_MAX, key.len()).map_err(refused)?;
    let is_inside = region.range.contains(&key) && region.range.start != key;
    if key.is_empty() || is_inside {
        return Ok(OperatorStep::Split(key));
    }
    Err(refused(format!("the split key is not inside region {}", region.id)))
}
