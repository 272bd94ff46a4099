//! Registration of stores, ids, and what administrators ask for.

use bytes::Bytes;
use flotilla_types::{Member, Millis, Region, RegionId, StoreId, proto};
use proto::add_operator_request::Kind as Asked;
use proto::pd_error::Kind as ErrorKind;
use proto::pd_reply::Result as Answer;

use crate::core::check::heir;
use crate::core::command::Command;
use crate::core::io::{Event, Output, RequestId};
use crate::core::operator::{Draft, Kind, NEW_PEER, Operator, Origin, Step};
use crate::core::pd::{ID_BLOCK, Pd};
use crate::core::place::Picture;
use crate::core::records::{StoreMode, StoreRecord};
use crate::core::reply::{busy, no_store, not_found, refused};
use crate::core::state::Refusal;
use crate::core::view::Liveness;
use crate::core::waiting::Waiter;

/// The most ids in one AllocateIds: a hundred blocks, so that a mistyped count does no harm.
pub const IDS_PER_REQUEST_MAX: u64 = 100 * ID_BLOCK;

/// A store that was heard from within this time lives, so another address for it is a copy's.
const MOVE_MS: u64 = 3_000;

/// The longest address: a DNS name has up to 253 bytes, and a port follows.
pub const ADDR_BYTES_MAX: usize = 260;

/// The most bytes of labels of one store, keys and values together. They are part of a record.
pub const LABEL_BYTES_MAX: usize = 4096;

impl Pd {
    pub(crate) fn register_store(
        &mut self,
        now: Millis,
        id: RequestId,
        request: proto::RegisterStoreRequest,
    ) {
        let record = StoreRecord {
            id: StoreId(request.store_id),
            addr: request.addr,
            labels: request.labels.into_iter().collect(),
            mode: StoreMode::Up,
        };
        match self.admit_store(now, record) {
            Err(kind) => self.answer(id, Err(kind)),
            Ok(record) if self.state.store(record.id) == Some(&record) => {
                self.give_registration(id, record.id);
            }
            Ok(record) => {
                let store = record.id;
                self.propose(&Command::PutStore(record), Waiter::Register { id, store });
            }
        }
    }

    /// The record to be written. What is checked here is checked again when it is applied.
    fn admit_store(&self, now: Millis, mut record: StoreRecord) -> Result<StoreRecord, ErrorKind> {
        let label_bytes: usize = record.labels.iter().map(|(k, v)| k.len() + v.len()).sum();
        if record.addr.len() > ADDR_BYTES_MAX || !record.addr.contains(':') {
            return Err(refused(format!("'{}' is not an address HOST:PORT", record.addr)));
        }
        if label_bytes > LABEL_BYTES_MAX {
            let reason = format!("{label_bytes} bytes of labels; the most is {LABEL_BYTES_MAX}");
            return Err(refused(reason));
        }
        if record.id.0 == 0 {
            // A store that nobody has heard may be the same one, asking again: applying decides.
            let heard = |store: StoreId| {
                self.leading.as_ref().is_some_and(|leading| leading.view.heard(store).is_some())
            };
            return match self.state.store_at(&record.addr).filter(|other| heard(other.id)) {
                Some(other) => {
                    Err(Refusal::AddrTaken { addr: record.addr, store: other.id }.into())
                }
                None => Ok(record),
            };
        }
        let known = self.state.store(record.id).ok_or(Refusal::UnknownStore(record.id))?;
        if known.mode == StoreMode::Removed {
            return Err(Refusal::RemovedStore(record.id).into());
        }
        self.check_not_changing(record.id)?;
        let heard = self.leading.as_ref().and_then(|leading| leading.view.heard(known.id));
        let is_alive = heard.is_some_and(|heard| now.since(heard) < MOVE_MS);
        if known.addr != record.addr && is_alive {
            return Err(refused(format!(
                "store {} is alive at {}; stop it there first, and wait {MOVE_MS} ms (a copy of a \
                 store's directory must never run beside the store)",
                known.id, known.addr
            )));
        }
        record.mode = known.mode;
        Ok(record)
    }

    /// A record is replaced as a whole, so two changes at once would lose one.
    fn check_not_changing(&self, store: StoreId) -> Result<(), ErrorKind> {
        if self.waiting.is_changing(store) {
            return Err(busy(format!("another change of store {store} is being written")));
        }
        Ok(())
    }

