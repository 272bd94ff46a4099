//! Administration: what the placement driver answers an administrator is true.
//!
//! The checker sees the placement driver around the step that gives an answer, and all heartbeats
//! that it takes. So each answer is held against the state from which it was given:
//!
//! * A page of regions is a part of the range map, from the region that holds the key asked for on,
//!   in order, as many as were asked for or as a page holds. The shape of a region never goes back
//!   from one answer to a later one.
//! * A cluster is called healthy only if each region has all its voters, and no other members, each
//!   on a store that was not removed, was heard within [`HEARD_MS_MAX`] and did not say that it
//!   stops, and if no voter is behind or unheard as its leader was last heard to say.
//! * The stores listed are all that were ever registered; a store is called up only while its
//!   heartbeats are recent, unknown only while there is none, and removed or draining if that was
//!   decided.
//! * A store that is removed holds no peer, as far as regions are known, unless it was down. It is
//!   never registered again, nor set to another state, nor given a voter.
//! * Ids are handed out once, as many as were asked for.
//! * An operator that was started is under way, one that was cancelled is not; ids of operators are
//!   used once.
//! * What does not exist is called so.
//!
//! Why that is sound: an answer to a read may be given from a state between those before and after
//! the step. A rule that needs one state is applied where both are equal; that is nearly always.
//! "Recent" is the placement driver's own limit on its own clock, which is at most 4.7 % slower
//! than true time, and it may jump forward only, which makes heartbeats older.
//!
//! What this checker cannot see: that a cluster is called unhealthy for too long, which
//! [`crate::admin`] checks at the end of a seed; and what is answered to others.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use flotilla_pd::core::health::HEARD_MS_MAX;
use flotilla_pd::core::limits::route_bytes;
use flotilla_pd::core::records::{StoreMode, StoreRecord};
use flotilla_pd::core::state::State;
use flotilla_pd::core::{Event, Output, Pd, RequestId};
use flotilla_types::heartbeat::{HeartbeatId, IdBlock, StoreHeartbeat};
use flotilla_types::load::StoreLoad;
use flotilla_types::placement::{
    ClusterStatus, OperatorRequest, PdError, PdOp, PdReply, RegionsPage, StoreState, StoreStatus,
};
use flotilla_types::{Epoch, KeyRange, Member, MemberRole, PeerId, Region, RegionId, StoreId};

use super::{Verdict, broken, show};
use crate::time::{MS, Micros};

/// A thousand milliseconds of the slowest clock take fewer than so many true ones.
const SLOWEST: u64 = 1_050;

/// A thousand milliseconds of the fastest clock take more than so many true ones.
const FASTEST: u64 = 950;

/// Above these bits the number of a request tells which member was asked.
pub const MEMBER_BITS: u32 = 48;

/// The placement driver before and after a step that answers an administrator.
pub struct Step<'a> {
    /// What was committed before.
    pub before: &'a State,
    /// The member after the step.
    pub pd: &'a Pd,
    /// True time.
    pub now: Micros,
    /// A store is disconnected without a heartbeat for longer.
    pub disconnected_after_ms: u64,
    /// A store is down without a heartbeat for longer.
    pub down_after_ms: u64,
}

impl Step<'_> {
    fn after(&self) -> &State {
        self.pd.state()
    }
}

/// Which members of a region lag, as its leader has reported it.
#[derive(Debug, Default)]
struct Lagging {
    term: u64,
    epoch: Epoch,
    /// They are behind, or the leader does not hear them.
    peers: Vec<PeerId>,
}

/// What was asked and answered so far.
#[derive(Default)]
pub struct Admin {
    open: BTreeMap<RequestId, PdOp>,
    beats: BTreeMap<StoreId, Micros>,
    /// The last heartbeat of each store.
    last: BTreeMap<StoreId, HeartbeatId>,
    /// What the last heartbeat of each store said of its load.
    loads: BTreeMap<StoreId, Option<StoreLoad>>,
    /// The stores whose last heartbeat said that they stop.
    stopped: BTreeSet<StoreId>,
    /// What each region's leader last said of members that lag.
    lagging: BTreeMap<RegionId, Lagging>,
    epochs: BTreeMap<RegionId, Epoch>,
    ids: Vec<IdBlock>,
    operators: BTreeSet<u64>,
    /// Stores that were removed when no region had a peer on them, and up to where the member that
    /// said so had applied then.
    removed: BTreeMap<StoreId, u64>,
}