    /// A registered store is given ids, then its answer.
    pub(crate) fn give_registration(&mut self, id: RequestId, store: StoreId) {
        let waiter = Waiter::RegisterIds { id, store };
        self.propose(&Command::TakeIds { count: ID_BLOCK }, waiter);
    }

    pub(crate) fn registration(
        &self,
        store: StoreId,
        ids: proto::IdBlock,
    ) -> proto::RegisterStoreReply {
        proto::RegisterStoreReply {
            cluster_id: self.state.cluster_id(),
            store_id: store.0,
            first_region: self.state.first_region_for(store).cloned().map(Into::into),
            ids: Some(ids),
        }
    }

    pub(crate) fn allocate_ids(&mut self, id: RequestId, count: u64) {
        if count == 0 || count > IDS_PER_REQUEST_MAX {
            let reason =
                format!("{count} ids asked for; from 1 to {IDS_PER_REQUEST_MAX} are given");
            return self.answer(id, Err(refused(reason)));
        }
        self.propose(&Command::TakeIds { count }, Waiter::Ids { id });
    }

    pub(crate) fn set_store_state(
        &mut self,
        now: Millis,
        id: RequestId,
        request: proto::SetStoreStateRequest,
    ) {
        let store = StoreId(request.store_id);
        match self.admit_mode(now, store, request.state()) {
            Err(kind) => self.answer(id, Err(kind)),
            Ok(record) if self.state.store(store) == Some(&record) => {
                self.answer(id, Ok(Answer::SetStoreState(proto::SetStoreStateReply {})));
            }
            Ok(record) => {
                self.propose(&Command::PutStore(record), Waiter::SetStoreState { id, store });
            }
        }
    }

    fn admit_mode(
        &self,
        now: Millis,
        store: StoreId,
        wanted: proto::StoreState,
    ) -> Result<StoreRecord, ErrorKind> {
        let record = self.state.store(store).ok_or_else(|| no_store(store))?;
        self.check_not_changing(store)?;
        let mode = match wanted {
            proto::StoreState::Up => StoreMode::Up,
            proto::StoreState::Draining => StoreMode::Draining,
            proto::StoreState::Removed => StoreMode::Removed,
            proto::StoreState::Disconnected | proto::StoreState::Down => {
                return Err(refused("a store is set to up, draining or removed"));
            }
        };
        if record.mode == StoreMode::Removed && mode != StoreMode::Removed {
            return Err(Refusal::RemovedStore(store).into());
        }
        let is_down = self
            .leading
            .as_ref()
            .is_some_and(|leading| leading.view.liveness(store, now) == Liveness::Down);
        if mode == StoreMode::Removed && self.state.has_peers_on(store) && !is_down {
            let reason = format!(
                "store {store} holds peers of regions and is not down; \
                 drain it first, or wait until it is down"
            );
            return Err(refused(reason));
        }
        Ok(StoreRecord { mode, ..record.clone() })
    }

    pub(crate) fn add_operator(
        &mut self,
        now: Millis,
        id: RequestId,
        request: proto::AddOperatorRequest,
    ) {
        let outcome = self.start_asked(now, request);
        self.answer(id, outcome);
    }

    fn start_asked(
        &mut self,
        now: Millis,
        request: proto::AddOperatorRequest,
    ) -> Result<Answer, ErrorKind> {
        let region = RegionId(request.region_id);
        let known = self.state.regions().region(region);
        let known = known.ok_or_else(|| not_found(format!("region {region}")))?;
        let draft = self.draft_asked(now, known, request.kind)?;
        let version = known.epoch.version;
        let leading = self.leading.as_mut().ok_or_else(|| busy("leadership was lost"))?;
        let ids = leading.ids.take(self.state.next_id());
        let ids = ids.ok_or_else(|| busy("no ids are at hand yet"))?;
        let operator = Operator::start(draft, ids, version, now);
        let (operator_id, name) = (operator.id, operator.name());
        let replaced = leading.operators.start(operator).map_err(refused)?;
        if let Some(replaced) = replaced {
            self.note_end(&replaced, "replaced by an administrator's");
        }
        self.emit(Output::Event(Event::OperatorStarted { id: operator_id, region, name }));
        Ok(Answer::AddOperator(proto::AddOperatorReply { operator_id }))
    }

    fn draft_asked(
        &self,
        now: Millis,
        region: &Region,
        asked: Option<Asked>,
    ) -> Result<Draft, ErrorKind> {
        let (kind, steps) = match asked {
            None => return Err(refused("the request names no operator")),
            Some(Asked::AddPeerStore(to)) => {
                let peer = self.newcomer(now, region, StoreId(to))?;
                (Kind::AddPeer, vec![Step::AddLearner(peer), Step::Promote(NEW_PEER)])
            }
            Some(Asked::RemovePeerStore(from)) => {
                let leaver = member(region, StoreId(from))?;
                (Kind::RemovePeer, self.removal(now, region, leaver)?)
            }
            Some(Asked::TransferLeaderStore(to)) => {
                let peer = member(region, StoreId(to))?;
                (Kind::TransferLeader, vec![Step::TransferLeader(peer.id)])
            }
            Some(Asked::Split(split)) => (Kind::Split, vec![split_step(region, split.split_key)?]),
            Some(Asked::MovePeer(move_peer)) => {
                let leaver = member(region, StoreId(move_peer.from_store))?;
                let peer = self.newcomer(now, region, StoreId(move_peer.to_store))?;
                let swap = Step::Replace { newcomer: NEW_PEER, leaver: leaver.id };
                let steps = vec![Step::AddLearner(peer), swap, Step::Remove(leaver.id)];
                (Kind::MovePeer, steps)
            }
        };
        Ok(Draft { region: region.id, kind, origin: Origin::Admin, steps })
    }

    /// A new peer on `store`, which must be able to take one.
    fn newcomer(&self, now: Millis, region: &Region, store: StoreId) -> Result<Member, ErrorKind> {
        let leading = self.leading.as_ref().ok_or_else(|| busy("leadership was lost"))?;
        if self.state.store(store).is_none() {
            return Err(no_store(store));
        }
        let picture = Picture::new(&self.state, &leading.view, &leading.operators, now);
        if !picture.is_target(store) {
            return Err(refused(format!("store {store} is not up")));
        }
        if region.member_on(store).is_some() {
            return Err(refused(format!("store {store} has a peer of region {}", region.id)));
        }
        Ok(Member::learner(NEW_PEER, store))
    }

    fn removal(
        &self,
        now: Millis,
        region: &Region,
        leaver: Member,
    ) -> Result<Vec<Step>, ErrorKind> {
        let leading = self.leading.as_ref().ok_or_else(|| busy("leadership was lost"))?;
        if region.members.len() == 1 {
            return Err(refused(format!("region {} has no other peer", region.id)));
        }
        let mut steps = vec![];
        if let Some(report) = leading.view.region(region.id).filter(|r| r.is_led_by(leaver.id)) {
            let picture = Picture::new(&self.state, &leading.view, &leading.operators, now);
            steps.extend(heir(&picture, report, leaver.id).map(Step::TransferLeader));
        }
        steps.push(Step::Remove(leaver.id));
        Ok(steps)
    }

    pub(crate) fn list_operators(&mut self, now: Millis, id: RequestId) {
        let operators = self.operators().map(|operator| proto::OperatorStatus {
            id: operator.id,
            region_id: operator.region.0,
            kind: operator.name(),
            steps: operator.steps.iter().map(Step::describe).collect(),
            current_step: operator.done as u64,
            age_ms: now.since(operator.created),
        });
        let operators = operators.collect();
        self.answer(id, Ok(Answer::Operators(proto::OperatorsReply { operators })));
    }

    pub(crate) fn cancel_operator(&mut self, id: RequestId, operator: u64) {
        let cancelled =
            self.leading.as_mut().and_then(|leading| leading.operators.cancel(operator));
        let outcome = match cancelled {
            None => Err(not_found(format!("operator {operator}"))),
            Some(cancelled) => {
                self.note_end(&cancelled, "cancelled");
                Ok(Answer::CancelOperator(proto::CancelOperatorReply {}))
            }
        };
        self.answer(id, outcome);
    }
}

fn member(region: &Region, store: StoreId) -> Result<Member, ErrorKind> {
    let peer = region.member_on(store).copied();
    peer.ok_or_else(|| refused(format!("store {store} has no peer of region {}", region.id)))
}

fn split_step(region: &Region, key: Bytes) -> Result<Step, ErrorKind> {
    let is_inside = region.range.contains(&key) && region.range.start != key;
    if key.is_empty() || is_inside {
        return Ok(Step::Split(key));
    }
    Err(refused(format!("the split key is not inside region {}", region.id)))
}