impl Admin {
    /// A member's process has started, whose requests count from `first`: the questions of its
    /// last life are lost.
    pub fn reborn(&mut self, first: RequestId) {
        self.open.retain(|id, _| id.0 >> MEMBER_BITS != first.0 >> MEMBER_BITS);
    }

    /// A member has begun to lead, and was told nothing yet: it may take a late heartbeat for the
    /// latest.
    pub fn led(&mut self) {
        self.lagging.clear();
        self.stopped.clear();
        self.last.clear();
        self.loads.clear();
    }

    /// The placement driver was put back from an older copy that has this watermark: what it told
    /// of since may come again.
    pub fn put_back(&mut self, watermark: u64) {
        self.epochs.clear();
        self.ids.retain(|block| block.start + block.count <= watermark);
        self.operators.retain(|id| *id < watermark);
        self.removed.values_mut().for_each(|applied| *applied = 0);
    }

    /// True if the placement driver owes the administrator an answer.
    pub fn is_waiting(&self) -> bool {
        !self.open.is_empty()
    }

    /// A question of the administrator has arrived.
    pub fn asked(&mut self, id: RequestId, op: PdOp) {
        self.open.insert(id, op);
    }

    /// The placement driver takes a heartbeat.
    pub fn beat(&mut self, beat: &StoreHeartbeat, now: Micros) {
        let store = beat.store_id;
        self.beats.insert(store, now);
        let last = self.last.entry(store).or_insert(beat.id);
        if beat.id.is_before(last) {
            return;
        }
        *last = beat.id;
        self.loads.insert(store, beat.usage.load);
        if beat.is_stopping {
            self.stopped.insert(store);
        } else {
            self.stopped.remove(&store);
        }
        for report in &beat.reports {
            let peers = report.lagging.iter().chain(&report.unreachable).copied().collect();
            let known = self.lagging.entry(report.region.id).or_default();
            if report.term >= known.term && !report.region.epoch.is_behind(&known.epoch) {
                *known = Lagging { term: report.term, epoch: report.region.epoch, peers };
            }
        }
    }

    /// The placement driver answers a heartbeat with an error, before or after it took it.
    pub fn unsure(&mut self, beat: &StoreHeartbeat, now: Micros) {
        self.beats.insert(beat.store_id, now);
        self.stopped.remove(&beat.store_id);
        self.last.remove(&beat.store_id);
        self.loads.remove(&beat.store_id);
        for report in &beat.reports {
            self.lagging.remove(&report.region.id);
        }
    }

    /// Checks the answers of a step, in which these heartbeats were `decided` on.
    pub fn answered(
        &mut self,
        step: &Step<'_>,
        decided: &BTreeMap<RequestId, StoreHeartbeat>,
        outputs: &[Output],
    ) -> Verdict {
        for (at, output) in outputs.iter().enumerate() {
            if let Output::Event(Event::Decides { id }) = output
                && let Some(beat) = decided.get(id)
            {
                self.beat(beat, step.now);
            }
            let Output::Reply { id, reply } = output else { continue };
            let Some(op) = self.open.remove(id) else { continue };
            match reply {
                Ok(reply) => {
                    let later = operators_changed(outputs.get(at + 1..).unwrap_or_default());
                    self.told((step, &later), &op, reply)?;
                }
                Err(error) => refused(step, &op, error)?,
            }
        }
        self.removed_stay_empty(step)
    }

    /// Checks an answer, after which the operators `later` began or ended in the same step.
    fn told(
        &mut self,
        (step, later): (&Step<'_>, &BTreeSet<u64>),
        op: &PdOp,
        reply: &PdReply,
    ) -> Verdict {
        match (op, reply) {
            (PdOp::ClusterStatus, PdReply::ClusterStatus(status)) => self.status(step, status),
            (PdOp::Regions { start_key, limit }, PdReply::Regions(page)) => {
                self.page(step, (start_key, *limit), page)
            }
            (PdOp::Stores, PdReply::Stores(stores)) => self.stores(step, stores),
            (PdOp::AllocateIds { count }, PdReply::Ids(block)) => self.block(step, *count, *block),
            // The store's disk has ended.
            (PdOp::SetStoreState { is_lost: true, .. }, PdReply::SetStoreState) => Ok(()),
            (PdOp::SetStoreState { store_id, state, .. }, PdReply::SetStoreState) => {
                self.state_set(step, *store_id, *state)
            }
            (PdOp::AddOperator { region_id, .. }, PdReply::AddOperator { operator_id }) => {
                let is_known = !self.operators.insert(*operator_id);
                let mut all = step.pd.operators();
                let is_listed = later.contains(operator_id)
                    || all.any(|o| o.id == *operator_id && o.region == *region_id);
                hold(is_listed && !is_known, "an operator that was started is under way", reply)
            }
            (PdOp::CancelOperator { operator_id }, PdReply::CancelOperator) => {
                let is_gone = step.pd.operators().all(|operator| operator.id != *operator_id);
                hold(is_gone, "an operator that was cancelled is not under way", op)
            }
            (PdOp::Operators, PdReply::Operators(listed)) => {
                let mut listed: Vec<u64> = listed.iter().map(|operator| operator.id).collect();
                let mut all: Vec<u64> = step.pd.operators().map(|operator| operator.id).collect();
                listed.retain(|id| !later.contains(id));
                all.retain(|id| !later.contains(id));
                hold(listed == all, "all operators are listed", (listed, all))
            }
            (PdOp::RegisterStore(asked), PdReply::RegisterStore(told)) => {
                let record = step.after().store(told.store_id);
                let is_there = record.is_some_and(|record| record.addr == asked.addr);
                let is_allowed = !self.removed.contains_key(&told.store_id);
                hold(is_there && is_allowed, "a store that was removed does not come back", asked)?;
                self.block(step, told.ids.count, told.ids)
            }
            (op, reply) => broken("an answer fits its question", format!("{op:?}: {reply:?}")),
        }
    }

    fn status(&self, step: &Step<'_>, status: &ClusterStatus) -> Verdict {
        let state = step.after();
        if step.before != state || !status.reasons.is_empty() || status.region_count == 0 {
            return Ok(());
        }
        let is_up = |store: StoreId| {
            self.is_recent(store, step, HEARD_MS_MAX) && !self.stopped.contains(&store)
        };
        let is_gone = |store: StoreId| state.store(store).is_none_or(is_removed);
        let wanted = state.replica_count() as usize;
        let is_whole = |region: &Region| {
            let lagging = self.lagging.get(&region.id).map(|lagging| &lagging.peers);
            let is_well = |peer: &Member| {
                let is_behind = lagging.is_some_and(|peers| peers.contains(&peer.id));
                let is_voter = peer.role == MemberRole::Voter;
                is_voter && is_up(peer.store_id) && !is_gone(peer.store_id) && !is_behind
            };
            region.members.len() >= wanted && region.members.iter().all(is_well)
        };
        let lacking = state.regions().iter().find(|region| !is_whole(region));
        let is_tiled = state.regions().first_hole().is_none();
        let same = status.region_count == state.regions().len() as u64;
        let what = lacking.map(|region| {
            let lagging = self.lagging.get(&region.id);
            (show(region), format!("{:?}, lagging {lagging:?}", self.beats))
        });
        hold(is_tiled && same && what.is_none(), "a cluster that is called healthy is", what)
    }

    fn page(
        &mut self,
        step: &Step<'_>,
        (start, limit): (&Bytes, u64),
        page: &RegionsPage,
    ) -> Verdict {
        for route in &page.routes {
            let Region { id, epoch, .. } = route.region;
            let known = self.epochs.entry(id).or_insert(epoch);
            let is_back = epoch.is_behind(known);
            hold(!is_back, "regions never go back for an administrator", show(&route.region))?;
            *known = epoch;
        }
        if step.before.regions() != step.after().regions() {
            return Ok(());
        }
        let range = KeyRange::new(start.clone(), Bytes::new());
        let most = if limit == 0 { usize::MAX } else { limit as usize };
        let wanted: Vec<&Region> = step.after().regions().overlapping(&range).take(most).collect();
        let told: Vec<&Region> = page.routes.iter().map(|route| &route.region).collect();
        let bytes: usize = told.iter().map(|region| route_bytes(region)).sum();
        let is_full = told.len() == wanted.len() || bytes > step.pd.limits().route_bytes_max;
        let is_part = wanted.starts_with(&told);
        hold(is_part && is_full, "a page of regions is a part of the range map", (told, wanted))
    }

    fn stores(&self, step: &Step<'_>, stores: &[StoreStatus]) -> Verdict {
        let state = step.after();
        if step.before != state {
            return Ok(());
        }
        let all: Vec<StoreId> = state.stores().map(|store| store.id).collect();
        let listed: Vec<StoreId> = stores.iter().map(|store| store.store_id).collect();
        hold(listed == all, "all stores are listed", (&listed, &all))?;
        for status in stores {
            let store = status.store_id;
            let record = state.store(store);
            let on_it = |region: &&Region| region.member_on(store).is_some();
            let held = state.regions().iter().filter(on_it).count() as u64;
            let is_true = record.is_some_and(is_removed) == (status.state == StoreState::Removed)
                && status.region_count == held
                && (status.state != StoreState::Up || !self.stopped.contains(&store))
                && (status.state != StoreState::Unknown || status.last_heartbeat_ms.is_none())
                && (status.last_heartbeat_ms.is_none()
                    || status.state != StoreState::Up
                    || self.is_recent(store, step, step.disconnected_after_ms));
            hold(is_true, "a store is listed as it is", status)?;
            let is_silent = status.load.is_none() && status.state != StoreState::Up;
            let told = self.loads.get(&store);
            let is_told = is_silent || told.is_none_or(|told| status.load == *told);
            hold(is_told, "a store's load is listed as it was told", status)?;
        }
        Ok(())
    }

    fn state_set(&mut self, step: &Step<'_>, store: StoreId, state: StoreState) -> Verdict {
        let record = step.after().store(store);
        let is_gone = record.is_some_and(is_removed);
        let what = format!("store {store} set to {state:?}: {record:?}");
        hold(is_gone == (state == StoreState::Removed), "a store's state is set", &what)?;
        if !is_gone || self.removed.contains_key(&store) {
            return Ok(());
        }
        let regions = step.after().regions();
        let has_hole = !regions.is_empty() && regions.first_hole().is_some();
        if !step.after().has_peers_on(store) {
            // A region that is not known yet may have the store as a member, if the hole opened
            // after the decision.
            if !has_hole {
                self.removed.insert(store, step.pd.applied_and_durable().0);
            }
            return Ok(());
        }
        let on_it = |region: &Region| region.member_on(store).copied();
        let mut members = regions.iter().filter_map(on_it);
        if members.all(|member| member.role == MemberRole::Learner) {
            // An operator of a leadership that has ended may have added it, by a command that was
            // on its way at the decision. It has no vote, and the next repair takes it away.
            return Ok(());
        }
        let last = self.beats.get(&store).copied().unwrap_or(0);
        let silent_ms = (step.now - last) / MS;
        let is_down = silent_ms * 1_000 > step.down_after_ms.saturating_mul(FASTEST);
        hold(is_down, "a store that holds voters is not removed unless it is down", what)
    }

    fn block(&mut self, step: &Step<'_>, count: u64, block: IdBlock) -> Verdict {
        let end = block.start + block.count;
        let meets = |other: &IdBlock| block.start < other.start + other.count && other.start < end;
        let is_new = !self.ids.iter().any(meets);
        let is_right = block.count == count && end <= step.after().next_id();
        hold(is_new && is_right, "ids are handed out once", (block, count))?;
        self.ids.push(block);
        Ok(())
    }

    /// A removed store never holds a voter again. It may get a learner: the entry that adds one may
    /// stand in a log when the operator behind the entry ends and the store is removed. The learner
    /// never catches up, so that nobody promotes the learner.
    fn removed_stay_empty(&self, step: &Step<'_>) -> Verdict {
        let applied = step.pd.applied_and_durable().0;
        for (store, _) in self.removed.iter().filter(|(_, at)| **at <= applied) {
            let record = step.after().store(*store);
            let is_gone = record.is_some_and(is_removed);
            let mut members = step.after().regions().iter().flat_map(|region| &region.members);
            let is_voter =
                |member: &Member| member.store_id == *store && member.role != MemberRole::Learner;
            let voter = members.find(|member| is_voter(member));
            let what = format!("store {store}: {record:?}, {voter:?}");
            let holds = is_gone && voter.is_none();
            hold(holds, "a store that was removed stays so, without voters", what)?;
        }
        Ok(())
    }

    fn is_recent(&self, store: StoreId, step: &Step<'_>, within_ms: u64) -> bool {
        let last = self.beats.get(&store);
        last.is_some_and(|last| (step.now - last) / MS * 1_000 <= within_ms * SLOWEST)
    }
}

/// The operators that began or ended.
fn operators_changed(outputs: &[Output]) -> BTreeSet<u64> {
    let changed = outputs.iter().filter_map(|output| match output {
        Output::Event(Event::OperatorStarted { id, .. } | Event::OperatorEnded { id, .. }) => {
            Some(*id)
        }
        _ => None,
    });
    changed.collect()
}

/// Checks an error: what does not exist is called so, and nothing else is.
fn refused(step: &Step<'_>, op: &PdOp, error: &PdError) -> Verdict {
    let is_not_found = match error {
        PdError::NotFound { .. } => true,
        PdError::Refused { .. } => false,
        PdError::NotLeader { .. }
        | PdError::ClusterMismatch { .. }
        | PdError::Busy { .. }
        | PdError::Unsupported { .. } => return Ok(()),
    };
    let state = step.before;
    let is_region = |id: RegionId| state.regions().region(id).is_some();
    let is_store = |id: StoreId| state.store(id).is_some();
    let exists = match op {
        PdOp::SetStoreState { store_id, .. } => is_store(*store_id),
        PdOp::AddOperator { region_id, kind } => {
            is_region(*region_id)
                && match kind {
                    OperatorRequest::AddPeer(to) => is_store(*to),
                    OperatorRequest::MovePeer { .. }
                    | OperatorRequest::RemovePeer(_)
                    | OperatorRequest::TransferLeader(_)
                    | OperatorRequest::Split(_) => !is_not_found,
                }
        }
        PdOp::CancelOperator { .. } => false,
        PdOp::RegisterStore(asked) => asked.store_id.0 == 0 || is_store(asked.store_id),
        PdOp::AllocateIds { .. } => true,
        PdOp::ClusterStatus
        | PdOp::Heartbeat(_)
        | PdOp::Regions { .. }
        | PdOp::Stores
        | PdOp::Operators => true,
        // The administrator of a seed does not ask for it.
        PdOp::Members | PdOp::ChangeMembers(_) | PdOp::Explain(_) => return Ok(()),
    };
    hold(exists != is_not_found, "what does not exist is called so", (op, error))
}

fn is_removed(store: &StoreRecord) -> bool {
    store.mode == StoreMode::Removed
}

fn hold(is_true: bool, invariant: &'static str, what: impl std::fmt::Debug) -> Verdict {
    if is_true { Ok(()) } else { broken(invariant, format!("{what:?}")) }
}
